"""A program that follows the seed and knows nothing of us works on the same file at the same time.

It has the SQLite of Python's standard library, in a process of its own: two copies of SQLite in one
process would undo each other's locks.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

import bunflare
from tests.crash.test_processes import PROGRAM as CONTENDER
from tests.support import child

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
SECONDS = 30.0 if LONG else 3.0
ROUNDS = 2000 if LONG else 200

PREAMBLE = """
import json, sqlite3, sys, time

c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA busy_timeout=5000")
c.execute("PRAGMA journal_mode=WAL")

def put(key, value):
    c.execute("INSERT OR REPLACE INTO kv (namespace, key, value) VALUES ('shared', ?, ?)",
              (key, str(value).encode()))

def get(key):
    row = c.execute("SELECT value FROM kv WHERE namespace='shared' AND key=?", (key,)).fetchone()
    return None if row is None else row[0].decode()
"""

# Does what it is told, one thing at a time.
OBEDIENT = (
    PREAMBLE
    + """
print("ready", flush=True)
for line in sys.stdin:
    verb, key, *value = line.split()
    if verb == "put":
        put(key, value[0])
        print("done", flush=True)
    elif verb == "delete":
        c.execute("DELETE FROM kv WHERE namespace='shared' AND key=?", (key,))
        print("done", flush=True)
    else:
        print(get(key), flush=True)
"""
)

# Writes and reads as fast as it can. An error ends it with a traceback.
BUSY = (
    PREAMBLE
    + """
print("ready", flush=True)
sys.stdin.readline()
seconds, rivals = float(sys.argv[2]), int(sys.argv[3])
latest = [-1] * rivals
number = increments = 0
longest = 0.0
end = time.monotonic() + seconds
while time.monotonic() < end:
    started = time.monotonic()
    put("theirs", number)
    longest = max(longest, time.monotonic() - started)
    assert get("theirs") == str(number), "not what was just written"
    number += 1
    for rival in range(rivals):
        value = int(get(f"counter{rival}") or -1)
        assert value >= latest[rival], "time ran backwards"
        latest[rival] = value
    if number % 10 == 0:
        c.execute("BEGIN IMMEDIATE")
        put("total", int(get("total") or 0) + 1)
        c.execute("COMMIT")
        increments += 1
print(json.dumps({"rounds": number, "own": increments, "longest": longest}), flush=True)
"""
)


async def test_each_sees_what_the_other_has_just_written(directory: Path) -> None:
    """Also where we remember the row, or remember that there is none."""
    async with bunflare.open(directory) as state:
        kv = state.kv("shared")
        with child(OBEDIENT, directory / "data.sqlite") as other:
            assert other.line() == "ready"

            def ask(line: str) -> str:
                other.tell(line)
                return other.line()

            for number in range(ROUNDS):
                assert await kv.get("key") == (None if number == 0 else f"{number - 1}c")
                await kv.put("key", f"{number}a")
                assert ask("get key") == f"{number}a"
                assert ask(f"put key {number}b") == "done"
                assert await kv.get("key") == f"{number}b"
                assert ask("delete key") == "done"
                assert await kv.get("key") is None
                assert (await kv.list()).keys == []
                async with state.transaction() as tx:
                    await tx.kv("shared").put("key", f"{number}c")
                    assert ask("get key") == "None"
                assert ask("get key") == f"{number}c"


@pytest.mark.parametrize("ours", [1, 2])
async def test_both_write_at_once_without_errors_and_lose_nothing(
    directory: Path, ours: int
) -> None:
    async with bunflare.open(directory) as state:
        kv = state.kv("shared")
        with ExitStack() as stack:
            theirs = stack.enter_context(child(BUSY, directory / "data.sqlite", SECONDS, ours))
            rivals = [
                stack.enter_context(child(CONTENDER, directory, me, ours, SECONDS))
                for me in range(ours)
            ]
            for one in (theirs, *rivals):
                assert one.line() == "ready"
            for one in (theirs, *rivals):
                one.tell("go")
            reports = [json.loads(one.line(SECONDS)) for one in (theirs, *rivals)]
        for me, report in enumerate(reports[1:]):
            assert await kv.get(f"counter{me}") == str(report["rounds"] - 1)
            assert report["logged"] == [0]
        assert await kv.get("theirs") == str(reports[0]["rounds"] - 1)
        assert int(await kv.get("total")) == sum(report["own"] for report in reports)
        assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]
