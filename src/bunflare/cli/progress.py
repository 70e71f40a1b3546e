"""Progress on a terminal: how far, how fast, how long still.

The bar is click's own: it knows the time left and when nobody watches, and costs no further
dependency and no further start-up. The rate is added here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import click

#: What is told how much is done, and of how much, where that is known.
Progress = Callable[[int, int | None], None]

# Work that is over sooner than this shows no bar, unless it is known to be much.
_SOON = 0.5
_MUCH = {"bytes": 4 * 1024 * 1024, "items": 5000}


@contextmanager
def progress_bar(label: str, unit: Literal["bytes", "items"] = "bytes") -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal; what comes back is told of progress."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    began = time.monotonic()
    with ExitStack() as stack:
        bars: list[Any] = []

        def rate(done: int | None) -> str:
            spent = time.monotonic() - began
            return "" if not done or spent <= 0 else f"{_amount(done / spent, unit)}/s"

        def progress(done: int, whole: int | None) -> None:
            if not bars:
                if time.monotonic() - began < _SOON and (whole or 0) < _MUCH[unit]:
                    return
                bars.append(
                    stack.enter_context(
                        click.progressbar(
                            length=whole, label=label, file=sys.stderr, item_show_func=rate
                        )
                    )
                )
            bar = bars[0]
            bar.update(done - bar.pos, done)

        yield progress


def _amount(number: float, unit: str) -> str:
    if unit == "items":
        return f"{number:,.0f}"
    for name in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {name}" if number >= 10 else f"{number:.1f} {name}"
        number /= 1000
    return f"{number:.1f} GB"
