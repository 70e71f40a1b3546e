"""Measuring contenders against each other on a machine that others use too.

The speed of a shared machine drifts by a factor of two within seconds. So contenders take turns in
short slices, a round gives each of them one slice, rounds alternate their order, and what counts is
the median over the rounds of the ratio *within* a round.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

T = TypeVar("T")

ROUNDS = 9
SECONDS = 0.25
# Between two slices: timers fire, snapshots are given up, checkpoints end.
_PAUSE_SECONDS = 0.08

#: Does a batch of work, and returns how many operations that were.
Batch = Callable[[], int | Awaitable[int]]
#: Makes the next batch. Not timed.
Contender = Callable[[], Batch]


def contender(prepare: Callable[[], T], work: Callable[[T], int | Awaitable[int]]) -> Contender:
    """Does ``work`` on what ``prepare`` makes for each batch."""
    return lambda: partial(work, prepare())


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations a second of each contender, round by round."""

    by_name: dict[str, list[float]]

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> float:
        return median(self.by_name[name])

    def ratio(self, ours: str, floor: str) -> float:
        """How many times faster ``ours`` is: the median over the rounds."""
        pairs = zip(self.by_name[ours], self.by_name[floor], strict=True)
        return median(mine / other for mine, other in pairs)


async def compare(
    contenders: Mapping[str, Contender], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> Rates:
    """Let the contenders take turns."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for name in order:
        await _slice(contenders[name], seconds / 2)
    # What these benchmarks themselves have made is not to be looked through while they measure.
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name in order:
            await asyncio.sleep(_PAUSE_SECONDS)
            rates[name].append(await _slice(contenders[name], seconds))
        order.reverse()
    return Rates(rates)


async def _slice(contender: Contender, seconds: float) -> float:
    operations = 0
    spent = 0.0
    while True:
        batch = contender()
        started = time.perf_counter()
        done = batch()
        operations += await done if inspect.isawaitable(done) else done
        spent += time.perf_counter() - started
        if spent >= seconds:
            return operations / spent
