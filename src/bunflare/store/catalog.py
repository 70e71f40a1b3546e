"""The records and invariants of all systems."""

from __future__ import annotations

from . import cache, kv, objects, queues, r2, r2_uploads, workflows
from .records import Invariant, Records

RECORDS: tuple[Records, ...] = (
    *kv.RECORDS,
    *r2.RECORDS,
    *r2_uploads.RECORDS,
    *objects.RECORDS,
    *queues.RECORDS,
    *workflows.RECORDS,
    *cache.RECORDS,
)

INVARIANTS: tuple[Invariant, ...] = (
    *kv.INVARIANTS,
    *r2.INVARIANTS,
    *r2_uploads.INVARIANTS,
    *objects.INVARIANTS,
    *queues.INVARIANTS,
    *workflows.INVARIANTS,
    *cache.INVARIANTS,
)
