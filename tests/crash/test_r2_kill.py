"""SIGKILL while objects are written: each is whole, of the version told or the one on its way."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import bunflare
from bunflare import ManualClock, R2ObjectBody
from tests.bindings.r2_tools import beside, objects_on_disk, pages
from tests.crash.r2_workload import value_of
from tests.support import chores_done, eventually

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
KILLS = 1000 if LONG else 12
# A directory is killed this often before a fresh one is taken: recoveries build on recoveries.
KILLS_A_DIRECTORY = 6


@dataclass
class Story:
    """What was told of one key."""

    #: Kind and number of what was done last.
    done: tuple[str, int] | None = None
    #: The same of what was begun since.
    begun: set[tuple[str, int]] = field(default_factory=set)


def run_and_kill(directory: Path, start: int, rng: random.Random) -> list[str]:
    """Lines of the workload until it was killed."""
    durability = rng.choice(["full", "normal"])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.r2_workload"]
        + [str(directory), str(start), durability, str(rng.randrange(10**9))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # Some are killed while they start and recover, most while they write.
    early = rng.random() < 0.2
    if early:
        time.sleep(rng.uniform(0.1, 0.4))
        first = b""
    else:
        first = os.read(process.stdout.fileno(), 1)
        time.sleep(rng.uniform(0.0, 0.15))
    ended = process.poll()
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert ended is None, errors.decode()
    assert errors == b"", errors.decode()
    return (first + output).decode().splitlines()


def follow(stories: dict[str, Story], lines: list[str]) -> int:
    """Take what was told into the stories; the highest number."""
    highest = 0
    for line in lines:
        what, kind, number, key = line.split(" ", 3)
        highest = max(highest, int(number))
        story = stories.setdefault(key, Story())
        if what == "begin":
            story.begun.add((kind, int(number)))
        elif what == "gave-up":
            story.begun.discard((kind, int(number)))
        else:
            story.done = (kind, int(number))
            story.begun.discard((kind, int(number)))
    return highest


async def check(directory: Path, stories: dict[str, Story]) -> None:
    clock = ManualClock()
    clock.set(int(time.time() * 1000))
    async with bunflare.open(directory, clock=clock) as state:
        assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
        bucket = state.r2("bucket")
        # What was in the middle of a transaction is there as a whole, or not at all.
        halves: dict[int, set[bool]] = {}
        for key, story in stories.items():
            allowed = {None if kind == "delete" else number for kind, number in story.begun}
            if story.done is None or story.done[0] == "delete":
                allowed.add(None)
            else:
                allowed.add(story.done[1])
            found = await bucket.get(key)
            number = None
            if found is not None:
                assert isinstance(found, R2ObjectBody)
                number = int((found.custom_metadata or {})["number"])
                body = await found.bytes()
                assert len(body) == found.size
                assert body == value_of(number, len(body) - 11), key
            assert number in allowed, (key, story)
            for kind, begun in story.begun:
                if kind == "transaction":
                    # Numbers of different writers may be the same; their keys are not.
                    writer = int(key[0])
                    halves.setdefault(begun * 10 + writer, set()).add(number == begun)
            # From now on that is what it is.
            story.begun.clear()
            story.done = ("delete", 0) if number is None else ("found", number)
        assert all(len(half) == 1 for half in halves.values()), halves
        # Uploads that were abandoned go after seven days, and nothing else is left then.
        await clock.advance(days=8)
        await chores_done(state)
        await eventually(lambda: beside(directory) == {})
        objects = {item.key: item.size async for page in pages(bucket) for item in page.objects}
        assert sorted(map(len, objects_on_disk(directory).values())) == sorted(objects.values())
        looked = await bucket.check(digests=True)
        assert (looked.objects, looked.problems, looked.strangers) == (len(objects), [], [])


async def test_each_object_survives_sigkill_whole(tmp_path: Path) -> None:
    seed = int(os.environ.get("BUNFLARE_SEED", "0")) or random.SystemRandom().randrange(10**9)
    sys.stderr.write(f"BUNFLARE_SEED={seed}\n")  # shown when the test fails
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    for kill in itertools.count():
        # On a busy machine little is done in a life.
        if kill >= KILLS and (enough(seen) or kill >= 20 * KILLS):
            break
        directory = tmp_path / f"state{kill // KILLS_A_DIRECTORY}"
        if kill % KILLS_A_DIRECTORY == 0:
            stories: dict[str, Story] = {}
            latest = 0
            if kill:
                shutil.rmtree(tmp_path / f"state{kill // KILLS_A_DIRECTORY - 1}")
        lines = run_and_kill(directory, latest + 1, rng)
        seen.update(line.split(" ", 2)[1] for line in lines if line.startswith("done"))
        latest = max(latest, follow(stories, lines))
        await check(directory, stories)
    assert enough(seen), seen


def enough(seen: Counter[str]) -> bool:
    """Whether everything was done, and often."""
    kinds = {"put", "stream", "delete", "parts", "file", "copy", "several", "transaction"}
    return seen.total() > KILLS and set(seen) == kinds
