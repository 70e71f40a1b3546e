"""Puts that begin in the same turn share statements, and are as if each had been made by itself."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import KVNamespace, State
from tests.store.test_writer import commits
from tests.support import PATIENCE, other_program

Call = Coroutine[Any, Any, Any]


async def stored(kv: KVNamespace) -> dict[str, str]:
    return {key.name: await kv.get(key.name) async for key in kv.scan()}


async def outcomes(calls: list[Call]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40, 256])
async def test_puts_at_once_are_one_commit(state: State, kv: KVNamespace, count: int) -> None:
    names = [f"key{number:03}" for number in range(count)]
    assert [await kv.get(name) for name in names] == [None] * count
    for turn in "abc":
        before = commits(state.database)
        await asyncio.gather(*(kv.put(name, name + turn) for name in names))
        assert commits(state.database) == before + 1
        assert [await kv.get(name) for name in names] == [name + turn for name in names]
    assert await stored(kv) == {name: name + "c" for name in names}


async def test_more_than_one_turn_should_take_are_several_commits(
    state: State, kv: KVNamespace
) -> None:
    before = commits(state.database)
    await asyncio.gather(*(kv.put(f"key{number}", "1") for number in range(3000)))
    assert commits(state.database) == before + 3
    assert len(await stored(kv)) == 3000


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_asked_for_at_once_is_done_in_its_order(state: State, seed: int) -> None:
    chance = random.Random(seed)
    first, second = state.kv("first"), state.kv("second")
    wanted: dict[str, dict[str, str]] = {"first": {}, "second": {}}
    for _ in range(3):
        tasks: list[asyncio.Future[Any]] = []
        for number in range(chance.choice([3, 30, 100])):
            kv, key = chance.choice([first, second]), f"key{chance.randrange(9)}"
            call: Callable[[], Call]
            name, value = "first" if kv is first else "second", str(number)
            match chance.randrange(12):
                case 0:
                    call = partial(kv.delete, key)
                    wanted[name].pop(key, None)
                case 1:
                    call = partial(kv.put, key, value, metadata=[number])
                    wanted[name][key] = value
                case 2:
                    both = [{"key": key, "value": value}, {"key": "x", "value": "y"}]
                    call = partial(kv.put_many, both)
                    wanted[name].update({key: value, "x": "y"})
                case 3:
                    call = partial(_in_a_transaction, state, name, key, value)
                    wanted[name][key] = value
                case 4:
                    # Written on a thread.
                    value *= 300_000
                    call = partial(kv.put, key, value)
                    wanted[name][key] = value
                case _:
                    call = partial(kv.put, key, value)
                    wanted[name][key] = value
            # A transaction is its task's own.
            tasks.append(contextvars.Context().run(asyncio.create_task, _awaiting(call)))
            if chance.random() < 0.1:
                await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        assert await stored(first) == wanted["first"]
        assert await stored(second) == wanted["second"]


async def _awaiting(call: Callable[[], Call]) -> None:
    await call()


async def _in_a_transaction(state: State, name: str, key: str, value: str) -> None:
    async with state.transaction() as tx:
        await tx.kv(name).put(key, value)


async def test_a_put_takes_metadata_and_expiration_away(kv: KVNamespace, state: State) -> None:
    names = [f"key{number:02}" for number in range(20)]
    for name in names:
        await kv.put(name, "old", expiration_ttl=100, metadata={"a": 1})
    await asyncio.gather(*(kv.put(name, "new") for name in names))
    for name in names:
        assert await kv.get_with_metadata(name) == bunflare.KVValue("new", None)
    assert {key.expiration for key in (await kv.list()).keys} == {None}


@pytest.mark.parametrize("failure", ["ABORT", "FAIL"])
@pytest.mark.parametrize("count", [2, 20, 40])
@pytest.mark.parametrize("more", [False, True])
async def test_each_has_its_own_error(
    state: State, kv: KVNamespace, directory: Path, failure: str, count: int, more: bool
) -> None:
    """Other programs may have rules of their own about what they share with us."""
    await kv.put("refused 0", "old")
    with other_program(directory) as run:
        run("CREATE TABLE seen (key TEXT)")
        for when in ("INSERT", "UPDATE"):
            run(
                f"CREATE TRIGGER note_{when} BEFORE {when} ON kv BEGIN "
                "INSERT INTO seen VALUES (NEW.key); "
                f"SELECT RAISE({failure}, 'no such guest') WHERE NEW.key LIKE 'refused%'; END"
            )
    names = [f"guest {number}" for number in range(count)]
    names[1:1] = ["refused 0", "refused 1"]
    beside = state.kv("beside")
    puts = [*(kv.put(name, "new") for name in names), beside.put("key", "value")]
    good = [name for name in names if name.startswith("guest")]
    names.append("key")
    if more:
        # It is an operation of its own of the same group.
        puts.append(beside.put("described", "value", metadata=1))
        names.append("described")
    done = await outcomes(puts)
    for name, outcome in zip(names, done, strict=True):
        if name.startswith("refused"):
            assert isinstance(outcome, bunflare.DatabaseError)
            assert "no such guest" in str(outcome)
            assert str(directory) in str(outcome)
        else:
            assert outcome is None
    assert await stored(kv) == {**dict.fromkeys(good, "new"), "refused 0": "old"}
    assert await beside.get("key") == "value"
    seen = [key for (key,) in state.database.view.all("SELECT key FROM seen ORDER BY rowid")]
    assert sorted(seen) == sorted([*good, *names[names.index("key") :]])


@pytest.mark.parametrize("count", [2, 20, 40])
async def test_an_error_that_undoes_all_of_it_is_everybodys(
    state: State, kv: KVNamespace, directory: Path, count: int
) -> None:
    await kv.put("first", "1")
    with other_program(directory) as run:
        run(
            "CREATE TRIGGER refuse BEFORE INSERT ON kv WHEN NEW.key = 'refused' BEGIN "
            "SELECT RAISE(ROLLBACK, 'no such guest'); END"
        )
    names = [f"guest {number}" for number in range(count)]
    names.insert(1, "refused")
    done = await outcomes([kv.put(name, "new") for name in names])
    assert {type(one) for one in done} == {bunflare.DatabaseError}
    assert await stored(kv) == {"first": "1"}
    await asyncio.gather(*(kv.put(name, "new") for name in names if name != "refused"))
    assert len(await stored(kv)) == count + 1


async def test_a_name_that_is_no_text_fails_alone(state: State) -> None:
    good, bad = state.kv("good"), state.kv("\ud800")
    done = await outcomes(
        [kv.put(f"key{number}", "value") for number in range(20) for kv in (good, bad)]
    )
    assert done[::2] == [None] * 20
    assert {type(one) for one in done[1::2]} == {UnicodeEncodeError}
    assert len(await stored(good)) == 20


async def test_one_that_is_cancelled_is_not_written(kv: KVNamespace) -> None:
    puts = [asyncio.ensure_future(kv.put(f"key{number:02}", "1")) for number in range(30)]
    for one in puts[::3]:
        one.cancel()
    await asyncio.gather(*puts, return_exceptions=True)
    assert [one.cancelled() for one in puts] == [number % 3 == 0 for number in range(30)]
    assert sorted(await stored(kv)) == [f"key{n:02}" for n in range(30) if n % 3]


async def test_the_change_log_tells_them_in_order(state: State, kv: KVNamespace) -> None:
    await kv.put("key5", "old")
    await state.changes.enable()
    await asyncio.gather(
        *(kv.put(f"key{number % 20}", "1" * number) for number in range(40)),
        kv.delete("key7"),
        kv.put("key7", ""),
    )
    told = [(one.change, one.key, one.size) for one in state.changes.read() if one.system == "kv"]
    assert told == [
        *(
            ("changed" if n in (5, *range(20, 40)) else "added", f"key{n % 20}", n)
            for n in range(40)
        ),
        ("removed", "key7", None),
        ("added", "key7", 0),
    ]


async def test_two_states_of_a_directory_keep_the_order(state: State, directory: Path) -> None:
    async with bunflare.open(directory) as other:
        a, b = state.kv("shared"), other.kv("shared")
        for turn in range(10):
            await asyncio.gather(*((a, b)[n % 2].put("key", f"{turn} {n}") for n in range(40)))
            assert await a.get("key") == await b.get("key") == f"{turn} 39"


def test_event_loops_of_several_threads(tmp_path: Path) -> None:
    state = bunflare.open(tmp_path)
    kv = state.kv("shared")
    failed: list[BaseException] = []

    async def write(thread: int) -> None:
        for turn in range(20):
            names = [f"{thread} {number}" for number in range(40)]
            await asyncio.gather(*(kv.put(name, str(turn)) for name in names))
            assert {await kv.get(name) for name in names} == {str(turn)}

    def run(thread: int) -> None:
        try:
            asyncio.run(write(thread))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert asyncio.run(_close(state, kv)) == 120


async def _close(state: State, kv: KVNamespace) -> int:
    found = len(await stored(kv))
    await state.close()
    return found


async def test_a_closed_state_fails_what_has_begun(directory: Path) -> None:
    state = bunflare.open(directory)
    kv = state.kv("kv")
    await kv.put("before", "1")
    puts = [asyncio.ensure_future(kv.put(f"key{number}", "1")) for number in range(20)]
    state.database.close()
    done = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(one) for one in done} == {bunflare.StateError}
    with pytest.raises(bunflare.StateError, match="closed"):
        await kv.put("after", "1")
