"""What must be true of the rows of all systems."""

from __future__ import annotations

from . import cache, kv, object_bookmarks, objects, queues, r2, r2_uploads, workflow_checks
from .records import Invariant

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
