"""What several runs record at once: each entry is taken or refused by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store import workflow_log as log
from bunflare.store import workflows as store


def entry(instance: str, run: int, at: int = 1) -> log.Entry:
    return instance, run, 1, "step_completed", "s", 1, None, None, 1, at, at, None, "1", None


async def test_a_run_that_is_over_and_a_value_that_does_not_fit_harm_no_others(
    tmp_path: Path,
) -> None:
    async with bunflare.open(tmp_path / "state") as state:

        def create(tx: Any) -> None:
            for key in "abcd":
                values = ("W", "{}", "running", 1, 7, None, None, None, None)
                assert store.create(tx, "W", key, values) == key

        await state.database.write(create)
        entries = [entry("a", 7), entry("b", 6), entry("c", 7, 2**70), entry("d", 7)]
        told = await state.database.write(log.record_all, entries)
        assert told[:2] == [True, False]
        assert isinstance(told[2], OverflowError)
        assert told[3] is True
        assert [len(log.entries(state.database.view, key)) for key in "abcd"] == [1, 0, 0, 1]
        assert await state.database.write(log.record, entry("b", 6)) is False
        with pytest.raises(OverflowError):
            await state.database.write(log.record, entry("c", 7, 2**70))
        # A number that the log has is a mistake of ours, and not that of a run that is over.
        with pytest.raises(bunflare.DatabaseError):
            await state.database.write(log.record, entry("a", 7))
