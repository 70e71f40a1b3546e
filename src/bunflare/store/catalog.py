"""The records of all systems; what must be true of their rows is in `invariants`."""

from __future__ import annotations

from . import cache, kv, objects, queues, r2, r2_uploads, workflows
from .records import Records

RECORDS: tuple[Records, ...] = (
    *kv.RECORDS,
    *r2.RECORDS,
    *r2_uploads.RECORDS,
    *objects.RECORDS,
    *queues.RECORDS,
    *workflows.RECORDS,
    *cache.RECORDS,
)
