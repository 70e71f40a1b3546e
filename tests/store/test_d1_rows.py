"""Several rows for the one of a statement: only where it is certain what they look like."""

from __future__ import annotations

from typing import Any

import pytest

from bunflare.store.d1_rows import runs

ROWS = [(number, str(number)) for number in range(27)]


@pytest.mark.parametrize(
    ("sql", "wide"),
    [
        ("INSERT INTO t VALUES (?, ?)", "INSERT INTO t VALUES (?, ?)" + ", (?, ?)" * 7),
        (
            ' insert into\n"a t"( [a b] , `c`)values\t(?,?) ;\n',
            ' insert into\n"a t"( [a b] , `c`)values\t(?,?)' + ", (?,?)" * 7,
        ),
    ],
)
def test_rows_are_put_together_by_eights(sql: str, wide: str) -> None:
    (first, many), (second, rest) = runs(sql, ROWS)
    assert (first, second) == (wide, sql)
    assert [len(one) for one in many] == [16, 16, 16]
    assert [value for one in (*many, *rest) for value in one] == [
        value for row in ROWS for value in row
    ]
    assert list(rest) == ROWS[24:]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?, ?) RETURNING a",
        "INSERT INTO t VALUES (?, ?) ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (?, ?), (?, ?)",
        "INSERT INTO t VALUES (?1, ?2)",
        "INSERT INTO t VALUES (?, :a)",
        "INSERT INTO t VALUES (?, ? + 1)",
        "INSERT INTO t VALUES (?, '?')",
        "INSERT INTO t VALUES (?, ?) -- , (?, ?)",
        "INSERT INTO t (a, b /* (?) VALUES */) VALUES (?, ?)",
        "INSERT INTO t VALUES (?, ?); DELETE FROM t",
        'INSERT INTO "a""b" VALUES (?, ?)',
        "INSERT OR IGNORE INTO t VALUES (?, ?)",
        "INSERT INTO t SELECT ?, ?",
        "INSERT INTO main.t VALUES (?, ?)",
        "INSERT INTO tä VALUES (?, ?)",
        "WITH x AS (SELECT 1) INSERT INTO t VALUES (?, ?)",
        "REPLACE INTO t VALUES (?, ?)",
        f"INSERT INTO t VALUES{' ' * 4000}(?, ?)",
    ],
)
def test_other_statements_stay_as_they_are(sql: str) -> None:
    assert runs(sql, ROWS) == ((sql, ROWS),)


@pytest.mark.parametrize(
    "rows", [ROWS[:3], [*ROWS, (1,)], [*ROWS, (1,), (1, 2, 3)], [(*row, 1) for row in ROWS], []]
)
def test_few_rows_stay_as_they_are_and_those_of_other_lengths(rows: list[tuple[Any, ...]]) -> None:
    sql = "INSERT INTO t (a, b) VALUES (?, ?)"
    assert runs(sql, rows) == ((sql, rows),)


def test_no_statement_has_more_parameters_than_sqlite_takes() -> None:
    for values, count in ((12, 2), (13, 1)):
        sql = f"INSERT INTO t VALUES ({', '.join('?' * values)})"
        assert len(runs(sql, [tuple(range(values))] * 24)) == count
