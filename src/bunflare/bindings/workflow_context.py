"""``self.ctx`` of a workflow outside of a Worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

_background: set[asyncio.Future[Any]] = set()


class WorkflowContext:
    """The context of one run."""

    __slots__ = ()

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Have ``work`` done beside the run."""
        task = asyncio.ensure_future(work)
        _background.add(task)
        task.add_done_callback(_background.discard)
