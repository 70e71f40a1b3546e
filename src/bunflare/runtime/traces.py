"""Tracebacks as the author of a Worker wants to read them: their own frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

_OURS = str(Path(__file__).parents[1])
E = TypeVar("E", bound=BaseException)


def is_inside(file: str) -> bool:
    """Whether a frame of that file is bunflare's, or of what carries a Worker."""
    if file.startswith((_OURS, "<frozen ")):
        return True
    parts = Path(file).parts
    return "asyncio" in parts or "uvloop" in parts or parts[-2:] == ("bin", "bunflare")


def shortened(error: E) -> E:
    """The error without the frames of bunflare, if others are left, and its causes likewise."""
    for one in _all(error):
        frames = [frame for frame in _frames(one) if not is_inside(_file(frame))]
        if frames:
            trace: TracebackType | None = None
            for frame in reversed(frames):
                trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
            one.__traceback__ = trace
    return error


def places(tasks: Iterable[asyncio.Future[Any]]) -> str:
    """A line for each task that goes on: where it is in the Worker's code."""
    return "".join(f"\n  {_place(task)}" for task in tasks)


def _place(task: asyncio.Future[Any]) -> str:
    found = "something that is no coroutine"
    step: Any = task.get_coro() if isinstance(task, asyncio.Task) else None
    while step is not None:
        frame = getattr(step, "cr_frame", None)
        if frame is not None and not is_inside(frame.f_code.co_filename):
            found = f"{step.__qualname__} ({frame.f_code.co_filename}:{frame.f_lineno})"
        step = getattr(step, "cr_await", None)
    return found


def _all(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        rest += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            rest += one.exceptions


def _frames(error: BaseException) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _file(trace: TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename
