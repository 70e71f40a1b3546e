"""What a write function sees of its transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.store.session import TransactionSession
from bunflare.store.transaction import Transaction


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (x PRIMARY KEY)")
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


@pytest.fixture
def tx(connection: apsw.Connection) -> Transaction:
    return Transaction(connection)


def add(tx: Transaction, value: object) -> None:
    tx.run("INSERT INTO t VALUES (?)", (value,))


def values(tx: Transaction) -> list[object]:
    return [row[0] for row in tx.all("SELECT x FROM t ORDER BY x")]


def test_its_verbs_read_what_they_have_written(tx: Transaction) -> None:
    add(tx, 1)
    assert tx.one("INSERT INTO t VALUES (2) RETURNING x") == (2,)
    assert tx.all("INSERT INTO t VALUES (3), (4) RETURNING x") == [(3,), (4,)]
    assert tx.one("SELECT x FROM t WHERE x > 9") is None
    assert tx.hot("SELECT x FROM t WHERE x = ?", (4,)) == (4,)
    assert values(tx) == [1, 2, 3, 4]


def test_a_savepoint_is_all_or_nothing(tx: Transaction) -> None:
    add(tx, 1)
    tx.after(lambda: None)
    tx.forget("a", ())

    def half() -> None:
        with tx.savepoint():
            add(tx, 2)
            tx.after(lambda: None)
            tx.forget("b", ())
            with tx.savepoint():
                add(tx, 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert values(tx) == [1]
    assert len(tx.afterwards) == 1
    assert [query for query, _ in tx.stale] == [("a", ())]
    with tx.savepoint():
        add(tx, 4)
        tx.forget("c", ())
    assert values(tx) == [1, 4]
    assert [query for query, _ in tx.stale] == [("a", ()), ("c", ())]


def test_whether_something_was_changed_is_known(tx: Transaction) -> None:
    add(tx, 1)
    mark = tx.mark()
    tx.all("SELECT * FROM t")
    with pytest.raises(apsw.ConstraintError):
        tx.run("INSERT INTO t VALUES (2), (1)")
    tx.run("DELETE FROM t WHERE x = 9")
    assert not tx.changed_since(mark)
    add(tx, 2)
    assert tx.changed_since(mark)


def test_after_sqlite_has_undone_it_no_savepoint_begins_anew(
    connection: apsw.Connection, tx: Transaction
) -> None:
    add(tx, 1)
    connection.execute("ROLLBACK")

    def go_on() -> None:
        with tx.savepoint():
            add(tx, 2)

    assert not tx.open
    with pytest.raises(bunflare.DatabaseError, match="undone"):
        go_on()
    assert connection.execute("SELECT * FROM t").fetchall() == []


def test_when_it_is_finished_it_says_why(tx: Transaction) -> None:
    tx.finish("because of a test")
    for use in (lambda: add(tx, 1), lambda: tx.one("SELECT 1"), lambda: tx.all("SELECT 1")):
        with pytest.raises(bunflare.StateError, match="because of a test"):
            use()


async def test_a_session_in_it_fails_with_errors_of_ours_and_undoes_what_failed(
    tx: Transaction,
) -> None:
    session = TransactionSession(tx, Path("data.sqlite"))

    def twice(tx: Transaction) -> None:
        add(tx, 2)
        add(tx, 2)

    await session.write(add, 1)
    with pytest.raises(bunflare.DatabaseError, match="UNIQUE"):
        await session.write(twice)
    assert await session.write(values, heavy=True) == [1]
    assert session.view.one("SELECT count(*) FROM t") == (1,)
