"""Tracebacks as the author of a Worker wants to read them: their own frames."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TypeVar

_OURS = str(Path(__file__).parents[1])
E = TypeVar("E", bound=BaseException)


def shortened(error: E) -> E:
    """The error without the frames of bunflare that lead to the Worker's first one."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
    return error
