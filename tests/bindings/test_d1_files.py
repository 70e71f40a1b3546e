"""Migrations, export and import of D1 databases."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare.bindings.d1 import D1Database
from bunflare.store.d1_files import _without_returns


@pytest.fixture
def db(state: bunflare.State) -> D1Database:
    return state.d1("shop")


async def names(db: D1Database) -> list[str]:
    rows = await db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").raw()
    return sorted(row[0] for row in rows if not row[0].startswith(("_cf_", "sqlite_")))


async def test_migrations_are_applied_once_and_in_order(db: D1Database, tmp_path: Path) -> None:
    (tmp_path / "0002_fill.sql").write_bytes(
        b"INSERT INTO t VALUES (1);\r\nINSERT INTO t VALUES (2)"
    )
    (tmp_path / "0001_make.sql").write_text(
        "CREATE TABLE t (a);\nCREATE TRIGGER tr AFTER INSERT ON t BEGIN\n"
        "  UPDATE t SET a = CASE WHEN a > 1 THEN a * 10 ELSE a END;\nEND;\n"
    )
    (tmp_path / "readme.md").write_text("not SQL")
    assert await db.migrate(tmp_path) == ["0001_make.sql", "0002_fill.sql"]
    assert await db.migrate(tmp_path) == []
    assert await db.prepare("SELECT a FROM t").raw() == [[1], [20]]
    rows = await db.prepare("SELECT id, name FROM d1_migrations").raw()
    assert rows == [[1, "0001_make.sql"], [2, "0002_fill.sql"]]


async def test_migrations_are_in_wranglers_order(db: D1Database, tmp_path: Path) -> None:
    order = ["1_a.sql", "02_c.sql", "2-b_x.sql", "10_d.sql", "00999_e.sql", "B.sql", "a_1.sql"]
    for name in reversed(order):
        (tmp_path / name).write_text(f"SELECT {len(name)};")
    assert await db.pending_migrations(tmp_path) == order
    assert await db.migrate(tmp_path) == order


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.sql", ["2_b.sql", "10_c.sql"]),
        ("*/migration.sql", ["3_d/migration.sql", "20_e/migration.sql", "f/migration.sql"]),
        (
            "**/*.sql",
            [
                *("2_b.sql", "3_d/inner/1.sql", "3_d/migration.sql", "10_c.sql"),
                *("20_e/migration.sql", "f/migration.sql"),
            ],
        ),
        ("{3_d,20_e}/*.sql", ["3_d/migration.sql", "20_e/migration.sql"]),
        ("[0-9]_?.sql", ["2_b.sql"]),
        ("[!0-9]/**", ["f/migration.sql"]),
        (".hidden.sql", [".hidden.sql"]),
        ("*.txt", []),
    ],
)
async def test_which_files_are_migrations_is_said_by_a_pattern(
    db: D1Database, tmp_path: Path, pattern: str, found: list[str]
) -> None:
    for name in (
        *("2_b.sql", "10_c.sql", ".hidden.sql", "3_d/migration.sql", "20_e/migration.sql"),
        *("f/migration.sql", "3_d/inner/1.sql", ".git/x.sql", "folder.sql/readme"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("SELECT 1")
    assert await db.pending_migrations(tmp_path, pattern=pattern) == found
    assert await db.migrate(tmp_path, pattern=pattern) == found
    assert await db.pending_migrations(tmp_path, pattern=pattern) == []
    if found:
        names = await db.prepare("SELECT name FROM d1_migrations ORDER BY id").raw()
        assert names == [[one] for one in found]


async def test_a_failing_migration_is_named_by_line_and_leaves_nothing_behind(
    db: D1Database, tmp_path: Path
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good (a)")
    bad = tmp_path / "0002_bad.sql"
    bad.write_text("CREATE TABLE bad (a);\n\nINSERT INTO bad\n  VALUES (1, 2);\n")
    with pytest.raises(bunflare.D1Error, match=rf"{bad}:3: table bad has 1 columns but 2 values"):
        await db.migrate(tmp_path, table="done")
    assert await names(db) == ["done", "good"]
    bad.write_text("CREATE TABLE bad (a)")
    assert await db.migrate(tmp_path, table="done") == ["0002_bad.sql"]


async def test_a_file_that_cannot_be_written_and_names_that_are_none_are_said(
    db: D1Database, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder, folder / "absent" / "out.sql"):
        with pytest.raises(bunflare.D1Error, match=rf"^{path} cannot be written \("):
            await db.export_sql(path)
    assert not (tmp_path / ".folder.part").exists()
    for tables in ("users", [5]):
        with pytest.raises(bunflare.D1TypeError, match="several names"):
            await db.export_sql(tables=tables)  # type: ignore[arg-type]
    with pytest.raises(bunflare.D1TypeError, match="has a name"):
        await db.migrate(tmp_path, table=5)  # type: ignore[arg-type]
    with pytest.raises(bunflare.D1TypeError, match="a str, not NoneType"):
        await db.migrate(tmp_path, pattern=None)  # type: ignore[arg-type]


SHOP = """
CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, data BLOB, price REAL,
  twice AS (price * 2) STORED);
CREATE TABLE c (p INTEGER REFERENCES p (id), "odd ""name" TEXT) WITHOUT ROWID;
"""


async def fill(db: D1Database) -> None:
    await db.exec(SHOP.replace(") WITHOUT ROWID", ", PRIMARY KEY (p)) WITHOUT ROWID"))
    await db.exec(
        "CREATE INDEX by_name ON p (name);"
        "CREATE VIEW cheap AS SELECT * FROM p WHERE price < 2;"
        "CREATE TRIGGER tr AFTER INSERT ON p BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; END;"
        "CREATE VIRTUAL TABLE notes USING fts5 (body);"
        "CREATE VIRTUAL TABLE names USING fts5 (name, content='p', content_rowid='id');"
        "CREATE VIRTUAL TABLE boxes USING rtree (id, a, b);"
        "INSERT INTO notes (rowid, body) VALUES (5, 'it''s; a\r\nfine day');"
        "INSERT INTO boxes VALUES (1, 2.5, 3);"
    )
    insert = db.prepare("INSERT INTO p (id, name, data, price) VALUES (?, ?, ?, ?)")
    await db.batch(
        [
            insert.bind(1, "täxt\0nul\nline", b"\0\xff;'", 1.5),
            insert.bind(2, None, None, 1e-300),
            insert.bind(3, "'", b"", 0.1),
            insert.bind(9, "x", b"x", 9007199254740993.0),
            db.prepare("DELETE FROM p WHERE id = 9"),
            db.prepare("INSERT INTO c VALUES (3, 'three')"),
            db.prepare("INSERT INTO names (names) VALUES ('rebuild')"),
        ]
    )


async def test_an_index_whose_text_is_gone_is_named_and_the_rest_is_exported(
    db: D1Database, tmp_path: Path
) -> None:
    await fill(db)
    await db.exec(
        "CREATE TABLE texts (id INTEGER PRIMARY KEY, text);"
        "CREATE VIRTUAL TABLE words USING fts5 (text, content='texts', content_rowid='id');"
        "INSERT INTO words (rowid, text) VALUES (1, 'lost');"
        "DROP TABLE texts;"
    )
    for path in (None, tmp_path / "all.sql"):
        with pytest.raises(bunflare.D1Error, match="the rows of the table words cannot be read"):
            await db.export_sql(path)
    assert not (tmp_path / "all.sql").exists()
    assert "USING fts5 (text, content='texts'" in str(await db.export_sql(data=False))
    assert "täxt" in str(await db.export_sql(tables=["p"]))
    # Nothing is left of the failed ones that would hold the database.
    await db.exec("DROP TABLE words")
    assert "words" not in str(await db.export_sql())


async def test_an_export_of_a_damaged_file_is_an_error_of_ours(
    directory: Path, tmp_path: Path
) -> None:
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        await db.keep_history(days=0)
        await db.exec("CREATE TABLE t (a)")
        await db.batch([db.prepare("INSERT INTO t VALUES (?)").bind("x" * 3000)] * 20)
    file = directory / "d1" / "shop.sqlite"
    data = bytearray(file.read_bytes())
    half = len(data) // 2 // 4096 * 4096
    data[half:] = b"\xff" * (len(data) - half)
    file.write_bytes(data)
    async with bunflare.open(directory) as state:
        db = state.d1("shop")
        with pytest.raises(bunflare.D1Error, match="the rows of the table t cannot be read"):
            await db.export_sql()
        assert "CREATE TABLE t (a)" in str(await db.export_sql(data=False))


async def content(db: D1Database) -> list[object]:
    return [
        await db.prepare("SELECT * FROM p").raw(),
        await db.prepare("SELECT * FROM c").raw(),
        await db.prepare("SELECT rowid, body FROM notes('fine')").raw(),
        await db.prepare("SELECT rowid FROM names('täxt')").raw(),
        await db.prepare("SELECT * FROM boxes").raw(),
        await db.prepare("SELECT name, seq FROM sqlite_sequence").raw(),
        await db.prepare(
            "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE '_cf%' ORDER BY 1, 2"
        ).raw(),
    ]


async def test_an_export_is_imported_with_nothing_lost(
    db: D1Database, state: bunflare.State, tmp_path: Path
) -> None:
    await fill(db)
    path = tmp_path / "shop.sql"
    await db.export_sql(path)
    copy = state.d1("copy")
    assert await copy.import_sql(path) > 12
    assert await content(copy) == await content(db)
    assert await copy.export_sql() == await db.export_sql() == path.read_bytes().decode()


async def test_sqlite_itself_reads_an_export(db: D1Database) -> None:
    await fill(db)
    text = await db.export_sql()
    assert text is not None
    with apsw.Connection(":memory:") as other:
        other.execute(text)
        rows = other.execute("SELECT * FROM p").fetchall()
        assert [list(row) for row in rows] == await db.prepare("SELECT * FROM p").raw()
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()


async def test_an_export_may_be_of_schema_data_or_some_tables(db: D1Database) -> None:
    await db.exec("CREATE TABLE a (x); CREATE TABLE b (x); CREATE INDEX i ON b (x)")
    await db.exec("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2)")
    head = "PRAGMA defer_foreign_keys=TRUE;\n"
    insert = 'INSERT INTO "b" ("x") VALUES (2);\n'
    made = "CREATE TABLE b (x);\n"
    index = "CREATE INDEX i ON b (x);\n"
    assert await db.export_sql(data=False) == f"{head}CREATE TABLE a (x);\n{made}{index}"
    assert await db.export_sql(schema=False, tables=["b"]) == head + insert
    assert await db.export_sql(tables=["b"]) == head + made + insert + index
    with pytest.raises(bunflare.D1Error, match="no such table: z"):
        await db.export_sql(tables=["z"])


async def test_an_import_is_atomic_and_names_the_line_that_fails(
    db: D1Database, tmp_path: Path
) -> None:
    path = tmp_path / "in.sql"
    path.write_text("CREATE TABLE a (x);\nINSERT INTO a VALUES (1);\nINSERT INTO b VALUES (1);\n")
    with pytest.raises(bunflare.D1Error, match=rf"{path}:3: no such table: b"):
        await db.import_sql(path)
    assert await names(db) == []
    path.write_text(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id));\n"
        "INSERT INTO c VALUES (1);"
    )
    with pytest.raises(bunflare.D1Error, match="FOREIGN KEY constraint failed"):
        await db.import_sql(path)
    assert await names(db) == []


async def test_the_dump_of_an_unmodified_program_is_imported(
    db: D1Database, state: bunflare.State, tmp_path: Path
) -> None:
    """Python's own sqlite3 writes BEGIN TRANSACTION and COMMIT, as SQLite's shell does."""
    path = tmp_path / "dump.sql"
    program = """
import sqlite3, sys
c = sqlite3.connect(":memory:")
c.execute("create table child (p references parent (id), x blob)")
c.execute("create table parent (id integer primary key, name)")
c.execute("insert into parent values (1, ?)", ("a;b\\nc",))
c.execute("insert into child values (1, x'00ff')")
open(sys.argv[1], "w").writelines(line + "\\n" for line in c.iterdump())
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    await db.import_sql(path)
    assert await db.prepare("SELECT * FROM child").raw() == [[1, b"\0\xff"]]
    assert await db.prepare("SELECT name FROM parent").first("name") == "a;b\nc"


async def test_a_blob_of_the_largest_size_is_exported_and_imported(
    db: D1Database, state: bunflare.State, tmp_path: Path
) -> None:
    await db.exec("CREATE TABLE b (x)")
    await db.prepare("INSERT INTO b VALUES (?)").bind(b"\xab" * 1_999_000).run()
    await db.export_sql(tmp_path / "b.sql")
    copy = state.d1("copy")
    await copy.import_sql(tmp_path / "b.sql")
    assert await copy.prepare("SELECT length(x) AS n FROM b").first("n") == 1_999_000


def write_long(path: Path, rows: int, width: int = 90) -> None:
    """Statements that end in unlikely places."""
    with path.open("w") as file:
        file.write("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
        file.write(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT);\nCREATE TABLE log (n);\n"
            "CREATE TRIGGER tr AFTER INSERT ON t WHEN new.id % 1000 = 0 BEGIN\n"
            "  INSERT INTO log VALUES (new.id);\nEND;\n"
        )
        for number in range(1, rows + 1):
            file.write(
                f"INSERT INTO t VALUES ({number}, 'tricky;\n''; -- {'ä' * width}');\n/* ; */\n"
            )


async def test_a_long_file_is_read_in_blocks_and_a_failing_line_is_named(
    db: D1Database, tmp_path: Path
) -> None:
    path = tmp_path / "long.sql"
    write_long(path, 5000)
    done: list[int] = []
    count = await db.import_sql(path, progress=done.append)
    assert count == 5000 + 5
    assert done == sorted(done)
    assert len(done) > 3
    assert done[-1] == path.stat().st_size
    assert await db.prepare("SELECT count(*) AS n FROM t").first("n") == 5000
    assert await db.prepare("SELECT group_concat(n) AS n FROM log").first("n") == (
        "1000,2000,3000,4000,5000"
    )
    lines = path.read_text().count("\n")
    with path.open("a") as file:
        file.write("INSERT INTO t\nVALUES (1, 'again');\nCOMMIT;\n")
    await db.exec("DROP TABLE t; DROP TABLE log")
    with pytest.raises(bunflare.D1Error, match=rf"long.sql:{lines + 1}: UNIQUE constraint failed"):
        await db.import_sql(path)
    path.write_text(path.read_text().replace("INSERT INTO t\nVALUES (1,", "\n\nINSERT INTO\nno ("))
    with pytest.raises(bunflare.D1Error, match=rf"long.sql:{lines + 4}: "):
        await db.import_sql(path)
    assert (await db.info())["tables"] == 0


async def test_the_memory_that_an_import_and_an_export_take_does_not_grow_with_the_file(
    db: D1Database, tmp_path: Path
) -> None:
    path = tmp_path / "long.sql"
    write_long(path, 2_000, 2_500)
    assert path.stat().st_size > 10_000_000
    tracemalloc.start()
    try:
        await db.import_sql(path)
        await db.export_sql(tmp_path / "out.sql")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.sql").stat().st_size > 10_000_000


@given(st.text(alphabet="\r\\r'n", max_size=12))
def test_a_text_of_an_export_has_no_carriage_returns_and_means_the_same(text: str) -> None:
    written = _without_returns(text)
    assert "\r" not in written
    assert apsw.Connection(":memory:").execute(f"SELECT {written}").fetchall() == [(text,)]


async def test_a_text_that_is_none_is_named_by_an_export(db: D1Database, tmp_path: Path) -> None:
    await db.exec("CREATE TABLE odd (a); INSERT INTO odd VALUES (CAST(x'ff' AS TEXT))")
    with pytest.raises(bunflare.D1Error, match="the table odd has a text that is not UTF-8"):
        await db.export_sql(tmp_path / "out.sql")
    assert list(tmp_path.glob("*out*")) == []
