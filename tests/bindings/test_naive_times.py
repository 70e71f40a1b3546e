"""Datetimes without a zone are local time everywhere, as Dates are in a Worker's Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import bunflare
from bunflare import DurableObject, ManualClock
from bunflare.bindings.workflow_options import moment_ms


@pytest.fixture(autouse=True)
def _tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def naive(clock: ManualClock) -> datetime:
    local = datetime.fromtimestamp(clock.now() / 1000)
    assert local == datetime.fromtimestamp(clock.now() / 1000, UTC).replace(
        tzinfo=None
    ) + timedelta(hours=9)
    return local


async def test_a_state_of_a_d1_database_is_found_by_local_time(
    state: bunflare.State, clock: ManualClock
) -> None:
    db = state.d1("shop")
    await db.exec("CREATE TABLE t (a)")
    await clock.advance(minutes=1)
    local, text = naive(clock), datetime.fromtimestamp(clock.now() / 1000, UTC).isoformat()
    await clock.advance(minutes=1)
    await db.exec("INSERT INTO t VALUES (1)")
    assert await db.bookmark(local) == await db.bookmark(text)
    # A text without a zone is UTC, as on the command line.
    assert await db.bookmark(local) == await db.bookmark(text.removesuffix("+00:00"))
    await db.restore(local)
    assert await db.prepare("SELECT * FROM t").raw() == []


class Bell(DurableObject):
    async def set(self, when: datetime) -> int | None:
        await self.ctx.storage.set_alarm(when)
        return await self.ctx.storage.get_alarm()

    async def alarm(self) -> None:
        pass


async def test_an_alarm_is_set_in_local_time(state: bunflare.State, clock: ManualClock) -> None:
    bell = state.durable_objects(Bell).get_by_name("tower")
    assert await bell.set(naive(clock) + timedelta(hours=1)) == clock.now() + 3_600_000


async def test_a_condition_of_r2_is_in_local_time(
    state: bunflare.State, clock: ManualClock
) -> None:
    bucket = state.r2("files")
    await bucket.put("key", "value")
    before, after = (naive(clock) + timedelta(minutes=one) for one in (-1, 1))
    assert await bucket.put("key", "1", only_if={"uploaded_after": after}) is None
    assert await bucket.put("key", "2", only_if={"uploaded_after": before}) is not None


async def test_a_header_of_r2_is_in_utc(state: bunflare.State, clock: ManualClock) -> None:
    bucket = state.r2("files")
    await bucket.put("key", "value")
    late = datetime.fromtimestamp(clock.now() / 1000, UTC) + timedelta(hours=1)
    for zone in ("GMT", "-0000"):
        headers = bunflare.Headers(
            {"If-Modified-Since": late.strftime(f"%a, %d %b %Y %H:%M:%S {zone}")}
        )
        found = await bucket.get("key", only_if=headers)
        assert not hasattr(found, "body")


def test_a_step_sleeps_until_a_local_time(clock: ManualClock) -> None:
    assert moment_ms(naive(clock)) == clock.now()
