"""Commits of other processes are reported, and nothing is asked while there are none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import bunflare
from bunflare.store import reports
from bunflare.store import watch as module
from bunflare.store.watch import Watch
from tests.support import PATIENCE, Child, child, eventually

WRITER = """
import asyncio, sys, bunflare

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        kv = state.kv("A")
        await kv.put("key", "first")
        print("ready", flush=True)
        while line := sys.stdin.readline():
            await kv.put("key", line)
            print("written", flush=True)

asyncio.run(main())
"""

linux = pytest.mark.skipif(not reports.HAS_INOTIFY, reason="there is no inotify here")


@pytest.fixture(params=[pytest.param("reported", marks=linux), "looked for"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "looked for":
        monkeypatch.setattr(reports, "HAS_INOTIFY", False)
    return request.param


class FakeDatabase:
    """A log whose writes and commits are two things that a test does one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks = 0
        self._header = 0
        self.begin_log()

    def begin_log(self) -> None:
        log = Path(f"{self.path}-wal")
        log.unlink(missing_ok=True)
        self._log: BinaryIO = log.open("wb", buffering=0)

    def header(self) -> object:
        self.looks += 1
        return self._header

    def write(self) -> None:
        """What the operating system reports."""
        self._log.write(b"frame")

    def commit(self) -> None:
        """What counts."""
        self._header += 1

    def close(self) -> None:
        self._log.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDatabase]:
    fake = FakeDatabase(tmp_path / "data.sqlite")
    yield fake
    fake.close()


class Told:
    """A listener that remembers which commits it was called after."""

    def __init__(self, fake: FakeDatabase) -> None:
        self.commits: list[object] = []
        self._fake = fake

    def __call__(self) -> None:
        self.commits.append(self._fake._header)


# -- being told --------------------------------------------------------------------------------


async def test_a_commit_of_another_process_wakes_within_50_ms(directory: Path, way: str) -> None:
    async with bunflare.open(directory) as state:
        with child(WRITER, directory) as other:
            assert other.line() == "ready"
            delays = []
            loop = asyncio.get_running_loop()
            for number in range(20):
                woken: asyncio.Future[float] = loop.create_future()

                def wake(woken: asyncio.Future[float] = woken) -> None:
                    if not woken.done():
                        woken.set_result(time.monotonic())

                unsubscribe = state.database.watch.subscribe(wake)
                told = heard(other)
                other.tell(f"value {number}")
                at = await asyncio.wait_for(woken, PATIENCE)
                unsubscribe()
                delays.append(at - await asyncio.wait_for(told, PATIENCE))
                other.line()
    # The machine may be busy with something else now and then.
    assert sorted(delays)[len(delays) // 2] < 0.05


def heard(other: Child) -> asyncio.Future[float]:
    """When this event loop hears of the next line: however busy the machine is, it could not know
    of anything sooner."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[float] = loop.create_future()
    output = other.process.stdout
    assert output is not None

    def hear() -> None:
        loop.remove_reader(output)
        heard.set_result(time.monotonic())

    loop.add_reader(output, hear)
    return heard


async def test_no_commit_of_a_burst_is_the_last_that_one_hears_of(
    directory: Path, way: str
) -> None:
    """However commits and reports meet, whoever listens has seen the newest one in the end."""
    source = """
    import asyncio, sys, bunflare

    async def main():
        async with bunflare.open(sys.argv[1]) as state:
            kv = state.kv("A")
            print("ready", flush=True)
            for burst in range(30):
                sys.stdin.readline()
                for number in range(5):
                    await kv.put("key", f"{burst}.{number}")

    asyncio.run(main())
    """
    async with bunflare.open(directory) as state:
        kv = state.kv("A")
        seen: list[Any] = []
        view = state.database.view
        sql = "SELECT value FROM kv WHERE key = 'key'"
        unsubscribe = state.database.watch.subscribe(lambda: seen.append(view.one(sql)))
        with child(source, directory) as other:
            assert other.line() == "ready"
            for burst in range(30):
                other.tell("go")
                last = f"{burst}.4".encode()
                await eventually(lambda last=last: bool(seen) and seen[-1] == (last,))  # type: ignore[misc]
        assert await kv.get("key") == "29.4"
        unsubscribe()


async def test_one_can_wait_until_something_is_true(directory: Path, way: str) -> None:
    async with bunflare.open(directory) as state:
        view = state.database.view
        sql = "SELECT 1 FROM kv WHERE value != x'6669727374'"  # "first"
        watch = state.database.watch
        with child(WRITER, directory) as other:
            assert other.line() == "ready"
            waiting = asyncio.ensure_future(watch.wait(lambda: view.one(sql) is not None))
            await asyncio.sleep(0)
            assert not waiting.done()
            other.tell("write")
            await asyncio.wait_for(waiting, PATIENCE)
            # What is true already is not waited for.
            await asyncio.wait_for(watch.wait(lambda: True), PATIENCE)
        assert not watch.listened_to


async def test_who_waits_for_what_becomes_true_just_now_does_not_wait_for_ever(
    state: bunflare.State, way: str
) -> None:
    """Between the question and the subscription there may be a commit that is not reported."""
    answers = iter([False, True])
    await asyncio.wait_for(state.database.watch.wait(lambda: next(answers)), PATIENCE)


async def test_own_commits_are_reported_too(state: bunflare.State, way: str) -> None:
    woken = asyncio.Event()
    unsubscribe = state.database.watch.subscribe(woken.set)
    await state.kv("A").put("key", "value")
    await asyncio.wait_for(woken.wait(), PATIENCE)
    unsubscribe()


async def test_what_was_undone_is_not_reported(fake: FakeDatabase, way: str) -> None:
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.write()
    fake.looks = 0
    await eventually(lambda: fake.looks > 3)
    assert told.commits == []
    watch.close()


def test_listeners_of_several_event_loops_are_called_in_their_own(
    directory: Path, way: str
) -> None:
    state = bunflare.open(directory, durability="normal")
    called: dict[str, int] = {}
    ready = threading.Barrier(3)

    async def listen(name: str) -> None:
        woken = asyncio.Event()

        def wake() -> None:
            called[name] = threading.get_ident()
            woken.set()

        unsubscribe = state.database.watch.subscribe(wake)
        await asyncio.to_thread(ready.wait, PATIENCE)
        await asyncio.wait_for(woken.wait(), PATIENCE)
        unsubscribe()

    threads = [threading.Thread(target=lambda n=n: asyncio.run(listen(n))) for n in "ab"]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE)
    asyncio.run(state.kv("A").put("key", "value"))
    for thread in threads:
        thread.join(PATIENCE)
    assert called == {"a": threads[0].ident, "b": threads[1].ident}
    asyncio.run(state.close())


# -- the report comes before the commit --------------------------------------------------------


async def test_a_commit_that_takes_its_time_is_not_missed(fake: FakeDatabase, way: str) -> None:
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.write()
    fake.looks = 0
    await eventually(lambda: fake.looks > 5)  # it was looked for, in vain
    assert told.commits == []
    fake.commit()
    await eventually(lambda: told.commits == [1])
    watch.close()


async def test_a_commit_behind_the_one_that_is_found_is_not_missed(
    fake: FakeDatabase, way: str
) -> None:
    """The second was reported before the first was found, and counts only afterwards."""
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.write()
    fake.commit()
    fake.write()
    await eventually(lambda: told.commits == [1])
    fake.commit()
    await eventually(lambda: told.commits == [1, 2])
    watch.close()


async def test_a_commit_behind_one_that_was_waited_for_is_not_missed(
    fake: FakeDatabase, way: str
) -> None:
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.write()
    fake.looks = 0
    await eventually(lambda: fake.looks > 2)
    fake.write()
    fake.commit()
    await eventually(lambda: told.commits == [1])
    fake.commit()
    await eventually(lambda: told.commits == [1, 2])
    watch.close()


async def test_commits_that_follow_each_other_closely_may_be_told_of_once(
    fake: FakeDatabase, way: str
) -> None:
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    for _ in range(100):
        fake.write()
        fake.commit()
    await eventually(lambda: told.commits == [100])
    watch.close()


# -- not asking --------------------------------------------------------------------------------


@linux
async def test_a_commit_that_was_written_before_the_subscription_is_reported(
    fake: FakeDatabase,
) -> None:
    watch, told = Watch(fake), Told(fake)
    fake.write()
    watch.subscribe(told)
    await asyncio.sleep(0.01)  # its write is reported to nobody
    fake.commit()
    await eventually(lambda: told.commits == [1])
    watch.close()


def at_rest(watch: Watch) -> bool:
    """Whether no commit is expected that was announced."""
    return all(loop._timer is None for loop in watch._loops.values())


@linux
async def test_without_commits_nothing_is_looked_at(
    fake: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.store.watch._GIVE_UP_SECONDS", 0.01)
    watch, told = Watch(fake), Told(fake)
    unsubscribe = watch.subscribe(told)
    await eventually(lambda: at_rest(watch))
    fake.looks = 0
    await asyncio.sleep(0.2)  # a stretch of real time in which nothing may happen
    assert fake.looks == 0
    unsubscribe()
    watch.close()


@linux
async def test_after_a_report_the_looks_grow_rare_and_end(
    fake: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GIVE_UP_SECONDS", 0.2)
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.looks = 0
    fake.write()
    await eventually(lambda: fake.looks >= 2 and at_rest(watch))
    # At the report, and 1, 3, 7, 15, 31, 63, 127, 255 milliseconds later.
    assert fake.looks <= 9
    looks = fake.looks
    await asyncio.sleep(0.1)  # a stretch of real time in which nothing may happen
    assert fake.looks == looks
    watch.close()


async def test_without_inotify_it_is_looked_at_50_times_a_second(
    fake: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "HAS_INOTIFY", False)
    watch, told = Watch(fake), Told(fake)
    unsubscribe = watch.subscribe(told)
    fake.looks = 0
    began = time.monotonic()
    await eventually(lambda: fake.looks >= 10)
    assert time.monotonic() - began > 0.19
    unsubscribe()
    fake.looks = 0
    await asyncio.sleep(0.05)  # a stretch of real time in which nothing may happen
    assert fake.looks == 0  # nobody listens any more
    watch.close()


async def test_nobody_is_called_after_having_unsubscribed(fake: FakeDatabase, way: str) -> None:
    watch, one, two = Watch(fake), Told(fake), Told(fake)
    end_one = watch.subscribe(one)
    end_two = watch.subscribe(two)
    assert watch.listened_to
    end_one()
    end_one()
    fake.write()
    fake.commit()
    await eventually(lambda: two.commits == [1])
    assert one.commits == []
    end_two()
    assert not watch.listened_to
    watch.subscribe(one)
    fake.write()
    fake.commit()
    await eventually(lambda: one.commits == [2])
    watch.close()
    assert not watch.listened_to
    end_two()


@linux
async def test_a_log_that_has_become_another_file_is_followed(fake: FakeDatabase) -> None:
    watch, told = Watch(fake), Told(fake)
    watch.subscribe(told)
    fake.close()
    fake.begin_log()
    watch.renew()
    await asyncio.sleep(0)
    fake.write()
    fake.commit()
    await eventually(lambda: told.commits == [1])
    watch.close()
