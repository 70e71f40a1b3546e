"""Statements of a Durable Object that find no end of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectError, DurableObjectReset
from bunflare.bindings.object_care import ObjectCare

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


class Box(DurableObject):
    async def prepare(self) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        await self.ctx.storage.put("key", "before")

    async def run(self, query: str) -> Any:
        self.ctx.storage.sql.exec("INSERT INTO t VALUES (2)")
        await self.ctx.storage.put("key", "after")
        return self.ctx.storage.sql.exec(query).to_array()

    async def look(self) -> Any:
        rows = self.ctx.storage.sql.exec("SELECT a FROM t").raw().to_array()
        return [rows, await self.ctx.storage.get("key")]


@pytest.mark.parametrize("query", [ENDLESS, f"INSERT INTO t {ENDLESS}", f"SELECT 1; {ENDLESS}"])
async def test_the_object_is_reset_and_nothing_of_the_event_is_kept(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    boxes = state.durable_objects(Box)
    box, other = boxes.get_by_name("one"), boxes.get_by_name("other")
    await box.prepare()
    await other.prepare()
    monkeypatch.setattr("bunflare.store.object_guard.LONGEST", 0.05)
    with pytest.raises(DurableObjectReset, match="exceeded timeout"):
        await box.run(query)
    assert await box.look() == [[[1]], "before"]
    assert await other.look() == [[[1]], "before"]


async def test_who_looks_after_objects_is_told_too(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bunflare.open(directory) as state:
        stub = state.durable_objects(Box).get_by_name("one")
        await stub.prepare()
        digits = str(stub.id)
    async with bunflare.open(directory) as state:
        monkeypatch.setattr("bunflare.store.object_guard.LONGEST", 0.05)
        care = ObjectCare(state.database, state.clock)
        with pytest.raises(DurableObjectError, match="run for too long"):
            care.sql("Box", digits, f"INSERT INTO t VALUES (3); {ENDLESS}")
        assert care.sql("Box", digits, "SELECT a FROM t")[1] == [(1,)]
