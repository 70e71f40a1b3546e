"""Measuring things in turns, so that a busy machine is busy for all of them.

A shared machine's speed drifts by a factor of two within seconds. So the works take turns in short
slices, and a ratio is the median of the ratios within the rounds.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS = 15
# Between slices timers fire, snapshots are given up, and checkpoints end.
_PAUSE_SECONDS = 0.06


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    work: str
    #: Of the floor and of bunflare, in the same unit; for a cost, what is less is better.
    floor: float
    ours: float
    #: What ours/floor has to reach; for a cost, what it may not exceed.
    bar: float
    ratio: float
    unit: str = "/s"
    is_cost: bool = False

    @property
    def met(self) -> bool:
        return self.ratio <= self.bar if self.is_cost else self.ratio >= self.bar


def rate(work: Callable[[], int]) -> float:
    """Operations a second of a function that says how many it made."""
    started = time.perf_counter()
    made = work()
    return made / (time.perf_counter() - started)


class Rates:
    """Rates of works that took turns: the first is the floor."""

    def __init__(self, *works: Callable[[], int], rounds: int = ROUNDS) -> None:
        self._rates: list[list[float]] = [[] for _ in works]
        for work in works:
            work()  # warm up
        for number in range(rounds):
            pairs = list(zip(works, self._rates, strict=True))
            # Nobody is always the one who comes first.
            for work, found in pairs if number % 2 else reversed(pairs):
                time.sleep(_PAUSE_SECONDS)
                found.append(rate(work))

    def result(self, work: str, bar: float, contender: int = 1) -> Result:
        """How many times the floor's rate a work reached."""
        floor, ours = self._rates[0], self._rates[contender]
        ratio = median(mine / other for mine, other in zip(ours, floor, strict=True))
        return Result(work, median(floor), median(ours), bar, ratio)

    def cost(self, work: str, bar: float) -> Result:
        """How many times the first work's time the second one takes, in microseconds."""
        little, much = self._rates
        ratio = median(one / other for one, other in zip(little, much, strict=True))
        return Result(
            work, 1e6 / median(little), 1e6 / median(much), bar, ratio, unit=" µs", is_cost=True
        )


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the disk of the working directory, as a project's state would be."""
    path = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path.cwd()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
