"""Migrations of Durable Object classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject, DurableObjectError
from bunflare.bindings import object_migrations
from bunflare.bindings.object_migrations import apply_exports, apply_migrations
from bunflare.config import MigrationConfig, RenamedClass, TransferredClass
from bunflare.config_rules import ExportConfig


class Old(DurableObject):
    async def fill(self) -> str:
        await self.ctx.storage.put("key", 1)
        self.ctx.storage.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (2)")
        return str(self.ctx.id)

    async def look(self) -> list[Any]:
        tables = self.ctx.storage.sql.exec("SELECT name FROM sqlite_schema WHERE name = 't'")
        found = [row["name"] for row in tables]
        return [str(self.ctx.id), await self.ctx.storage.get("key"), found]


_RENAME = MigrationConfig("v2", renamed_classes=(RenamedClass("Old", "New"),))


async def _fill(directory: Path) -> str:
    async with bunflare.open(directory) as state:
        digits: str = await state.durable_objects(Old).get_by_name("a").fill()
        return digits


async def _look(directory: Path, namespace: str) -> list[Any]:
    async with bunflare.open(directory) as state:
        found: list[Any] = await state.durable_objects(Old, namespace).get_by_name("a").look()
        return found


async def _apply(directory: Path, *migrations: MigrationConfig) -> list[str]:
    async with bunflare.open(directory) as state:
        return await apply_migrations(state.database, "worker", migrations, 1)


async def test_a_renamed_class_keeps_its_objects_and_their_ids(tmp_path: Path) -> None:
    digits = await _fill(tmp_path)
    assert await _apply(tmp_path, MigrationConfig("v1"), _RENAME) == ["v1", "v2"]
    assert await _look(tmp_path, "New") == [digits, 1, ["t"]]
    # The old name is free, for other objects.
    other, *content = await _look(tmp_path, "Old")
    assert content == [None, []]
    assert other != digits


async def test_each_is_applied_once(tmp_path: Path) -> None:
    await _fill(tmp_path)
    assert await _apply(tmp_path, _RENAME) == ["v2"]
    await _fill(tmp_path)
    assert await _apply(tmp_path, _RENAME) == []
    assert (await _look(tmp_path, "Old"))[1:] == [1, ["t"]]


async def test_a_deleted_class_loses_everything(tmp_path: Path) -> None:
    await _fill(tmp_path)
    await _apply(tmp_path, MigrationConfig("v3", deleted_classes=("Old",)))
    assert not (tmp_path / "do-sql" / "Old").exists()
    assert (await _look(tmp_path, "Old"))[1:] == [None, []]


async def test_a_transferred_class_comes_under_its_new_name(tmp_path: Path) -> None:
    digits = await _fill(tmp_path)
    moved = MigrationConfig("v4", transferred_classes=(TransferredClass("Old", "other", "New"),))
    await _apply(tmp_path, moved)
    assert await _look(tmp_path, "New") == [digits, 1, ["t"]]


async def test_what_a_crash_leaves_is_done_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = await _fill(tmp_path)

    async def crash(_: object) -> None:
        raise KeyError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(object_migrations, "_move", crash)
        with pytest.raises(KeyError):
            await _apply(tmp_path, _RENAME)
    assert (tmp_path / "do-sql" / "Old").exists()
    async with bunflare.open(tmp_path) as state:
        found = await state.check()
        assert found.problems == ()
        assert ("moving", "New") in {(one.kind, one.name) for one in found.notes}
    await _apply(tmp_path, _RENAME)
    assert await _look(tmp_path, "New") == [digits, 1, ["t"]]


_LIVE = ExportConfig("durable-object", storage="sqlite")
_RENAMED = ExportConfig("durable-object", state="renamed", renamed_to="New")
_DELETED = ExportConfig("durable-object", state="deleted")


async def _export(directory: Path, **exports: ExportConfig) -> None:
    async with bunflare.open(directory) as state:
        await apply_exports(state.database, exports)


async def test_objects_follow_what_the_configuration_says_of_their_class(tmp_path: Path) -> None:
    await _export(tmp_path, Old=_RENAMED, New=_LIVE)
    digits = await _fill(tmp_path)
    for _ in range(2):
        await _export(tmp_path, Old=_RENAMED, New=_LIVE)
        assert await _look(tmp_path, "New") == [digits, 1, ["t"]]
    theirs = ExportConfig("durable-object", state="transferred", transferred_to="other")
    await _export(tmp_path, New=theirs)
    assert (await _look(tmp_path, "New"))[1:] == [1, ["t"]]
    # As often as it is said of objects that are there.
    for _ in range(2):
        await _export(tmp_path, New=_DELETED)
        assert not (tmp_path / "do-sql" / "New").exists()
        async with bunflare.open(tmp_path) as state:
            again = state.durable_objects(Old, "New").get_by_name("a")
            assert (await again.look())[1:] == [None, []]
            await again.fill()


async def test_two_classes_do_not_become_one(tmp_path: Path) -> None:
    await _fill(tmp_path)
    async with bunflare.open(tmp_path) as state:
        await state.durable_objects(Old, "New").get_by_name("b").fill()
    with pytest.raises(DurableObjectError, match="Old cannot be renamed to New: both have objects"):
        await _export(tmp_path, Old=_RENAMED, New=_LIVE)
    assert (await _look(tmp_path, "Old"))[1:] == [1, ["t"]]
