"""SIGKILL at any moment: what was acknowledged is there, and nothing half is."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import bunflare
from bunflare import ManualClock
from tests.crash.workload import GROUP, WRITERS

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
KILLS = 3000 if LONG else 50
# A directory is killed this often before a fresh one is taken: recoveries build on recoveries.
KILLS_A_DIRECTORY = 25

Facts = dict[tuple[str, str], int]


def run_and_kill(directory: Path, start: int, rng: random.Random) -> list[str]:
    """Lines of the workload until it was killed."""
    durability = rng.choice(["full", "normal"])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.workload"]
        + [str(directory), str(start), durability, str(rng.randrange(10**9))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # Some are killed while they start and migrate, most while they write.
    early = rng.random() < 0.2
    if early:
        time.sleep(rng.uniform(0.0, 0.3))
    else:
        os.read(process.stdout.fileno(), 1)
        time.sleep(rng.uniform(0.0, 0.1))
    assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert errors == b"", errors.decode()
    # The byte that was waited for is the first of the first line.
    return output.decode().splitlines()[0 if early else 1 :]


async def check(directory: Path, facts: Facts) -> None:
    clock = ManualClock()
    clock.set(int(time.time() * 1000))
    async with bunflare.open(directory, clock=clock) as state:
        assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
        for (kind, name), number in facts.items():
            if kind == "single":
                found = await state.kv("single").get_with_metadata(name)
                assert int(found.value.split()[0]) == found.metadata >= number, (kind, name)
            elif kind == "removed":
                value = await state.kv("removed").get(name)
                if value is None:
                    continue  # by an odd number that may have been on its way
                assert int(value) >= number, (kind, name)
            elif kind == "cache":
                response = await state.caches.default.match(f"http://host/{name}")
                assert response is not None
                assert int(response.headers["x-number"]) >= number
        for name in map(str, range(WRITERS)):
            for namespaces in (("group",), ("left", "right")):
                keys = [f"{name}.{i}" for i in range(GROUP)]
                values = [
                    value
                    for namespace in namespaces
                    for value in (await state.kv(namespace).get(keys)).values()
                ]
                kind = "group" if namespaces == ("group",) else "transaction"
                assert len(set(values)) == 1, (kind, name, values)
                if (kind, name) in facts:
                    assert int(values[0]) >= facts[kind, name], (kind, name)
            response = await state.caches.default.match(f"http://host/{name}")
            if response is not None:
                words = set((await response.text()).split())
                assert words == {response.headers["x-number"]}
        await no_file_is_left_over(state, clock)


async def no_file_is_left_over(state: bunflare.State, clock: ManualClock) -> None:
    bodies = state.database.directory.cache_bodies
    if not bodies.is_dir():
        return
    rows = state.database.view.all(
        "SELECT bunflare_file FROM cache_entries WHERE bunflare_file IS NOT NULL"
    )
    named = {row[0] for row in rows}
    for _ in range(1000):
        await clock.advance(milliseconds=1)
        if {path.name for path in bodies.iterdir()} == named:
            return
        await asyncio.sleep(0.001)  # the sweep works on a thread
    assert {path.name for path in bodies.iterdir()} == named


async def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    seed = int(os.environ.get("BUNFLARE_SEED", "0")) or random.SystemRandom().randrange(10**9)
    sys.stderr.write(f"BUNFLARE_SEED={seed}\n")  # shown when the test fails
    rng = random.Random(seed)
    acknowledged = 0
    seen: dict[str, int] = defaultdict(int)
    for kill in range(KILLS):
        directory = tmp_path / f"state{kill // KILLS_A_DIRECTORY}"
        if kill % KILLS_A_DIRECTORY == 0:
            facts: Facts = {}
            latest = 0
            if kill:
                shutil.rmtree(tmp_path / f"state{kill // KILLS_A_DIRECTORY - 1}")
        for line in run_and_kill(directory, latest + 1, rng):
            kind, name, number = line.split()
            facts[kind, name] = int(number)
            latest = max(latest, int(number))
            acknowledged += 1
            seen[kind] += 1
        # What was on its way when it was killed may have been written as well.
        latest += 1
        await check(directory, facts)
    assert acknowledged > KILLS
    assert set(seen) == {"single", "removed", "group", "transaction", "cache"}
