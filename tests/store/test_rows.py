"""Rows that are written together are those that are written one by one."""

from __future__ import annotations

import apsw
import pytest

from bunflare.store.rows import RowStatement
from bunflare.store.transaction import Transaction

PUT = RowStatement(
    "INSERT INTO t (key, value) VALUES",
    "(?, ?)",
    "ON CONFLICT DO UPDATE SET value = excluded.value",
)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 32, 50])
def test_all_rows_are_written_in_their_order(count: int) -> None:
    connection = apsw.Connection("")
    connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value INTEGER)")
    # Some keys come twice, also within one statement: the last value stays.
    rows = [(f"key{number % 11}", number) for number in range(count)]
    PUT.run(Transaction(connection), rows)
    found = connection.execute("SELECT key, value FROM t ORDER BY key").fetchall()
    assert found == sorted(dict(rows).items())
    assert connection.total_changes() == count
