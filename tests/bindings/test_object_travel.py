"""Point-in-time recovery of Durable Objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectReset,
    DurableObjectTypeError,
    ManualClock,
)
from tests.support import child


class Diary(DurableObject):
    async def note(self, text: str) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS notes (text)")
        self.ctx.storage.sql.exec("INSERT INTO notes VALUES (?)", text)
        await self.ctx.storage.put(text, len(text))

    async def only_put(self, key: str) -> None:
        await self.ctx.storage.put(key, None)

    async def empty(self) -> None:
        await self.ctx.storage.delete_all()

    async def look(self) -> list[Any]:
        tables = self.ctx.storage.sql.exec(
            "SELECT name FROM sqlite_schema WHERE name = 'notes'"
        ).to_array()
        query = "SELECT text FROM notes" if tables else "SELECT 1 WHERE 0"
        notes = self.ctx.storage.sql.exec(query).raw()
        return [[text for (text,) in notes], list(await self.ctx.storage.list())]

    async def bookmark(self, text: str | None = None) -> str:
        if text is not None:
            # It is of what was written before, on disk or not.
            await self.note(text)
        return await self.ctx.storage.get_current_bookmark()

    async def at(self, time: Any) -> str:
        return await self.ctx.storage.get_bookmark_for_time(time)

    async def restore(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)

    async def leave(self) -> None:
        self.ctx.abort("enough")

    async def inside(self) -> str:
        return await self.ctx.storage.transaction(lambda _: self.bookmark())


async def _restart(stub: Any) -> None:
    with pytest.raises(DurableObjectReset):
        await stub.leave()


@pytest.fixture
def diary(state: bunflare.State) -> Any:
    return state.durable_objects(Diary).get_by_name("mine")


async def test_an_object_goes_back_with_keys_and_tables_and_forth_again(diary: Any) -> None:
    await diary.note("one")
    first = await diary.bookmark("two")
    await diary.note("three")
    undo = await diary.restore(first)
    assert first < undo
    # Nothing changes before the next session.
    assert await diary.look() == [["one", "two", "three"], ["one", "three", "two"]]
    await _restart(diary)
    assert await diary.look() == [["one", "two"], ["one", "two"]]
    await diary.note("four")
    await _restart(diary)
    assert await diary.look() == [["one", "two", "four"], ["four", "one", "two"]]
    await diary.restore(undo)
    await _restart(diary)
    assert await diary.look() == [["one", "two", "three"], ["one", "three", "two"]]


async def test_going_back_to_before_the_tables_and_past_a_deletion(diary: Any) -> None:
    await diary.only_put("key")
    bare = await diary.bookmark()
    full = await diary.bookmark("one")
    await diary.empty()
    assert await diary.look() == [[], []]
    await diary.restore(full)
    await _restart(diary)
    assert await diary.look() == [["one"], ["key", "one"]]
    await diary.restore(bare)
    await _restart(diary)
    assert await diary.look() == [[], ["key"]]


async def test_a_state_that_has_not_changed_keeps_its_bookmark(diary: Any) -> None:
    first = await diary.bookmark("one")
    assert await diary.bookmark() == first
    assert await diary.bookmark("two") > first


async def test_the_bookmark_of_a_time(diary: Any, clock: ManualClock) -> None:
    begun = clock.now()
    first = await diary.bookmark("one")
    await clock.advance(minutes=1)
    second = await diary.bookmark("two")
    assert await diary.at(begun) == await diary.at(begun + 59_999) == first
    assert await diary.at(begun + 60_000) == await diary.at(begun + 60_000.9) == second
    with pytest.raises(DurableObjectError, match="no state of this object is kept"):
        await diary.at(begun - 1)
    with pytest.raises(DurableObjectError, match="no time in the future"):
        await diary.at(clock.now() + 1)
    with pytest.raises(DurableObjectTypeError):
        await diary.at("yesterday")


async def test_states_are_kept_for_a_month(
    diary: Any, clock: ManualClock, state: bunflare.State
) -> None:
    first = await diary.bookmark("one")
    await clock.advance(days=31)
    await diary.bookmark("two")
    with pytest.raises(DurableObjectError, match="is not kept"):
        await diary.restore(first)
    assert len(list((state.directory / "do-sql/Diary/.history").iterdir())) == 1


async def test_what_is_no_bookmark_of_the_object_is_refused(
    diary: Any, state: bunflare.State
) -> None:
    other = state.durable_objects(Diary).get_by_name("other")
    foreign = await other.bookmark("one")
    with pytest.raises(DurableObjectError, match="another object's"):
        await diary.restore(foreign)
    with pytest.raises(DurableObjectTypeError, match="is not a bookmark"):
        await diary.restore("yesterday")
    with pytest.raises(DurableObjectError, match="within a transaction"):
        await diary.inside()


async def test_an_object_goes_back_in_the_next_process_also_after_it_was_killed(
    tmp_path: Path,
) -> None:
    async with bunflare.open(tmp_path) as state:
        diary: Any = state.durable_objects(Diary).get_by_name("mine")
        bookmark = await diary.bookmark("one")
        await diary.note("two")
        await diary.restore(bookmark)
    # Killed when the file has gone back and the keys have not.
    source = """
    import asyncio, os, sys
    sys.path.insert(0, sys.argv[2])
    import bunflare
    from tests.bindings.test_object_travel import Diary
    from bunflare.bindings.object_data import ObjectData
    ObjectData._send = lambda *_: os.kill(os.getpid(), 9)
    async def main():
        async with bunflare.open(sys.argv[1]) as state:
            await state.durable_objects(Diary).get_by_name("mine").look()
    asyncio.run(main())
    """
    with child(source, tmp_path, Path(__file__).parents[2]) as victim:
        assert victim.rest() == []
        assert victim.process.returncode == -9
    async with bunflare.open(tmp_path) as state:
        diary = state.durable_objects(Diary).get_by_name("mine")
        assert await diary.look() == [["one"], ["one"]]
        await diary.note("three")
    async with bunflare.open(tmp_path) as state:
        diary = state.durable_objects(Diary).get_by_name("mine")
        assert await diary.look() == [["one", "three"], ["one", "three"]]
