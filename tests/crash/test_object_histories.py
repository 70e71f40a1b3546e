"""Counters and transfers in two processes that are killed at random: one order explains it all."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bunflare
from tests.crash.histories import Call, check
from tests.support import PATIENCE, Child, eventually

LONG = os.environ.get("BUNFLARE_CRASH") == "long"

_COUNTERS = 4
_ACCOUNTS = 3

OBJECTS = """
import asyncio, fcntl, os, random, sys, time
import bunflare

class Tally(bunflare.DurableObject):
    async def add(self):
        value = (await self.ctx.storage.get("value") or 0) + 1
        await self.ctx.storage.put("value", value)
        return value

    async def look(self):
        return await self.ctx.storage.get("value") or 0

class Purse(bunflare.DurableObject):
    # What is under way is noted together with what it changes, and is taken once.
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS log (id TEXT PRIMARY KEY, amount INTEGER)")

    def book(self, id, amount):
        storage = self.ctx.storage
        storage.kv.put("balance", (storage.kv.get("balance") or 0) + amount)
        storage.sql.exec("INSERT INTO log VALUES (?, ?)", id, amount)

    async def send(self, to, id, amount):
        self.book("out:" + id, -amount)
        await self.ctx.storage.put("out:" + id, [to, amount])
        await self.deliver(id, to, amount)

    async def deliver(self, id, to, amount):
        await self.env["purses"].get_by_name(to).receive(id, amount)
        await self.ctx.storage.delete("out:" + id)

    async def receive(self, id, amount):
        if await self.ctx.storage.get("in:" + id) is None:
            self.book("in:" + id, amount)
            await self.ctx.storage.put("in:" + id, True)

    async def finish(self):
        for key, (to, amount) in (await self.ctx.storage.list(prefix="out:")).items():
            await self.deliver(key.removeprefix("out:"), to, amount)

    async def look(self):
        logged = self.ctx.storage.sql.exec("SELECT coalesce(sum(amount), 0) AS s FROM log").one()
        taken = [key[3:] for key in await self.ctx.storage.list(prefix="in:")]
        return [await self.ctx.storage.get("balance") or 0, logged["s"], taken]

def ending(process):
    # A process that was killed drops its locks one after the other, when none of its code runs.
    try:
        with open(f"/proc/{process}/stat") as file:
            state, *rest = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX" or int(rest[5]) & 4 != 0

class Gong(bunflare.DurableObject):
    async def alarm(self, info):
        # The system drops this lock with the process that holds it.
        with open(self.env["locks"] + "/" + self.ctx.id.name, "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read()
                if not ending(holder):
                    with open(self.env["locks"] + "/twice", "a") as twice:
                        print(self.ctx.id.name, "held by", holder, "wanted by", os.getpid(),
                              file=twice)
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            print(os.getpid(), end="", flush=True, file=lock)
            await asyncio.sleep(0.005)
            await self.ctx.storage.put("rung", (await self.ctx.storage.get("rung") or 0) + 1)
            await self.ctx.storage.set_alarm(time.time() * 1000 + random.uniform(0, 20))

    async def start(self):
        await self.ctx.storage.set_alarm(time.time() * 1000)

    async def look(self):
        await self.ctx.storage.delete_alarm()
        return await self.ctx.storage.get("rung") or 0

def open_all(state, locks):
    env = {"locks": locks}
    env["purses"] = state.durable_objects(Purse, env=env)
    return (state.durable_objects(Tally, env=env), env["purses"],
            state.durable_objects(Gong, env=env))
"""

# Says what it tries and what was answered, in a file of its own.
_WORKER = (
    OBJECTS
    + """
async def main():
    directory, locks, log_path, me = sys.argv[1:5]
    log = open(log_path, "a", buffering=1)
    now = time.monotonic_ns
    async with bunflare.open(directory) as state:
        tallies, purses, gongs = open_all(state, locks)
        print("ready", flush=True)

        async def count(lane):
            chance = random.Random(f"{me} {lane}")
            for number in range(1 << 30):
                name = f"tally{chance.randrange(4)}"
                word = "add" if chance.random() < 0.7 else "look"
                id = f"{me}-{lane}-{number}"
                print("try", id, word, name, now(), file=log)
                try:
                    value = await getattr(tallies.get_by_name(name), word)()
                except bunflare.DurableObjectReset:
                    continue
                print("done", id, value, now(), file=log)

        async def send(lane):
            chance = random.Random(f"{me} {lane} purse")
            for number in range(1 << 30):
                one, other = chance.sample(range(3), 2)
                id = f"{me}-{lane}-{number}"
                try:
                    await purses.get_by_name(f"purse{one}").send(
                        f"purse{other}", id, chance.randrange(10))
                except bunflare.DurableObjectReset:
                    continue
                print("sent", id, f"purse{other}", file=log)

        async def ring():
            for number in range(2):
                try:
                    await gongs.get_by_name(f"gong{number}").start()
                except bunflare.DurableObjectReset:
                    continue

        await asyncio.gather(*[count(lane) for lane in range(3)], *[send(lane) for lane in "ab"],
                             ring())
asyncio.run(main())
"""
)

space: dict[str, Any] = {}
exec(OBJECTS, space)


async def test_two_processes_killed_at_random_keep_to_one_order(tmp_path: Path) -> None:
    directory, locks, logs = tmp_path / "state", tmp_path / "locks", tmp_path / "logs"
    locks.mkdir()
    logs.mkdir()
    chance = random.Random(7)
    numbers = itertools.count()

    def worker() -> Child:
        me = f"w{next(numbers)}"
        return Child(_WORKER, directory, locks, logs / me, me)

    deadline = time.monotonic() + (600 if LONG else 2.5)
    latest = deadline + 4 * PATIENCE
    running = [worker(), worker()]
    started = list(running)
    try:
        while True:
            for one in started:
                assert one.line() == "ready"
            time.sleep(chance.uniform(0.02, 0.4))
            which = chance.randrange(2)
            running[which].kill()
            # On a busy machine it takes longer until there is something to be judged.
            if time.monotonic() > deadline and (enough(logs) or time.monotonic() > latest):
                break
            running[which].close()
            running[which] = worker()
            started = [running[which]]
    finally:
        for one in running:
            one.close()

    calls, sent = _read(logs)
    async with bunflare.open(directory) as state:
        tallies, purses, gongs = space["open_all"](state, str(locks))
        for number in range(2):
            await gongs.get_by_name(f"gong{number}").look()
        final = {
            name: await tallies.get_by_name(name).look()
            for name in [f"tally{number}" for number in range(_COUNTERS)]
        }
        for number in range(_ACCOUNTS):
            await purses.get_by_name(f"purse{number}").finish()
        balances = 0
        taken: dict[str, set[str]] = {}
        for number in range(_ACCOUNTS):
            balance, logged, ids = await purses.get_by_name(f"purse{number}").look()
            # The two files of an object agree.
            assert balance == logged
            balances += balance
            taken[f"purse{number}"] = set(ids)
        await eventually(lambda: not state._objects["Gong"].alarms._firing)
    check(calls, final)
    assert balances == 0
    for transfer, where in sent:
        assert transfer in taken[where]
    twice = locks / "twice"
    assert not twice.exists(), twice.read_text()
    assert enough(logs)


def enough(logs: Path) -> bool:
    calls, sent = _read(logs)
    done = Counter(call.adds for call in calls if call.value is not None)
    return min(done[True], done[False], len(sent)) > 20


def _read(logs: Path) -> tuple[list[Call], list[tuple[str, str]]]:
    calls: dict[str, Call] = {}
    sent = []
    for log in logs.iterdir():
        lines = log.read_text().split("\n")[:-1]
        for line in lines:
            word, call, *rest = line.split()
            if word == "try":
                calls[call] = Call(rest[1], rest[0] == "add", int(rest[2]))
            elif word == "done":
                calls[call] = replace(calls[call], value=int(rest[0]), ended=int(rest[1]))
            else:
                sent.append((call, rest[0]))
    return list(calls.values()), sent


_GOOD = [
    Call("a", True, 0, 10, 1),
    Call("a", True, 5, 20, 2),
    Call("a", False, 12, 15, 1),
    Call("a", True, 30),
    Call("a", False, 40, 50, 3),
]


def test_a_history_with_an_order_is_taken() -> None:
    check(_GOOD, {"a": 3})
    check(_GOOD[:-1], {"a": 2})


@pytest.mark.parametrize(
    ("wrong", "final"),
    [
        pytest.param(Call("a", True, 60, 70, 2), 3, id="a lost update"),
        pytest.param(Call("a", False, 60, 70, 2), 3, id="a stale read"),
        pytest.param(Call("a", True, 60, 70, 4), 3, id="a reply for a write that is gone"),
        pytest.param(Call("b", True, 60), 2, id="a write that was made twice"),
    ],
)
def test_a_history_without_one_is_refused(wrong: Call, final: int) -> None:
    with pytest.raises(AssertionError):
        check([*_GOOD, wrong], {"a": final, "b": final})
