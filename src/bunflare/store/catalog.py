"""The records and invariants of all systems."""

from __future__ import annotations

from . import (
    cache,
    kv,
    object_bookmarks,
    objects,
    queues,
    r2,
    r2_uploads,
    workflow_checks,
    workflows,
)
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
    *object_bookmarks.INVARIANTS,
    *queues.INVARIANTS,
    *workflow_checks.INVARIANTS,
    *cache.INVARIANTS,
)
