"""The change log: all of it, in order, from every process, and bounded."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

import bunflare
from tests.support import child, other_program


def told(changes: list[bunflare.Change]) -> list[tuple[str, str, str, str, int | None]]:
    return [
        (one.change, one.system, one.name, one.key, one.size)
        for one in changes
        if one.system != "changes"
    ]


async def test_it_tells_what_happened_in_order(state: bunflare.State) -> None:
    kv, r2 = state.kv("K"), state.r2("b")
    await kv.put("before", "1")
    assert not state.changes.enabled
    assert state.changes.read() == []
    await state.changes.enable()
    assert state.changes.enabled
    await kv.put("a", "one")
    await kv.put("a", "twenty")
    await kv.delete("a")
    await kv.delete("a")
    await r2.put("x", b"123")
    await r2.put("large", b"1" * 100_000)
    await r2.delete("x")
    with pytest.raises(RuntimeError):
        async with state.transaction() as tx:
            await tx.kv("K").put("undone", "1")
            raise RuntimeError
    assert told(state.changes.read()) == [
        ("added", "kv", "K", "a", 3),
        ("changed", "kv", "K", "a", 6),
        ("removed", "kv", "K", "a", None),
        ("added", "r2", "b", "x", 3),
        ("added", "r2", "b", "large", 100_000),
        ("removed", "r2", "b", "x", None),
    ]
    positions = [one.position for one in state.changes.read()]
    assert positions == sorted(set(positions))
    assert state.changes.position == positions[-1]
    await state.changes.disable()
    await kv.put("after", "1")
    assert state.changes.position == positions[-1]
    await state.changes.enable()
    # Whoever follows learns that something may be missing here.
    assert [one.change for one in state.changes.read(positions[-1])] == ["started"]


async def test_it_is_bounded_and_says_what_is_gone(state: bunflare.State) -> None:
    await state.changes.enable(limit=50)
    start = state.changes.position
    for number in range(200):
        await state.kv("K").put(f"{number}", "1")
    kept = state.changes.read()
    assert 50 <= len(kept) <= 100
    assert kept[-1].key == "199"
    with pytest.raises(bunflare.StateError, match="no longer kept"):
        state.changes.read(start)
    with pytest.raises(bunflare.StateError, match="no position"):
        state.changes.read(10_000)
    for wrong in (0, -1, True, "5"):
        with pytest.raises(bunflare.StateError, match="limit"):
            await state.changes.enable(limit=wrong)  # type: ignore[arg-type]


WRITER = """
import asyncio, sys, bunflare
async def main():
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        for number in range(100):
            await state.kv(sys.argv[2]).put(f"{number}", "x" * number)
asyncio.run(main())
"""


async def test_it_is_followed_across_processes(state: bunflare.State, directory: Path) -> None:
    await state.changes.enable()
    seen: list[bunflare.Change] = []

    async def follow() -> None:
        async for one in state.changes.follow():
            seen.append(one)
            if len(seen) == 200:
                return

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    with child(WRITER, directory, "A"), child(WRITER, directory, "B"):
        await asyncio.wait_for(following, 30)
    assert Counter(one.name for one in seen) == {"A": 100, "B": 100}
    for name in "AB":
        assert [one.key for one in seen if one.name == name] == [str(n) for n in range(100)]


async def test_other_programs_are_in_it_and_switching_off_ends_it(
    state: bunflare.State, directory: Path
) -> None:
    await state.changes.enable()
    following = state.changes.follow()
    with other_program(directory) as run:
        run("INSERT INTO kv (namespace, key, value) VALUES ('K', 'theirs', 'v')")
        one = await asyncio.wait_for(anext(following), 30)
        assert (one.system, one.name, one.key, one.size) == ("kv", "K", "theirs", 1)
    await state.changes.disable()
    with pytest.raises(bunflare.StateError, match="off"):
        await asyncio.wait_for(anext(following), 30)
