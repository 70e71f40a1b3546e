"""The schemas of all systems, in the order in which they are brought to the present form."""

from __future__ import annotations

from . import cache, kv, objects, queues, r2, r2_uploads, workflows
from .schema import Schema

SCHEMAS: tuple[Schema, ...] = (
    kv.SCHEMA,
    r2.SCHEMA,
    r2_uploads.SCHEMA,
    objects.SCHEMA,
    queues.SCHEMA,
    workflows.SCHEMA,
    cache.SCHEMA,
)
