"""D1 under SIGKILL and in several processes."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import bunflare
from tests.support import child

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
ROUNDS = 200 if LONG else 6
SECONDS = 60.0 if LONG else 2.0
PROCESSES = 8 if LONG else 3

WRITER = """
import asyncio, sys, time, bunflare
async def main():
    me, seconds = int(sys.argv[2]), float(sys.argv[3])
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("bank")
        move = db.prepare("UPDATE accounts SET money = money + ?2 WHERE id = ?1")
        note = db.prepare("INSERT INTO notes (who) VALUES (?)")
        total = db.prepare("SELECT sum(money) AS n FROM accounts")
        print("ready", flush=True)
        sys.stdin.readline()
        done, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.gather(
                db.batch([move.bind(1, -1), move.bind(2, 1), note.bind(me)]),
                db.batch([move.bind(2, -1), move.bind(3, 1), note.bind(me)]),
            )
            assert await total.first("n") == 300, "a batch was seen half done"
            done += 2
            print(done, flush=True)
asyncio.run(main())
"""

FILER = """
import asyncio, sys, bunflare
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("bank")
        mark = await db.bookmark()
        print("ready", flush=True)
        while True:
            await db.import_sql(sys.argv[2])
            mark = await db.restore(mark)
            print("done", flush=True)
asyncio.run(main())
"""


async def make(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.d1("bank").exec(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, money INT);"
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, who INT);"
            "INSERT INTO accounts VALUES (1, 100), (2, 100), (3, 100)"
        )


async def test_a_batch_that_was_acknowledged_survives_a_kill_and_none_is_half_done(
    directory: Path,
) -> None:
    await make(directory)
    acknowledged = 0
    for round_ in range(ROUNDS):
        with child(WRITER, directory, round_, 60) as process:
            assert process.line() == "ready"
            process.tell("go")
            for _ in range(3 + round_ % 5):
                last = int(process.line())
            process.kill()
            last = max([last, *map(int, process.rest())])
        acknowledged += last
        async with bunflare.open(directory) as state:
            db = state.d1("bank")
            notes = await db.prepare("SELECT count(*) AS n FROM notes").first("n")
            assert acknowledged <= notes <= acknowledged + 2
            acknowledged = notes
            assert await db.prepare("SELECT sum(money) AS n FROM accounts").first("n") == 300
            row = await db.prepare("SELECT money FROM accounts WHERE id = 1").first("money")
            assert await db.prepare("PRAGMA quick_check").raw() == [["ok"]]
            assert row <= 100


async def test_processes_that_write_to_one_database_never_meet_a_lock(directory: Path) -> None:
    await make(directory)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(child(WRITER, directory, number, SECONDS))
            for number in range(PROCESSES)
        ]
        for process in processes:
            assert process.line() == "ready"
        for process in processes:
            process.tell("go")
        counts = []
        for process in processes:
            process.process.wait(SECONDS + 30)
            assert process.process.returncode == 0
            counts.append(int(process.rest()[-1]))
    assert min(counts) > 0
    async with bunflare.open(directory) as state:
        notes = await state.d1("bank").prepare("SELECT count(*) AS n FROM notes").first("n")
        assert notes == sum(counts)


async def test_an_import_or_a_restore_that_is_killed_has_happened_or_not(
    directory: Path, tmp_path: Path
) -> None:
    await make(directory)
    text = tmp_path / "in.sql"
    lines = "".join(f"INSERT INTO notes VALUES ({number}, 7);\n" for number in range(2000))
    text.write_text(f"DELETE FROM notes;\n{lines}")
    for round_ in range(ROUNDS):
        with child(FILER, directory, text) as process:
            assert process.line() == "ready"
            time.sleep(0.01 * (round_ % 12))
            process.kill()
        async with bunflare.open(directory) as state:
            db = state.d1("bank")
            assert await db.prepare("SELECT count(*) AS n FROM notes").first("n") in (0, 2000)
            assert await db.prepare("SELECT sum(money) AS n FROM accounts").first("n") == 300
            assert await db.prepare("PRAGMA quick_check").raw() == [["ok"]]
