"""What an operation costs when there are a hundred times as many keys."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import bunflare
from bunflare import KVNamespace

from .floor import NAMESPACE, PAGE, Floor, Pair, bulk_load, key_name, prefixes
from .kv import fresh_values, get, list_pages, put
from .measure import Contender, compare, contender
from .report import Report, Row, rate, tell, times

_FEW = 100_000
_MANY = 10_000_000
_MOST = 2.0


@dataclass(frozen=True, slots=True)
class _File:
    """As many keys, and both ways to them."""

    count: int
    kv: KVNamespace
    floor: Floor

    def key(self) -> str:
        """Any key, each as likely as any other."""
        return key_name(random.randrange(self.count))

    def keys(self) -> list[str]:
        return [self.key() for _ in range(2_000)]

    def pairs(self) -> list[Pair]:
        return [(self.key(), value) for value in fresh_values(100)]

    def prefixes(self) -> list[str]:
        return random.choices(prefixes(self.count), k=20)


async def measure(scratch: Path) -> Report:
    random.seed(0)
    report = Report()
    async with AsyncExitStack() as stack:
        few, many = [
            await _open(scratch / str(count) / "data.sqlite", count, stack)
            for count in (_FEW, _MANY)
        ]
        await _compare(
            report,
            "KV get, uniformly random,",
            lambda file: contender(file.keys, lambda keys: get(file.kv, keys)),
            lambda file: contender(file.keys, file.floor.get),
            few,
            many,
        )
        await _compare(
            report,
            "KV put, durable, one at a time,",
            lambda file: contender(file.pairs, lambda pairs: put(file.kv, pairs)),
            lambda file: contender(file.pairs, file.floor.put),
            few,
            many,
        )
        await _compare(
            report,
            f"KV list of {PAGE:,}",
            lambda file: contender(file.prefixes, lambda starts: list_pages(file.kv, starts)),
            lambda file: contender(file.prefixes, file.floor.list),
            few,
            many,
        )
    return report


async def _open(path: Path, count: int, stack: AsyncExitStack) -> _File:
    started = time.monotonic()
    bulk_load(path, count)
    tell(f"{count:,} keys loaded in {time.monotonic() - started:.0f} s")
    state = await stack.enter_async_context(bunflare.open(path.parent))
    floor = Floor(path, mapped=True)
    stack.callback(floor.close)
    return _File(count, state.kv(NAMESPACE), floor)


async def _compare(
    report: Report,
    work: str,
    ours: Callable[[_File], Contender],
    bare: Callable[[_File], Contender],
    few: _File,
    many: _File,
) -> None:
    rates = await compare(
        {
            "few": ours(few),
            "many": ours(many),
            "bare few": bare(few),
            "bare many": bare(many),
        },
        seconds=0.4,
    )
    cost = rates.ratio("few", "many")
    report.add(
        Row(
            f"{work} cost at {many.count:,} keys to that at {few.count:,}",
            rate(rates["few"]),
            rate(rates["many"]),
            times(cost),
            f"at most {_MOST:g} x",
            cost <= _MOST,
        )
    )
    report.add(
        Row(
            "- the same of bare APSW, unawaited",
            rate(rates["bare few"]),
            rate(rates["bare many"]),
            times(rates.ratio("bare few", "bare many")),
            "–",
            None,
        )
    )
