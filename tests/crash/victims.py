"""Writers that are killed, and the account of what they must have left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import bunflare
from tests.crash.workload import KINDS, WRITERS, Order
from tests.support import Child, child

PROGRAM = (Path(__file__).parent / "workload.py").read_text()

Name = tuple[str, str]


def seed_of_the_day() -> int:
    """What decides everything random: shown when a test fails, and set to see that again."""
    seed = int(os.environ.get("BUNFLARE_SEED", "0")) or random.SystemRandom().randrange(10**9)
    sys.stderr.write(f"BUNFLARE_SEED={seed}\n")
    return seed


class Ledger:
    """What may be found: the last write that was acknowledged, or one begun since."""

    def __init__(self) -> None:
        self._possible: dict[Name, set[int | None]] = {
            (kind, str(writer)): {None} for kind in KINDS for writer in range(WRITERS)
        }
        #: The number that the next writer starts with.
        self.next = 1
        #: How many writes of each kind were acknowledged.
        self.acknowledged: Counter[str] = Counter()

    def note(self, line: str) -> None:
        """Take down what a writer said."""
        event, kind, name, number = line.split()
        left = KINDS[kind].leaves(int(number))
        if event == "begun":
            self._possible[kind, name].add(left)
            self.next = max(self.next, int(number) + 1)
        else:
            assert event == "done"
            self._possible[kind, name] = {left}
            self.acknowledged[kind] += 1

    async def check(self, state: bunflare.State) -> None:
        """Compare with what is there. From then on, nothing else may be."""
        for (kind, name), possible in self._possible.items():
            found = await KINDS[kind].read(state, name)
            assert found in possible, f"{kind} {name}: found {found}, may be {possible}"
            self._possible[kind, name] = {found}


class Executioner:
    """Starts writers, one after the other, and kills each at a moment of its own."""

    def __init__(self, program: Child, rng: random.Random) -> None:
        self._program = program
        self._rng = rng

    def run(self, directory: Path, ledger: Ledger) -> str:
        """The life of one writer; what was to be hit: its start, work, end, or some line."""
        rng = self._rng
        fresh = not (directory / "data.sqlite").exists()
        moments = ["start", "line", "work", "end"]
        moment = rng.choices(moments, weights=[4, 4, 1, 1] if fresh else [1, 3, 4, 2])[0]
        order = Order(
            str(directory),
            # One more, since a write that is given up is not told.
            ledger.next + 1,
            rng.choice(["full", "normal"]),
            rng.randrange(10**9),
            writes=rng.randrange(1, 8) if moment == "end" else 1_000_000,
            # Opening takes some 300 lines, and a fresh directory twice as many.
            lines=rng.randrange(1, rng.choice([800, 6000])) if moment == "line" else 0,
        )
        self._program.tell(json.dumps(asdict(order)))
        pid = int(self._program.line().removeprefix("born "))
        if moment == "start":
            self._kill(pid, 0.03)
        alive = moment in ("work", "end")
        while not (line := self._program.line()).startswith("dead "):
            assert line != "failed", "an error reached a writer"
            if line != "closing":
                ledger.note(line)
            if alive and line.startswith("done " if moment == "work" else "closing"):
                self._kill(pid, 0.08 if moment == "work" else 0.004)
                alive = False
        assert int(line.removeprefix("dead ")) == -signal.SIGKILL
        return moment

    def _kill(self, pid: int, longest: float) -> None:
        time.sleep(self._rng.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)


@contextmanager
def executioner(rng: random.Random) -> Iterator[Executioner]:
    with child(PROGRAM) as program:
        yield Executioner(program, rng)
