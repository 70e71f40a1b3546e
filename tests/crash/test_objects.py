"""Durable Objects across processes and SIGKILL: one instance, no lost update, no early reply."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

import bunflare
from tests.support import child, eventually

LONG = os.environ.get("BUNFLARE_CRASH") == "long"

# What all processes run. A transfer writes to both the key-value storage and a table.
OBJECTS = """
import asyncio, random, sys, time
import bunflare

class Account(bunflare.DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS log (amount INTEGER)")

    async def add(self, amount):
        storage = self.ctx.storage
        balance = (await storage.get("balance") or 0) + amount
        await storage.put("balance", balance)
        storage.sql.exec("INSERT INTO log VALUES (?)", amount)
        return balance

    async def send(self, other, amount):
        await self.add(-amount)
        await self.env["ns"].get_by_name(other).add(amount)

    async def fetch(self, request):
        async def body():
            yield (request.method + " ").encode()
            if request.body is not None:
                async for chunk in request.body:
                    yield chunk
            if "broken" in request.url:
                raise ValueError("half-way")
        return bunflare.Response(body(), status=202, headers={"x-url": request.url})

    async def look(self):
        logged = self.ctx.storage.sql.exec("SELECT coalesce(sum(amount), 0) AS s FROM log").one()
        return [await self.ctx.storage.get("balance") or 0, logged["s"]]

class Bell(bunflare.DurableObject):
    async def set(self, when):
        await self.ctx.storage.set_alarm(when)

    async def alarm(self, info):
        file = open(self.env["rung"], "a")
        print("begin", self.ctx.id.name, flush=True, file=file)
        await asyncio.sleep(0.02)
        await self.ctx.storage.put("rung", (await self.ctx.storage.get("rung") or 0) + 1)
        print("end", self.ctx.id.name, flush=True, file=file)

    async def rung(self):
        return await self.ctx.storage.get("rung") or 0

def open_accounts(state):
    env = {}
    env["ns"] = state.durable_objects(Account, env=env)
    return env["ns"]
"""

# Adds one to accounts in turn, and says so once it was told of the success.
_ADDER = (
    OBJECTS
    + """
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        accounts = open_accounts(state)
        print("ready", flush=True)
        async def work(lane):
            number = 0
            while True:
                name = f"account{(number + lane) % 4}"
                print(f"try {name}", flush=True)
                try:
                    await accounts.get_by_name(name).add(1)
                except bunflare.DurableObjectReset:
                    print(f"lost {name}", flush=True)
                else:
                    print(f"done {name}", flush=True)
                number += 1
        await asyncio.gather(*[work(lane) for lane in range(3)])
asyncio.run(main())
"""
)

_READER = (
    OBJECTS
    + """
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        accounts = open_accounts(state)
        for number in range(4):
            print(*await accounts.get_by_name(f"account{number}").look(), flush=True)
asyncio.run(main())
"""
)

namespace: dict[str, Any] = {}
exec(OBJECTS, namespace)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_acknowledged_is_there_and_nothing_twice_after_sigkill(
    tmp_path: Path, processes: int
) -> None:
    directory = tmp_path / "state"
    chance = random.Random(processes)
    tried = dict.fromkeys(range(4), 0)
    done = dict.fromkeys(range(4), 0)
    for turn in range(200):
        if not LONG and turn >= 5 and sum(done.values()) > 10:
            break
        with_all = [child(_ADDER, directory) for _ in range(processes)]
        running = [one.__enter__() for one in with_all]
        try:
            for one in running:
                assert one.line() == "ready"
            time.sleep(chance.uniform(0.02, 0.3))
            chance.shuffle(running)
            for one in running:
                one.kill()
                time.sleep(chance.uniform(0, 0.1))
            for one in running:
                for line in one.rest():
                    word, name = line.split()
                    number = int(name.removeprefix("account"))
                    tried[number] += word == "try"
                    done[number] += word == "done"
        finally:
            for context in with_all:
                context.__exit__(None, None, None)
    with child(_READER, directory) as reader:
        for number in range(4):
            balance, logged = map(int, reader.line().split())
            # Both files of an account tell the same, whichever commit was the last.
            assert balance == logged
            assert done[number] <= balance <= tried[number]
    assert sum(done.values()) > 10


_HOLDER = (
    OBJECTS
    + """
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        accounts = open_accounts(state)
        print(await accounts.get_by_name("a").add(1), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
)


async def test_calls_go_to_the_owner_and_the_namespace_is_taken_over_when_it_dies(
    tmp_path: Path,
) -> None:
    with child(_HOLDER, tmp_path) as holder:
        assert holder.line() == "1"
        async with bunflare.open(tmp_path) as state:
            accounts = namespace["open_accounts"](state)
            stub = accounts.get_by_name("a")
            assert await stub.add(1) == 2
            host = state._objects["Account"]
            assert not host.owner
            assert host.actors == {}
            with pytest.raises(TypeError, match="does not implement"):
                await stub.missing()
            holder.kill()
            await eventually(lambda: host.owner)
            assert await stub.add(1) == 3


async def test_requests_and_their_bodies_go_to_the_owner_too(tmp_path: Path) -> None:
    with child(_HOLDER, tmp_path) as holder:
        assert holder.line() == "1"
        async with bunflare.open(tmp_path) as state:
            stub = namespace["open_accounts"](state).get_by_name("a")
            body = b"x" * 1_000_000
            response = await stub.fetch("https://object/path", method="POST", body=body)
            assert (response.status, response.headers["x-url"]) == (202, "https://object/path")
            assert await response.bytes() == b"POST " + body
            assert await (await stub.fetch("https://object/")).text() == "GET "

            async def chunks() -> Any:
                yield b"one "
                yield b"two"

            response = await stub.fetch("https://object/", method="PUT", body=chunks())
            assert await response.text() == "PUT one two"

            # What goes up comes down again before there is more of it: none of it is collected.
            asked = asyncio.Queue[bytes | None]()

            async def answering() -> Any:
                while (chunk := await asked.get()) is not None:
                    yield chunk

            echo = await stub.fetch("https://object/", method="PUT", body=answering())
            parts = echo.body.__aiter__()
            assert await anext(parts) == b"PUT "
            for word in (b"one", b"two", b"three" * 100_000):
                asked.put_nowait(word)
                got = b""
                while len(got) < len(word):
                    got += await anext(parts)
                assert got == word
            asked.put_nowait(None)
            assert [part async for part in parts] == []

            async def failing() -> Any:
                yield b"half"
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await (await stub.fetch("https://object/", method="PUT", body=failing())).bytes()
            broken = await stub.fetch("https://object/broken")
            with pytest.raises(ValueError, match="half-way"):
                await broken.text()
            with pytest.raises(TypeError):
                await stub.add(lambda: 1)
            assert await stub.add(1) == 2
            assert not state._objects["Account"].owner


async def test_a_call_under_way_when_the_owner_dies_fails_and_says_so(tmp_path: Path) -> None:
    source = OBJECTS + (
        "\nclass Account(Account):\n"
        "    async def hang(self):\n"
        "        await asyncio.Event().wait()\n" + _HOLDER.removeprefix(OBJECTS)
    )
    with child(source, tmp_path) as holder:
        assert holder.line() == "1"
        async with bunflare.open(tmp_path) as state:
            stub = namespace["open_accounts"](state).get_by_name("a")
            await stub.look()
            hanging = stub.hang()
            await asyncio.sleep(0.05)
            holder.kill()
            with pytest.raises(bunflare.DurableObjectReset, match="Network connection lost"):
                await hanging
            assert await stub.look() == [1, 1]


_RINGER = (
    OBJECTS
    + """
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        bells = state.durable_objects(Bell, env={"rung": sys.argv[2]})
        if len(sys.argv) > 3:
            now = int(time.time() * 1000)
            for number in range(10):
                await bells.get_by_name(f"bell{number}").set(now + 10 * number)
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
)


async def test_alarms_ring_at_least_once_and_never_twice_at_once_across_sigkill(
    tmp_path: Path,
) -> None:
    directory, rung = tmp_path / "state", tmp_path / "rung"
    rung.touch()
    with child(_RINGER, directory, rung, "set") as first:
        assert first.line() == "ready"
        with child(_RINGER, directory, rung) as second:
            assert second.line() == "ready"
            await asyncio.sleep(0.05)
            first.kill()
            await asyncio.sleep(0.05)
            second.kill()
    killed = len(rung.read_text().splitlines())
    async with bunflare.open(directory) as state:
        bells = state.durable_objects(namespace["Bell"], env={"rung": str(rung)})
        await eventually(lambda: len(_ended(rung)) == 10)
        await eventually(lambda: not state._objects["Bell"].alarms._firing)
        for number in range(10):
            assert await bells.get_by_name(f"bell{number}").rung() in (1, 2, 3)
    lines = rung.read_text().splitlines()
    # Within one process' life no bell begins again before it has ended.
    ringing: set[str] = set()
    for line in lines[killed:]:
        word, name = line.split()
        if word == "begin":
            assert name not in ringing
            ringing.add(name)
        else:
            ringing.discard(name)


def _ended(rung: Path) -> set[str]:
    return {line for line in rung.read_text().splitlines() if line.startswith("end")}
