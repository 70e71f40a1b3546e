"""What Durable Objects store: keys and values, transactions, SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectSqlError,
    DurableObjectStorage,
    DurableObjectTypeError,
    DurableObjectValueError,
)
from tests.support import PATIENCE

Work = Callable[[DurableObjectStorage], Awaitable[Any]]
Do = Callable[[Work], Awaitable[Any]]


class Box(DurableObject):
    """Runs what a test hands it inside the object."""

    async def do(self, work: Work) -> Any:
        return await work(self.ctx.storage)

    async def alarm(self) -> None:
        pass


@pytest.fixture
def do(state: bunflare.State) -> Do:
    stub = state.durable_objects(Box).get_by_name("box")

    async def do(work: Work) -> Any:
        return await stub.do(work)

    return do


async def test_values_survive_with_their_types_and_a_missing_key_is_none(do: Do) -> None:
    value = {"when": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\0", "set": {1}, "nan": 1.5}

    async def work(storage: DurableObjectStorage) -> None:
        await storage.put("key", value)
        assert await storage.get("key") == value
        assert await storage.get("missing") is None
        await storage.put("none", None)
        assert await storage.list(prefix="no") == {"none": None}

    await do(work)


async def test_what_get_gives_is_a_copy(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        mine = [1]
        await storage.put("key", mine)
        mine.append(2)
        (await storage.get("key")).append(3)
        assert await storage.get("key") == [1]

    await do(work)


async def test_several_keys_at_once(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        await storage.put({"b": 2, "a": 1, "c": 3})
        assert list((await storage.get(["c", "a", "x"])).items()) == [("a", 1), ("c", 3)]
        assert await storage.delete(["a", "x", "b"]) == 2
        assert await storage.delete("c") is True
        assert await storage.delete("c") is False
        assert await storage.list() == {}

    await do(work)


async def test_a_put_of_many_is_all_or_nothing_also_when_one_is_refused(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        with pytest.raises(TypeError):
            await storage.put({"a": 1, "b": lambda: 1})
        assert await storage.list() == {}

    await do(work)


async def test_listing(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        keys = ["a", "a1", "a2", "b", "é", "\U0001f600", "\uffff"]
        await storage.put({key: key for key in keys})
        await storage.sync()
        assert list(await storage.list()) == sorted(keys, key=str.encode)
        assert list(await storage.list(prefix="a")) == ["a", "a1", "a2"]
        assert list(await storage.list(start="a1", end="b")) == ["a1", "a2"]
        assert list(await storage.list(start_after="a1", limit=2)) == ["a2", "b"]
        assert list(await storage.list(reverse=True, limit=2)) == ["\U0001f600", "\uffff"]
        with pytest.raises(DurableObjectTypeError, match="both start and startAfter"):
            await storage.list(start="a", start_after="b")
        for option in ("start", "start_after", "end", "prefix"):
            for wrong in ("\ud800", 5):
                with pytest.raises(DurableObjectTypeError, match=f"^{option} "):
                    storage.kv.list(**{option: wrong})  # type: ignore[arg-type]
        with pytest.raises(DurableObjectTypeError, match="List limit must be positive."):
            await storage.list(limit=0)

    await do(work)


async def test_bad_keys_and_values_are_refused(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        with pytest.raises(DurableObjectTypeError):
            await storage.get(7)  # type: ignore[arg-type]
        with pytest.raises(DurableObjectTypeError, match="undefined value"):
            await storage.put("key")
        with pytest.raises(DurableObjectValueError, match="SQLITE_TOOBIG"):
            await storage.put("key", "x" * (2 * 1024 * 1024))
        with pytest.raises(DurableObjectTypeError):
            await storage.put("\ud800", 1)
        assert await storage.list() == {}

    await do(work)


async def test_all_is_done_when_it_is_called(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        storage.put("a", 1)
        storage.put({"b": 2, "c": 3})
        before = storage.get("a")
        storage.put("a", 4)
        deleted = storage.delete(["c", "x"])
        listed = storage.list()
        storage.put("d", 5)
        storage.set_alarm(10**15)
        assert await storage.get_alarm() == 10**15
        storage.delete_alarm()
        assert await asyncio.gather(before, deleted, listed, storage.get_alarm()) == [
            *(1, 1, {"a": 4, "b": 2}, None)
        ]
        # Any number of them, as whatever one takes them for.
        puts = [storage.put(key, key) for key in "efg"]
        assert await asyncio.gather(*puts, storage.put("h", "h")) == [None] * 4
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(storage.put(key, 0)) for key in "ab"]
            tasks.append(group.create_task(storage.get("e")))
        assert [task.result() for task in tasks] == [None, None, "e"]
        await asyncio.wait_for(storage.put("a", 6), PATIENCE)
        async with asyncio.TaskGroup() as group:
            group.create_task(storage.put("b", 7))
        done, _ = await asyncio.wait([asyncio.ensure_future(storage.put("c", 8))])
        assert [task.result() for task in done] == [None]
        values = {"a": 6, "b": 7, "c": 8, "d": 5} | {key: key for key in "efgh"}
        assert await storage.list() == values
        # What is wrong is said where one awaits.
        seven: Any = 7
        wrong = [storage.put("a"), storage.get(seven), storage.delete(seven), storage.list(limit=0)]
        found = await asyncio.gather(*wrong, storage.get("a"), return_exceptions=True)
        assert [isinstance(one, DurableObjectTypeError) for one in found] == [True] * 4 + [False]

        async def change(txn: bunflare.DurableObjectTransaction) -> None:
            txn.put("a", 9)
            txn.delete("b")

        await storage.transaction(change)
        del values["b"]
        assert await storage.list() == {**values, "a": 9}
        storage.delete_all()
        assert await storage.list() == {}

    await do(work)


async def test_all_is_there_after_a_restart(tmp_path: Path) -> None:
    async def write(storage: DurableObjectStorage) -> None:
        await storage.put("key", [1])
        storage.sql.exec("CREATE TABLE t (a)")
        storage.sql.exec("INSERT INTO t VALUES (?)", "row")

    async def read(storage: DurableObjectStorage) -> Any:
        return [await storage.get("key"), storage.sql.exec("SELECT a FROM t").one()]

    async with bunflare.open(tmp_path) as state:
        await state.durable_objects(Box).get_by_name("box").do(write)
    async with bunflare.open(tmp_path) as state:
        assert await state.durable_objects(Box).get_by_name("box").do(read) == [[1], {"a": "row"}]


async def test_the_table_is_the_seeds(state: bunflare.State, do: Do) -> None:
    await do(lambda storage: storage.put("key", {"a": 1}))
    rows = state.database.view.all("SELECT namespace, id, key, value FROM do_storage")
    digits = str(state.durable_objects(Box).id_from_name("box"))
    assert rows == [("Box", digits, "key", '{"a":1}')]


async def test_the_synchronous_interface_sees_the_same(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        storage.kv.put("a", 1)
        assert await storage.get("a") == 1
        await storage.put("b", 2)
        assert storage.kv.get("b") == 2
        assert list(storage.kv.list(reverse=True)) == [("b", 2), ("a", 1)]
        assert storage.kv.delete("a")
        assert not storage.kv.delete("a")

    await do(work)


# -- transactions ----------------------------------------------------------------------------


async def test_a_transaction_is_kept_or_undone_as_a_whole_sql_included(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a)")
        await storage.put("a", 0)

        async def good(txn: bunflare.DurableObjectTransaction) -> str:
            await txn.put("a", 1)
            sql.exec("INSERT INTO t VALUES (1)")
            return "done"

        async def bad(txn: bunflare.DurableObjectTransaction) -> None:
            await txn.put("a", 2)
            sql.exec("INSERT INTO t VALUES (2)")
            assert await txn.get("a") == 2
            raise ValueError("no")

        async def undone(txn: bunflare.DurableObjectTransaction) -> None:
            await txn.delete("a")
            sql.exec("DELETE FROM t")
            txn.rollback()

        assert await storage.transaction(good) == "done"
        with pytest.raises(ValueError, match="no"):
            await storage.transaction(bad)
        await storage.transaction(undone)
        assert await storage.get("a") == 1
        assert sql.exec("SELECT a FROM t").to_array() == [{"a": 1}]

    await do(work)


async def test_nothing_is_done_through_a_transaction_that_is_over(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        kept: list[bunflare.DurableObjectTransaction] = []

        async def undone(txn: bunflare.DurableObjectTransaction) -> None:
            await txn.put("a", 1)
            txn.rollback()
            txn.rollback()
            for call, attempt in (
                ("get", txn.get("a")),
                ("put", txn.put("a", 2)),
                ("delete", txn.delete("a")),
                ("list", txn.list()),
                ("getAlarm", txn.get_alarm()),
                ("setAlarm", txn.set_alarm(1)),
                ("deleteAlarm", txn.delete_alarm()),
            ):
                text = rf"^Cannot {call}\(\) on rolled back transaction$"
                with pytest.raises(DurableObjectError, match=text):
                    await attempt
            # The storage itself is no part of it any more.
            await storage.put("b", 3)

        async def keep(txn: bunflare.DurableObjectTransaction) -> None:
            kept.append(txn)

        async def fail(txn: bunflare.DurableObjectTransaction) -> None:
            kept.append(txn)
            raise ValueError("no")

        await storage.transaction(undone)
        assert await storage.list() == {"b": 3}
        await storage.transaction(keep)
        with pytest.raises(DurableObjectError, match=r"^Cannot call put\(\) on transaction"):
            await kept[0].put("c", 4)
        with pytest.raises(DurableObjectError, match=r"^Cannot call rollback\(\) on transaction"):
            kept[0].rollback()
        with pytest.raises(ValueError, match="no"):
            await storage.transaction(fail)
        with pytest.raises(DurableObjectError, match=r"^Cannot put\(\) on rolled back"):
            await kept[1].put("c", 4)
        assert await storage.list() == {"b": 3}

    await do(work)


async def test_transaction_sync(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        storage.sql.exec("CREATE TABLE t (a)")

        def inner() -> None:
            storage.kv.put("inner", 1)
            storage.sql.exec("INSERT INTO t VALUES ('inner')")
            raise ValueError("inner")

        def outer() -> str:
            storage.kv.put("outer", 1)
            storage.sql.exec("INSERT INTO t VALUES ('outer')")
            with pytest.raises(ValueError, match="inner"):
                storage.transaction_sync(inner)
            return "ok"

        assert storage.transaction_sync(outer) == "ok"
        assert await storage.list() == {"outer": 1}
        assert storage.sql.exec("SELECT a FROM t").raw().to_array() == [["outer"]]

        async def not_sync() -> None:
            pass

        with pytest.raises(DurableObjectTypeError):
            storage.transaction_sync(not_sync)  # type: ignore[unused-coroutine]

    await do(work)


async def test_delete_all_takes_tables_and_the_alarm_along(
    do: Do, clock: bunflare.ManualClock
) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        await storage.put("a", 1)
        await storage.set_alarm(clock.now() + 1000)
        storage.sql.exec(
            "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p);"
            "INSERT INTO p VALUES (1); INSERT INTO c VALUES (1); CREATE VIEW v AS SELECT * FROM c;"
            "CREATE VIRTUAL TABLE f USING fts5(text); INSERT INTO f VALUES ('word')"
        )
        await storage.sync()
        await storage.put("b", 1)
        await storage.delete_all()
        assert await storage.list() == {}
        assert await storage.get_alarm() is None
        tables = "SELECT name FROM sqlite_schema WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'"
        assert storage.sql.exec(tables).to_array() == []
        await storage.put("c", 1)
        assert await storage.list() == {"c": 1}

        async def inside(txn: bunflare.DurableObjectTransaction) -> None:
            with pytest.raises(DurableObjectError, match="within a transaction"):
                await storage.delete_all()

        await storage.transaction(inside)

    await do(work)
    await do(_expect({"c": 1}))


async def test_delete_all_minds_no_cursor_that_was_not_read_to_its_end(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        storage.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
        await storage.sync()
        cursor = storage.sql.exec("SELECT a FROM t")
        assert next(iter(cursor)) == {"a": 1}
        await storage.delete_all()
        with pytest.raises(DurableObjectError):
            cursor.to_array()
        storage.sql.exec("CREATE TABLE t (b)")
        assert storage.sql.exec("SELECT b FROM t").to_array() == []

    await do(work)


def _expect(content: dict[str, Any]) -> Work:
    async def work(storage: DurableObjectStorage) -> None:
        assert await storage.list() == content

    return work


# -- SQL -------------------------------------------------------------------------------------


async def test_a_cursor_reads_as_one_goes_through_it(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        for number in range(5):
            sql.exec("INSERT INTO t (b) VALUES (?)", number)
        cursor = sql.exec("SELECT a, b FROM t ORDER BY a")
        assert cursor.column_names == ["a", "b"]
        assert cursor.rows_read == 0
        assert next(cursor) == {"a": 1, "b": 0}
        assert cursor.rows_read == 1
        step = cursor.next()
        assert (step.done, step.value) == (False, {"a": 2, "b": 1})
        assert len(cursor.to_array()) == 3
        assert cursor.rows_read == 5
        assert cursor.next().done

    await do(work)


async def test_results_and_their_forms(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        assert sql.exec("-- a comment\nVALUES (1), (2)").raw().to_array() == [[1], [2]]
        assert sql.exec("SELECT 1 AS a, 2 AS a").raw().to_array() == [[1, 2]]
        assert sql.exec("SELECT ? AS v", b"\0").one() == {"v": b"\0"}
        assert sql.exec("SELECT ? AS v", True).one() == {"v": 1}
        empty = sql.exec("SELECT 1 AS a WHERE 0")
        assert empty.column_names == ["a"]
        with pytest.raises(DurableObjectSqlError, match="but got no results"):
            empty.one()
        with pytest.raises(DurableObjectSqlError, match="but got multiple results"):
            sql.exec("VALUES (1), (2)").one()
        assert sql.database_size > 0

    await do(work)


async def test_several_statements_and_their_bindings(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        cursor = sql.exec(
            "CREATE TABLE t (a); INSERT INTO t VALUES (1); INSERT INTO t VALUES (?) RETURNING a",
            "x;y",
        )
        assert cursor.one() == {"a": "x;y"}
        assert sql.exec("SELECT count(*) AS n FROM t").one() == {"n": 2}
        with pytest.raises(DurableObjectSqlError, match="only the last statement can have param"):
            sql.exec("SELECT ?; SELECT ?", 1)
        with pytest.raises(DurableObjectSqlError, match="Wrong number of parameter bindings"):
            sql.exec("SELECT ?", 1, 2)
        with pytest.raises(DurableObjectSqlError, match="did not contain a statement"):
            sql.exec(" -- nothing")

    await do(work)


async def test_what_cannot_be_bound_is_refused_and_says_why(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a)")
        insert = "INSERT INTO t VALUES (?)"
        sql.exec(insert, 1)
        # Both ways: a statement that is known and one that is not.
        for query in (insert, insert, "SELECT ?"):
            with pytest.raises(DurableObjectTypeError, match="type object cannot be bound"):
                sql.exec(query, object())
            with pytest.raises(DurableObjectTypeError, match="64 bits"):
                sql.exec(query, 1 << 63)
            with pytest.raises(DurableObjectTypeError, match="UTF-8"):
                sql.exec(query, "\ud800")
        for query in ("SELECT '\ud800'", "SELECT 1\0"):
            with pytest.raises(DurableObjectSqlError, match="^a query "):
                sql.exec(query)
        assert sql.exec(insert, bytearray(b"x")).rows_written == 1
        assert sql.exec("SELECT a FROM t").raw().to_array() == [[1], [b"x"]]

    await do(work)


async def test_rows_read_counts_those_that_were_only_looked_at(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        for number in range(100):
            sql.exec("INSERT INTO t (b) VALUES (?)", number % 10)
        for _ in range(2):
            cursor = sql.exec("SELECT a FROM t WHERE b = 1")
            other = sql.exec("SELECT a FROM t WHERE a = 7")
            assert (len(other.to_array()), other.rows_read) == (1, 1)
        cursor = sql.exec("SELECT a FROM t WHERE b = 1")
        cursor.next()
        assert cursor.rows_read == 1
        assert len(cursor.to_array()) == 9
        assert cursor.rows_read == 100
        updated = sql.exec("UPDATE t SET b = 0 WHERE b = 1")
        assert (updated.rows_read, updated.rows_written) == (100, 10)
        inserted = sql.exec("INSERT INTO t (b) VALUES (1)")
        assert (inserted.rows_read, inserted.rows_written) == (0, 1)

    await do(work)


async def test_a_table_made_again_after_it_was_undone_is_kept_with_the_keys(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        def undone() -> None:
            storage.sql.exec("CREATE TABLE t (a)")
            raise ValueError

        with pytest.raises(ValueError):
            storage.transaction_sync(undone)
        storage.sql.exec("CREATE TABLE IF NOT EXISTS t (a)")
        storage.kv.put("key", 1)
        file = storage._data.file
        assert file is not None
        assert file.changed

    await do(work)


async def test_rows_written_counts_entries_of_indexes(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a, b); CREATE INDEX i ON t (b)")
        assert sql.exec("INSERT INTO t VALUES (1, 2)").rows_written == 2
        assert sql.exec("INSERT INTO t VALUES (1, 2)").rows_written == 2
        assert sql.exec("SELECT * FROM t").rows_written == 0

    await do(work)


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "ATTACH 'x' AS x",
        "PRAGMA journal_mode=DELETE",
        "PRAGMA table_info(_cf_bunflare_redo)",
        "SELECT * FROM dbstat",
        "SELECT sqlite_version()",
        "CREATE TEMP TABLE t (a)",
        "SELECT * FROM _cf_bunflare_redo",
        "DROP TABLE _cf_bunflare_redo",
    ],
)
async def test_what_is_forbidden_to_d1_is_forbidden_here(do: Do, statement: str) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        storage.sql.exec("CREATE TABLE t (a)")
        await storage.put("a", 1)
        await storage.sync()
        with pytest.raises(DurableObjectSqlError):
            storage.sql.exec(statement)
        assert storage.sql.exec("SELECT 1 AS a").one() == {"a": 1}

    await do(work)


async def test_foreign_keys_that_were_deferred_and_do_not_hold_reset_the_object(do: Do) -> None:
    async def make(storage: DurableObjectStorage) -> None:
        storage.sql.exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p)")

    def insert(parent: bool) -> Work:
        async def work(storage: DurableObjectStorage) -> None:
            await storage.put("parent", parent)
            storage.sql.exec("PRAGMA defer_foreign_keys = on; INSERT INTO c VALUES (1)")
            if parent:
                storage.sql.exec("INSERT INTO p VALUES (1)")

        return work

    async def look(storage: DurableObjectStorage) -> list[Any]:
        count = storage.sql.exec("SELECT count(*) AS n FROM c").one()["n"]
        return [count, await storage.get("parent")]

    await do(make)
    text = "^FOREIGN KEY constraint failed: SQLITE_CONSTRAINT$"
    with pytest.raises(bunflare.DatabaseError, match=text):
        await do(insert(False))
    assert await do(look) == [0, None]
    await do(insert(True))
    assert await do(look) == [1, True]


async def test_what_a_pragma_switches_it_switches_each_time(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
        for _ in range(3):
            sql.exec("PRAGMA reverse_unordered_selects = on")
            assert sql.exec("SELECT a FROM t").raw().to_array() == [[2], [1]]
            sql.exec("PRAGMA reverse_unordered_selects = off; SELECT 1")
            assert sql.exec("SELECT a FROM t").raw().to_array() == [[1], [2]]

    await do(work)


async def test_column_names_are_those_of_the_last_statement_also_without_rows(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a, b)")
        assert sql.exec("SELECT 1 AS x; SELECT b FROM t WHERE a = ?", 1).column_names == ["b"]
        assert sql.exec("SELECT 1 AS x; SELECT b, a FROM t").raw().column_names == ["b", "a"]
        unread = sql.exec("SELECT a FROM t")
        # What has run could not be prepared once more.
        assert sql.exec("DROP TABLE t").column_names == []
        assert unread.column_names in ([], ["a"])

    await do(work)


async def test_a_text_that_is_none_is_an_error_and_holds_up_nothing(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a)")
        caught = []
        for query in (
            "SELECT CAST(x'ff' AS TEXT) AS x",
            "SELECT 1 AS x UNION ALL SELECT CAST(x'ff' AS TEXT)",
            "INSERT INTO t VALUES (CAST(x'ff' AS TEXT)) RETURNING a",
        ):
            # The error is kept, and with it all that it has come through.
            with pytest.raises(DurableObjectSqlError, match="not UTF-8") as error:
                sql.exec(query).to_array()
            caught.append(error)
        # What the first of several gives is for nobody.
        assert sql.exec("SELECT CAST(x'ff' AS TEXT); SELECT 2 AS b").one() == {"b": 2}
        assert sql.exec("SELECT CAST(a AS BLOB) AS a FROM t").one() == {"a": b"\xff"}
        await storage.sync()
        sql.exec("DROP TABLE t")

    await do(work)
    await do(lambda storage: storage.sync())


async def test_a_statement_with_too_large_a_program_is_refused_alone(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a)")
        sql.exec("INSERT INTO t VALUES (1)")
        with pytest.raises(DurableObjectSqlError, match="^out of memory: SQLITE_NOMEM$"):
            sql.exec("INSERT INTO t VALUES " + ",".join(["(2)"] * 12_000))
        with pytest.raises(DurableObjectSqlError, match="too many arguments on function char"):
            sql.exec(f"SELECT char({','.join(['65'] * 128)})")
        sql.exec("INSERT INTO t VALUES " + ",".join(["(3)"] * 7_000))
        assert sql.exec("SELECT count(*) AS n, min(a) AS a FROM t").one() == {"n": 7_001, "a": 1}

    await do(work)


async def test_an_error_of_sqlite_is_the_platforms_and_undoes_its_statement_only(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        sql = storage.sql
        sql.exec("CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1)")
        with pytest.raises(DurableObjectSqlError, match="UNIQUE constraint failed: t.a"):
            sql.exec("INSERT INTO t VALUES (2), (1)")
        with pytest.raises(DurableObjectSqlError, match="no such table: x"):
            sql.exec("SELECT * FROM x")
        assert sql.exec("SELECT a FROM t").to_array() == [{"a": 1}]

    await do(work)


# -- against a model -------------------------------------------------------------------------

_keys = st.sampled_from(["a", "ab", "b", "c\0", "é", "\uffff", "\U0001f600"])
_operations = st.one_of(
    st.tuples(st.just("put"), _keys, st.integers()),
    st.tuples(st.just("delete"), _keys, st.none()),
    st.tuples(st.sampled_from(["begin", "commit", "rollback", "sync", "clear"]), _keys, st.none()),
)


@given(st.lists(_operations, max_size=40))
async def test_storage_is_a_sorted_dict_with_nested_transactions(
    operations: list[tuple[str, str, Any]],
) -> None:
    async def work(storage: DurableObjectStorage) -> dict[str, Any]:
        data = storage._data
        models: list[dict[str, Any]] = [{}]
        for operation, key, value in operations:
            if operation == "put":
                await storage.put(key, value)
                models[-1][key] = value
            elif operation == "delete":
                assert await storage.delete(key) == (models[-1].pop(key, None) is not None)
            elif operation == "begin":
                data.begin()
                models.append(dict(models[-1]))
            elif operation in ("commit", "rollback") and len(models) > 1:
                data.end(commit=operation == "commit")
                top = models.pop()
                if operation == "commit":
                    models[-1] = top
            elif operation == "sync" and len(models) == 1:
                await storage.sync()
            elif operation == "clear" and len(models) == 1:
                await storage.delete_all()
                models[-1].clear()
            expected = sorted(models[-1].items(), key=lambda item: item[0].encode())
            assert list((await storage.list()).items()) == expected
            assert list((await storage.list(reverse=True, limit=2)).items()) == expected[::-1][:2]
            assert await storage.get(key) == models[-1].get(key)
        while len(models) > 1:
            data.end(commit=True)
            top = models.pop()
            models[-1] = top
        return models[0]

    async with bunflare.open(":memory:") as state:
        stub = state.durable_objects(Box).get_by_name("box")
        content = await stub.do(work)
        state._objects["Box"].evict(str(stub.id))
        await stub.do(_expect(content))


async def test_bounds_that_meet_or_cross_and_prefixes_of_signs(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        await storage.put({"ab": 1, "AB": 2, "a%": 3, "a_": 4, "b": 5})
        assert list(await storage.list(prefix="a")) == ["a%", "a_", "ab"]
        assert list(await storage.list(prefix="a%")) == ["a%"]
        assert list(await storage.list(prefix="a", reverse=True, limit=1)) == ["ab"]
        assert list(await storage.list(prefix="a", start="a_", end="ab")) == ["a_"]
        assert await storage.list(start="b", end="b") == {}
        assert await storage.list(start="z", end="a") == {}
        assert await storage.get(["b", "b", "none"]) == {"b": 5}
        assert await storage.delete([]) == 0

    await do(work)


async def test_queries_that_begin_with_a_comment_or_values_give_rows(do: Do) -> None:
    async def work(storage: DurableObjectStorage) -> None:
        assert storage.sql.exec("-- first\nSELECT 1 AS a").to_array() == [{"a": 1}]
        assert storage.sql.exec("VALUES (1), (2)").raw().to_array() == [[1], [2]]
        with pytest.raises(DurableObjectSqlError, match="did not contain a statement"):
            storage.sql.exec(" -- nothing")

    await do(work)


async def test_functions_are_allowed_however_they_are_spelled(do: Do) -> None:
    """In a table, SQLite names them as they were written."""

    async def work(storage: DurableObjectStorage) -> None:
        storage.sql.exec(
            "CREATE TABLE t (a, at TEXT DEFAULT CURRENT_TIMESTAMP, b DEFAULT (ABS(-1)))"
        )
        storage.sql.exec("INSERT INTO t (a) VALUES (1)")
        assert storage.sql.exec("SELECT a, b, LENGTH(at) AS n FROM t").to_array() == [
            {"a": 1, "b": 1, "n": 19}
        ]

    await do(work)


async def test_the_last_row_that_was_inserted_is_the_users(do: Do) -> None:
    """Whatever was stored along with it."""

    async def insert(storage: DurableObjectStorage) -> None:
        storage.sql.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        storage.sql.exec("INSERT INTO t VALUES (41, 1)")
        storage.sql.exec("INSERT INTO t (a) VALUES (?)", 2)
        await storage.put("key", "value")

    async def last(storage: DurableObjectStorage) -> Any:
        return storage.sql.exec("SELECT last_insert_rowid()").raw().to_array()

    await do(insert)
    assert await do(last) == [[42]]
