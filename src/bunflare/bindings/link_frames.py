"""What two processes say to each other: frames of the codec's text, each behind its length."""

from __future__ import annotations

import asyncio
from typing import Any

from .. import errors
from ..errors import BunflareError, DurableObjectReset, DurableObjectTypeError
from ..values import dumps, loads
from .rpc import carried

_LARGEST = 256 * 1024 * 1024


async def read(reader: asyncio.StreamReader) -> list[Any] | None:
    """The next frame; None at the connection's end."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        frame: list[Any] = loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None
    return frame


def write(writer: asyncio.StreamWriter, frame: list[Any]) -> None:
    """Send a frame. Raises `DurableObjectTypeError` and its kinds for what cannot be sent."""
    data = dumps(frame).encode()
    if len(data) > _LARGEST:
        raise DurableObjectTypeError("this is too large to be sent to another process")
    writer.write(len(data).to_bytes(4, "big") + data)


def packed(error: BaseException) -> Any:
    """An exception for a frame: one of ours by its name, which the codec would not know."""
    if isinstance(error, BunflareError) and type(error).__module__ == errors.__name__:
        return [type(error).__name__, str(error)]
    return carried(error)


def unpacked(found: Any) -> BaseException:
    """The exception that was `packed`."""
    if isinstance(found, BaseException):
        return found
    name, message = found
    kind = getattr(errors, name, BunflareError)
    error: BaseException = kind.__new__(kind, message)
    # Some take more than their words, which do not come along.
    Exception.__init__(error, message)
    return error


def lost() -> DurableObjectReset:
    """What is heard of a process that is gone."""
    return DurableObjectReset("Network connection lost.")
