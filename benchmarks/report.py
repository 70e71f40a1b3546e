"""What a run prints: Markdown tables of ratios."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .measure import SECONDS, Rates, compare, contender

T = TypeVar("T")

Work = Callable[[T], int | Awaitable[int]]
Format = Callable[[float], str]

NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of work, its floor and us."""

    work: str
    floor: str
    ours: str
    ratio: str
    must: str
    #: None where nothing is promised, or where there was nothing to compare with.
    met: bool | None


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A piece of work, another program that does it, and us."""

    work: str
    peer: str
    theirs: str
    ours: str
    ratio: str


@dataclass(slots=True)
class Report:
    """What a group has measured."""

    rows: list[Row] = field(default_factory=list)
    peers: list[PeerRow] = field(default_factory=list)

    async def compare(
        self,
        work: str,
        must: float | None,
        prepare: Callable[[], T],
        floor: Work[T],
        ours: Work[T],
        peers: Mapping[str, Work[T] | None] | None = None,
        *,
        seconds: float = SECONDS,
    ) -> None:
        """Measure a piece of work; ``ours`` is to be ``must`` times as fast as the floor.

        Where ``must`` is None nothing is promised. A peer that is None is not on this machine.
        """
        peers = peers or {}
        works = {"floor": floor, "ours": ours, **peers}
        rates = await compare(
            {name: contender(prepare, do) for name, do in works.items() if do is not None},
            seconds=seconds,
        )
        self.at_least(work, must, rates)
        for name in peers:
            self.peer(work, name, rates)

    def at_least(
        self, work: str, must: float | None, rates: Rates, ours: str = "ours", floor: str = "floor"
    ) -> None:
        """One of the ``rates`` is to be ``must`` times another."""
        ratio = rates.ratio(ours, floor)
        self.add(
            Row(
                work,
                rate(rates[floor]),
                rate(rates[ours]),
                times(ratio),
                "–" if must is None else f"{must:g} x",
                None if must is None else ratio >= must,
            )
        )

    def at_most(
        self, work: str, must: float, floor: float, ours: float, limit: str, show: Format
    ) -> None:
        """A cost: ``ours`` is to be no more than ``must``, which ``limit`` says."""
        ratio = ours / floor
        self.add(Row(work, show(floor), show(ours), times(ratio), limit, ours <= must))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        tell(f"{row.work}: {row.floor} to {row.ours}, {row.ratio} x")

    def peer(self, work: str, name: str, rates: Rates, ours: str = "ours") -> None:
        """How we compare with a peer, if it was there to be measured."""
        if name in rates:
            theirs, ratio = rate(rates[name]), times(rates.ratio(ours, name))
        else:
            theirs, ratio = NOT_INSTALLED, "–"
        self.peers.append(PeerRow(work, name, theirs, rate(rates[ours]), ratio))


def tell(message: str) -> None:
    """Say how far the run is, beside its result."""
    print(message, file=sys.stderr, flush=True)


def rate(operations: float) -> str:
    """Operations a second, with as many digits as they deserve."""
    if operations >= 1000:
        return f"{operations / 1000:,.0f}k" if operations >= 10_000 else f"{operations / 1000:.1f}k"
    return f"{operations:.0f}"


def seconds(time: float) -> str:
    return f"{time:.3f} s"


def mebibytes(size: float) -> str:
    return f"{size / 1024 / 1024:.0f} MiB"


def times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 9.95 else f"{ratio:.0f}"


def main_table(rows: Sequence[Row]) -> str:
    head = ("work", "floor (ops/s)", "ours (ops/s)", "ratio", "must reach", "met?")
    met = {True: "yes", False: "**no**", None: "–"}
    return _table(
        head, [(r.work, r.floor, r.ours, r.ratio, r.must, met[r.met]) for r in rows], left=1
    )


def peer_table(rows: Sequence[PeerRow]) -> str:
    head = ("work", "peer", "peer (ops/s)", "ours (ops/s)", "ours / peer")
    return _table(head, [(r.work, r.peer, r.theirs, r.ours, r.ratio) for r in rows], left=2)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table that can be read as it is; the first ``left`` columns are words."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if column < left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])
