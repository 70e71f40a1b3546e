"""The schemas of all systems, in the order in which they are brought to the present form."""

from __future__ import annotations

from . import cache, kv, objects, queues, r2, workflows
from .schema import Schema

SCHEMAS: tuple[Schema, ...] = (
    kv.SCHEMA,
    r2.SCHEMA,
    objects.SCHEMA,
    queues.SCHEMA,
    workflows.SCHEMA,
    cache.SCHEMA,
)
