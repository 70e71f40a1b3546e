"""Adding instances, and beginning to run them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..store import workflow_owners as owners
from ..store import workflows as store

if TYPE_CHECKING:
    from ..store.transaction import Transaction
    from .workflow_engine import WorkflowHost


def create(
    tx: Transaction,
    host: WorkflowHost,
    items: list[tuple[str, str, int | None, int | None]],
    now: int,
    running: int,
    schedule: str | None,
) -> list[str | None]:
    """Create instances, the first ``running`` of which are run here; their rows' keys."""
    keys: list[str | None] = []
    queued = False
    for instance, params, success, error in items:
        number = host.next_number()
        runs = running > 0
        values = (
            *(host.class_name, params, "running" if runs else "queued", now, number),
            *(owners.RUNNING if runs else now, success, error, schedule),
        )
        key = store.create(tx, host.name, instance, values)
        keys.append(key)
        if key is None:
            continue
        if runs:
            running -= 1
            tx.after(partial(host.begin, key, number, params, now, schedule, success, error))
        else:
            queued = True
    if queued:
        tx.after(host.noticed)
    return keys


def create_all(tx: Transaction, creations: list[tuple[Any, ...]]) -> list[list[str | None]]:
    """`create`, of all that is asked for in a turn."""
    return [create(tx, *creation) for creation in creations]
