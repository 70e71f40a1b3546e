"""Results of steps that are streams: kept in pieces, and read from there as often as needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import WorkflowFatalError
from ..store import workflow_log as log

if TYPE_CHECKING:
    from ..store.database import Database

# Bytes of a piece, and of all that a step may give.
_PIECE = 256 * 1024
LARGEST_STREAM = 1024 * 1024 * 1024


def is_stream(value: object) -> bool:
    return hasattr(value, "__aiter__")


async def keep_stream(database: Database, instance: str, stream: str, source: Any) -> None:
    """Read a stream to its end and keep it, in the place of what an earlier attempt gave."""
    await database.submit(log.drop_stream, instance, stream)
    number = size = 0
    waiting = bytearray()
    async for piece in source:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise WorkflowFatalError(
                f"a stream that a step returns gives bytes, not {type(piece).__name__}"
            )
        waiting += piece
        size += len(piece)
        if size > LARGEST_STREAM:
            raise WorkflowFatalError("a stream that a step returns exceeds 1 GiB")
        while len(waiting) >= _PIECE:
            data = bytes(waiting[:_PIECE])
            del waiting[:_PIECE]
            await database.submit(log.add_chunk, instance, stream, number, data)
            number += 1
    if waiting:
        await database.submit(log.add_chunk, instance, stream, number, bytes(waiting))


class WorkflowStream:
    """What a step gave that returned a stream. Each ``async for`` reads it from its beginning."""

    def __init__(self, database: Database, instance: str, stream: str) -> None:
        self._database = database
        self._instance = instance
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        number = 0
        while (
            data := log.chunk(self._database.view, self._instance, self._stream, number)
        ) is not None:
            yield data
            number += 1

    async def bytes(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self])

    async def text(self) -> str:
        return (await self.bytes()).decode()
