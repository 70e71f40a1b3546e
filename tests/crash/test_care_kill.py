"""Repair, import, restore and snapshots, killed at any moment: before or after, never between."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

import bunflare
from tests.crash.victims import seed_of_the_day
from tests.support import Child, child

T = TypeVar("T")

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
PROGRAM = (Path(__file__).parent / "care_workload.py").read_text()
KEYS = 40
KEPT = {"cache-control": "max-age=9999999"}


async def fill(state: bunflare.State, text: str) -> None:
    """The same in every system."""
    await state.kv("K").put_many([{"key": f"{n}", "value": text} for n in range(KEYS)])
    for number in range(5):
        await state.r2("files").put(f"{number}", text * (number + 1))
    await state.r2("files").put("large", text * 50_000)
    await state.d1("db").exec("CREATE TABLE IF NOT EXISTS t (a)")
    await state.d1("db").batch(
        [
            state.d1("db").prepare("DELETE FROM t"),
            state.d1("db").prepare("INSERT INTO t VALUES (?)").bind(text),
        ]
    )
    large = bunflare.Response(text * 500_000, headers=KEPT)
    await state.caches.default.put("https://example.com/", large)


async def found_in(state: bunflare.State) -> str:
    """The text that is in every system; fails if they differ."""
    texts: set[object] = set()
    for number in range(KEYS):
        texts.add(await state.kv("K").get(f"{number}"))
    for number in range(5):
        body = await state.r2("files").get(f"{number}")
        assert isinstance(body, bunflare.R2ObjectBody)
        text = await body.text()
        assert text == text[: len(text) // (number + 1)] * (number + 1)
        texts.add(text[: len(text) // (number + 1)])
    large = await state.r2("files").get("large")
    assert isinstance(large, bunflare.R2ObjectBody)
    texts.add((await large.text())[: large.size // 50_000])
    texts.add(await state.d1("db").prepare("SELECT a FROM t").first("a"))
    kept = await state.caches.default.match("https://example.com/")
    assert kept is not None
    body_text = await kept.text()
    texts.add(body_text[: len(body_text) // 500_000])
    (only,) = texts
    return str(only)


def run(work: Callable[[bunflare.State], Awaitable[T]], directory: Path) -> T:
    async def opened() -> T:
        async with bunflare.open(directory, durability="normal") as state:
            return await work(state)

    return asyncio.run(opened())


class Hangman:
    """Carries a deed out again and again on a copy of a template, killed at ever other moments."""

    def __init__(self, program: Child, tmp_path: Path, rng: random.Random) -> None:
        self._program = program
        self._template = tmp_path / "template"
        self._rng = rng
        self.directory = tmp_path / "state"

    def kills(self, deed: str, other: Path) -> Iterator[bool]:
        """After each, whether the deed was cut short."""
        began = time.monotonic()
        killed, steps = self._once(deed, other)
        whole = time.monotonic() - began
        assert not killed
        yield False
        for number in range(40 if LONG else 5):
            if number % 2:
                yield self._once(deed, other, seconds=self._rng.uniform(0, whole))[0]
            else:
                yield self._once(deed, other, step=self._rng.randrange(1, steps))[0]

    def _once(
        self, deed: str, other: Path, step: int = 0, seconds: float = 0.0
    ) -> tuple[bool, int]:
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(self._template, self.directory, copy_function=shutil.copy2)
        order = {"deed": deed, "directory": str(self.directory), "other": str(other)}
        self._program.tell(json.dumps({**order, "step": step, "seconds": seconds}))
        killed, steps = json.loads(self._program.line())
        return killed, steps


@pytest.fixture
def hangman(tmp_path: Path) -> Iterator[Hangman]:
    """Its template has a snapshot, "old", of an earlier moment."""

    async def make(state: bunflare.State) -> None:
        await fill(state, "old")
        await state.snapshot("old")
        await fill(state, "now")

    run(make, tmp_path / "template")
    with child(PROGRAM) as program:
        yield Hangman(program, tmp_path, random.Random(seed_of_the_day()))


async def whole(state: bunflare.State) -> tuple[str, list[str]]:
    """What is in the state, in which nothing is wrong, and the names of its snapshots."""
    names = [one.name for one in await state.snapshots()]
    assert (await state.check()).problems == ()
    return await found_in(state), names


def test_a_restore(hangman: Hangman, tmp_path: Path) -> None:
    async def back_up(state: bunflare.State) -> None:
        await fill(state, "new")
        await state.backup(tmp_path / "new.tar")

    run(back_up, tmp_path / "other")
    for cut in hangman.kills("restore", tmp_path / "new.tar"):
        text, names = run(whole, hangman.directory)
        assert text in (("now", "new") if cut else ("new",))
        assert names == ["old"]


def test_going_back(hangman: Hangman, tmp_path: Path) -> None:
    for cut in hangman.kills("go back", tmp_path):
        text, names = run(whole, hangman.directory)
        assert text in (("now", "old") if cut else ("old",))
        assert names == ["old"]


async def branched(copy: Path, name: str, state: bunflare.State) -> None:
    await state.branch(copy, name)


@pytest.mark.parametrize("deed", ["snapshot", "drop"])
def test_snapshots(hangman: Hangman, tmp_path: Path, deed: str) -> None:
    after = ["old", "new"] if deed == "snapshot" else []
    for cut in hangman.kills(deed, tmp_path):
        text, names = run(whole, hangman.directory)
        assert text == "now"
        assert names in ([["old"], after] if cut else [after])
        for name in names:
            # Each is whole, whatever was killed.
            copy = tmp_path / "copy"
            run(partial(branched, copy, name), hangman.directory)
            assert run(whole, copy) == ({"old": "old", "new": "now"}[name], [])
            shutil.rmtree(copy)


def test_an_import(hangman: Hangman, tmp_path: Path) -> None:
    async def fill_other(state: bunflare.State) -> None:
        await state.kv("OTHER").put("a", "1")
        await state.r2("others").put("b", "2" * 100_000)
        await state.d1("else").exec("CREATE TABLE t (a)")
        await state.queue("jobs").send(3)

    run(fill_other, tmp_path / "other")

    async def brought(state: bunflare.State) -> list[bool]:
        assert await whole(state) == ("now", ["old"])
        return [
            await state.kv("OTHER").get("a") == "1",
            await state.r2("others").head("b") is not None,
            (state.directory / "d1/else.sqlite").exists(),
            (await state.queue("jobs").metrics()).backlog_count == 1,
        ]

    for cut in hangman.kills("import", tmp_path / "other"):
        there = run(brought, hangman.directory)
        assert there in ([[False] * 4, [True] * 4] if cut else [[True] * 4])


def test_a_repair(hangman: Hangman, tmp_path: Path) -> None:
    """Each thing is as it was, or mended; what was not broken stays; and the next one goes on."""
    template = tmp_path / "template"
    connection = apsw.Connection(str(template / "data.sqlite"))
    connection.execute(
        """
        UPDATE kv SET metadata = '{';
        INSERT INTO queue_messages (id, queue, body, visible_at, created_at, attempts)
        VALUES ('m', 'jobs', '1', 'soon', 9000000000000, 0);
        UPDATE bunflare_queue_counts SET messages = 9;
        INSERT INTO do_alarms (namespace, id, alarm_time) VALUES ('N', 'x', 'soon');
        INSERT INTO bunflare_workflow_events VALUES ('gone', 1, 't', '1', 1);
        """
    )
    connection.close()
    for name in ("1", "2"):
        (template / "r2/files" / name).write_text("changed")
    (template / "r2-staging/left").write_text("over")

    async def problems(state: bunflare.State) -> set[tuple[str, str, str]]:
        return {(one.system, one.kind, one.key) for one in (await state.check()).problems}

    async def look(state: bunflare.State) -> int:
        left = await problems(state)
        assert left <= before
        for number in range(KEYS):
            assert await state.kv("K").get(f"{number}") == "now"
        for name in ("1", "2"):
            # The row is that of the file, or of what was there before, and then this is told.
            assert (state.directory / "r2/files" / name).read_text() == "changed"
        assert (await state.repair()).left == ()
        assert await problems(state) == set()
        body = await state.r2("files").get("1")
        assert isinstance(body, bunflare.R2ObjectBody)
        assert await body.text() == "changed"
        assert (await state.kv("K").get_with_metadata("0")).metadata is None
        return len(left)

    before = run(problems, template)
    assert len(before) == KEYS + 6
    for cut in hangman.kills("repair", tmp_path):
        left = run(look, hangman.directory)
        assert cut or left == 0
