"""D1 under SIGKILL and in several processes."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

import bunflare
from tests.support import PATIENCE, child

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
            assert process.process.wait(SECONDS + PATIENCE) == 0
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


MIGRATOR = """
import asyncio, sys, bunflare
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        print("ready", flush=True)
        await state.d1("bank").migrate(sys.argv[2])
        print("done", flush=True)
asyncio.run(main())
"""

# Its log begins anew all the time, and what is old is forgotten on the way.
KEEPER = """
import asyncio, sys, bunflare
from bunflare.store import checkpoint
checkpoint._WORTH_IT = 12
checkpoint._TOO_LONG = 200
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("bank")
        session = db.with_session()
        me, limit = int(sys.argv[2]), float(sys.argv[3])
        await db.keep_history(megabytes=limit)
        move = session.prepare("UPDATE accounts SET money = money + ?2 WHERE id = ?1")
        note = session.prepare("INSERT INTO notes (who) VALUES (?)")
        count = session.prepare("SELECT count(*) AS n FROM notes WHERE who = ?").bind(me)
        done = await count.first("n")
        print("ready", flush=True)
        sys.stdin.readline()
        while True:
            await session.batch([move.bind(1, -1), move.bind(2, 1), note.bind(me)])
            done += 1
            print(done, session.get_bookmark(), flush=True)
asyncio.run(main())
"""


async def test_a_migration_that_is_killed_has_happened_with_its_record_or_not_at_all(
    directory: Path, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    rows = "".join(f"INSERT INTO m VALUES ({number});\n" for number in range(3000))
    (steps / "0001_first.sql").write_text("CREATE TABLE m (a);\n" + rows)
    for number in range(2, ROUNDS + 1):
        (steps / f"{number:04d}_more.sql").write_text(f"CREATE TABLE m{number} (a);\n{rows}")
    for round_ in range(ROUNDS):
        with child(MIGRATOR, directory, steps) as process:
            assert process.line() == "ready"
            time.sleep(0.004 * (round_ % 8))
            process.kill()
        async with bunflare.open(directory) as state:
            db = state.d1("bank")
            tables = await db.prepare(
                "SELECT count(*) AS n FROM sqlite_schema WHERE name LIKE 'm%' AND type = 'table'"
            ).first("n")
            applied = await db.pending_migrations(steps)
            assert len(applied) == ROUNDS - tables
            if tables:
                found = await db.prepare("SELECT count(*) AS n FROM m").first("n")
                assert found == 3000 * tables
            assert await db.prepare("PRAGMA quick_check").raw() == [["ok"]]
    async with bunflare.open(directory) as state:
        await state.d1("bank").migrate(steps)
        assert await state.d1("bank").pending_migrations(steps) == []


async def states_are_true(directory: Path, known: list[tuple[int, int, str]]) -> int:
    """Look at states that were acknowledged (who, their notes, bookmark): how many are kept."""
    kept = 0
    async with bunflare.open(directory) as state:
        db = state.d1("bank")
        last = await db.bookmark()
        for who, notes, bookmark in known:
            try:
                await db.restore(bookmark)
            except bunflare.D1Error as error:
                if "is not kept" not in str(error):
                    raise
                continue
            kept += 1
            count = db.prepare("SELECT count(*) AS n FROM notes WHERE who = ?").bind(who)
            assert await count.first("n") == notes
            assert await db.prepare("SELECT sum(money) AS n FROM accounts").first("n") == 300
            assert await db.prepare("PRAGMA quick_check").raw() == [["ok"]]
        await db.restore(last)
    return kept


def acknowledged(who: int, lines: list[str]) -> list[tuple[int, int, str]]:
    found = []
    for line in lines:
        notes, _, bookmark = line.partition(" ")
        if len(bookmark) == 59:
            found.append((who, int(notes), bookmark))
    return found


async def test_every_state_that_was_acknowledged_can_be_gone_back_to_after_kills(
    directory: Path,
) -> None:
    await make(directory)
    known = []
    for round_ in range(ROUNDS):
        with child(KEEPER, directory, 1, 1000) as process:
            assert process.line() == "ready"
            process.tell("go")
            lines = [process.line() for _ in range(40 + 7 * (round_ % 9))]
            process.kill()
            known += acknowledged(1, lines + process.rest())
    chosen = random.Random(3).sample(known, min(len(known), 12)) + known[:1] + known[-1:]
    assert await states_are_true(directory, chosen) == len(chosen)


async def test_several_processes_make_one_history_of_bounded_size(directory: Path) -> None:
    await make(directory)
    known: list[tuple[int, int, str]] = []
    with ExitStack() as stack:
        processes = [
            stack.enter_context(child(KEEPER, directory, number, 2)) for number in range(3)
        ]
        for process in processes:
            assert process.line() == "ready"
        for process in processes:
            process.tell("go")
        # Whoever is not read from stands still when the pipe is full.
        lines: list[list[str]] = [[] for _ in processes]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or min(map(len, lines)) < 5:
            for number, process in enumerate(processes):
                lines[number].append(process.line())
        for number, process in enumerate(processes):
            process.kill()
            known += acknowledged(number, lines[number] + process.rest())
    assert {who for who, _, _ in known} == {0, 1, 2}
    size = sum(path.stat().st_size for path in (directory / "d1").rglob("*.wal"))
    assert size < 6_000_000
    known.sort(key=lambda one: one[2])
    chosen = known[::-1][:: max(1, len(known) // 40)]
    async with bunflare.open(directory) as state:
        await state.d1("bank").keep_history()
    assert await states_are_true(directory, chosen) > 0


MANY = """
import asyncio, resource, sys, bunflare
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
LIMIT = "LIMIT " + sys.argv[2]
NUMBERS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n " + LIMIT + ") "
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        db = state.d1("bank")
        before = memory()
        print(await db.prepare(NUMBERS + "SELECT sum(x) AS n FROM n").first("n"), flush=True)
        print(memory() - before, flush=True)
        try:
            await db.prepare(NUMBERS + "SELECT x FROM n").all()
        except bunflare.D1Error as error:
            print(error, flush=True)
        print(memory() - before, flush=True)
asyncio.run(main())
"""


async def test_a_query_of_millions_of_rows_is_summed_in_no_memory_and_refused_as_a_result(
    directory: Path,
) -> None:
    await make(directory)
    many = 10_000_000 if LONG else 2_000_000
    with child(MANY, directory, many) as process:
        assert process.line() == str(many * (many + 1) // 2)
        assert int(process.line()) < 20
        assert process.line() == "D1_ERROR: Memory limit would be exceeded by this operation."
        assert int(process.line()) < 400
