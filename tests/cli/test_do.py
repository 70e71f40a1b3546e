"""``bunflare do``, as a process."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject
from tests.cli import process


class Room(DurableObject):
    async def fill(self, time: int) -> None:
        await self.ctx.storage.put({"seat": "window", "count": 3})
        self.ctx.storage.sql.exec("CREATE TABLE guests (name); INSERT INTO guests VALUES ('Ada')")
        await self.ctx.storage.set_alarm(time)

    async def look(self) -> Any:
        return await self.ctx.storage.list()

    async def alarm(self) -> None:
        await self.ctx.storage.put("rang", True)


def run(directory: Path, *words: str, code: int = 0) -> str:
    out, told = process.run(directory, "do", "--persist-to", directory, *words, code=code)
    return out if code == 0 else told


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    async with bunflare.open(tmp_path) as state:
        await state.durable_objects(Room).get_by_name("blue").fill(9_000_000_000_000)
    return tmp_path


def test_lists(filled: Path) -> None:
    assert json.loads(run(filled, "list", "--json")) == [{"namespace": "Room", "objects": 1}]
    (found,) = json.loads(run(filled, "list", "Room", "--json"))
    assert (found["name"], found["alarm"], found["sql"]) == ("blue", 9_000_000_000_000, True)
    assert "blue" in run(filled, "list", "Room")
    (alarm,) = json.loads(run(filled, "alarms", "list", "--json"))
    assert (alarm["id"], alarm["time"]) == (found["id"], 9_000_000_000_000)
    assert "seat" in run(filled, "storage", "list", "Room", found["id"])


def test_very_many_objects_are_listed(filled: Path) -> None:
    rows = [("Hall", f"{number:064x}", "k", "1") for number in range(2500)]
    with sqlite3.connect(filled / "data.sqlite") as other:
        other.executemany(
            "INSERT INTO do_storage (namespace, id, key, value) VALUES (?, ?, ?, ?)", rows
        )
        # Another program may have noted no more than an alarm.
        other.execute(
            "INSERT INTO do_alarms (namespace, id, alarm_time) VALUES ('Hall', ?, 9)", ("f" * 64,)
        )
    counts = json.loads(run(filled, "list", "--json"))
    assert counts == [{"namespace": "Hall", "objects": 2501}, {"namespace": "Room", "objects": 1}]
    found = json.loads(run(filled, "list", "Hall", "--json"))
    assert [one["id"] for one in found] == [*[row[1] for row in rows], "f" * 64]
    nothing = {"name": None, "created_at": None, "alarm": None, "sql": False}
    assert found[7] == {"id": f"{7:064x}", **nothing}
    assert found[-1] == {"id": "f" * 64, **nothing, "alarm": 9}
    lines = run(filled, "list", "Hall").splitlines()
    assert [line.split()[0] for line in lines[2:]] == [one["id"] for one in found]


def test_very_many_alarms_are_listed_all_of_them(filled: Path) -> None:
    rows = [("Hall", f"{number:064x}", 12_000 - number) for number in range(12_000)]
    with sqlite3.connect(filled / "data.sqlite") as other:
        other.executemany(
            "INSERT INTO do_alarms (namespace, id, alarm_time) VALUES (?, ?, ?)", rows
        )
    found = json.loads(run(filled, "alarms", "list", "--json"))
    assert [one["time"] for one in found] == [*range(1, 12_001), 9_000_000_000_000]
    assert len(json.loads(run(filled, "alarms", "list", "Hall", "--json"))) == 12_000


def test_storage_and_sql_are_read_and_changed(filled: Path) -> None:
    assert run(filled, "storage", "get", "Room", "blue", "seat") == '"window"\n'
    run(filled, "storage", "put", "Room", "blue", "seat", '{"row": 1}')
    run(filled, "storage", "delete", "Room", "blue", "count")
    listed = json.loads(run(filled, "storage", "list", "Room", "blue", "--json"))
    assert listed == [{"key": "seat", "value": {"row": 1}}]
    assert run(filled, "sql", "Room", "blue", "INSERT INTO guests VALUES ('Bob')") == ""
    found = json.loads(run(filled, "sql", "Room", "blue", "SELECT name FROM guests", "--json"))
    assert found == [{"name": "Ada"}, {"name": "Bob"}]


def test_a_history_is_asked_for(filled: Path) -> None:
    def told(*words: str) -> list[float]:
        (found,) = json.loads(run(filled, "history", "Room", *words, "--json"))
        assert found["namespace"] == "Room"
        return [found["days"], found["megabytes"]]

    assert told() == [0, 0]
    assert told("--days", "7") == [7, 256]
    assert told("--megabytes", "10") == [30, 10]
    assert told("--days", "0") == [0, 256]
    assert told() == [0, 256]


def test_mistakes_are_said(filled: Path) -> None:
    assert "Did you mean 'Room'?" in run(filled, "list", "Rooms", code=1)
    assert "Did you mean 'Room'?" in run(filled, "storage", "list", "Rom", "blue", code=1)
    assert "no object" in run(filled, "storage", "list", "Room", "red", code=1)
    assert "no key" in run(filled, "storage", "get", "Room", "blue", "x", code=1)
    assert "not JSON" in run(filled, "storage", "put", "Room", "blue", "x", "{", code=2)
    assert "no such table" in run(filled, "sql", "Room", "blue", "SELECT * FROM x", code=1)
    assert "no process runs" in run(filled, "alarms", "fire", "Room", "blue", code=1)


@pytest.mark.parametrize(
    ("kind", "key", "value", "told"),
    [
        ("new_classes", "k" * 2049, "1", "Keys cannot be larger than 2048 bytes"),
        ("new_classes", "k" * 2048, "1", None),
        ("new_classes", "k", json.dumps("v" * 131_107), "Values cannot be larger than 131072"),
        ("new_classes", "k", json.dumps("v" * 131_072), None),
        ("new_sqlite_classes", "k" * 2049, "1", None),
        ("new_sqlite_classes", "k", json.dumps("v" * (2**21 - 3)), None),
        ("new_sqlite_classes", "k", json.dumps("v" * (2**21 - 2)), "SQLITE_TOOBIG"),
    ],
)
def test_the_limits_are_those_of_the_class(
    filled: Path, kind: str, key: str, value: str, told: str | None
) -> None:
    config = filled / "wrangler.toml"
    config.write_text(f'name = "w"\nmain = "e.py"\n[[migrations]]\ntag = "v1"\n{kind} = ["Room"]\n')
    # What is longer than a word on a command line can be comes from a file.
    (filled / "value").write_text(value)
    put = ("storage", "put", "Room", "blue", key, "--path", str(filled / "value"))
    said = run(filled, *put, "--config", str(config), code=0 if told is None else 1)
    assert (told or "") in said
    if told is None:
        assert run(filled, "storage", "get", "Room", "blue", key) == f"{value}\n"


async def test_all_of_it_beside_a_running_program(filled: Path) -> None:
    import asyncio

    async with bunflare.open(filled) as state:
        room = state.durable_objects(Room).get_by_name("blue")
        assert (await room.look())["count"] == 3
        await asyncio.to_thread(run, filled, "storage", "put", "Room", "blue", "count", "4")
        assert (await room.look())["count"] == 4
        await asyncio.to_thread(run, filled, "alarms", "fire", "Room", "blue")
        assert (await room.look())["rang"] is True
