"""``bunflare state import`` and ``export``: real states of wrangler, and of relatives."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import DurableObject
from tests.cli.process import PROGRAM, run
from tests.support import files

FIXTURE = Path(__file__).parents[1] / "fixtures/wrangler"
KV = "0f2ac74b498b48028cb68387c421e279"


@pytest.fixture
def wrangler(tmp_path: Path) -> Path:
    """A project that wrangler has run, and was killed while running."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "wrangler.jsonc").write_bytes((FIXTURE / "wrangler.jsonc").read_bytes())
    with tarfile.open(FIXTURE / "state.tar.gz") as archive:
        archive.extractall(project, filter="data")
    return project


class Tables(DurableObject):
    async def everything(self) -> Any:
        return await self.ctx.storage.list()

    async def guests(self) -> Any:
        return self.ctx.storage.sql.exec("SELECT * FROM guests").to_array()

    async def bells(self) -> Any:
        return await self.ctx.storage.get_alarm()


class Keys(Tables):
    pass


def imported(project: Path, *words: str | Path) -> Any:
    return json.loads(run(project, "state", "import", "--json", *words)[0])


async def test_all_that_wrangler_has_kept(wrangler: Path) -> None:
    before = files(wrangler / ".wrangler")
    report = await asyncio.to_thread(imported, wrangler, ".")
    assert report["kind"] == "wrangler"
    assert {(one["system"], one["name"]): one["count"] for one in report["taken"]} == {
        ("alarms", "Keys"): 1,
        ("alarms", "Tables"): 1,
        ("cache", "default"): 1,
        ("cache", "named"): 1,
        ("d1", "quotes"): 1,
        ("kv", KV): 5,
        ("objects", "Keys"): 1,
        ("objects", "Tables"): 2,
        ("r2", "files"): 4,
        ("r2 uploads", "files"): 1,
        ("workflows", "order"): 2,
    }
    (left,) = report["left_out"]
    assert (left["system"], left["name"], left["key"]) == ("workflows", "order", "waiting")
    after = {name: data for name, data in files(wrangler / ".wrangler").items() if name in before}
    assert after == before
    await asyncio.to_thread(run, wrangler, "state", "check")

    async with bunflare.open(wrangler / ".bunflare") as state:
        kv = state.kv(KV)
        assert await kv.get("plain") == "hello"
        assert (await kv.get_with_metadata("grüße/🎉")).metadata == {"n": [1, 2]}
        assert await kv.get("bytes", "bytes") == b"\x00\xff\n"
        assert await kv.get("empty") == ""
        assert await kv.get("large") == "x" * 20000
        (expiring,) = [key for key in (await kv.list()).keys if key.expiration]
        assert (expiring.name, expiring.expiration) == ("bytes", 2_000_000_000)

        r2 = state.r2("files")
        readme = await r2.get("readme.txt")
        assert isinstance(readme, bunflare.R2ObjectBody)
        assert await readme.text() == "hello"
        assert readme.http_metadata == bunflare.R2HTTPMetadata(
            content_type="text/plain", cache_control="no-store"
        )
        assert readme.custom_metadata == {"author": "Ada"}
        odd = await r2.head("a/../odd//key")
        assert odd is not None
        assert odd.checksums.sha256 is not None
        joined = await r2.get("joined")
        assert isinstance(joined, bunflare.R2ObjectBody)
        assert await joined.bytes() == b"p" * 5 * 2**20 + b"end"
        assert joined.etag.endswith("-2")
        assert (await r2.check(digests=True)).problems == []

        row = await state.d1("quotes").prepare("SELECT * FROM quotes").first()
        assert row == {"id": 1, "text": "Less is more", "raw": b"\x01\x02\xff"}

        page = await state.caches.default.match("https://example.com/page")
        assert page is not None
        assert (await page.text(), page.headers["x-a"]) == ("cached page", "b")
        other = await (await state.caches.open("named")).match("https://example.com/other")
        assert other is not None


async def test_objects_of_wrangler_keep_their_names_values_tables_and_alarms(
    wrangler: Path,
) -> None:
    await asyncio.to_thread(imported, wrangler, ".")
    async with bunflare.open(wrangler / ".bunflare") as state:
        tables = state.durable_objects(Tables)
        blue = tables.get_by_name("blue")
        found = await blue.everything()
        shared = found.pop("twice")
        assert shared == [{"a": 1}, {"a": 1}]
        assert shared[0] is shared[1]
        cycle = found.pop("cycle")
        assert cycle["self"] is cycle
        assert isinstance(error := found.pop("error"), TypeError)
        assert str(error) == "wrong"
        assert str(found.pop("nan")) == "nan"
        assert found == {
            "null": None,
            "true": True,
            "int": 42,
            "negative": -7,
            "float": 1.5,
            "big": 2**52,
            "infinity": float("-inf"),
            "bigint": 123456789012345678901234567890,
            "text": "plain",
            "unicode": "grüße 🎉",
            "date": datetime(2026, 2, 3, 4, 5, 6, 789000, UTC),
            "regexp": re.compile("a+b", re.IGNORECASE),
            "list": [1, "two", [3]],
            "holes": [1, None, 3],
            "object": {"nested": {"deep": [True, None]}},
            "map": {"k": 1, 2: "two"},
            "set": {1, "two"},
            "bytes": b"\x00\x01\xfe\xff",
            "buffer": b"\x09\x08\x07",
            "floats": [1.5, -2.5],
            "undefined": {"there": None},
            "sync": "written synchronously",
        }
        assert await blue.guests() == [
            {"id": 1, "name": "Ada", "photo": b"\x00\x01\xff"},
            {"id": 2, "name": "Bob", "photo": None},
        ]
        # By its digits as well; and one that has no name only so.
        same = tables.id_from_string(str(tables.id_from_name("blue")))
        assert len(await tables.get(same).guests()) == 2
        red = state.durable_objects(Keys).get_by_name("red")
        assert await red.everything() == {"count": 3, "seen": datetime(1970, 1, 1, tzinfo=UTC)}
    listed = json.loads(run(wrangler, "do", "alarms", "list", "--json")[0])
    assert [one["time"] for one in listed] == [4102444800000, 4102444801000]
    named = [one["name"] for one in json.loads(run(wrangler, "do", "list", "Tables", "--json")[0])]
    assert sorted(named, key=str) == [None, "blue"]
    shown = json.loads(run(wrangler, "do", "storage", "list", "Tables", "blue", "--json")[0])
    assert {"key": "int", "value": 42} in shown


async def test_an_upload_of_wrangler_goes_on(wrangler: Path) -> None:
    await asyncio.to_thread(imported, wrangler, ".")
    async with bunflare.open(wrangler / ".bunflare") as state:
        row = state.database.view.one("SELECT upload_id FROM bunflare_r2_uploads")
        assert row is not None
        upload = state.r2("files").resume_multipart_upload("unfinished", row[0])
        etag = "550cf6b6e60f65a0e3104a26e70fea42"
        await upload.complete([{"part_number": 1, "etag": etag}])
        found = await state.r2("files").get("unfinished")
        assert isinstance(found, bunflare.R2ObjectBody)
        assert await found.text() == "first part"
        assert found.http_metadata is not None
        assert found.http_metadata.content_type == "video/mp4"


def test_what_is_there_already_is_not_written_over(wrangler: Path) -> None:
    run(wrangler, "kv", "key", "put", "plain", "mine", "--namespace-id", KV)
    run(wrangler, "kv", "key", "put", "own", "mine", "--namespace-id", KV)
    told = run(wrangler, "state", "import", ".", code=1)[1]
    assert "1 things are in" in told
    assert "'plain'" in told
    listed = json.loads(run(wrangler, "kv", "key", "list", "--namespace-id", KV)[0])
    assert len(listed) == 2
    out = run(wrangler, "state", "import", ".", "--keep-existing")[0]
    assert f"  kv {KV} plain: there is one already\n" in out
    get = ("kv", "key", "get", "--namespace-id", KV)
    assert run(wrangler, *get, "plain")[0] == "mine"
    assert run(wrangler, *get, "large")[0] == "x" * 20000
    assert run(wrangler, *get, "own")[0] == "mine"
    again = imported(wrangler, ".", "--keep-existing")
    assert again["taken"] == []


def test_what_is_damaged_or_of_another_form_does_not_keep_the_rest_back(wrangler: Path) -> None:
    root = wrangler / ".wrangler/state/v3"
    (database,) = (root / "r2/miniflare-R2BucketObject").glob("7*.sqlite")
    database.write_bytes(b"damaged" * 1000)
    database.with_name(f"{database.name}-wal").unlink()
    (database,) = (root / "do/fixture-Keys").glob("a7*.sqlite")
    connection = sqlite3.connect(database)
    connection.execute("UPDATE _cf_KV SET value = x'ffff' WHERE key = 'seen'")
    connection.commit()
    connection.close()
    (database,) = (root / "kv/miniflare-KVNamespaceObject").glob("6*.sqlite")
    connection = sqlite3.connect(database)
    connection.execute("ALTER TABLE _mf_entries RENAME COLUMN blob_id TO blob")
    connection.close()
    next((root / "cache/default/blobs").iterdir()).unlink()
    report = imported(wrangler, ".")
    taken = {(one["system"], one["name"]): one["count"] for one in report["taken"]}
    assert taken["d1", "quotes"] == 1
    assert taken["objects", "Keys"] == 1
    assert not any(system in ("r2", "kv") for system, _ in taken)
    reasons = {one["system"]: one["reason"] for one in report["left_out"]}
    assert reasons["r2"] == "its file is damaged"
    assert "no 'blob_id'" in reasons["kv"]
    assert "cannot be read" in reasons["objects"]
    assert reasons["cache"] == "the file of its body is missing"


def test_names_that_the_configuration_tells(wrangler: Path) -> None:
    source = (wrangler / "wrangler.jsonc").read_text()
    (wrangler / "wrangler.jsonc").write_text(
        source.replace('{ "binding": "KV",', '{ "binding": "KV", "preview_id": "p",')
    )
    taken = {(one["system"], one["name"]) for one in imported(wrangler, ".")["taken"]}
    assert ("kv", "p") in taken
    (wrangler / "wrangler.jsonc").unlink()
    (wrangler / "pyproject.toml").touch()
    report = imported(wrangler, ".", "--persist-to", wrangler / "other")
    taken = {(one["system"], one["name"]) for one in report["taken"]}
    assert ("kv", KV) in taken
    (database,) = [name for system, name in taken if system == "d1"]
    assert len(database) == 64
    assert ("d1", database) in {(one["system"], one["name"]) for one in report["left_out"]}


# -- programs that follow the seed -----------------------------------------------------------------

# As such programs make it.
BLUE = hashlib.sha256(b"blue").hexdigest()

OTHER = """
CREATE TABLE kv (namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, metadata TEXT,
  expiration INTEGER, PRIMARY KEY (namespace, key));
CREATE TABLE r2_objects (bucket TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,
  etag TEXT NOT NULL, version TEXT NOT NULL DEFAULT '', uploaded TEXT NOT NULL, http_metadata TEXT,
  custom_metadata TEXT, checksums TEXT, PRIMARY KEY (bucket, key));
CREATE TABLE r2_multipart_uploads (upload_id TEXT PRIMARY KEY, bucket TEXT NOT NULL,
  key TEXT NOT NULL, http_metadata TEXT, custom_metadata TEXT, created_at TEXT NOT NULL);
CREATE TABLE r2_multipart_parts (upload_id TEXT NOT NULL, part_number INTEGER NOT NULL,
  etag TEXT NOT NULL, size INTEGER NOT NULL, file_path TEXT NOT NULL,
  PRIMARY KEY (upload_id, part_number));
CREATE TABLE do_instances (namespace TEXT NOT NULL, id TEXT NOT NULL, name TEXT,
  created_at TEXT NOT NULL DEFAULT (datetime('now')), PRIMARY KEY (namespace, id));
CREATE TABLE do_storage (namespace TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL,
  value TEXT NOT NULL, PRIMARY KEY (namespace, id, key));
CREATE TABLE do_alarms (namespace TEXT NOT NULL, id TEXT NOT NULL, alarm_time INTEGER NOT NULL,
  PRIMARY KEY (namespace, id));
CREATE TABLE queue_messages (id TEXT PRIMARY KEY, queue TEXT NOT NULL, body BLOB NOT NULL,
  content_type TEXT NOT NULL DEFAULT 'json', attempts INTEGER NOT NULL DEFAULT 0,
  status TEXT NOT NULL DEFAULT 'pending', visible_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
  completed_at INTEGER);
CREATE TABLE queue_leases (lease_id TEXT PRIMARY KEY, message_id TEXT NOT NULL, queue TEXT NOT NULL,
  expires_at INTEGER NOT NULL);
CREATE TABLE workflow_instances (id TEXT PRIMARY KEY, workflow_name TEXT NOT NULL,
  class_name TEXT NOT NULL, params TEXT, status TEXT NOT NULL DEFAULT 'running', output TEXT,
  error TEXT, error_name TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
CREATE TABLE workflow_steps (instance_id TEXT NOT NULL, step_name TEXT NOT NULL, output TEXT,
  completed_at INTEGER NOT NULL, PRIMARY KEY (instance_id, step_name));
CREATE TABLE workflow_events (id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id TEXT NOT NULL,
  event_type TEXT NOT NULL, payload TEXT, created_at INTEGER NOT NULL);
CREATE TABLE cache_entries (cache_name TEXT NOT NULL, url TEXT NOT NULL, status INTEGER NOT NULL,
  headers TEXT NOT NULL, body BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (cache_name, url));
CREATE TABLE email_messages (id TEXT PRIMARY KEY, raw BLOB);
INSERT INTO kv VALUES ('N', 'a', x'31', '{"n":1}', NULL), ('N', 'text', 'text', NULL, 9000000000.5),
  ('N', 'gone', x'31', NULL, 1);
INSERT INTO r2_objects VALUES
  ('b', 'dir/key', 4, '8d777f385d3dfec8815d20f7496026dc', 'v1', '2026-01-02T03:04:05.000Z',
   '{"contentType":"a/b"}', '{"by":"Ada"}', '{"sha1":"a17c9aaa61e80a1bf71d0d850af4e5baa9800bbd"}'),
  ('b', 'lost', 3, 'abc', '', '2026-01-02T03:04:05.000Z', NULL, NULL, NULL);
INSERT INTO r2_multipart_uploads VALUES ('up', 'b', 'later', NULL, NULL, datetime('now')),
  ('old', 'b', 'expired', NULL, NULL, '2020-01-01T00:00:00.000Z');
INSERT INTO r2_multipart_parts VALUES ('up', 1, 'e', 4, '/elsewhere/r2/b/__multipart__/up/part-1'),
  ('up', 2, 'e', 4, '/elsewhere/r2/b/__multipart__/up/part-2');
INSERT INTO do_instances VALUES ('Room', '%(blue)s', 'blue', '2026-01-02 03:04:05');
INSERT INTO do_storage VALUES ('Room', '%(blue)s', 'seat', '{"row":1}'),
  ('Room', '%(blue)s', 'bad', '{');
INSERT INTO do_alarms VALUES ('Room', '%(blue)s', 9000000000000);
INSERT INTO queue_messages VALUES ('m1', 'q', '{"n":1}', 'json', 1, 'pending', 5, %(now)s, NULL),
  ('m2', 'q', x'00ff', 'bytes', 0, 'pending', 5, %(now)s, NULL),
  ('m3', 'q', '1', 'json', 1, 'acked', 5, 5, 6),
  ('m4', 'q', '1', 'json', 1, 'pending', 5, 5, 6);
INSERT INTO queue_leases VALUES ('l', 'm1', 'q', 9000000000000);
INSERT INTO workflow_instances VALUES
  ('done', 'order', 'Order', '{}', 'complete', '42', NULL, NULL, 1, 2),
  ('half', 'order', 'Order', '{}', 'running', NULL, NULL, NULL, 1, 2);
INSERT INTO workflow_steps VALUES ('half', 'one', '1', 2), ('done', 'one', '1', 2);
INSERT INTO workflow_events (instance_id, event_type, payload, created_at) VALUES
  ('half', 'paid', '1', 2);
INSERT INTO cache_entries VALUES
  ('default', 'https://example.com/', 200, '[["cache-control","max-age=60"]]', x'3132',
   9000000000000),
  ('default', 'https://example.com/bad', 200, '{', x'3132', NULL);
INSERT INTO email_messages VALUES ('1', x'00');
""".replace("%(blue)s", BLUE).replace("%(now)s", str(int(time.time() * 1000)))


@pytest.fixture
def lopata(tmp_path: Path) -> Path:
    """A state as another program that follows the seed leaves it, columns of its own included."""
    root = tmp_path / "theirs/.lopata"
    (root / "r2/b/dir").mkdir(parents=True)
    (root / "r2/b/dir/key").write_text("data")
    (root / "r2/b/__multipart__/up").mkdir(parents=True)
    (root / "r2/b/__multipart__/up/part-1").write_text("part")
    (root / "d1").mkdir()
    (root / "do-sql/Room").mkdir(parents=True)
    for path, script in (
        (root / "data.sqlite", OTHER),
        (root / "d1/quotes.sqlite", "CREATE TABLE t (a); INSERT INTO t VALUES (1)"),
        (root / f"do-sql/Room/{BLUE}.sqlite", "CREATE TABLE t (a); INSERT INTO t VALUES (2)"),
    ):
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()
    (root / "artifacts").mkdir()
    (root / "artifacts/x").touch()
    (root / "d1/broken.sqlite").write_text("no database" * 100)
    (tmp_path / "pyproject.toml").touch()
    return root.parent


def test_a_state_of_another_program(tmp_path: Path, lopata: Path) -> None:
    report = imported(tmp_path, lopata)
    assert report["kind"] == "seed"
    assert {(one["system"], one["name"]): one["count"] for one in report["taken"]} == {
        ("alarms", "Room"): 1,
        ("cache", "default"): 1,
        ("d1", "quotes"): 1,
        ("kv", "N"): 2,
        ("objects", "Room"): 1,
        ("queues", "q"): 2,
        ("r2", "b"): 1,
        ("r2 uploads", "b"): 1,
        ("workflows", "order"): 2,
    }
    left = {(one["system"], one["name"], one["key"]) for one in report["left_out"]}
    assert left >= {
        ("r2", "b", "lost"),
        ("r2 uploads", "b", "expired"),
        ("r2 uploads", "b", "later, part 2"),
        ("objects", "Room", f"{BLUE}: bad"),
        ("queues", "all", None),
        ("queues", "q", "m4"),
        ("workflows", "order", "half"),
        ("cache", "default", "https://example.com/bad"),
        ("d1", "broken", None),
        ("other tables", "email_messages", None),
        ("other files", "artifacts", None),
    }

    async def look() -> None:
        async with bunflare.open(tmp_path / ".bunflare") as state:
            assert await state.kv("N").get("a") == "1"
            assert (await state.kv("N").get_with_metadata("a")).metadata == {"n": 1}
            assert await state.kv("N").get("text") == "text"
            found = await state.r2("b").get("dir/key")
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.text() == "data"
            assert found.checksums.sha1 is not None
            assert (await state.r2("b").check(digests=True)).problems == []
            assert await state.d1("quotes").prepare("SELECT a FROM t").first("a") == 1
            page = await state.caches.default.match("https://example.com/")
            assert page is not None
            rows = state.database.view.all(
                "SELECT id, body, visible_at > created_at FROM queue_messages ORDER BY id"
            )
            assert rows == [("m1", '{"n":1}', 1), ("m2", "AP8=", 0)]
            instances = state.database.view.all(
                "SELECT id, status, output FROM workflow_instances ORDER BY id"
            )
            assert instances == [("done", "complete", "42"), ("half", "running", None)]

    asyncio.run(look())
    assert run(tmp_path, "do", "sql", "Room", "blue", "SELECT a FROM t")[0].split()[-1] == "2"


async def test_a_state_of_ours(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    source = tmp_path / "source"
    large = os.urandom(3 * 2**20)
    async with bunflare.open(source) as state:
        await state.kv("N").put("a", "1", metadata=[1], expiration_ttl=600)
        for key in ("a", "a/b", "../x", "large"):
            await state.r2("b").put(key, large if key == "large" else key, sha256=None)
        await state.d1("q").exec("CREATE TABLE t (a)")
        blue = state.durable_objects(Filled).get_by_name("blue")
        await blue.fill()
        await state.caches.default.put(
            "https://example.com/",
            bunflare.Response(large, headers={"cache-control": "max-age=60"}),
        )
        upload = await state.r2("b").create_multipart_upload("parts")
        part = await upload.upload_part(1, b"part")
        # While it is open: its log is not in its file yet.
        await asyncio.to_thread(imported, tmp_path, source)
    async with bunflare.open(tmp_path / ".bunflare") as state:
        (listed,) = (await state.kv("N").list()).keys
        assert (listed.metadata, listed.expiration is None) == ([1], False)
        for name in ("a", "a/b", "../x", "large"):
            found = await state.r2("b").get(name)
            assert isinstance(found, bunflare.R2ObjectBody)
            assert await found.bytes() == (large if name == "large" else name.encode())
        assert (await state.r2("b").check(digests=True)).problems == []
        blue = state.durable_objects(Filled).get_by_name("blue")
        assert await blue.look() == [{"set": {1, 2}}, [{"a": 1}]]
        page = await state.caches.default.match("https://example.com/")
        assert page is not None
        assert await page.bytes() == large
        again = state.r2("b").resume_multipart_upload("parts", upload.upload_id)
        assert (await again.complete([part])).size == 4


class Filled(DurableObject):
    async def fill(self) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        await self.ctx.storage.put("set", {1, 2})

    async def look(self) -> Any:
        rows = self.ctx.storage.sql.exec("SELECT * FROM t").to_array()
        return [await self.ctx.storage.list(), rows]


# -- what goes wrong -----------------------------------------------------------------------------


async def test_a_state_that_is_in_use_is_not_added_to(wrangler: Path) -> None:
    async with bunflare.open(wrangler / ".bunflare") as state:
        await state.kv("N").put("a", "1")
        told = (await asyncio.to_thread(run, wrangler, "state", "import", ".", code=1))[1]
        assert "in use" in told
        assert told.count("\n") == 1


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/data.sqlite").write_text("no database" * 100)
    (tmp_path / "file").touch()
    for source in ("nowhere", "empty", "foreign", "file"):
        told = run(tmp_path, "state", "import", source, code=1)[1]
        assert told.startswith("error: ")
        assert told.count("\n") == 1
    assert not (tmp_path / ".bunflare").exists()
    run(tmp_path, "kv", "key", "put", "a", "1", "--namespace-id", "N")
    assert "itself" in run(tmp_path, "state", "import", ".", code=1)[1]
    run(tmp_path, "state", "import", code=2)


def test_values_of_wrangler_need_a_library(wrangler: Path) -> None:
    code = (
        "import sys; sys.modules['v8serialize'] = None; "
        "sys.argv[1:] = ['state', 'import', '.']; from bunflare.cli import main; main()"
    )
    done = subprocess.run(
        [str(Path(PROGRAM).with_name("python")), "-c", code],
        cwd=wrangler,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'bunflare[import]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (wrangler / ".bunflare").exists()


def test_whatever_is_killed_all_is_imported_or_nothing(wrangler: Path) -> None:
    """Killed again and again, the later the more often it has run."""
    blobs = wrangler / f".wrangler/state/v3/kv/{KV}/blobs"
    (database,) = (wrangler / ".wrangler/state/v3/kv/miniflare-KVNamespaceObject").glob("6*.sqlite")
    connection = sqlite3.connect(database)
    for number in range(3000):
        (blobs / f"blob{number}").write_text(str(number))
        connection.execute(
            "INSERT INTO _mf_entries VALUES (?, ?, NULL, NULL)", (f"k{number}", f"blob{number}")
        )
    connection.commit()
    connection.close()
    (wrangler / "mine").write_text("mine")
    own = ("own", "--namespace-id", "N")
    run(wrangler, "kv", "key", "put", *own, "--path", "mine")
    rounds = 60 if os.environ.get("BUNFLARE_CRASH") == "long" else 4
    killed = late = number = 0
    while number < rounds:
        process = subprocess.Popen(
            [PROGRAM, "state", "import", "."], cwd=wrangler, stdout=subprocess.DEVNULL
        )
        time.sleep(0.15 + 0.9 * number / rounds)  # real time: any moment may be the one
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        names = {one["id"] for one in json.loads(run(wrangler, "kv", "namespace", "list")[0])}
        assert run(wrangler, "kv", "key", "get", *own)[0] == "mine"
        if (wrangler / ".bunflare/d1/quotes.sqlite").exists():
            listed = json.loads(run(wrangler, "kv", "key", "list", "--namespace-id", KV)[0])
            assert len(listed) == 3005
            if killed or late == 20:
                break
            # It was done before this process had its turn: once more from the beginning.
            late += 1
            shutil.rmtree(wrangler / ".bunflare")
            run(wrangler, "kv", "key", "put", *own, "--path", "mine")
        else:
            number += 1
            assert names == {"N", KV}  # which the configuration declares
            assert not (wrangler / ".bunflare/r2").exists()
    else:
        run(wrangler, "state", "import", ".")
    assert killed > 0
    assert run(wrangler, "r2", "check", "files", "--digests")[0] == "4 objects, 5242891 bytes\n"
    # What killed ones have left beside it goes with the next that is made.
    run(wrangler, "state", "import", ".", "--keep-existing")
    assert [one.name for one in wrangler.glob(".bunflare*")] == [".bunflare"]


# -- export --------------------------------------------------------------------------------------


def test_an_export_is_what_wrangler_takes(wrangler: Path) -> None:
    run(wrangler, "state", "import", ".")
    out, told = run(wrangler, "state", "export", "out")
    assert f"{KV}.json: 5 keys" in out
    assert "objects" in told
    entries = {one["key"]: one for one in json.loads((wrangler / f"out/kv/{KV}.json").read_text())}
    assert entries["plain"] == {"key": "plain", "value": "hello"}
    assert entries["bytes"] == {
        "key": "bytes",
        "value": "AP8K",
        "base64": True,
        "expiration": 2_000_000_000,
    }
    assert entries["grüße/🎉"]["metadata"] == {"n": [1, 2]}
    assert "Less is more" in (wrangler / "out/d1/quotes.sql").read_text()
    listed = {one["key"]: one for one in json.loads((wrangler / "out/r2/files.json").read_text())}
    assert set(listed) == {"readme.txt", "a/../odd//key", "empty", "joined"}
    assert listed["readme.txt"]["file"] == "r2/files/readme.txt"
    assert listed["readme.txt"]["custom_metadata"] == {"author": "Ada"}
    assert (wrangler / "out" / listed["a/../odd//key"]["file"]).read_text() == "odd"

    # And back again, as wrangler's files go in.
    there = wrangler.parent / "there"
    there.mkdir()
    (there / "pyproject.toml").touch()
    run(there, "kv", "bulk", "put", f"../project/out/kv/{KV}.json", "--namespace-id", KV)
    run(there, "d1", "execute", "quotes", "--file", "../project/out/d1/quotes.sql")
    run(
        wrangler / "out",
        "r2",
        "bulk",
        "put",
        "files",
        "-f",
        "r2/files.json",
        "--persist-to",
        there / ".bunflare",
    )
    run(there, "state", "export", "again")
    again = files(there / "again")
    before = files(wrangler / "out")
    assert again.keys() == before.keys()
    assert {name for name in again if again[name] != before[name]} == {"r2/files.json"}
    # Versions and times are new, and so is the etag of what was uploaded in parts.
    for one in json.loads(again["r2/files.json"]):
        old = listed[one["key"]]
        for name in ("size", "http_metadata", "custom_metadata", "storage_class"):
            assert one[name] == old[name], one["key"]


def test_an_export_goes_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    run(tmp_path, "state", "export", "out", code=1)
    run(tmp_path, "kv", "key", "put", "a", "1", "--namespace-id", "N")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert "not empty" in run(tmp_path, "state", "export", "out", code=1)[1]
    run(tmp_path, "state", "export", "new", "--only", "d1")
    assert files(tmp_path / "new") == {}
    run(tmp_path, "state", "export", "odd", "--only", "nonsense", code=2)


STEPS = """
ALTER TABLE workflow_instances ADD COLUMN incarnation TEXT;
ALTER TABLE workflow_instances ADD COLUMN run INTEGER NOT NULL DEFAULT 1;
CREATE TABLE workflow_occurrences (id INTEGER PRIMARY KEY, incarnation TEXT, run INTEGER, type TEXT,
  name TEXT, count INTEGER, state TEXT, output TEXT, completed_at INTEGER, attempt INTEGER,
  stream_id TEXT);
UPDATE workflow_instances SET incarnation = id;
INSERT INTO workflow_occurrences VALUES
  (1, 'half', 1, 'do', 'one', 1, 'completed', '41', 7, 1, NULL),
  (2, 'half', 1, 'sleep', 'rest', 1, 'completed', NULL, 8, 1, NULL),
  (3, 'half', 1, 'do', 'two', 1, 'failed', NULL, 9, 1, NULL),
  (4, 'half', 1, 'do', 'three', 1, 'started', NULL, NULL, 1, NULL),
  (5, 'done', 1, 'do', 'one', 1, 'completed', '41', 7, 1, NULL);
"""


def test_an_unfinished_workflow_goes_on_where_its_steps_are_known(
    tmp_path: Path, lopata: Path
) -> None:
    connection = sqlite3.connect(lopata / ".lopata/data.sqlite")
    connection.executescript(STEPS)
    connection.close()
    report = imported(tmp_path, lopata)
    told = [one["reason"] for one in report["left_out"] if one["key"] == "half"]
    connection = sqlite3.connect(tmp_path / ".bunflare/data.sqlite")
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    if "bunflare_workflow_log" in tables:
        rows = connection.execute(
            "SELECT instance, number, kind, name, count, value FROM bunflare_workflow_log"
        ).fetchall()
        assert rows == [
            ("half", 1, "step_completed", "one", 1, "41"),
            ("half", 2, "sleep_completed", "rest", 1, None),
        ]
        assert told == ['1 steps, from "two" on: they run again']
    else:
        assert told[0] == '3 steps, from "one" on: they run again'
    connection.close()
