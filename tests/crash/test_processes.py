"""Several processes on one directory: no errors, nothing lost, everybody gets a turn."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bunflare
from tests.crash.contender import SELDOM
from tests.crash.victims import Ledger, executioner, seed_of_the_day
from tests.support import Child, child

LONG = os.environ.get("BUNFLARE_CRASH") == "long"
SECONDS = 60.0 if LONG else 5.0
# In milliseconds, and of which waits. On a machine that does other things besides, the scheduler
# adds waits of its own, and a disk that stands still for once keeps all processes waiting alike: so
# nobody may wait for much longer than the others do.
LONGEST_WAIT, OF = (250, "longest") if LONG else (1000, "p99")

PROGRAM = (Path(__file__).parent / "contender.py").read_text()


def started(stack: ExitStack, directory: Path, processes: int, seconds: float) -> list[Child]:
    """Contenders that have the directory open, and begin together."""
    contenders = [
        stack.enter_context(child(PROGRAM, directory, me, processes, seconds))
        for me in range(processes)
    ]
    for contender in contenders:
        assert contender.line() == "ready"
    for contender in contenders:
        contender.tell("go")
    return contenders


def reported(contenders: list[Child], seconds: float) -> list[dict[str, Any]]:
    """What they saw. One that met an error has ended instead."""
    reports = [json.loads(contender.line(seconds)) for contender in contenders]
    for contender in contenders:
        assert contender.process.wait(30) == 0
    return reports


def show(reports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"  {json.dumps(report)}\n" for report in reports)
    if LONG:
        with capsys.disabled():
            sys.stderr.write(f"\n{text}")
    else:
        sys.stderr.write(text)  # shown when the test fails


async def nothing_is_lost(state: bunflare.State, reports: list[dict[str, Any]]) -> None:
    kv = state.kv("shared")
    for me, report in enumerate(reports):
        assert await kv.get(f"counter{me}") == str(report["rounds"] - 1)
        own = [key.name async for key in kv.scan(prefix=f"own{me}.")]
        numbers = range(SELDOM, SELDOM * (report["own"] + 1), SELDOM)
        assert set(own) == {f"own{me}.{number}" for number in numbers}
        for name in own:
            assert await kv.get(name) == name.split(".")[1]
    assert int(await kv.get("total")) == sum(report["own"] for report in reports)
    assert state.database.view.all("PRAGMA integrity_check") == [("ok",)]


def everybody_had_turns(reports: list[dict[str, Any]]) -> None:
    fair = sum(report["writes"] for report in reports) / len(reports)
    # Where the disk is slow, a fair turn takes its time.
    usual = statistics.median(report["put"]["p50"] for report in reports)
    others = statistics.median(report["put"][OF] for report in reports)
    longest = LONGEST_WAIT if LONG else max(LONGEST_WAIT, 10 * usual, 5 * others)
    for report in reports:
        # Where there are few, chance is what makes some of the difference.
        assert report["writes"] >= fair / 2 - 2 * math.sqrt(fair)
        assert report["put"][OF] < longest
        assert report["put"]["longest"] < 10 * longest
        assert report["logged"] == [0]


@pytest.mark.parametrize("processes", [2, 8])
async def test_processes_that_write_and_read_at_once_lose_nothing_and_take_turns(
    directory: Path, processes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        reports = reported(started(stack, directory, processes, SECONDS), SECONDS)
    show(reports, capsys)
    async with bunflare.open(directory) as state:
        await nothing_is_lost(state, reports)
    everybody_had_turns(reports)


async def test_processes_that_are_killed_do_not_disturb_the_others(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They die with the write lock, half a commit in the log, or a checkpoint under way."""
    seconds = SECONDS / 2
    ledger = Ledger()
    kills = 0
    with ExitStack() as stack:
        killer = stack.enter_context(executioner(random.Random(seed_of_the_day())))
        contenders = started(stack, directory, 2, seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end or kills <= 5:
            killer.run(directory, ledger)
            kills += 1
        reports = reported(contenders, seconds)
    show(reports, capsys)
    async with bunflare.open(directory) as state:
        await nothing_is_lost(state, reports)
        await ledger.check(state)
    everybody_had_turns(reports)
