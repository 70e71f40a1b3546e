"""SIGKILL at any moment: what was acknowledged is there, and nothing half is."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import bunflare
from bunflare import ManualClock
from bunflare.store import blobs
from tests.crash.victims import Ledger, executioner, seed_of_the_day
from tests.crash.workload import KINDS
from tests.support import child, files

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
KILLS = 5000 if LONG else 100
# A directory is killed this often before a fresh one is taken: recoveries build on recoveries.
KILLS_A_DIRECTORY = 50 if LONG else 20

SEED = (Path(__file__).parents[1] / "store" / "seed.sql").read_text()
SEEDED = 100

# A directory that another program made, with rows, and that is yet to be brought to our form.
SEED_PROGRAM = """
import os, sqlite3, sys
os.mkdir(sys.argv[1])
c = sqlite3.connect(sys.argv[1] + "/data.sqlite")
c.executescript(sys.argv[2])
rows = [(f"k{i}", str(i)) for i in range(int(sys.argv[3]))]
c.executemany("INSERT INTO kv VALUES ('seed', ?, ?, NULL, NULL)", rows)
c.execute("INSERT INTO cache_entries VALUES ('default', 'http://seed/', 200, '{}', 'theirs')")
c.commit()
c.close()
print("done", flush=True)
"""


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


async def check(directory: Path, ledger: Ledger, seeded: bool) -> None:
    """Open what was left, and find everything in order."""
    clock = ManualClock(time.time_ns() // 1_000_000)
    async with bunflare.open(directory, clock=clock) as state:
        assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
        await ledger.check(state)
        if seeded:
            keys = [f"k{i}" for i in range(SEEDED)]
            assert await state.kv("seed").get(keys) == {key: key[1:] for key in keys}
            assert len((await state.kv("seed").list()).keys) == SEEDED
            view = state.database.view
            found = view.all("SELECT body FROM cache_entries WHERE url = 'http://seed/'")
            assert found == [("theirs",)]
        await clock.advance(milliseconds=1)  # which sweeps
        rows = state.database.view.all(
            "SELECT bunflare_file FROM cache_entries WHERE bunflare_file IS NOT NULL"
        )
        assert names(state.database.directory.cache_bodies) == {row[0] for row in rows}
    assert names(directory) - {"cache"} == {".gitignore", "data.sqlite", "writer.lock"}


async def test_what_was_acknowledged_survives_sigkill_and_nothing_half_is_left(
    tmp_path: Path,
) -> None:
    rng = random.Random(seed_of_the_day())
    moments: Counter[str] = Counter()
    acknowledged: Counter[str] = Counter()
    with executioner(rng) as killer:
        for life in range(KILLS // KILLS_A_DIRECTORY):
            directory = tmp_path / f"state{life}"
            ledger = Ledger()
            seeded = life % 2 == 1
            if seeded:
                with child(SEED_PROGRAM, directory, SEED, SEEDED) as other:
                    assert other.line() == "done"
            for kill in range(1, KILLS_A_DIRECTORY + 1):
                moments[killer.run(directory, ledger)] += 1
                # Now and then the next writer finds what this one left.
                if rng.random() < 0.7 or kill == KILLS_A_DIRECTORY:
                    await check(directory, ledger, seeded)
            acknowledged += ledger.acknowledged
            shutil.rmtree(directory)
    sys.stderr.write(f"{dict(moments)} {dict(acknowledged)}\n")
    assert moments.total() == KILLS
    assert set(acknowledged) == set(KINDS)


@pytest.mark.parametrize("step", ["write", "replace"])
async def test_whoever_dies_while_making_a_directory_leaves_no_temporary_file(
    directory: Path, step: str
) -> None:
    source = """
    import os, signal, sys
    from pathlib import Path
    import bunflare

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half_and_die(path, text):
        with path.open("w") as file:
            file.write(text[:10])
        die()

    if sys.argv[2] == "write":
        Path.write_text = write_half_and_die
    else:
        Path.replace = die
    bunflare.open(sys.argv[1])
    """
    with child(source, directory, step) as victim:
        assert victim.process.wait(30) < 0
    async with bunflare.open(directory):
        pass
    assert set(files(directory)) == {".gitignore", "data.sqlite", "writer.lock"}
    assert (directory / ".gitignore").read_text().endswith("\n*\n")


def test_a_file_that_is_just_being_made_is_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its locking it looks like one, and a sweep would take it away."""
    found: list[str] = []
    sweep = threading.Thread(target=lambda: found.extend(blobs.leftovers(tmp_path)))
    lock = fcntl.flock

    def slowly(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not sweep.ident:
            sweep.start()
            # It has ended by then, unless it waits for us as it should.
            sweep.join(0.2)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    draft = blobs.Draft(tmp_path)
    sweep.join(30)
    assert not sweep.is_alive()
    assert found == []
    draft.close()
