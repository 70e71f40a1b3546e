"""The platform's cron dialect, and triggers that fire by the clock."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bunflare
from bunflare.config import load_config
from bunflare.errors import WorkerError
from bunflare.runtime.cron import Cron
from bunflare.runtime.program import Program
from bunflare.runtime.services import unknown
from bunflare.runtime.worker import Worker

# A Thursday.
START = datetime(2026, 1, 1, tzinfo=UTC)


def times(expression: str, count: int) -> list[str]:
    cron, now = Cron(expression), int(START.timestamp()) * 1000 - 1
    found = []
    for _ in range(count):
        next_ = cron.next_after(now)
        assert next_ is not None
        now = next_
        found.append(datetime.fromtimestamp(now / 1000, UTC).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/30 * * * *", ["01-01 00:00", "01-01 00:30", "01-01 01:00"]),
        ("15 3,5 * * *", ["01-01 03:15", "01-01 05:15", "01-02 03:15"]),
        # The days of the week count from 1 = Sunday.
        ("0 0 * * 1", ["01-04 00:00", "01-11 00:00"]),
        ("0 0 * * sun", ["01-04 00:00", "01-11 00:00"]),
        ("0 0 * * MON-FRI", ["01-01 00:00", "01-02 00:00", "01-05 00:00"]),
        ("0 0 * * FRI-MON", ["01-02 00:00", "01-03 00:00", "01-04 00:00", "01-05 00:00"]),
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00"]),
        ("0 0 L-1 * *", ["01-30 00:00", "02-27 00:00"]),
        ("0 0 LW * *", ["01-30 00:00", "02-27 00:00"]),
        ("0 0 L-3W * *", ["01-28 00:00", "02-25 00:00"]),
        ("0 0 1W FEB *", ["02-02 00:00"]),
        ("0 0 * * 2#1", ["01-05 00:00", "02-02 00:00"]),
        ("0 0 * * 6L", ["01-30 00:00", "02-27 00:00"]),
        ("59 23 31 12 *", ["12-31 23:59"]),
        # Both restricted: either is enough.
        ("0 0 10 * 1", ["01-04 00:00", "01-10 00:00", "01-11 00:00"]),
    ],
)
def test_an_expression_is_due_when_the_platform_says(expression: str, expected: list[str]) -> None:
    assert times(expression, len(expected)) == expected


@pytest.mark.parametrize(
    "wrong", ["* * * *", "60 * * * *", "* * * * 0", "* * * * 8", "*/0 * * * *"]
)
def test_what_is_no_expression_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(WorkerError, match="cron"):
        Cron(wrong)


def test_a_day_that_never_comes_is_never_due() -> None:
    assert Cron("0 0 31 2 *").next_after(0) is None


async def test_triggers_fire_as_the_clock_moves(
    tmp_path: Path, state: bunflare.State, clock: bunflare.ManualClock
) -> None:
    (tmp_path / "entry.py").write_text(
        textwrap.dedent("""
        from workers import WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def scheduled(self, controller, env):
                seen = await env.KV.get(controller.cron) or ""
                told = f"{controller.cron}@{controller.scheduledTime};"
                await env.KV.put(controller.cron, seen + told)
                if controller.cron == "fail":
                    raise ZeroDivisionError
        """)
    )
    (tmp_path / "wrangler.toml").write_text(
        'name = "t"\nmain = "entry.py"\nkv_namespaces = [{ binding = "KV" }]\n'
        'triggers = { crons = ["*/10 * * * *", "0 * * * *"] }\n'
    )
    config = load_config(tmp_path / "wrangler.toml")

    def find(name: str) -> Worker:
        raise unknown(name, {})

    worker = Worker(config, state, find, Program(config, state.caches, resident=False))
    start = clock.now()
    await clock.advance(minutes=11)
    minute = 60_000
    assert await state.kv("KV").get("*/10 * * * *") == f"*/10 * * * *@{start + 10 * minute};"
    await clock.advance(minutes=50)
    assert str(await state.kv("KV").get("*/10 * * * *")).count("*/10") == 6
    hourly = await state.kv("KV").get("0 * * * *")
    assert hourly == f"0 * * * *@{start + 60 * minute};"
    with pytest.raises(ZeroDivisionError):
        await worker.scheduled("fail")
    await worker.close(1)
