"""Workflows: durable execution. Creating instances, and what can be done with them.

https://developers.cloudflare.com/workflows/build/workers-api/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..errors import WorkflowError, WorkflowTypeError, WorkflowValueError
from ..store import workflow_log as log
from ..store import workflow_owners as owners
from ..store import workflows as store
from ..values import dumps
from .workflow_batch import arguments, spread
from .workflow_create import create
from .workflow_options import (
    MOST_IN_BATCH,
    check_id,
    check_type,
    payload,
    retention,
)
from .workflow_types import (
    InstanceStatus,
    WorkflowBatchCreateResult,
    WorkflowBatchDeleteResult,
    WorkflowBatchError,
    WorkflowDeleted,
    status_of,
)

if TYPE_CHECKING:
    from ..store.connection import Row
    from ..store.session import Session
    from ..store.transaction import Transaction
    from .workflow_engine import WorkflowHost
    from .workflow_events import WorkflowInstanceSubscription
    from .workflow_steps import WorkflowStep
    from .workflow_types import WorkflowEvent


class WorkflowEntrypoint:
    """Base of the classes that are workflows: their ``run(event, step)`` is the code."""

    def __init__(self, ctx: Any, env: Any) -> None:
        self.ctx = ctx
        self.env = env

    async def run(self, event: WorkflowEvent, step: WorkflowStep) -> Any:
        """The workflow: what it does outside of steps is done again with every replay."""
        raise NotImplementedError("a workflow needs a method run(self, event, step)")


class Workflow:
    """The instances of one workflow."""

    def __init__(self, host: WorkflowHost, session: Session) -> None:
        self._host = host
        self._session = session

    @property
    def name(self) -> str:
        return self._host.name

    async def create(
        self,
        id: str | None = None,
        params: Any = None,
        retention: Mapping[str, Any] | None = None,
        *,
        location_hint: str | None = None,
    ) -> WorkflowInstance:
        """Create an instance and begin to run it. It is on disk when this returns.

        ``id`` (100 characters of a-z, A-Z, 0-9, _ and -; by default a random one) must be new to
        the workflow, else `WorkflowError`. ``params`` of 1 MiB at most are the event's payload, by
        default an empty dict. ``retention`` says how long it is kept after its end: a dict with
        ``success_retention`` and ``error_retention``, by default 30 days each. The location hint
        changes nothing here.
        """
        item = self._item(id, params, retention)
        (key,) = await self._create([item])
        if key is None:
            raise _exists(self.name, item[0])
        return WorkflowInstance(self._host, self._session, item[0], key)

    async def create_batch(self, batch: Any) -> Any:
        """Create up to 100 instances with one commit.

        ``batch`` is a list of dicts with the arguments of `create`; then the instances that were
        created are returned, without those whose id was taken. Or it is a dict: with ``instances``,
        such a list, or with ``count`` and arguments that they share; then a
        `WorkflowBatchCreateResult` is returned, which has the refusals too.
        """
        told = isinstance(batch, Mapping)
        if told:
            batch = spread(batch)
        if not isinstance(batch, Sequence) or isinstance(batch, str | bytes):
            raise WorkflowTypeError("create_batch takes a list, or a dict with one")
        if not batch:
            raise WorkflowValueError("WorkflowError: batchCreate should have at least 1 instance")
        if len(batch) > MOST_IN_BATCH:
            raise WorkflowValueError(
                f"create_batch takes {MOST_IN_BATCH} instances at most, not {len(batch)}"
            )
        items = [self._item(**arguments(one)) for one in batch]
        keys = await self._create(items)
        created: list[WorkflowInstance] = []
        errors: list[WorkflowBatchError] = []
        for index, (item, key) in enumerate(zip(items, keys, strict=True)):
            if key is not None:
                created.append(WorkflowInstance(self._host, self._session, item[0]))
            else:
                message = str(_exists(self.name, item[0]))
                errors.append(WorkflowBatchError(409, message, item[0], index))
        return WorkflowBatchCreateResult(created, errors) if told else created

    def _item(
        self,
        id: object = None,
        params: object = None,
        retention: object = None,
        location_hint: object = None,
    ) -> tuple[str, str, int | None, int | None]:
        instance = _random_id(self._host.clock.now()) if id is None else check_id(id)
        kept = _retention(retention, self._host.unit)
        text = "{}" if params is None else payload(params, "the params")
        return instance, text, *kept

    async def _create(
        self,
        items: list[tuple[str, str, int | None, int | None]],
        schedule: str | None = None,
    ) -> list[str | None]:
        host = self._host
        now = host.clock.now()
        database = host.database
        if not self._session.immediate:
            return await self._session.write(create, host, items, now, 0, schedule)
        if not host.owner:
            await host.settled()
        if database.hindered:
            await database.admit()
        running = min(host.free, len(items)) if host.owner else 0
        return await host.created.add((host, items, now, running, schedule))

    async def create_scheduled(self, cron: str, time: int) -> WorkflowInstance | None:
        """Create the instance of a cron expression for a time in epoch milliseconds, once."""
        instance = f"cron-{crc32(cron.encode()):08x}-{time}"
        (key,) = await self._create([self._item(instance)], dumps([cron, time]))
        return None if key is None else WorkflowInstance(self._host, self._session, instance)

    async def get(self, id: str) -> WorkflowInstance:
        """An instance that exists; raises `WorkflowError` (instance.not_found) if it does not."""
        instance = WorkflowInstance(self._host, self._session, check_id(id))
        instance._key()
        return instance

    async def delete_all(self) -> int:
        """Delete every instance with all that belongs to it, whatever it is doing: how many."""
        gone = 0
        while deleted := await self._session.write(_delete_some, self._host):
            gone += deleted
        return gone

    async def delete_batch(self, ids: Sequence[str]) -> WorkflowBatchDeleteResult:
        """Delete up to 100 instances with all that belongs to them."""
        if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
            raise WorkflowTypeError("delete_batch takes a list of ids")
        if len(ids) > MOST_IN_BATCH:
            raise WorkflowValueError(
                f"delete_batch takes {MOST_IN_BATCH} ids at most, not {len(ids)}"
            )
        wanted = [check_id(one) for one in ids]
        found = await self._session.write(_delete, self._host, list(dict.fromkeys(wanted)))
        deleted = [WorkflowDeleted(one) for one in wanted if one in found]
        errors = [
            WorkflowBatchError(404, str(_not_found(self.name, one)), one)
            for one in wanted
            if one not in found
        ]
        return WorkflowBatchDeleteResult(deleted, errors)


class WorkflowInstance:
    """One instance of a workflow."""

    __slots__ = ("_created", "_host", "_session", "id")

    def __init__(
        self, host: WorkflowHost, session: Session, id: str, created: str | None = None
    ) -> None:
        self._host = host
        self._session = session
        self._created = created
        self.id = id

    def __repr__(self) -> str:
        return f"<WorkflowInstance {self._host.name} {self.id}>"

    def _key(self) -> str:
        key = store.row_id(self._session.view, self._host.name, self.id)
        if key is None:
            raise _not_found(self._host.name, self.id)
        return key

    def _row(self) -> Row:
        row = store.get(self._session.view, self._host.name, self._key())
        if row is None:
            raise _not_found(self._host.name, self.id)
        return row

    async def status(self) -> InstanceStatus:
        """Where it stands; its output when it is complete, its error when it is errored."""
        return status_of(*self._row()[2:6])

    async def wait(self, timeout: float | None = None) -> InstanceStatus:
        """Its status when it has come to its end (complete, errored or terminated).

        Raises ``TimeoutError`` if that is not so after ``timeout`` seconds.
        """
        if timeout is None:
            return await self._wait()
        async with asyncio.timeout(timeout):
            return await self._wait()

    async def _wait(self) -> InstanceStatus:
        host = self._host
        end = None
        if self._created is not None and self._created in host.runs:
            end = await host.waiter(self._created)
        while end is None:
            row = self._row()
            if row[2] in store.FINAL:
                return status_of(*row[2:6])
            if host.owner:
                end = await host.waiter(row[0])
            else:
                key = row[0]
                await host.database.watch.wait(partial(self._over, key))
        return status_of(*end)

    def _over(self, key: str) -> bool:
        status = store.status(self._session.view, key)
        return self._host.owner or status is None or status in store.FINAL

    async def _change(self, verb: Any, *args: Any) -> str:
        """What a verb of the store found, once it is on disk and those whom it concerns know."""
        key = self._key()
        found = await self._session.write(_change, self._host, key, verb, *args)
        if found is None:
            raise _not_found(self._host.name, self.id)
        return found

    async def pause(self) -> None:
        """Stop when the steps under way have ended, and begin no other. `resume` goes on.

        What sleeps or waits is paused at once; its time runs on.
        """
        found = await self._change(store.pause, self._host.clock.now())
        if found in store.FINAL or found == "rollingBack":
            raise _refused("pause", self.id, found)

    async def resume(self) -> None:
        """Go on after `pause`. Raises `WorkflowError` if it is not paused."""
        found = await self._change(store.resume, self._host.clock.now())
        if found not in ("paused", "waitingForPause"):
            raise _refused("resume", self.id, found)

    async def terminate(self, rollback: bool = False) -> None:
        """End it. Raises `WorkflowError` if it has come to its end already.

        ``rollback`` has the rollback handlers of its steps run before.
        """
        host = self._host
        now = host.clock.now()
        found = await self._change(store.terminate, now, bool(rollback), host.retention)
        if found in store.FINAL or (rollback and found == "rollingBack"):
            raise _refused("terminate", self.id, found)

    async def restart(self, from_: Mapping[str, Any] | str | None = None) -> None:
        """Run it once more, from its beginning or from a step.

        ``from_`` is a step's name, or a dict with ``name``, ``count`` (1) and ``type`` ("do",
        "sleep" or "waitForEvent"); what steps before it gave is kept.
        """
        if from_ is None:
            await self._change(_restart, self._host.clock.now(), None)
            return
        if isinstance(from_, str):
            from_ = {"name": from_}
        if not isinstance(from_, Mapping) or not isinstance(from_.get("name"), str):
            raise WorkflowTypeError("restart: from_ is a step's name, or a dict with it")
        count = from_.get("count", 1)
        kind = from_.get("type")
        if not isinstance(count, int) or count < 1:
            raise WorkflowValueError("restart: count is 1 for the first use of the name")
        if kind not in (None, "do", "sleep", "waitForEvent"):
            raise WorkflowValueError('restart: type is "do", "sleep" or "waitForEvent"')
        await self._change(_restart, self._host.clock.now(), (from_["name"], count, kind))

    async def delete(self) -> None:
        """Remove it with all that belongs to it, whatever it is doing."""
        found = await self._session.write(_delete, self._host, [self.id])
        if not found:
            raise _not_found(self._host.name, self.id)

    async def send_event(self, type: str, payload: Any = None) -> None:
        """Send it an event of 1 MiB at most, for `step.wait_for_event`, now or later.

        Events of a type are taken in their order, each once. Raises `WorkflowError` if the instance
        has come to its end.
        """
        check_type(type)
        text = _payload(payload)
        found = await self._change(_send, type, text, self._host.clock.now())
        if found in store.FINAL:
            raise _refused("send an event to", self.id, found)

    async def subscribe(
        self, cursor: int | None = None, filter: Sequence[str] | None = None
    ) -> WorkflowInstanceSubscription:
        """What happens to it, from its beginning or behind ``cursor`` (an ``event_id``), until its
        end; ``filter`` names the types of events."""
        from .workflow_events import WorkflowInstanceSubscription

        return WorkflowInstanceSubscription(
            self._host, self._session, self._key(), self.id, cursor, filter
        )


def _change(tx: Transaction, host: WorkflowHost, key: str, verb: Any, *args: Any) -> str | None:
    found: str | None = verb(tx, key, *args)
    if found is not None:
        _notice(tx, host, key)
    return found


def _send(tx: Transaction, key: str, type: str, text: str, now: int) -> str | None:
    found = store.status(tx, key)
    if found is not None and found not in store.FINAL:
        log.send(tx, key, type, text, now)
        if found == "waiting":
            store.make_ready(tx, key, now)
    return found


_TYPES = {"do": "do", "sleep": "sleep", "waitForEvent": "wait"}


def _restart(
    tx: Transaction, key: str, now: int, start: tuple[str, int, str | None] | None
) -> str | None:
    found = store.status(tx, key)
    if found is None:
        return None
    if start is None:
        log.forget(tx, key)
    else:
        log.cut(tx, key, _first(tx, key, *start))
    store.restart(tx, key, now)
    return found


def _first(tx: Transaction, key: str, name: str, count: int, type: str | None) -> int:
    """The first entry of a step, or of what is within it."""
    from .workflow_replay import key_of, kind_of

    wanted = None if type is None else _TYPES[type]
    rows = log.entries(tx, key)
    for row in rows:
        kind = kind_of(row[1])
        if (
            row[2] == name
            and row[3] == count
            and row[4] is None
            and (kind == wanted if wanted else kind in _TYPES_OF)
        ):
            path = key_of(kind, row[11] or count, name)
            inner: list[int] = [one[0] for one in rows if f"{one[4]}/".startswith(f"{path}/")]
            return min([int(row[0]), *inner])
    raise WorkflowError(f'Step "{name}" not found in execution history', "instance.cannot_restart")


_TYPES_OF = tuple(_TYPES.values())


def _delete(tx: Transaction, host: WorkflowHost, ids: list[str]) -> set[str]:
    found = set()
    for one in ids:
        key = store.row_id(tx, host.name, one)
        if key is not None:
            found.add(one)
            store.delete(tx, key)
            _notice(tx, host, key)
    return found


def _delete_some(tx: Transaction, host: WorkflowHost) -> int:
    keys = store.delete_some(tx, host.name, MOST_IN_BATCH)
    for key in keys:
        _notice(tx, host, key)
    return len(keys)


def _notice(tx: Transaction, host: WorkflowHost, key: str) -> None:
    """Have whoever runs an instance learn that it was changed."""
    if not host.owner:
        owners.signal(tx, host.name, key)
    tx.after(partial(host.noticed, key))


def _random_id(now: int) -> str:
    """A UUID of version 7, which begins with the time.

    Instances that are created together then lie together on the disk, with what they record.
    """
    digits = f"{now:012x}7{token_hex(10)}"
    return (
        f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-"
        f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )


# The two highest bits of a UUID's fourth part are 10.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


# The arguments of that name hide the functions.
_retention = retention
_payload = partial(payload, what="the payload")


def _not_found(workflow: str, id: str) -> WorkflowError:
    return WorkflowError(f'the workflow "{workflow}" has no instance "{id}"', "instance.not_found")


def _exists(workflow: str, id: str) -> WorkflowError:
    return WorkflowError(
        f'the workflow "{workflow}" has an instance "{id}", which already exists',
        "instance.already_exists",
    )


def _refused(what: str, id: str, status: str) -> WorkflowError:
    return WorkflowError(f'cannot {what} the instance "{id}": it is {status}', "instance.invalid")
