"""Looking after a whole state: what one is told while that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import bunflare
from bunflare import ManualClock
from bunflare.bindings.d1_care import D1Care
from bunflare.bindings.r2_buckets import R2Buckets
from bunflare.store import figures, snapshots


async def test_comparing_tells_how_far_it_is(state: bunflare.State) -> None:
    await state.d1("shop").exec("CREATE TABLE t (a)")
    await state.snapshot("before")
    await state.kv("A").put("key", "value")
    told: list[tuple[int, int]] = []
    found = await state.diff("before", progress=lambda done, whole: told.append((done, whole)))
    assert [(one.change, one.name, one.key) for one in found] == [("added", "A", "key")]
    wholes = {whole for _, whole in told}
    assert [done for done, _ in told] == list(range(*wholes))


async def test_pruning_tells_how_much_it_has_removed(
    state: bunflare.State, clock: ManualClock
) -> None:
    keys = [{"key": f"key{one}", "value": "", "expiration_ttl": 60} for one in range(450)]
    await state.kv("A").put_many(keys)
    clock.set(clock.now() + 61_000)
    told: list[int] = []
    assert (await state.prune(progress=told.append)).keys == 450
    assert told == [200, 400, 450]


# -- what others remove in the middle of a look ------------------------------------------------


async def test_a_database_that_goes_is_not_listed(state: bunflare.State) -> None:
    await state.d1("shop").exec("CREATE TABLE t (a)")
    (state.directory / "d1/gone.sqlite").symlink_to("nowhere")
    assert list(D1Care(state.directory).sizes()) == ["shop"]


async def test_a_bucket_that_goes_is_not_listed(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.r2("files").put("a", "1")
    (state.directory / "r2/gone").mkdir()
    look = Path.iterdir

    def late(path: Path) -> Iterator[Path]:
        if path.name == "gone":
            path.rmdir()
        return look(path)

    monkeypatch.setattr(Path, "iterdir", late)
    assert R2Buckets(state.database, state.clock).names() == ["files"]


async def test_a_snapshot_that_goes_is_not_listed(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "there"):
        await state.snapshot(name)
    look = snapshots.about

    def late(path: Path) -> snapshots.About:
        if path.name == "gone":
            shutil.rmtree(path)
        return look(path)

    monkeypatch.setattr(snapshots, "about", late)
    assert [one.name for one in await state.snapshots()] == ["there"]


async def test_a_body_that_goes_is_not_counted(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bunflare.Response("x" * 2_000_000, headers={"cache-control": "max-age=60"})
    await state.caches.default.put("https://example.com/", kept)
    (state.database.directory.cache_bodies / "gone").write_text("x")
    look = figures._size

    def late(path: str) -> int:
        if path.endswith("/gone"):
            Path(path).unlink()
        return look(path)

    monkeypatch.setattr(figures, "_size", late)
    assert (await state.info()).cache_size == 2_000_000
