"""Measuring contenders against each other on a machine that others use too.

The speed of a shared machine drifts by a factor of two within seconds. So contenders take turns in
short slices, a round gives each of them one slice, rounds alternate their order, and what counts is
the median over the rounds of the ratio *within* a round.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")

ROUNDS = 9
SECONDS = 0.25
# Between two slices: timers fire, snapshots are given up, checkpoints end.
_PAUSE_SECONDS = 0.08


#: Does a batch, and returns how many operations that were.
Work = Callable[[T], int | Awaitable[int]]


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
    prepare: Callable[[], T],
    contenders: Mapping[str, Work[T]],
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> Rates:
    """Let the contenders take turns. What ``prepare`` makes for the next batch is not timed."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for name in order:
        await _slice(prepare, contenders[name], 0)
    for _ in range(rounds):
        for name in order:
            await asyncio.sleep(_PAUSE_SECONDS)
            rates[name].append(await _slice(prepare, contenders[name], seconds))
        order.reverse()
    return Rates(rates)


async def _slice(prepare: Callable[[], T], work: Work[T], seconds: float) -> float:
    operations = 0
    spent = 0.0
    while True:
        batch = prepare()
        started = time.perf_counter()
        done = work(batch)
        operations += await done if inspect.isawaitable(done) else done
        spent += time.perf_counter() - started
        if spent >= seconds:
            return operations / spent
