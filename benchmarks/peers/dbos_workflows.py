"""dbos (PyPI): durable workflows in Python, here on its SQLite."""

from __future__ import annotations

import asyncio
import importlib
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..report import tell

NAME = "dbos, SQLite"


class Dbos:
    def __init__(self, dbos: Any, workflow: Any) -> None:
        self._dbos = dbos
        self._workflow = workflow

    async def at_once(self, count: int) -> int:
        async def one() -> None:
            handle = await self._dbos.start_workflow_async(self._workflow)
            await handle.get_result()

        await asyncio.gather(*[one() for _ in range(count)])
        return count


def start(directory: Path, stack: AsyncExitStack) -> Dbos | None:
    """Workflows of five trivial steps; None where dbos is not installed."""
    try:
        dbos: Any = importlib.import_module("dbos").DBOS
    except ImportError as error:
        tell(f"dbos is not measured: {error}")
        return None
    directory.mkdir(parents=True)
    dbos(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{directory}/dbos.sqlite",
            "run_admin_server": False,
        }
    )
    logging.getLogger("dbos").setLevel(logging.ERROR)

    async def step(number: int) -> int:
        return number

    durable = dbos.step()(step)

    async def five() -> int:
        total = 0
        for number in range(5):
            total += await durable(number)
        return total

    workflow = dbos.workflow()(five)
    dbos.launch()
    stack.callback(dbos.destroy)
    return Dbos(dbos, workflow)
