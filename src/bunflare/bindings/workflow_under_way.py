"""Attempts that are under way, for those who follow an instance.

The log tells of an attempt when it has ended; that it has begun is in no commit, and known to the
process that runs it, which tells those who follow. What waits for nothing has ended as soon as it
has begun, and is nothing to be told of here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .workflow_options import StepConfig
    from .workflow_run import Run
    from .workflow_scope import Use


class Begun(NamedTuple):
    """An attempt that has begun."""

    #: The last entry that the log had been given by then, and how many attempts the run had begun.
    after: int
    place: int
    undoing: bool
    use: Use
    attempt: int
    #: Epoch milliseconds.
    started: int
    config: StepConfig


async def watched(run: Run, begun: Begun, waiting: Awaitable[Any]) -> Any:
    """What an attempt gives that has to be waited for; whoever follows is told of it."""
    run.under_way[begun.place] = begun
    for follower in run.host.followers.get(run.id, ()):
        follower.hear(begun)
    if run.host.elsewhere:
        from .workflow_elsewhere import tell

        tell(run, begun)
    try:
        return await waiting
    finally:
        del run.under_way[begun.place]
