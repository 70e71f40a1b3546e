"""More objects with tables than the process may have open files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support import child

_PROGRAM = """
import asyncio, json, os, resource, sys
import bunflare

resource.setrlimit(resource.RLIMIT_NOFILE, tuple(map(int, sys.argv[2:4])))

class Room(bunflare.DurableObject):
    made = {}

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        Room.made[ctx.id.name] = Room.made.get(ctx.id.name, 0) + 1

    async def say(self, words):
        sql = self.ctx.storage.sql
        sql.exec("CREATE TABLE IF NOT EXISTS words (word)")
        sql.exec("INSERT INTO words VALUES (?)", words)
        return sql.exec("SELECT count(*) FROM words").raw().to_array()[0][0]

class Hall(Room):
    pass

async def main():
    async with bunflare.open(sys.argv[1], durability="off") as state:
        spaces = [state.durable_objects(Room), state.durable_objects(Hall)]
        counts = []
        for turn in range(2):
            for at in range(0, 400, 20):
                some = [spaces[n % 2].get_by_name(f"{n}") for n in range(at, at + 20)]
                counts += await asyncio.gather(*[one.say("a") for one in some])
                await spaces[0].get_by_name("often").say("a")
        await state.kv("K").put("a", "b")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        made = [Room.made["often"], Room.made["0"]]
        print(json.dumps([counts == [1] * 400 + [2] * 400, made, most]))

asyncio.run(main())
"""


@pytest.mark.parametrize("hard", [700, 2500])
def test_more_objects_with_tables_than_open_files_all_work(directory: Path, hard: int) -> None:
    with child(_PROGRAM, directory, 500, hard) as program:
        right, (often, first), most = json.loads(program.line())
    assert right
    assert most == hard
    # What is called all the time mostly stays, and of the others those that were called longest ago
    # go.
    assert often <= (10 if hard == 700 else 1)
    assert first == (2 if hard == 700 else 1)


_MEMORY = """
import asyncio, json, sys
import bunflare

class Row(bunflare.DurableObject):
    async def keep(self, value):
        self.ctx.storage.sql.exec("CREATE TABLE kept (value)")
        self.ctx.storage.sql.exec("INSERT INTO kept VALUES (?)", value)

def used():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

async def main():
    clock = bunflare.ManualClock()
    async with bunflare.open(sys.argv[1], clock=clock, durability="off") as state:
        rows = state.durable_objects(Row)
        await rows.get_by_name("first").keep(0)
        before = used()
        for at in range(0, 600, 100):
            await asyncio.gather(*[rows.get_by_name(str(n)).keep(n) for n in range(at, at + 100)])
        most = used()
        await clock.advance(seconds=16)
        print(json.dumps([before, most, used()]))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is")
def test_objects_with_tables_give_their_memory_back_when_they_leave(directory: Path) -> None:
    with child(_MEMORY, directory) as program:
        before, most, after = json.loads(program.line())
    assert after - before < (most - before) / 2
