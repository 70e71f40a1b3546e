"""Steps of each system's schema: taken once, in order, as a whole, by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest

from bunflare.store.directory import FORMAT_VERSION
from bunflare.store.schema import Schema, add_columns, is_current, migrate
from bunflare.store.systems import SCHEMAS
from bunflare.store.transaction import Transaction


@pytest.fixture
def tx() -> Iterator[Transaction]:
    connection = apsw.Connection(":memory:")
    yield Transaction(connection)
    connection.close()


def versions(tx: Transaction) -> dict[str, int]:
    return dict(tx.all("SELECT system, version FROM bunflare_versions"))


def tables(tx: Transaction) -> set[str]:
    return {row[0] for row in tx.all("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_empty_file_is_brought_to_the_present_form(tx: Transaction) -> None:
    assert not is_current(tx, SCHEMAS)
    migrate(tx, SCHEMAS)
    assert is_current(tx, SCHEMAS)
    assert tx.one("PRAGMA user_version") == (FORMAT_VERSION,)
    assert versions(tx) == {schema.system: len(schema.steps) for schema in SCHEMAS}
    before = tx.all("SELECT * FROM sqlite_master")
    migrate(tx, SCHEMAS)
    assert tx.all("SELECT * FROM sqlite_master") == before


def test_each_system_has_its_name_and_tables_for_itself() -> None:
    names = [schema.system for schema in SCHEMAS]
    assert len(set(names)) == len(names)
    assert all(schema.steps for schema in SCHEMAS)


def test_steps_are_taken_in_order_and_never_again(tx: Transaction) -> None:
    taken: list[str] = []

    def noted(name: str) -> None:
        taken.append(name)

    one = Schema("one", ("CREATE TABLE a (x)", lambda _: noted("one.2")))
    two = Schema("two", (lambda _: noted("two.1"),))
    migrate(tx, [one, two])
    assert taken == ["one.2", "two.1"]
    migrate(tx, [one, two])
    assert taken == ["one.2", "two.1"]
    longer = Schema("one", (*one.steps, "INSERT INTO a VALUES (1)", lambda _: noted("one.4")))
    assert not is_current(tx, [longer, two])
    migrate(tx, [longer, two])
    assert taken == ["one.2", "two.1", "one.4"]
    assert tx.all("SELECT x FROM a") == [(1,)]
    assert versions(tx) == {"one": 4, "two": 1}
    # An older program of the same format finds nothing to do, and forgets nothing.
    assert is_current(tx, [one, two])
    migrate(tx, [one, two])
    assert versions(tx) == {"one": 4, "two": 1}


@pytest.mark.parametrize(
    "damage",
    [
        "PRAGMA user_version = 0",
        "DROP TABLE bunflare_versions",
        "DELETE FROM bunflare_versions WHERE system = 'kv'",
    ],
)
def test_a_file_is_not_current_while_anything_is_missing(tx: Transaction, damage: str) -> None:
    migrate(tx, SCHEMAS)
    tx.run("INSERT INTO kv (namespace, key, value) VALUES ('A', 'key', 'value')")
    tx.run(damage)
    assert not is_current(tx, SCHEMAS)
    migrate(tx, SCHEMAS)
    assert is_current(tx, SCHEMAS)
    assert tx.all("SELECT key FROM kv") == [("key",)]


def test_looking_whether_a_file_is_current_takes_no_lock(tx: Transaction) -> None:
    migrate(tx, SCHEMAS)
    tx.run("PRAGMA query_only = 1")
    assert is_current(tx, SCHEMAS)


def test_only_columns_that_are_missing_are_added(tx: Transaction) -> None:
    tx.run("CREATE TABLE t (a, theirs TEXT DEFAULT 'x')")
    tx.run("INSERT INTO t (a) VALUES (1)")
    for _ in range(2):
        add_columns(tx, "t", theirs="INTEGER", ours="INTEGER DEFAULT 7")
    described = [row[1:5] for row in tx.all("PRAGMA table_info(t)")]
    assert described == [
        ("a", "", 0, None),
        ("theirs", "TEXT", 0, "'x'"),
        ("ours", "INTEGER", 0, "7"),
    ]
    assert tx.all("SELECT * FROM t") == [(1, "x", 7)]


def test_migrating_a_half_migrated_file_of_another_program_keeps_its_tables(
    tx: Transaction,
) -> None:
    tx.run("CREATE TABLE kv_of_another (x); CREATE TABLE kv (namespace, key, value, more)")
    with pytest.raises(apsw.Error):
        # A table that only has the name of ours cannot be used, and is not replaced.
        migrate(tx, SCHEMAS)
    assert {"kv_of_another", "kv"} <= tables(tx)
