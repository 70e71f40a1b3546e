"""Every invariant, broken by hand: it is named, and mended where that can be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare.store.invariants import INVARIANTS


class Room(bunflare.DurableObject):
    async def fill(self) -> str:
        await self.ctx.storage.put("seat", "window")
        self.ctx.storage.sql.exec("CREATE TABLE t (a)")
        await self.ctx.storage.set_alarm(9_000_000_000_000)
        return await self.ctx.storage.get_current_bookmark()

    async def alarm(self) -> None:
        raise AssertionError("it is far away")


# An instance that waits for an event behind a step that failed once.
WORKFLOW = """
INSERT INTO workflow_instances
  (id, workflow_name, class_name, params, status, created_at, updated_at, bunflare_due)
VALUES ('one', 'order', 'Order', '{}', 'waiting', 1, 1, 9000000000000);
INSERT INTO bunflare_workflow_log
  (instance, number, kind, name, count, attempt, started_at, at, due, value)
VALUES ('one', 1, 'attempt_errored', 'pay', 1, 1, 1, 1, 1, '{"name": "E", "message": "m"}'),
  ('one', 2, 'step_completed', 'pay', 1, 2, 1, 1, NULL, '5'),
  ('one', 3, 'wait_started', 'approval', 1, NULL, 1, 1, 9000000000000, NULL);
INSERT INTO bunflare_workflow_events (instance, number, type, payload, at)
VALUES ('one', 1, 'other', '1', 1);
"""


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with something of every system, in which nothing is wrong."""
    import asyncio

    path = tmp_path_factory.mktemp("whole") / "state"

    async def fill() -> None:
        async with bunflare.open(path) as state:
            await state.kv("N").put("k", "v", metadata={"a": 1})
            await state.r2("bucket").put("dir/key", "value")
            upload = await state.r2("bucket").create_multipart_upload("large")
            await upload.upload_part(1, b"part")
            await state.queue("jobs").send(1)
            await state.durable_objects(Room).get_by_name("blue").fill()
            await state.caches.default.put(
                "https://example.com/",
                bunflare.Response("x" * 2_000_000, headers={"cache-control": "max-age=9999999"}),
            )
        async with bunflare.open(path) as state:
            await state.d1("db").exec("CREATE TABLE t0 (a); CREATE TABLE t1 (a)")
            await state.d1("db").bookmark()
        # A further life of its log: how soon there is one of its own depends on the machine.
        history = path / "d1/.db.history"
        newest = max(history.glob("*.wal"))
        for kind in (".wal", ".times"):
            shutil.copy2(newest.with_suffix(kind), history / f"{int(newest.stem) + 1:08d}{kind}")
        execute(path, WORKFLOW)
        async with bunflare.open(path) as state:
            found = await state.check(full=True)
            assert (found.problems, found.notes) == ((), ())

    asyncio.run(fill())
    return path


@pytest.fixture
def broken(whole: Path, directory: Path) -> Path:
    shutil.copytree(whole, directory, copy_function=shutil.copy2)
    return directory


def execute(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path / "data.sqlite"))
    try:
        connection.execute(sql)
    finally:
        connection.close()


@dataclass
class Case:
    """How something is broken: a statement, or what is done to files."""

    kind: tuple[str, str]
    how: str | Callable[[Path], object]
    mended: bool = True


def only(path: Path, pattern: str) -> Path:
    (found,) = path.glob(pattern)
    return found


def first(path: Path, pattern: str) -> Path:
    return min(path.glob(pattern))


def rest(path: Path) -> Path:
    """As if the database were at rest, all of its log copied back."""
    for name in ("db.sqlite-wal", "db.sqlite-shm"):
        (path / "d1" / name).unlink(missing_ok=True)
    return path


def spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + 16] = bytes(255 - one for one in data[at : at + 16])
    path.write_bytes(data)


ROWS = [
    Case(("kv", "metadata"), "UPDATE kv SET metadata = '{'"),
    Case(("kv", "expiration"), "UPDATE kv SET expiration = 'soon'"),
    Case(("kv", "value"), "UPDATE kv SET value = 5"),
    Case(("r2", "metadata"), "UPDATE r2_objects SET custom_metadata = '{'", mended=False),
    Case(("r2", "size"), "UPDATE r2_objects SET size = -1", mended=True),
    Case(("r2", "part"), "UPDATE bunflare_r2_uploads SET state = 'aborted'"),
    Case(("objects", "value"), "UPDATE do_storage SET value = 'no JSON'", mended=False),
    Case(
        ("objects", "history"),
        "INSERT INTO bunflare_object_changes VALUES ('Room', 1, 1, 1, '{')",
    ),
    Case(("objects", "alarm"), "UPDATE do_alarms SET alarm_time = 'soon'"),
    Case(("objects", "retries"), "UPDATE do_alarms SET bunflare_retries = -1"),
    Case(
        ("objects", "kept"),
        "INSERT INTO bunflare_object_kept VALUES ('Room', 'x', 9, 'k', '1')",
    ),
    Case(("objects", "restore"), "INSERT INTO bunflare_object_restores VALUES ('Room', 'x', 9)"),
    Case(("queues", "body"), "UPDATE queue_messages SET body = '{'", mended=False),
    Case(("queues", "count"), "UPDATE bunflare_queue_counts SET messages = 7"),
    Case(("queues", "time"), "UPDATE queue_messages SET attempts = -1, visible_at = 'soon'"),
    Case(
        ("queues", "setting"), "INSERT INTO bunflare_queues (name, created_at) VALUES ('a', 'soon')"
    ),
    Case(
        ("queues", "lease"),
        "UPDATE queue_messages SET bunflare_holder = 'x.1', bunflare_lease = 'y'",
    ),
    Case(("workflows", "log"), "UPDATE bunflare_workflow_log SET instance = 'gone'"),
    Case(("workflows", "event"), "UPDATE bunflare_workflow_events SET instance = 'gone'"),
    Case(
        ("workflows", "chunk"), "INSERT INTO bunflare_workflow_chunks VALUES ('gone', 's', 1, 'x')"
    ),
    Case(("workflows", "status"), "UPDATE workflow_instances SET status = 'odd'", mended=False),
    Case(("workflows", "value"), "UPDATE workflow_instances SET params = '{'", mended=False),
    Case(("workflows", "time"), "UPDATE workflow_instances SET created_at = 'soon'"),
    Case(("workflows", "moment"), "UPDATE bunflare_workflow_log SET at = 'soon' WHERE number = 2"),
    Case(("workflows", "sent"), "UPDATE bunflare_workflow_events SET at = 'soon'"),
    Case(("workflows", "due"), "UPDATE workflow_instances SET bunflare_due = NULL"),
    Case(("workflows", "rest"), "UPDATE workflow_instances SET status = 'complete'"),
    Case(
        ("workflows", "step"),
        "UPDATE bunflare_workflow_log SET value = '{' WHERE number = 2",
        mended=False,
    ),
    Case(
        ("workflows", "twice"),
        "INSERT INTO bunflare_workflow_log (instance, number, kind, name, count, at)"
        " VALUES ('one', 4, 'step_errored', 'pay', 1, 1)",
        mended=False,
    ),
    Case(
        ("workflows", "attempts"),
        "UPDATE bunflare_workflow_log SET attempt = 3 WHERE number = 1",
        mended=False,
    ),
    Case(
        ("workflows", "payload"), "UPDATE bunflare_workflow_events SET payload = '{'", mended=False
    ),
    Case(("cache", "headers"), "UPDATE cache_entries SET headers = '{'"),
]

FILES = [
    Case(("r2", "missing"), lambda path: (path / "r2/bucket/dir/key").unlink(), mended=False),
    Case(("r2", "changed"), lambda path: (path / "r2/bucket/dir/key").write_text("other")),
    Case(("r2", "upload"), lambda path: only(path, "r2-staging/*").unlink()),
    Case(("cache", "missing"), lambda path: only(path, "cache/*").unlink()),
    Case(("files", "damaged"), lambda path: spoil(path / "data.sqlite", 8192), mended=False),
    Case(("d1", "damaged"), lambda path: spoil(rest(path) / "d1/db.sqlite", 100), mended=False),
    Case(
        ("objects", "damaged"),
        lambda path: spoil(only(path, "do-sql/Room/*.sqlite"), 100),
        mended=False,
    ),
    Case(
        ("objects", "missing"),
        lambda path: only(path, "do-sql/Room/*.sqlite").unlink(),
        mended=False,
    ),
    Case(("objects", "bookmark"), lambda path: only(path, "do-sql/Room/.history/*").unlink()),
    Case(
        ("objects", "bookmark"),
        lambda path: spoil(only(path, "do-sql/Room/.history/*.sqlite"), 100),
    ),
    Case(("d1", "base"), lambda path: spoil(only(path, "d1/.db.history/*.sqlite"), 100)),
    # Of the log's header, of the head of a frame, and of a frame's bytes.
    Case(("d1", "frames"), lambda path: spoil(first(path, "d1/.db.history/*.wal"), 8)),
    Case(("d1", "frames"), lambda path: spoil(first(path, "d1/.db.history/*.wal"), 40)),
    Case(("d1", "frames"), lambda path: spoil(first(path, "d1/.db.history/*.wal"), 500)),
    Case(("d1", "frames"), lambda path: spoil(max(rest(path).glob("d1/.db.history/*.wal")), 500)),
    Case(
        ("d1", "frames"),
        lambda path: first(path, "d1/.db.history/*.wal").write_bytes(
            first(path, "d1/.db.history/*.wal").read_bytes()[:-100]
        ),
    ),
]


def named(case: Case, number: int) -> str:
    return f"{case.kind[0]}-{case.kind[1]}-{number}"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=named(case, at)) for at, case in enumerate([*ROWS, *FILES])]
)
async def test_what_is_broken_is_named_and_mended(broken: Path, case: Case) -> None:
    if isinstance(case.how, str):
        execute(broken, case.how)
    else:
        case.how(broken)
    if case.kind == ("files", "damaged"):
        # Such a state can perhaps not even be opened; what is wrong is said in any case.
        with pytest.raises(bunflare.BunflareError):
            async with bunflare.open(broken) as state:
                found = await state.check()
                assert case.kind in {(one.system, one.kind) for one in found.problems}
                raise bunflare.BunflareError
        return
    async with bunflare.open(broken) as state:
        found = await state.check(full=True)
        kinds = [(one.system, one.kind) for one in found.problems]
        # What the row says of an object's size, its file does not have.
        assert kinds == [case.kind, ("r2", "changed")][: 1 + (case.kind == ("r2", "size"))]
        assert found.problems[0].detail
        done = await state.repair(full=True)
        assert bool(done.left) is not case.mended, done
        told = {(one.system, one.kind) for one in (done.mended if case.mended else done.left)}
        assert case.kind in told
        after = await state.check(full=True)
        assert after.problems == done.left


def test_there_is_a_case_for_every_invariant() -> None:
    assert {case.kind for case in ROWS} == {(one.system, one.kind) for one in INVARIANTS}


async def test_a_database_goes_on_after_its_history_was_mended(broken: Path) -> None:
    spoil(first(broken, "d1/.db.history/*.wal"), 8)
    async with bunflare.open(broken) as state:
        assert not (await state.repair()).left
        db = state.d1("db")
        before = await db.bookmark()
        tables = (await db.info())["tables"]
        await db.exec("DROP TABLE t0")
        await db.restore(before)
        assert (await db.info())["tables"] == tables


async def test_what_dead_processes_hold_is_noted(broken: Path) -> None:
    execute(
        broken,
        "INSERT INTO bunflare_object_owners VALUES ('Room', 'dead', 'x');"
        "INSERT INTO bunflare_workflow_owners VALUES ('order', 'dead', 'x');"
        "UPDATE queue_messages SET bunflare_holder = 'dead.1', visible_at = 9000000000000",
    )
    async with bunflare.open(broken) as state:
        found = await state.check()
        assert found.problems == ()
        stale = {(one.system, one.name) for one in found.notes if one.kind == "stale"}
        assert stale == {("objects", "Room"), ("workflows", "order"), ("queues", "jobs")}
