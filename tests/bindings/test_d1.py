"""The D1 binding: the platform's operations, types, limits, messages and numbers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.bindings.d1 import D1Database


@pytest.fixture
def db(state: bunflare.State) -> D1Database:
    return state.d1("shop")


@pytest.fixture
async def users(db: D1Database) -> D1Database:
    await db.exec(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INT);"
        "CREATE INDEX by_name ON users (name);"
        "INSERT INTO users (name, age) VALUES ('Ada', 36), ('Bob', 20), ('Cy', 50)"
    )
    return db


async def test_values_of_all_types_come_back_as_they_were(db: D1Database) -> None:
    values = (None, 1, -(2**63), 2**63 - 1, 1.5, "täxt\0", b"\0\xff", "")
    sql = "SELECT " + ", ".join("?" for _ in values)
    assert await db.prepare(sql).bind(*values).raw() == [list(values)]
    row = await db.prepare("SELECT ?2 AS b, ?1 AS a").bind(True, [1, 2, 255]).first()
    assert row == {"b": b"\x01\x02\xff", "a": 1}
    assert await db.prepare("SELECT ? AS x").bind(float("nan")).first("x") is None


@pytest.mark.parametrize("value", [{}, object(), 2**63, [256], {1}])
def test_what_the_platform_does_not_take_is_refused_at_bind(db: D1Database, value: object) -> None:
    with pytest.raises(bunflare.D1TypeError, match="D1_TYPE_ERROR: Type '.*' not supported for"):
        db.prepare("SELECT ?").bind(value)


async def test_a_wrong_number_of_parameters_has_the_platforms_words(db: D1Database) -> None:
    for values in ((), (1,), (1, 2, 3)):
        with pytest.raises(
            bunflare.D1Error, match="^D1_ERROR: Wrong number of parameter bindings for SQL query.$"
        ):
            await db.prepare("SELECT ?, ?").bind(*values).all()


async def test_first_gives_a_row_a_column_or_none(users: D1Database) -> None:
    one = users.prepare("SELECT id, name FROM users WHERE name = ?")
    assert await one.bind("Ada").first() == {"id": 1, "name": "Ada"}
    assert await one.bind("Ada").first("name") == "Ada"
    assert await one.bind("Zoe").first() is None
    assert await one.bind("Zoe").first("nothing") is None
    with pytest.raises(bunflare.D1Error, match=r"^D1_COLUMN_NOTFOUND: Column not found \(b\)$"):
        await one.bind("Ada").first("b")


async def test_raw_keeps_columns_of_one_name_apart(users: D1Database) -> None:
    query = users.prepare("SELECT id, id + 1 AS id FROM users LIMIT 1")
    assert await query.raw(column_names=True) == [["id", "id"], [1, 2]]
    none = users.prepare("SELECT id, name FROM users WHERE id = ?").bind(99)
    assert await none.raw(column_names=True) == [["id", "name"]]
    assert await none.raw() == []


async def test_meta_tells_of_that_statement_alone(users: D1Database) -> None:
    result = await users.prepare("INSERT INTO users (name) VALUES (?)").bind("Dee").run()
    meta = result.meta
    assert (meta.changes, meta.last_row_id, meta.changed_db, meta.rows_written) == (1, 4, True, 2)
    result = await users.prepare("SELECT * FROM users WHERE age > 30").all()
    meta = result.meta
    assert len(result.results) == 2
    assert (meta.changes, meta.last_row_id, meta.changed_db) == (0, 0, False)
    assert (meta.rows_read, meta.rows_written) == (4, 0)
    assert meta.size_after % 4096 == 0
    assert meta.size_after > 0
    assert meta.served_by_primary
    assert meta.total_attempts == 1
    meta = (await users.prepare("UPDATE users SET age = 1 WHERE age > 30").run()).meta
    assert (meta.changes, meta.rows_read, meta.rows_written, meta.last_row_id) == (2, 4, 2, 0)
    meta = (await users.prepare("DELETE FROM users WHERE id = 77").run()).meta
    assert (meta.changes, meta.changed_db) == (0, False)


async def test_an_autoincrement_row_counts_its_sequence(db: D1Database) -> None:
    await db.exec("CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, x)")
    meta = (await db.prepare("INSERT INTO a (x) VALUES (1)").run()).meta
    assert (meta.changes, meta.rows_written, meta.last_row_id) == (1, 2, 1)


@pytest.mark.parametrize(
    ("sql", "read", "written"),
    [
        ("SELECT * FROM users WHERE id = 2", 1, 0),
        ("SELECT * FROM users WHERE id = 99", 1, 0),
        ("SELECT * FROM users", 4, 0),
        ("SELECT * FROM users WHERE age > 1000", 4, 0),
        ("SELECT * FROM empty", 1, 0),
        ("SELECT count(*) AS n FROM users", 4, 0),
        ("SELECT * FROM users ORDER BY age", 8, 0),
        ("SELECT * FROM users WHERE name = 'Ada'", 1, 0),
        ("SELECT * FROM users WHERE name > 'B'", 2, 0),
        ("SELECT 1", 0, 0),
        ("INSERT INTO users (name) VALUES ('x')", 0, 2),
        ("INSERT INTO empty VALUES (1)", 0, 1),
        ("INSERT INTO empty SELECT age FROM users", 4, 4),
        ("INSERT INTO counted (x) VALUES (1)", 1, 2),
        ("INSERT INTO keyed VALUES ('a', 1)", 0, 1),
        ("UPDATE users SET age = 1", 4, 4),
        ("UPDATE users SET age = 1 WHERE id = 2", 1, 1),
        ("UPDATE users SET name = 'x' WHERE id = 2", 1, 2),
        ("UPDATE users SET name = 'x' WHERE id = 99", 1, 0),
        ("DELETE FROM users WHERE id = 2", 1, 1),
        ("INSERT INTO watched VALUES (1), (2)", None, 4),
        ("DELETE FROM parent WHERE id = 1", None, 3),
    ],
)
async def test_rows_are_counted_as_the_platform_counts_them(
    users: D1Database, sql: str, read: int | None, written: int
) -> None:
    await users.exec(
        "INSERT INTO users (name, age) VALUES (NULL, 7);"
        "CREATE TABLE empty (x); CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
        "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x);"
        "CREATE TABLE watched (x); CREATE TABLE log (x);"
        "CREATE TRIGGER tr AFTER INSERT ON watched BEGIN INSERT INTO log VALUES (1); END;"
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (p REFERENCES parent ON DELETE CASCADE);"
        "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1), (1)"
    )
    meta = (await users.prepare(sql).run()).meta
    assert meta.rows_written == written
    assert read is None or meta.rows_read == read


async def test_returning_gives_rows_and_numbers(users: D1Database) -> None:
    result = await users.prepare("INSERT INTO users (name) VALUES ('X') RETURNING id, name").all()
    assert result.results == [{"id": 4, "name": "X"}]
    assert result.meta.changes == 1


async def test_a_batch_is_all_or_nothing(users: D1Database) -> None:
    insert = users.prepare("INSERT INTO users (id, name) VALUES (?, ?)")
    with pytest.raises(
        bunflare.D1Error,
        match="^D1_ERROR: UNIQUE constraint failed: users.id: SQLITE_CONSTRAINT$",
    ):
        await users.batch([insert.bind(10, "a"), insert.bind(11, "b"), insert.bind(10, "c")])
    assert await users.prepare("SELECT count(*) AS n FROM users").first("n") == 3
    results = await users.batch(
        [insert.bind(10, "a"), users.prepare("SELECT count(*) AS n FROM users")]
    )
    assert results[1].results == [{"n": 4}]
    assert results[1].meta.changes == 0
    with pytest.raises(bunflare.D1Error, match="No SQL statements detected"):
        await users.batch([])


async def test_one_failing_write_harms_no_other_of_its_group(users: D1Database) -> None:
    insert = users.prepare("INSERT INTO users (id, name) VALUES (?, 'x')")
    twice = [users.prepare("INSERT INTO users (id) VALUES (500)"), insert.bind(1)]
    found = await asyncio.gather(
        *(insert.bind(100 + n).run() for n in range(20)),
        users.batch(twice),
        insert.bind(1).run(),
        users.prepare("INSERT OR ROLLBACK INTO users (id) VALUES (1)").run(),
        return_exceptions=True,
    )
    assert [isinstance(one, bunflare.D1Error) for one in found] == [False] * 20 + [True] * 3
    assert await users.prepare("SELECT count(*) AS n FROM users").first("n") == 23


async def test_exec_splits_as_sqlite_does(db: D1Database) -> None:
    result = await db.exec(
        "CREATE TABLE t (a, b); -- a comment; with a semicolon\r\n"
        "CREATE TABLE log (x);\r\n"
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN\r\n"
        "  INSERT INTO log VALUES (CASE WHEN new.a > 1 THEN 'big;' ELSE 'small' END);\r\n"
        "  INSERT INTO log VALUES ('second');\r\n"
        "END;\r\n"
        "/* ; */ INSERT INTO t VALUES (2, 'it''s; \"fine\"');;\n"
    )
    assert result.count == 4
    assert await db.prepare("SELECT x FROM log").raw() == [["big;"], ["second"]]


async def test_exec_names_the_line_that_fails(db: D1Database) -> None:
    with pytest.raises(
        bunflare.D1Error,
        match='^D1_EXEC_ERROR: Error in line 3: SELEC 1;: near "SELEC": syntax error at offset 0',
    ):
        await db.exec("CREATE TABLE t (a);\n\nSELEC 1;\nSELECT 2")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("BEGIN", "To execute a transaction, please use the state.storage.transaction()"),
        ("SAVEPOINT a", "To execute a transaction"),
        ("COMMIT", "To execute a transaction"),
        ("ATTACH 'x' AS y", "not authorized: SQLITE_AUTH"),
        ("PRAGMA journal_mode = DELETE", "not authorized: SQLITE_AUTH"),
        ("PRAGMA Page_Size = 8192", "not authorized: SQLITE_AUTH"),
        ("ALTER TABLE t RENAME TO _CF_t", "not authorized: SQLITE_AUTH"),
        ("PRAGMA user_version", "not authorized: SQLITE_AUTH"),
        ("CREATE TEMP TABLE t (a)", "not authorized: SQLITE_AUTH"),
        ("CREATE TABLE _cf_x (a)", "not authorized: SQLITE_AUTH"),
        ("SELECT load_extension('x')", "not authorized to use function: load_extension"),
        ("SELECT sqlite_version()", "not authorized to use function: sqlite_version"),
        ("SELECT log10(2)", "not authorized to use function: log10"),
        ("SELECT * FROM dbstat", "no such table: dbstat: SQLITE_ERROR"),
        ("SELECT * FROM fts3tokenize('simple', 'x')", "no such table: fts3tokenize"),
        ("SELECT * FROM pragma_database_list", "not authorized: SQLITE_AUTH"),
        ("PRAGMA table_info", "not authorized: SQLITE_AUTH"),
        ("PRAGMA table_info(_cf_METADATA)", "not authorized: SQLITE_AUTH"),
        ("PRAGMA index_list(_CF_METADATA)", "not authorized: SQLITE_AUTH"),
        ("PRAGMA foreign_keys = 7", "not authorized: SQLITE_AUTH"),
        ("PRAGMA data_version = 7", "not authorized: SQLITE_AUTH"),
        ("PRAGMA optimize(x)", "not authorized: SQLITE_AUTH"),
        ("CREATE VIRTUAL TABLE v USING dbstat", "not authorized: SQLITE_AUTH"),
        ("VACUUM INTO 'x.db'", "SQLITE_"),
        ("SELECT * FROM absent", "no such table: absent: SQLITE_ERROR"),
        ("", "No SQL statements detected"),
        ("-- nothing", "No SQL statements detected"),
        ("SELECT '" + "x" * 100_001 + "'", "SQLITE_TOOBIG"),
        ("SELECT 1 WHERE 'a' LIKE '" + "x" * 51 + "'", "LIKE or GLOB pattern too complex"),
        (" UNION ALL ".join(["SELECT 1"] * 6), "too many terms in compound SELECT"),
        ("SELECT " + ",".join("?" * 101), "too many SQL variables at offset"),
        (f"CREATE TABLE w ({','.join(f'c{n}' for n in range(101))})", "too many columns"),
        (f"SELECT char({','.join(['65'] * 128)})", "too many arguments on function char"),
        ("SELECT " + "+".join("1" * 102), "Expression tree is too large (maximum depth 100)"),
        ("INSERT INTO t VALUES " + ",".join(["(1)"] * 12_000), "out of memory: SQLITE_NOMEM"),
    ],
)
async def test_what_the_platform_forbids_is_refused(db: D1Database, sql: str, message: str) -> None:
    await db.exec("CREATE TABLE t (a)")
    values = [1] * sql.count("?")
    with pytest.raises(bunflare.D1Error) as caught:
        await db.prepare(sql).bind(*values).all()
    assert str(caught.value).startswith("D1_ERROR: ")
    assert message in str(caught.value)
    await db.prepare("INSERT INTO t VALUES (1)").run()


DEFAULTS = """
CREATE TABLE notes (
  id INTEGER PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, day TEXT DEFAULT Current_Date,
  due TEXT DEFAULT (DateTime('now')), name TEXT DEFAULT (Lower('A')) CHECK (LENGTH(name) < 9),
  long INTEGER GENERATED ALWAYS AS (LENGTH(name)) STORED)
"""


async def test_functions_are_allowed_however_they_are_spelled(db: D1Database) -> None:
    """In a table, SQLite names them as they were written."""
    await db.prepare(DEFAULTS).run()
    await db.prepare("CREATE INDEX by_name ON notes (UPPER(name)) WHERE Abs(id) > 0").run()
    await db.prepare("INSERT INTO notes DEFAULT VALUES").run()
    await db.batch([db.prepare("INSERT INTO notes (name) VALUES (?)").bind(n) for n in "bc"])
    found = await db.prepare("SELECT name, long FROM notes WHERE at = DATETIME(at)").raw()
    assert found == [["a", 1], ["b", 1], ["c", 1]]
    assert await db.prepare("PRAGMA quick_check").raw() == [["ok"]]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM _cf_METADATA", "prohibited: SQLITE_AUTH"),
        ("DELETE FROM _cf_METADATA", "not authorized: SQLITE_AUTH"),
        ("DROP TABLE _cf_METADATA", "not authorized: SQLITE_AUTH"),
        ("ALTER TABLE _cf_METADATA RENAME TO mine", "not authorized: SQLITE_AUTH"),
    ],
)
async def test_tables_of_the_platforms_own_are_out_of_reach(
    directory: Path, sql: str, message: str
) -> None:
    (directory / "d1").mkdir(parents=True)
    other = apsw.Connection(str(directory / "d1" / "shop.sqlite"))
    other.execute("CREATE TABLE _cf_METADATA (key INTEGER PRIMARY KEY, value BLOB)")
    other.close()
    async with bunflare.open(directory) as state:
        with pytest.raises(bunflare.D1Error, match=message):
            await state.d1("shop").prepare(sql).run()


async def test_column_names_are_those_of_the_last_statement_also_without_rows(
    db: D1Database,
) -> None:
    await db.exec("CREATE TABLE t (a, b)")
    for sql, names in (
        ("SELECT 1 AS x; SELECT b, a FROM t", ["b", "a"]),
        ("DELETE FROM t; UPDATE t SET a = 1 RETURNING b", ["b"]),
        ("PRAGMA case_sensitive_like = 1", []),
        ("ALTER TABLE t ADD COLUMN c", []),
        # What has run could not be prepared once more.
        ("SELECT 1 AS x; ALTER TABLE t DROP COLUMN c", []),
        ("DROP TABLE t", []),
    ):
        assert await db.prepare(sql).raw(column_names=True) == [names], sql


async def test_a_text_that_is_none_is_an_error_and_harms_nothing(db: D1Database) -> None:
    for sql in (
        "SELECT CAST(x'ff' AS TEXT) AS x",
        "INSERT INTO t VALUES (CAST(x'ff' AS TEXT)) RETURNING a",
    ):
        await db.exec("CREATE TABLE IF NOT EXISTS t (a)")
        with pytest.raises(bunflare.D1Error, match="not UTF-8"):
            await db.prepare(sql).all()
    await db.exec("INSERT INTO t VALUES (1)")
    assert await db.prepare("SELECT a FROM t").raw() == [[1]]


async def test_what_just_fits_the_limits_is_taken(db: D1Database) -> None:
    await db.exec("CREATE TABLE t (a)")
    await db.prepare("INSERT INTO t VALUES " + ",".join(["(1)"] * 7_000)).run()
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 7_000
    text = await db.prepare(f"SELECT char({','.join(['65'] * 127)}) AS text").first("text")
    assert text == "A" * 127


async def test_a_statement_with_too_large_a_program_undoes_its_batch_alone(db: D1Database) -> None:
    await db.exec("CREATE TABLE t (a)")
    large = "INSERT INTO t VALUES " + ",".join(["(1)"] * 12_000)
    ones = [db.prepare("INSERT INTO t VALUES (?)").bind(n) for n in range(2)]
    kept, failed = await asyncio.gather(
        ones[0].run(), db.batch([ones[1], db.prepare(large)]), return_exceptions=True
    )
    assert isinstance(kept, bunflare.D1Result)
    assert str(failed) == "D1_ERROR: out of memory: SQLITE_NOMEM"
    assert await db.prepare("SELECT a FROM t").raw() == [[0]]


async def test_a_file_may_insert_any_number_of_rows_at_once(db: D1Database, tmp_path: Path) -> None:
    file = tmp_path / "rows.sql"
    file.write_text("CREATE TABLE t (a);\nINSERT INTO t VALUES " + ",".join(["(1)"] * 12_000))
    assert await db.import_sql(file) == 2
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 12_000
    # For what is not in a file, the limits are the platform's again.
    with pytest.raises(bunflare.D1Error, match="SQLITE_NOMEM"):
        await db.prepare("INSERT INTO t VALUES " + ",".join(["(1)"] * 12_000)).run()


async def test_a_value_over_two_megabytes_is_refused(db: D1Database) -> None:
    await db.exec("CREATE TABLE t (a)")
    with pytest.raises(bunflare.D1Error, match="SQLITE_TOOBIG"):
        await db.prepare("INSERT INTO t VALUES (?)").bind(b"x" * 2_000_001).run()


async def test_pragmas_of_the_platforms_list_work(users: D1Database) -> None:
    rows = await users.prepare("PRAGMA table_info(users)").all()
    assert [row["name"] for row in rows.results] == ["id", "name", "age"]
    assert await users.prepare("PRAGMA foreign_keys").first("foreign_keys") == 1
    await users.prepare("PRAGMA optimize").run()


async def test_foreign_keys_are_on_and_may_be_deferred_within_a_batch(db: D1Database) -> None:
    await db.exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id))")
    child, parent = db.prepare("INSERT INTO c VALUES (1)"), db.prepare("INSERT INTO p VALUES (1)")
    with pytest.raises(bunflare.D1Error, match="FOREIGN KEY constraint failed: SQLITE_CONSTRAINT"):
        await child.run()
    defer = db.prepare("PRAGMA defer_foreign_keys = on")
    with pytest.raises(bunflare.D1Error, match="FOREIGN KEY constraint failed"):
        await db.batch([defer, child])
    await db.batch([defer, child, parent])
    assert await db.prepare("SELECT count(*) AS n FROM c").first("n") == 1


async def test_foreign_keys_cannot_be_switched_off(db: D1Database) -> None:
    await db.exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id))")
    off, child = db.prepare("PRAGMA foreign_keys = off"), db.prepare("INSERT INTO c VALUES (1)")
    await off.run()
    with pytest.raises(bunflare.D1Error, match="FOREIGN KEY constraint failed"):
        await db.batch([off, child])
    await db.prepare("PRAGMA defer_foreign_keys = on").run()
    with pytest.raises(bunflare.D1Error, match="FOREIGN KEY constraint failed"):
        await db.batch([child, db.prepare("INSERT INTO p VALUES (1)")])


def likes(db: D1Database) -> bool:
    """Whether LIKE takes capitals for small letters, to whoever reads on a thread of its own."""
    return asyncio.run(db.prepare("SELECT 'a' LIKE 'A' AS x").raw()) == [[1]]


async def test_what_a_pragma_switches_holds_for_all_that_follows(
    state: bunflare.State, db: D1Database
) -> None:
    await db.exec("CREATE TABLE t (a CHECK (a > 0)); INSERT INTO t VALUES (1), (2)")
    other = state.d1("shop")
    rows = "SELECT a FROM t"
    assert await db.prepare(rows).raw() == [[1], [2]]
    assert await asyncio.to_thread(likes, db)
    # More than once: what was prepared before switches nothing.
    for _ in range(3):
        await db.prepare("PRAGMA reverse_unordered_selects = on").run()
        await db.exec("PRAGMA case_sensitive_like = on; SELECT 1")
        assert await other.prepare(rows).raw() == [[2], [1]]
        assert await other.prepare("SELECT 'a' LIKE 'A' AS x").first("x") == 0
        assert not await asyncio.to_thread(likes, other)
        assert await db.prepare("PRAGMA reverse_unordered_selects").raw() == [[1]]
        await db.batch(
            [
                db.prepare("PRAGMA reverse_unordered_selects = off"),
                db.prepare("PRAGMA case_sensitive_like = off"),
            ]
        )
        assert await db.prepare(rows).raw() == [[1], [2]]
        assert await asyncio.to_thread(likes, db)
    ignore = db.prepare("PRAGMA ignore_check_constraints = on")
    assert await ignore.raw(column_names=True) == [[]]
    await db.prepare("INSERT INTO t VALUES (-1)").run()
    await db.prepare("PRAGMA ignore_check_constraints = off").run()
    with pytest.raises(bunflare.D1Error, match="CHECK constraint failed"):
        await db.prepare("INSERT INTO t VALUES (-2)").run()


async def test_what_a_pragma_switches_is_as_it_was_after_the_database_was_opened_anew(
    directory: Path,
) -> None:
    for _ in range(2):
        async with bunflare.open(directory) as state:
            db = state.d1("shop")
            assert await db.prepare("PRAGMA recursive_triggers").raw() == [[0]]
            assert await db.prepare("SELECT 'a' LIKE 'A' AS x").first("x") == 1
            await db.exec("PRAGMA recursive_triggers = on; PRAGMA case_sensitive_like = on")


async def test_an_explained_pragma_switches_for_all_or_none(db: D1Database) -> None:
    await db.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
    await db.prepare("EXPLAIN PRAGMA reverse_unordered_selects = on").all()
    [[switched]] = await db.prepare("PRAGMA reverse_unordered_selects").raw()
    rows = await db.prepare("SELECT a FROM t").raw()
    assert rows == ([[2], [1]] if switched else [[1], [2]])


async def test_full_text_r_trees_and_json_work(db: D1Database) -> None:
    await db.exec(
        "CREATE VIRTUAL TABLE notes USING fts5 (body); INSERT INTO notes VALUES ('a fine day');"
        "CREATE VIRTUAL TABLE boxes USING rtree (id, a, b); INSERT INTO boxes VALUES (1, 2, 3);"
    )
    assert await db.prepare("SELECT body FROM notes('fine')").raw() == [["a fine day"]]
    assert await db.prepare("SELECT id FROM boxes WHERE a > 1").raw() == [[1]]
    assert await db.prepare("""SELECT '{"a": [1, 2]}' ->> '$.a[1]' AS x""").first("x") == 2


async def test_several_statements_in_one_are_a_transaction_with_the_last_ones_rows(
    db: D1Database,
) -> None:
    sql = "CREATE TABLE t (a); INSERT INTO t VALUES (1); SELECT a + ? AS b FROM t"
    assert (await db.prepare(sql).bind(1).all()).results == [{"b": 2}]
    twice = db.prepare("INSERT INTO t VALUES (1); INSERT INTO t VALUES (?)")
    for number in range(3):
        assert (await twice.bind(number).run()).meta.changes == 1
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 7


async def test_a_long_query_leaves_the_event_loop_free(
    db: D1Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    monkeypatch.setattr("bunflare.store.d1_executor.LONGEST", 0.3)
    await db.exec("CREATE TABLE t (a)")
    longest, turns = 0.3, 0
    while turns <= 20:  # on a busy machine they take their time
        assert longest < 100, "the event loop was not free"
        monkeypatch.setattr("bunflare.store.d1.LONGEST", longest)
        query = asyncio.ensure_future(db.prepare(endless).all())
        turns = 0
        while not query.done():
            await db.prepare("SELECT 1").first()
            await asyncio.sleep(0.001)
            turns += 1
        with pytest.raises(bunflare.D1Error, match="exceeded timeout"):
            await query
        longest *= 10
    with pytest.raises(bunflare.D1Error, match="exceeded timeout"):
        await db.prepare(f"INSERT INTO t {endless}").run()
    await db.prepare("INSERT INTO t VALUES (1)").run()
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 1


async def test_a_result_that_no_worker_could_hold_is_refused(
    db: D1Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bunflare.store.d1_reader.LARGEST_RESULT", 5_000_000)
    many = (
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000)"
        " SELECT x FROM n"
    )
    await db.exec("CREATE TABLE t (x)")
    for query in [many] * 6 + [f"INSERT INTO t {many} RETURNING x"] * 2:
        with pytest.raises(bunflare.D1Error, match="Memory limit would be exceeded"):
            await db.prepare(query).all()
    assert await db.prepare("SELECT 1 AS one").first("one") == 1
    assert (await db.prepare("INSERT INTO t VALUES (7) RETURNING x").all()).results == [{"x": 7}]
    assert await db.prepare("SELECT x FROM t").raw() == [[7]]


async def test_a_session_knows_the_newest_state_it_has_seen(users: D1Database) -> None:
    session = users.with_session("first-primary")
    assert session.get_bookmark() is None
    await session.prepare("SELECT 1").run()
    first = session.get_bookmark()
    await session.prepare("INSERT INTO users (name) VALUES ('x')").run()
    second = session.get_bookmark()
    assert first is not None
    assert second is not None
    assert first < second
    other = users.with_session(second)
    assert other.get_bookmark() == second
    await users.prepare("INSERT INTO users (name) VALUES ('y')").run()
    await other.batch([other.prepare("SELECT count(*) AS n FROM users")])
    third = other.get_bookmark()
    assert third is not None
    assert third > second
    assert users.with_session("  ").get_bookmark() is None
    # Where a bookmark is another database's, or none, the first query tells of this one.
    for given in (f"7{third[1:-32]}{'0' * 32}", "zzz"):
        foreign = users.with_session(given)
        assert foreign.get_bookmark() == given
        await foreign.prepare("SELECT 1").first()
        assert foreign.get_bookmark() == third


async def test_dump_is_refused_as_the_platform_does(db: D1Database) -> None:
    with pytest.raises(bunflare.D1Error, match="^D1_DUMP_ERROR: Status"):
        await db.dump()


async def test_the_file_is_named_after_the_database_and_outlives_the_state(
    directory: Path,
) -> None:
    async with bunflare.open(directory) as state:
        await state.d1("My shop").exec("CREATE TABLE t (a); INSERT INTO t VALUES (7)")
        with apsw.Connection(str(directory / "d1" / "My shop.sqlite")) as beside:
            assert beside.execute("SELECT a FROM t").fetchall() == [(7,)]
    async with bunflare.open(directory) as state:
        assert await state.d1("My shop").prepare("SELECT a FROM t").first("a") == 7


async def test_a_state_that_is_closed_has_no_file_open_whatever_ran_on_threads(
    directory: Path,
) -> None:
    # What is only found to be unused when Python looks for circles would be found by chance.
    gc.disable()
    try:
        async with bunflare.open(directory) as state:
            db = state.d1("shop")
            await db.exec("CREATE TABLE t (a)")
            many = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000)"
            assert await db.prepare(f"{many} SELECT count(*) AS n FROM n").first("n") == 1_000_000
            await db.prepare(f"{many} SELECT x FROM n WHERE x < 0").all()
        # The last connection of all has copied the log back.
        assert [path.name for path in directory.glob("d1/shop.sqlite*")] == ["shop.sqlite"]
    finally:
        gc.enable()


async def test_a_file_of_another_program_opens_and_works(directory: Path) -> None:
    (directory / "d1").mkdir(parents=True)
    with apsw.Connection(str(directory / "d1" / "old.sqlite")) as other:
        other.execute("PRAGMA user_version = 7; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    other.close()
    async with bunflare.open(directory) as state:
        db = state.d1("old")
        assert await db.prepare("SELECT a FROM t").first("a") == 1
        await db.prepare("INSERT INTO t VALUES (2)").run()
        assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 2


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", ".hidden", "x.", "CON", "a\0b", "é" * 101]
)
def test_a_name_that_cannot_be_a_files_is_refused(state: bunflare.State, name: str) -> None:
    with pytest.raises(bunflare.D1ValueError, match="cannot name a D1 database"):
        state.d1(name)


def test_every_public_method_says_what_it_does() -> None:
    methods: list[Callable[..., object]] = [
        value for name, value in vars(D1Database).items() if callable(value) and name[0] != "_"
    ]
    assert len(methods) > 2
    assert all(method.__doc__ for method in methods)


async def test_a_write_that_begins_like_a_query_is_written(users: D1Database) -> None:
    sql = "WITH n (x) AS (SELECT 'With') INSERT INTO users (name) SELECT x FROM n RETURNING name"
    for _ in range(2):
        assert await users.prepare(sql).first("name") == "With"
    assert await users.prepare("SELECT count(*) AS n FROM users").first("n") == 5


async def test_two_states_of_a_process_see_one_database(directory: Path) -> None:
    async with bunflare.open(directory) as one, bunflare.open(directory) as two:
        await one.d1("x").exec("CREATE TABLE t (a)")
        await two.d1("x").prepare("INSERT INTO t VALUES (1)").run()
        assert await one.d1("x").prepare("SELECT a FROM t").first("a") == 1
    with pytest.raises(bunflare.StateError):
        one.d1("x")


async def test_a_failed_write_changes_nothing_of_the_users(users: D1Database) -> None:
    with pytest.raises(bunflare.D1Error, match="no such table"):
        await users.prepare("INSERT INTO absent VALUES (1)").run()
    for _ in range(2):
        with pytest.raises(bunflare.D1Error, match="UNIQUE"):
            await users.prepare("INSERT INTO users (id) VALUES (1)").run()
    assert await users.prepare("SELECT count(*) AS n FROM users").first("n") == 3


async def test_statements_can_ask_what_earlier_ones_have_inserted_and_changed(
    db: D1Database,
) -> None:
    """As on the platform, where all statements go over one connection."""
    await db.exec("CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, name)")
    await db.exec("CREATE TABLE lines (id INTEGER PRIMARY KEY, 'order', what)")
    order = db.prepare("INSERT INTO orders (name) VALUES (?)")
    line = db.prepare("INSERT INTO lines ('order', what) VALUES (last_insert_rowid(), ?)")
    ask = db.prepare("SELECT last_insert_rowid() AS id, changes() AS changes")
    assert await ask.first() == {"id": 0, "changes": 0}
    await db.batch([order.bind("other"), order.bind("tea")])
    results = await db.batch([order.bind("milk"), line.bind("a litre"), ask])
    assert [one.meta.last_row_id for one in results] == [3, 1, 0]
    assert results[2].results == [{"id": 1, "changes": 1}]
    assert await db.prepare("SELECT * FROM lines").raw() == [[1, 3, "a litre"]]
    # One after the other, too, however each is run.
    for name in ("1", "2", "3"):
        await order.bind(name).run()
    assert await ask.first("id") == 6
    await asyncio.gather(*[order.bind(name).run() for name in "45678"])
    assert await ask.first("id") == 11
    await db.batch([order.bind(str(number)) for number in range(40)])
    assert (await line.bind("late").run()).meta.last_row_id == 2
    assert await db.prepare('SELECT max("order") FROM lines').raw() == [[51]]
    # What inserts nothing has inserted no row, and changes nothing about that.
    changed = await db.prepare("UPDATE orders SET name = last_insert_rowid() WHERE id < 4").run()
    assert (changed.meta.last_row_id, changed.meta.changes) == (0, 3)
    assert await ask.first() == {"id": 2, "changes": 3}
    assert await db.prepare("SELECT name FROM orders WHERE id = 1").first("name") == 2
    both = db.prepare("INSERT INTO orders (name) VALUES ('both'); SELECT last_insert_rowid() AS id")
    assert await both.first("id") == 52
    session = db.with_session()
    assert await session.prepare("SELECT LAST_INSERT_ROWID () AS id").first("id") == 52


async def test_triggers_can_ask_what_was_inserted_before(db: D1Database) -> None:
    await db.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE TABLE log (seen)")
    await db.exec(
        "CREATE TRIGGER r AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (last_insert_rowid()); END"
    )
    await db.exec("INSERT INTO t VALUES (7, 'a')")
    changed = await db.prepare("UPDATE t SET a = 'b'").run()
    assert (changed.meta.last_row_id, changed.meta.changes) == (0, 1)
    assert await db.prepare("SELECT seen FROM log").raw() == [[7]]
    assert await db.prepare("SELECT last_insert_rowid()").raw() == [[7]]
