"""Durable Objects that go back to any moment: a namespace with a history."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectReset,
    DurableObjectValueError,
    ManualClock,
)
from bunflare.bindings import object_commits, object_past
from bunflare.bindings.object_care import ObjectCare
from bunflare.bindings.object_migrations import apply_migrations
from bunflare.config import MigrationConfig, RenamedClass
from bunflare.store.history_files import Files
from tests.support import child


class Ledger(DurableObject):
    """What is in its table is also in its keys."""

    async def note(self, text: str, extra: int = 0) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS notes (text, filling)")
        self.ctx.storage.sql.exec("INSERT INTO notes VALUES (?, zeroblob(?))", text, extra)
        await self.ctx.storage.put(text, len(text))

    async def drop(self, text: str) -> None:
        self.ctx.storage.sql.exec("DELETE FROM notes WHERE text = ?", text)
        await self.ctx.storage.delete(text)

    async def put(self, key: str, value: Any) -> None:
        await self.ctx.storage.put(key, value)

    async def only_sql(self, text: str) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS notes (text, filling)")
        self.ctx.storage.sql.exec("INSERT INTO notes VALUES (?, NULL)", text)

    async def undone(self, text: str) -> None:
        async def work(transaction: Any) -> None:
            await self.note(text)
            transaction.rollback()

        await self.ctx.storage.transaction(work)

    async def empty(self) -> None:
        await self.ctx.storage.delete_all()

    async def look(self) -> Any:
        tables = self.ctx.storage.sql.exec(
            "SELECT name FROM sqlite_schema WHERE name = 'notes'"
        ).to_array()
        query = "SELECT text FROM notes" if tables else "SELECT 1 WHERE 0"
        notes = self.ctx.storage.sql.exec(query).raw()
        return [[text for (text,) in notes], await self.ctx.storage.list()]

    async def keys(self) -> Any:
        return await self.ctx.storage.list()

    async def bookmark(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def at(self, time: Any) -> str:
        return await self.ctx.storage.get_bookmark_for_time(time)

    async def restore(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)

    async def leave(self) -> None:
        self.ctx.abort("enough")


async def _restart(stub: Any) -> None:
    with pytest.raises(DurableObjectReset):
        await stub.leave()


async def _go_back(stub: Any, time: int) -> str:
    """To that moment; the bookmark with which to undo it."""
    undo: str = await stub.restore(await stub.at(time))
    await _restart(stub)
    return undo


@pytest.fixture
async def ledgers(state: bunflare.State) -> bunflare.DurableObjectNamespace:
    namespace = state.durable_objects(Ledger)
    await namespace.keep_history()
    return namespace


async def test_an_object_goes_back_to_any_moment_and_forth_again(
    ledgers: Any, clock: ManualClock
) -> None:
    ledger = ledgers.get_by_name("mine")
    states = {clock.now(): await ledger.look()}
    for step, text in enumerate(["one", "two", "three", "four"]):
        await clock.advance(minutes=1)
        await ledger.note(text)
        if step == 2:
            await ledger.drop("one")
        states[clock.now()] = await ledger.look()
    await clock.advance(minutes=1)
    await ledger.empty()
    states[clock.now()] = await ledger.look()
    # It is as empty in the end as it was in the beginning.
    assert len({str(one) for one in states.values()}) == len(states) - 1
    times = list(states)
    for time in [*times, *reversed(times)]:
        await clock.advance(minutes=1)
        before = await ledger.look()
        undo = await _go_back(ledger, time + 59_999)
        assert await ledger.look() == states[time]
        await ledger.restore(undo)
        await _restart(ledger)
        assert await ledger.look() == before
        await _go_back(ledger, time)
    assert await ledger.look() == states[times[0]]


async def test_other_objects_of_the_namespace_stay_as_they_are(
    ledgers: Any, clock: ManualClock
) -> None:
    mine, other = ledgers.get_by_name("mine"), ledgers.get_by_name("other")
    await mine.note("one")
    await other.note("theirs")
    time = clock.now()
    await clock.advance(minutes=1)
    await other.note("more")
    await mine.note("two")
    await other.put("theirs", "changed")
    await _go_back(mine, time)
    assert await mine.look() == [["one"], {"one": 3}]
    assert await other.look() == [["theirs", "more"], {"theirs": "changed", "more": 4}]
    with pytest.raises(DurableObjectError, match="another object's"):
        await other.restore(await mine.bookmark())


async def test_what_other_objects_say_of_an_object_is_not_its_own(ledgers: Any) -> None:
    mine, other = ledgers.get_by_name("mine"), ledgers.get_by_name("other")
    await mine.put("key", 1)
    first = await mine.bookmark()
    await mine.put("key", 2)
    for number in range(40):
        await other.put("key", [str(mine.id), number])
    await mine.restore(first)
    await _restart(mine)
    assert await mine.keys() == {"key": 1}
    assert (await other.keys())["key"] == [str(mine.id), 39]


async def test_bookmarks_sort_by_time(ledgers: Any, clock: ManualClock) -> None:
    ledger = ledgers.get_by_name("mine")
    bookmarks = []
    for text in ("one", "two", "three"):
        await clock.advance(minutes=1)
        await ledger.note(text)
        bookmarks.append(await ledger.bookmark())
        assert await ledger.bookmark() == await ledger.at(clock.now()) == bookmarks[-1]
        await ledger.only_sql("more")
        bookmarks.append(await ledger.bookmark())
        await ledger.put("more", text)
        bookmarks.append(await ledger.bookmark())
    assert sorted(set(bookmarks)) == bookmarks
    await ledger.undone("never")
    await ledger.restore(bookmarks[4])
    await _restart(ledger)
    assert await ledger.look() == [
        ["one", "more", "two", "more"],
        {"one": 3, "two": 3, "more": "one"},
    ]


@pytest.mark.parametrize("slow", [False, True])
async def test_many_states_across_evictions_and_checkpoints(
    ledgers: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    if slow:
        # SQL files are committed on a thread.
        monkeypatch.setattr(object_commits, "SLOW_SECONDS", -1.0)
    ledger = ledgers.get_by_name("mine")
    dice = random.Random(7)
    states: dict[int, Any] = {}
    for step in range(120):
        await clock.advance(seconds=20 if dice.random() < 0.2 else 1)
        match dice.randrange(6):
            case 0 | 1:
                # The log is copied back after 4 MiB.
                await ledger.note(f"note {step}", dice.choice([0, 0, 900_000]))
            case 2:
                await ledger.put(f"key {dice.randrange(5)}", step)
            case 3:
                await ledger.only_sql(f"row {step}")
            case 4:
                known = list(states.values())[-1][0] if states else []
                if known:
                    await ledger.drop(dice.choice(known))
            case _:
                if dice.random() < 0.2:
                    await ledger.empty()
                elif states and dice.random() < 0.5:
                    await _go_back(ledger, dice.choice(list(states)))
        states[clock.now()] = await ledger.look()
    host = ledgers._host
    generations = Files(Path(host.sql_directory, f".{ledger.id}.history")).generations()
    assert len(generations) > 1
    for time in dice.sample(list(states), 15):
        await _go_back(ledger, time)
        assert await ledger.look() == states[time]
        await clock.advance(seconds=1)


async def test_an_object_without_tables_needs_no_file(
    ledgers: Any, clock: ManualClock, state: bunflare.State
) -> None:
    ledger = ledgers.get_by_name("mine")
    await ledger.put("key", 1)
    first = await ledger.bookmark()
    await ledger.put("key", 2)
    await ledger.put("other", 3)
    undo = await ledger.restore(first)
    await ledger.put("third", 4)
    await _restart(ledger)
    assert await ledger.keys() == {"key": 1}
    await ledger.restore(undo)
    await _restart(ledger)
    assert await ledger.keys() == {"key": 2, "other": 3}
    assert not (state.directory / "do-sql").exists()


async def test_what_others_write_to_keys_is_kept_too(
    ledgers: Any, clock: ManualClock, state: bunflare.State
) -> None:
    ledger = ledgers.get_by_name("mine")
    await ledger.put("key", "object")
    bookmarks = [await ledger.bookmark()]
    async with state.transaction(objects=[ledger]) as tx:
        await tx.object_storage(ledger).put("key", "transaction")
        await tx.object_storage(ledger).put("new", 1)
    bookmarks.append(await ledger.bookmark())
    await ObjectCare(state.database, clock).put("Ledger", str(ledger.id), "key", "by hand")
    bookmarks.append(await ledger.bookmark())
    await ObjectCare(state.database, clock).delete("Ledger", str(ledger.id), "new")
    for bookmark, key in zip(bookmarks, ["object", "transaction", "by hand"], strict=True):
        await ledger.restore(bookmark)
        await _restart(ledger)
        new = {} if key == "object" else {"new": 1}
        assert await ledger.keys() == {"key": key, **new}


async def test_an_alarm_stays_as_it_is(state: bunflare.State, clock: ManualClock) -> None:
    class Bell(Ledger):
        async def ring_at(self, time: int) -> None:
            await self.ctx.storage.set_alarm(time)

        async def alarm(self, info: Any) -> None:
            await self.ctx.storage.put("rung", 1)

        async def set_for(self) -> int | None:
            return await self.ctx.storage.get_alarm()

    bells: Any = state.durable_objects(Bell)
    await bells.keep_history()
    bell = bells.get_by_name("mine")
    await bell.put("key", 1)
    first = await bell.bookmark()
    await bell.put("key", 2)
    due = clock.now() + 60_000
    await bell.ring_at(due)
    await bell.restore(first)
    await _restart(bell)
    assert await bell.keys() == {"key": 1}
    assert await bell.set_for() == due
    await clock.advance(minutes=2)
    assert await bell.keys() == {"key": 1, "rung": 1}


async def test_states_are_kept_for_as_long_as_was_said(ledgers: Any, clock: ManualClock) -> None:
    ledger = ledgers.get_by_name("mine")
    begun = clock.now()
    await ledger.put("key", "first")
    first = await ledger.bookmark()
    with pytest.raises(DurableObjectError, match="from that time or before"):
        await ledger.at(begun - 1)
    assert await ledger.at(begun) == first
    await clock.advance(days=1)
    await ledger.put("key", "second")
    second, later = await ledger.bookmark(), clock.now()
    await clock.advance(days=10)
    await ledger.put("key", "third")
    await clock.advance(days=25)
    for number in range(70):
        await ledger.put("key", number)
    with pytest.raises(DurableObjectError, match="is not kept"):
        await ledger.restore(first)
    with pytest.raises(DurableObjectError, match="from that time or before"):
        await ledger.at(begun)
    # What it was a month ago it has been since the second change.
    assert await ledger.at(later) == second
    await ledger.restore(second)
    await _restart(ledger)
    assert await ledger.keys() == {"key": "second"}


async def test_states_take_no_more_room_than_was_said(
    state: bunflare.State, clock: ManualClock
) -> None:
    ledgers: Any = state.durable_objects(Ledger)
    await ledgers.keep_history(megabytes=4)
    ledger = ledgers.get_by_name("mine")
    await ledger.note("first")
    first = await ledger.bookmark()
    for number in range(30):
        await ledger.put("key", str(number) * 250_000)
        await ledger.note(f"note {number}", 1_000_000)
    for number in range(70):
        await ledger.put("key", number)
    recent = await ledger.bookmark()
    await ledger.put("key", "changed")
    with pytest.raises(DurableObjectError, match="is not kept"):
        await ledger.restore(first)
    view = state.database.view
    row = view.one("SELECT sum(length(earlier)) FROM bunflare_object_changes")
    assert row is not None
    assert 0 < row[0] < 5_000_000
    folder = next((state.directory / "do-sql/Ledger").glob(".*.history"))
    # One base has the size of the file, 30 MB; of the log the newest life is kept in any case.
    assert len(list(folder.glob("*.sqlite"))) == 1
    assert sum(one.stat().st_size for one in folder.glob("*.wal")) < 12_000_000
    await ledger.restore(recent)
    await _restart(ledger)
    assert (await ledger.keys())["key"] == 69


async def test_objects_at_rest_are_pruned(
    ledgers: Any, clock: ManualClock, state: bunflare.State
) -> None:
    ledger = ledgers.get_by_name("mine")
    for number in range(10):
        await ledger.put("key", number)
    bookmark = await ledger.bookmark()
    await clock.advance(days=31)
    assert (await state.prune()).changes == 9
    assert (await state.prune()).changes == 0
    view = state.database.view
    assert view.all("SELECT number, earlier FROM bunflare_object_changes") == [(10, "")]
    # The newest of them is the present state, and that can be gone back to.
    await ledger.put("key", "new")
    await ledger.restore(bookmark)
    await _restart(ledger)
    assert await ledger.keys() == {"key": 9}


async def test_a_history_that_is_switched_off_is_forgotten(
    directory: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.note("one")
        old = await ledger.bookmark()
        await ledger.note("two")
        await _restart(ledger)
        await ledgers.keep_history(days=0)
        view = state.database.view
        assert view.all("SELECT 1 FROM bunflare_object_changes") == []
        with pytest.raises(DurableObjectError, match="another object's"):
            await ledger.restore(old)
        assert not list((directory / "do-sql/Ledger").glob(".*.history"))
        kept = await ledger.bookmark()
        await ledger.note("three")
        await _restart(ledger)
        await ledgers.keep_history()
        # What was kept in the meantime can be gone back to as before.
        await ledger.restore(kept)
        await _restart(ledger)
        assert await ledger.look() == [["one", "two"], {"one": 3, "two": 3}]
        with pytest.raises(DurableObjectError, match="another object's"):
            await ledger.restore(old)


async def test_it_is_said_while_no_object_is_at_work(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Ledger):
        async def hang(self) -> None:
            await asyncio.Event().wait()

    ledgers: Any = state.durable_objects(Busy)
    for wrong in (-1, "much", True):
        with pytest.raises(DurableObjectValueError, match="megabytes must be"):
            await ledgers.keep_history(megabytes=wrong)
    ledger = ledgers.get_by_name("mine")
    # It waits for what ends soon.
    work = ledger.note("one")
    await ledgers.keep_history()
    await work
    hanging = ledger.hang()
    monkeypatch.setattr(object_past, "_PATIENCE", 0.05)
    with pytest.raises(DurableObjectError, match="some are at work"):
        await ledgers.keep_history(days=3)
    # What is said already may be said again, as a program does that begins with it.
    await ledgers.keep_history()
    with pytest.raises(DurableObjectReset):
        await ledger.leave()
    with pytest.raises(DurableObjectReset):
        await hanging
    plain = state.durable_objects(DurableObject, "Plain", sqlite=False)
    with pytest.raises(DurableObjectError, match="does not implement point-in-time recovery"):
        await plain.keep_history()


async def test_it_may_be_said_from_outside_before_the_program_begins(
    directory: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        ledger: Any = state.durable_objects(Ledger).get_by_name("mine")
        await ledger.note("early")
        care = ObjectCare(state.database, clock)
        assert care.history("Ledger") == (0, 0)
        await care.keep_history("Ledger", 7, 10)
        assert care.history("Ledger") == (7, 10)
        # Who runs the objects now goes on as it has begun.
        await ledger.note("later")
        assert not list((directory / "do-sql/Ledger").glob(".*.history"))
    await clock.advance(minutes=1)
    async with bunflare.open(directory, clock=clock) as state:
        ledger = state.durable_objects(Ledger).get_by_name("mine")
        before = clock.now()
        # That the file has a history begins with its first use after.
        assert (await ledger.look())[0] == ["early", "later"]
        await clock.advance(minutes=1)
        await ledger.note("kept")
        with pytest.raises(DurableObjectError, match="from that time or before"):
            await ledger.at(before - 1)
        await _go_back(ledger, before)
        assert await ledger.look() == [["early", "later"], {"early": 5, "later": 5}]


async def test_the_last_that_was_said_is_gone_back_to(
    ledgers: Any, clock: ManualClock, state: bunflare.State
) -> None:
    ledger = ledgers.get_by_name("mine")
    bookmarks = []
    for text in ("one", "two", "three"):
        await ledger.note(text)
        bookmarks.append(await ledger.bookmark())
    for bookmark in (bookmarks[0], bookmarks[1], bookmarks[0], bookmarks[1]):
        await ledger.restore(bookmark)
        assert len(list((state.directory / "do-sql/Ledger/.history").glob("*.sqlite"))) <= 2
    await _restart(ledger)
    assert (await ledger.look())[0] == ["one", "two"]
    assert list((state.directory / "do-sql/Ledger/.history").iterdir()) == []


async def test_a_renamed_class_keeps_its_history(tmp_path: Path, clock: ManualClock) -> None:
    async with bunflare.open(tmp_path, clock=clock) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.note("one")
        bookmark = await ledger.bookmark()
        await ledger.note("two")
    renamed = MigrationConfig("v2", renamed_classes=(RenamedClass("Ledger", "Book"),))
    async with bunflare.open(tmp_path, clock=clock) as state:
        await apply_migrations(state.database, "worker", (renamed,), 1)
        book: Any = state.durable_objects(Ledger, "Book").get_by_name("mine")
        await book.restore(bookmark)
        await _restart(book)
        assert await book.look() == [["one"], {"one": 3}]
        deleted = MigrationConfig("v3", deleted_classes=("Book",))
    async with bunflare.open(tmp_path, clock=clock) as state:
        await apply_migrations(state.database, "worker", (deleted,), 1)
        for table in ("bunflare_object_changes", "bunflare_object_histories"):
            assert state.database.view.all(f"SELECT * FROM {table}") == []


async def test_a_backup_has_the_history(directory: Path, tmp_path: Path) -> None:
    async with bunflare.open(directory) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.put("key", 1)
        await ledger.note("one")
        first = await ledger.bookmark()
        for _ in range(5):
            await ledger.note("two", 1_000_000)
        await ledger.put("key", 2)
        await ledger.note("three")
        await state.backup(tmp_path / "backup.tar")
    bunflare.restore(tmp_path / "backup.tar", tmp_path / "other")
    async with bunflare.open(tmp_path / "other") as state:
        ledger = state.durable_objects(Ledger).get_by_name("mine")
        undo = await ledger.restore(first)
        await _restart(ledger)
        assert await ledger.look() == [["one"], {"key": 1, "one": 3}]
        await ledger.restore(undo)
        await _restart(ledger)
        assert await ledger.look() == [
            ["one", *["two"] * 5, "three"],
            {"key": 2, "one": 3, "two": 3, "three": 5},
        ]


@pytest.mark.parametrize("running", [True, False])
async def test_a_backup_has_what_the_logs_have(
    directory: Path, tmp_path: Path, running: bool
) -> None:
    async with bunflare.open(directory) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.note("one")
        first = await ledger.bookmark()
        await ledger.note("two")
        second = await ledger.bookmark()
        await ledger.note("three")
        if running:
            await state.backup(tmp_path / "backup.tar")
    if not running:
        async with bunflare.open(directory) as state:
            await state.backup(tmp_path / "backup.tar")
    bunflare.restore(tmp_path / "backup.tar", tmp_path / "other")
    # The original goes on as it was, and so does the copy.
    for place in (directory, tmp_path / "other"):
        async with bunflare.open(place) as state:
            ledger = state.durable_objects(Ledger).get_by_name("mine")
            await ledger.note("four")
            fourth = await ledger.bookmark()
            for bookmark, count in ((second, 2), (first, 1), (fourth, 4)):
                await ledger.restore(bookmark)
                await _restart(ledger)
                assert len((await ledger.look())[0]) == count


async def test_who_looks_at_a_file_at_rest_leaves_its_log_as_it_is(
    directory: Path,
) -> None:
    async with bunflare.open(directory) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.note("one")
        first, digits = await ledger.bookmark(), str(ledger.id)
        await ledger.note("two")
    async with bunflare.open(directory) as state:
        care = ObjectCare(state.database, state.clock)
        assert (await state.check(full=True)).problems == ()
        await state.vacuum()
        care.sql("Ledger", digits, "INSERT INTO notes VALUES ('by hand', NULL)")
        await state.snapshot("now")
        ledger = state.durable_objects(Ledger).get_by_name("mine")
        present = await ledger.bookmark()
        await ledger.restore(first)
        await _restart(ledger)
        assert await ledger.look() == [["one"], {"one": 3}]
        await ledger.restore(present)
        await _restart(ledger)
        assert (await ledger.look())[0] == ["one", "two", "by hand"]


WRITER = """
import asyncio, sys, time
sys.path.insert(0, sys.argv[2])
import bunflare
from tests.bindings.test_object_past import Ledger
async def main():
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        ledgers = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        begun = len((await ledger.look())[0])
        for number in range(begun, 100_000):
            await ledger.note(f"{number:06}", 4000)
            print(number, time.time_ns() // 1_000_000, flush=True)
asyncio.run(main())
"""


async def test_keys_and_tables_agree_at_every_moment_also_after_kills(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    dice = random.Random(3)
    told: list[tuple[int, int]] = []
    for _ in range(3):
        with child(WRITER, tmp_path, root) as writer:
            for _ in range(dice.randrange(100, 300)):
                number, time = map(int, writer.line().split())
                told.append((number, time))
            writer.kill()
            told += [(int(a), int(b)) for a, b in map(str.split, writer.rest())]
    async with bunflare.open(tmp_path) as state:
        ledger: Any = state.durable_objects(Ledger).get_by_name("mine")
        moments = dice.sample(told, 12)
        # Not before the first one, where there may have been nothing yet.
        first = told[0][1]
        near = [time + dice.randrange(-3, 4) for _, time in dice.sample(told, 12)]
        moments += [(-1, max(time, first)) for time in near]
        for number, time in moments:
            await _go_back(ledger, time)
            notes, keys = await ledger.look()
            assert notes == sorted(keys) == [f"{one:06}" for one in range(len(notes))]
            # What was told by then is there, and hardly more.
            if number >= 0:
                later = sum(1 for _, at in told if time <= at <= time)
                assert number + 1 <= len(notes) <= number + 1 + later + 1


async def test_a_killed_going_back_is_ended_by_the_next_process(tmp_path: Path) -> None:
    async with bunflare.open(tmp_path) as state:
        ledgers: Any = state.durable_objects(Ledger)
        await ledgers.keep_history()
        ledger = ledgers.get_by_name("mine")
        await ledger.note("one")
        first = await ledger.bookmark()
        await ledger.note("two")
        undo = await ledger.restore(first)
    for where in (
        # The file has not gone back; it has, and the keys have not; both have.
        "ObjectFile.replace",
        "ObjectData._send",
        "ObjectData.landed",
    ):
        source = f"""
        import asyncio, os, sys
        sys.path.insert(0, sys.argv[2])
        import bunflare
        from tests.bindings.test_object_past import Ledger
        from bunflare.bindings.object_data import ObjectData
        from bunflare.store.object_sql import ObjectFile
        {where} = lambda *_: os.kill(os.getpid(), 9)
        async def main():
            async with bunflare.open(sys.argv[1]) as state:
                await state.durable_objects(Ledger).get_by_name("mine").look()
        asyncio.run(main())
        """
        with child(source, tmp_path, Path(__file__).parents[2]) as victim:
            victim.rest()
            assert victim.process.returncode == -9
    async with bunflare.open(tmp_path) as state:
        ledger = state.durable_objects(Ledger).get_by_name("mine")
        assert await ledger.look() == [["one"], {"one": 3}]
        await ledger.restore(undo)
        await _restart(ledger)
        assert await ledger.look() == [["one", "two"], {"one": 3, "two": 3}]
        assert list((tmp_path / "do-sql/Ledger/.history").iterdir()) == []


async def test_a_damaged_row_of_it_is_found_and_forgotten(
    ledgers: Any, state: bunflare.State
) -> None:
    ledger = ledgers.get_by_name("mine")
    await ledger.put("key", 1)
    bookmark = await ledger.bookmark()
    await ledger.put("key", 2)
    damage = "UPDATE bunflare_object_changes SET earlier = '[' WHERE number = 2"
    await state.database.write(lambda tx: tx.run(damage))
    problems = (await state.check()).problems
    assert [(one.system, one.kind, one.key) for one in problems] == [("objects", "history", "2")]
    await state.repair()
    assert (await state.check()).problems == ()
    with pytest.raises(DurableObjectError, match="is not kept"):
        await ledger.restore(bookmark)


async def test_rows_that_are_not_read_to_their_end_hinder_nothing(
    state: bunflare.State, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Reading(Ledger):
        async def begin(self) -> Any:
            self.rows = iter(self.ctx.storage.sql.exec("SELECT text FROM notes"))
            return next(self.rows)

        async def go_on(self) -> Any:
            return [row["text"] for row in self.rows]

    ledgers: Any = state.durable_objects(Reading)
    await ledgers.keep_history()
    ledger = ledgers.get_by_name("mine")
    for number in range(5):
        await ledger.note(f"first {number}")
    first = await ledger.bookmark()
    assert await ledger.begin() == {"text": "first 0"}
    for number in range(25):
        await ledger.note(f"more {number}", 1_000_000)
        await clock.advance(seconds=1)
    middle = clock.now()
    await clock.advance(seconds=1)
    await ledger.note("last")
    undo = await ledger.restore(await ledger.at(middle))
    assert (await ledger.go_on())[:4] == [f"first {number}" for number in range(1, 5)]
    await _restart(ledger)
    assert len((await ledger.look())[0]) == 30
    for bookmark, count in ((first, 5), (undo, 31)):
        await ledger.restore(bookmark)
        await _restart(ledger)
        assert len((await ledger.look())[0]) == count
    assert not caplog.records
