"""Files that other programs made, following the seed or going beyond it, open and work."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare.store import schema
from bunflare.store.systems import SCHEMAS
from tests.support import child

SEED = (Path(__file__).parent / "seed.sql").read_text()

# What the relatives of the seed added in their later versions.
RELATIVES = """
CREATE TABLE do_instances (namespace TEXT, id TEXT, name TEXT, created_at INTEGER);
CREATE TABLE queue_leases (id TEXT PRIMARY KEY, queue TEXT, expires_at INTEGER);
CREATE TABLE workflow_steps (workflow_id TEXT, name TEXT, output TEXT, completed_at INTEGER);
CREATE TABLE workflow_step_attempts (workflow_id TEXT, name TEXT, attempts INTEGER);
CREATE TABLE workflow_events (id INTEGER PRIMARY KEY, instance_id TEXT, type TEXT, payload TEXT);
CREATE TABLE r2_multipart_uploads (upload_id TEXT PRIMARY KEY, bucket TEXT, key TEXT);
CREATE TABLE r2_multipart_parts (upload_id TEXT, part_number INTEGER, etag TEXT, size INTEGER);
CREATE TABLE do_migrations (tag TEXT PRIMARY KEY);
CREATE TABLE email_messages (id TEXT PRIMARY KEY, raw BLOB);
CREATE INDEX idx_queue_visible ON queue_messages (queue, visible_at);
ALTER TABLE r2_objects ADD COLUMN version TEXT DEFAULT '';
ALTER TABLE r2_objects ADD COLUMN checksums TEXT;
ALTER TABLE r2_objects ADD COLUMN tags TEXT;
ALTER TABLE queue_messages ADD COLUMN status TEXT DEFAULT 'pending';
ALTER TABLE queue_messages ADD COLUMN completed_at INTEGER;
ALTER TABLE workflow_instances ADD COLUMN error_name TEXT;
ALTER TABLE cache_entries ADD COLUMN expires_at INTEGER;
INSERT INTO do_instances VALUES ('Counter', 'abc', 'name', 1);
INSERT INTO workflow_events VALUES (1, 'w', 'approve', '{}');
INSERT INTO r2_multipart_uploads VALUES ('u', 'bucket', 'key');
"""

ROWS = """
INSERT INTO kv VALUES ('A', 'text', 'a str', NULL, NULL);
INSERT INTO kv VALUES ('A', 'blob', x'00ff', '{"m":1}', NULL);
INSERT INTO kv VALUES ('A', 'fraction', 'x', NULL, 1795455248.493);
INSERT INTO kv VALUES ('A', 'strange', 'x', NULL, 'not a number');
INSERT INTO r2_objects (bucket, key, size, etag, uploaded)
  VALUES ('b', 'k', 1, 'e', '2026-01-01T00:00:00Z');
INSERT INTO do_storage VALUES ('Counter', 'abc', 'n', '1');
INSERT INTO do_alarms VALUES ('Counter', 'abc', 1800000000000);
INSERT INTO queue_messages (id, queue, body, visible_at, created_at) VALUES ('1', 'q', '{}', 1, 1);
INSERT INTO queue_messages (id, queue, body, content_type, visible_at, created_at)
  VALUES ('2', 'q', x'fffe', 'bytes', 1, 1);
INSERT INTO workflow_instances (id, workflow_name, class_name, created_at, updated_at)
  VALUES ('w', 'order', 'Order', 1, 1);
INSERT INTO cache_entries (cache_name, url, status, headers, body)
  VALUES ('default', 'http://a/', 200, '{"content-type":"text/plain"}', 'hello');
INSERT INTO cache_entries (cache_name, url, status, headers, body)
  VALUES ('default', 'http://b/', 200, '[["content-type","text/plain"]]', x'6869');
"""


def make(path: Path, *scripts: str) -> None:
    """A file of another program, made with another SQLite library."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    for script in scripts:
        connection.executescript(script)
    connection.close()


def contents(path: Path, columns_of: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    try:
        return {
            table: connection.execute(
                f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid"
            ).fetchall()
            for table, columns in columns_of.items()
        }
    finally:
        connection.close()


def columns(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in tables
        }
    finally:
        connection.close()


@pytest.mark.parametrize("extra", ["", RELATIVES], ids=["seed", "relative"])
async def test_a_file_of_version_0_opens_and_nothing_in_it_is_harmed(
    directory: Path, extra: str, clock: bunflare.ManualClock
) -> None:
    path = directory / "data.sqlite"
    make(path, SEED, extra, ROWS)
    had = columns(path)
    before = contents(path, had)
    async with bunflare.open(directory, clock=clock) as state:
        kv = state.kv("A")
        assert await kv.get("text") == "a str"
        assert await kv.get_with_metadata("blob", "bytes") == bunflare.KVValue(
            b"\x00\xff", {"m": 1}
        )
        assert await kv.get("fraction") == "x"
        assert await kv.get("strange") == "x"
        listed = {key.name: key.expiration for key in (await kv.list()).keys}
        assert listed == {"text": None, "blob": None, "fraction": 1795455248, "strange": None}
        for url in ("http://a/", "http://b/"):
            response = await state.caches.default.match(url)
            assert response is not None
            assert response.headers["content-type"] == "text/plain"
            assert await response.text() in ("hello", "hi")
    assert contents(path, had) == before
    async with bunflare.open(directory, clock=clock) as state:
        await state.kv("A").put("text", "new")
        assert await state.kv("A").get("text") == "new"
        clock.set(1795455248_493)
        assert await state.kv("A").get("fraction") is None
        await clock.advance(seconds=1)
        assert state.database.view.all("SELECT key FROM kv WHERE key = 'fraction'") == []


async def test_the_other_program_goes_on_beside_us(directory: Path) -> None:
    path = directory / "data.sqlite"
    make(path, SEED, RELATIVES, ROWS)
    source = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
for line in sys.stdin:
    c.execute("INSERT OR REPLACE INTO kv VALUES ('A', 'theirs', ?, NULL, NULL)", (line.strip(),))
    c.execute("INSERT OR REPLACE INTO cache_entries (cache_name, url, status, headers, body) "
              "VALUES ('default', 'http://c/', 200, '[]', ?)", (line.strip(),))
    row = c.execute("SELECT value FROM kv WHERE key = 'ours'").fetchone()
    print(row[0], flush=True)
"""
    async with bunflare.open(directory) as state:
        large = bunflare.Response(bytes(2**21), headers={"cache-control": "max-age=60"})
        await state.caches.default.put("http://c/", large)
        with child(source, path) as other:
            for number in range(20):
                await state.kv("A").put("ours", str(number))
                other.tell(f"value {number}")
                assert other.line() == f"b'{number}'"
                assert await state.kv("A").get("theirs") == f"value {number}"
                # Their body, not the file that our row had named.
                response = await state.caches.default.match("http://c/")
                assert response is not None
                assert await response.text() == f"value {number}"


async def test_tables_and_columns_are_those_of_the_seed(directory: Path, tmp_path: Path) -> None:
    make(tmp_path / "seed" / "seed.sqlite", SEED)
    seed = sqlite3.connect(tmp_path / "seed" / "seed.sqlite")
    async with bunflare.open(directory) as state:
        tables = [
            row[0] for row in seed.execute("SELECT name FROM sqlite_master WHERE sql NOTNULL")
        ]
        assert len(tables) == 7
        for table in tables:
            wanted = seed.execute(f"PRAGMA table_info({table})").fetchall()
            found = state.database.view.all(f"PRAGMA table_info({table})")
            assert found[: len(wanted)] == wanted
            for row in found[len(wanted) :]:
                # Beyond them only columns that others can leave out, under names of our own.
                assert row[1].startswith("bunflare_")
                assert row[3] == 0 or row[4] is not None
    seed.close()


async def test_names_of_our_own_cannot_be_mistaken_for_others(state: bunflare.State) -> None:
    seed = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SEED))
    for name, kind in state.database.view.all("SELECT name, type FROM sqlite_master"):
        assert name in seed or name.startswith(("bunflare_", "sqlite_")), kind


def test_the_statements_of_the_seed_stand_word_for_word_in_the_modules() -> None:
    statements = {
        match[2]: match[1]
        for match in re.finditer(r"(CREATE TABLE IF NOT EXISTS (\w+) \(.*?^\));", SEED, re.S | re.M)
    }
    assert len(statements) == 7
    ours = "\n".join(step for one in SCHEMAS for step in one.steps if isinstance(step, str))
    for statement in statements.values():
        assert statement in ours


async def test_a_step_that_fails_leaves_the_file_as_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory / "data.sqlite"
    make(path, SEED, ROWS)
    had = columns(path)
    before = contents(path, had)
    broken = schema.Schema("broken", ("CREATE TABLE bunflare_half (x)", "CREATE NONSENSE"))
    monkeypatch.setattr("bunflare.store.systems.SCHEMAS", (*SCHEMAS, broken))
    with pytest.raises(bunflare.DatabaseError):
        bunflare.open(directory)
    assert columns(path) == had
    assert contents(path, had) == before
    monkeypatch.undo()
    async with bunflare.open(directory) as state:
        assert await state.kv("A").get("text") == "a str"


async def test_later_steps_are_taken_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bunflare.open(directory):
        pass
    later = schema.Schema("kv", (*SCHEMAS[0].steps, "CREATE TABLE bunflare_new (x)"))
    monkeypatch.setattr("bunflare.store.systems.SCHEMAS", (later, *SCHEMAS[1:]))
    for _ in range(2):
        async with bunflare.open(directory) as state:
            versions = state.database.view.all("SELECT system, version FROM bunflare_versions")
            assert ("kv", 2) in versions
            assert state.database.view.all("SELECT * FROM bunflare_new") == []


async def test_a_foreign_user_version_does_not_hide_that_tables_are_missing(
    directory: Path,
) -> None:
    make(directory / "data.sqlite", SEED, "PRAGMA user_version = 1")
    async with bunflare.open(directory) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
        assert await state.kv("A").get("key") == "value"
