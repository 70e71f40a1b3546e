"""`State`: one data directory, opened, and everything that lives in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .bindings.cache_chores import cache_chore, sweep_chore
from .bindings.care import StateCare
from .bindings.kv import KVNamespace, kv_chore
from .bindings.queue_chores import Retention
from .bindings.r2_chores import recovery_chore, uploads_chore
from .bindings.workflow_chores import workflow_chore
from .clock import Clock, ManualClock, SystemClock
from .errors import StateError
from .store.database import Database, open_database
from .store.directory import DIRECTORY_NAME, ENVIRONMENT_VARIABLE, project_root
from .store.session import Session, TransactionSession
from .timer import Timer

if TYPE_CHECKING:
    from .bindings.cache import CacheStorage
    from .bindings.d1 import D1Database
    from .bindings.durable_objects import DurableObjectNamespace, DurableObjectStub
    from .bindings.object_host import ObjectHost
    from .bindings.object_transaction import HeldObjects, ObjectKeys
    from .bindings.queue_broker import Broker
    from .bindings.queue_consumer import Consumer, Handler
    from .bindings.queues import Queue
    from .bindings.r2 import R2Bucket
    from .bindings.workflow_engine import WorkflowHost
    from .bindings.workflows import Workflow
    from .store.d1 import D1File
    from .store.r2_settle import Settler


# How long the handlers of consumers may go on when a state is closed.
_PATIENCE_SECONDS = 30.0


class _Services:
    """What bindings of one state share, each made when it is first needed.

    Modules are imported with them: a program pays for the systems that it uses.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock
        self._settler: Settler | None = None
        self.workflows: dict[str, WorkflowHost] = {}
        self._broker: Broker | None = None
        self.retention = Retention(database, clock)
        self.bodies = database.directory.cache_bodies

    def broker(self, timer: Timer) -> Broker:
        if self._broker is None:
            from .bindings.queue_broker import Broker

            self._broker = Broker(self.database, self._clock, timer, self.retention)
        return self._broker

    def settler(self) -> Settler:
        if self._settler is None:
            from .store.r2_settle import Settler

            self._settler = Settler(self.database)
        return self._settler

    async def drain(self) -> None:
        """Wait for what follows the commits that were made."""
        if self._settler is not None:
            await self._settler.drain()

    async def end_consumers(self, timeout: float) -> None:
        if self._broker is not None:
            await self._broker.close(timeout)

    async def close(self) -> None:
        for host in self.workflows.values():
            await host.close()
        if self._settler is not None:
            await self._settler.close()


class _Systems:
    """The bindings over one session."""

    def __init__(self, session: Session, services: _Services, clock: Clock, timer: Timer) -> None:
        self._session = session
        self._services = services
        self._clock = clock
        self._timer = timer

    def kv(self, namespace: str) -> KVNamespace:
        """The Workers KV namespace of that name. It need not exist before."""
        return KVNamespace(self._session, namespace, self._clock, self._timer)

    def r2(self, bucket: str) -> R2Bucket:
        """The R2 bucket of that name. It need not exist before."""
        from .bindings.r2 import R2Bucket

        settler = self._services.settler()
        return R2Bucket(self._session, settler, bucket, self._clock, self._timer)

    def queue(self, name: str, delivery_delay: float = 0) -> Queue:
        """The queue of that name. It need not exist before.

        ``delivery_delay`` (seconds, 24 hours at most) is for messages sent without a delay of
        their own.
        """
        from .bindings.queues import Queue

        broker = self._services.broker(self._timer)
        return Queue(self._session, name, broker, self._clock, delivery_delay)

    @property
    def caches(self) -> CacheStorage:
        """The Cache API: ``caches.default`` and ``await caches.open(name)``."""
        from .bindings.cache import CacheStorage

        return CacheStorage(self._session, self._services.bodies, self._clock, self._timer)

    def workflow(
        self,
        made: Any,
        name: str | None = None,
        env: Any = None,
        *,
        concurrency: int | None = None,
        max_steps: int | None = None,
        replace: bool = False,
    ) -> Workflow:
        """The workflow whose code is a class, a subclass of `bunflare.WorkflowEntrypoint`.

        ``name`` names it, by default as the class is named; ``env`` is what its constructor is
        given beside the context. Instances are run in the first process that has the class, at
        most ``concurrency`` at a time (10,000; sleeping ones are not counted), each of
        ``max_steps`` steps (10,000). ``replace`` says that the class may be another than before.
        Given a name in the place of the class, instances can be created and looked after that
        another process runs.
        """
        from .bindings.workflow_engine import WorkflowHost
        from .bindings.workflow_options import check_workflow
        from .bindings.workflows import Workflow

        found, made = check_workflow(made, name)
        host = self._services.workflows.get(found)
        if host is None:
            host = WorkflowHost(
                self._services.database,
                found,
                made,
                env,
                self._clock,
                self._timer,
                concurrency,
                max_steps,
            )
            self._services.workflows[found] = host
            host.open()
        elif made is not None and host.made is not made:
            if host.made is not None and not replace:
                raise StateError(f"the workflow {found!r} is of another class already")
            host.replace(made, env, concurrency, max_steps)
        return Workflow(host, self._session)


class StateTransaction(_Systems):
    """Bindings inside one transaction: their writes become visible together, or not at all."""

    _held: HeldObjects | None = None

    def object_storage(self, stub: DurableObjectStub) -> ObjectKeys:
        """The keys and values of a Durable Object that the transaction was begun with."""
        from .bindings.object_transaction import HeldObjects

        return (self._held or HeldObjects()).storage(self._session, stub)


class State(_Systems, StateCare):
    """What `bunflare.open` gives. Close it with ``await state.close()`` or use ``async with``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        services = _Services(database, clock)
        chores = (
            kv_chore(database),
            cache_chore(database),
            sweep_chore(database),
            recovery_chore(database, services.settler),
            uploads_chore(database),
            services.retention.chore,
            workflow_chore(database),
        )
        timer = Timer(clock, chores)
        super().__init__(database, services, clock, timer)
        self._database = database
        self._d1: dict[str, D1File] = {}
        self._objects: dict[str, ObjectHost] = {}
        self._closed = False
        self._unheeded: Callable[[], None] | None = None
        if isinstance(clock, ManualClock):
            # Time that a test moves waits for what a disk takes.
            self._unheeded = clock.heed(lambda: database.busy)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # Opened outside of an event loop: the timer starts with the first `async with`.
            return
        timer.start()

    def _settler(self) -> Settler:
        return self._services.settler()

    def d1(self, name: str) -> D1Database:
        """The D1 database of that name: ``d1/<name>.sqlite``, made if it is not there."""
        from .bindings.d1 import D1Database
        from .bindings.d1_name import check_name
        from .bindings.d1_results import results
        from .store.d1 import open_d1

        file = self._d1.get(name) if isinstance(name, str) else None
        if file is None:
            if self._closed:
                raise StateError("the state is closed")
            database = self._database
            file = open_d1(
                database.directory, check_name(name), database.durability, results, self._clock.now
            )
            self._d1[name] = file
        return D1Database(file)

    def durable_objects(
        self,
        made: Callable[[Any, Any], object],
        namespace: str | None = None,
        env: Any = None,
        *,
        idle_seconds: float = 10.0,
        replace: bool = False,
        sqlite: bool = True,
    ) -> DurableObjectNamespace:
        """The Durable Objects of a class, which is a subclass of `bunflare.DurableObject`.

        ``namespace`` names them, by default as the class is named. ``env`` is what their
        constructor is given beside the context. An object to which nothing happens for
        ``idle_seconds`` leaves memory. ``replace`` says that the class may be another than
        before: an object's next instance is of it. ``sqlite=False`` makes it a key-value class
        (`new_classes`): keys of 2 KiB, values of 128 KiB, 128 of them in a call, no SQL.
        """
        from .bindings.durable_objects import DurableObjectNamespace
        from .bindings.object_arguments import check_namespace
        from .bindings.object_host import ObjectHost

        name = check_namespace(namespace or getattr(made, "__name__", None))
        host = self._objects.get(name)
        if host is None:
            if self._closed:
                raise StateError("the state is closed")
            host = ObjectHost(
                self._database, name, made, env, self._clock, self._timer, idle_seconds, sqlite
            )
            self._objects[name] = host
            host.open()
        elif replace:
            host.replace(made, env, sqlite)
        elif host.made is not made:
            raise StateError(f"the objects of {name!r} are of another class already")
        return DurableObjectNamespace(host)

    def consume(
        self,
        queue: str,
        handler: Handler,
        max_batch_size: int = 10,
        max_batch_timeout: float = 5,
        max_retries: int = 3,
        dead_letter_queue: str | None = None,
        max_concurrency: int | None = None,
        retry_delay: float = 0,
    ) -> Consumer:
        """Have ``handler`` called with the messages of a queue: ``async with state.consume(…)``.

        It gets a `MessageBatch` of up to ``max_batch_size`` messages (100 at most), which waits
        ``max_batch_timeout`` seconds (60 at most) to be filled. When it returns, the messages are
        gone; when it raises, they are delivered again after ``retry_delay`` seconds, up to
        ``max_retries`` times (100 at most), and then go to the ``dead_letter_queue``, or for good.
        Up to ``max_concurrency`` calls (250 at most; by default as many as the backlog asks for)
        run at once. Several consumers, also of several processes, share a queue.
        """
        from .bindings.queue_consumer import Consumer

        if self._closed:
            raise StateError("the state is closed")
        return Consumer(
            self._services.broker(self._timer),
            queue,
            handler,
            max_batch_size,
            max_batch_timeout,
            max_retries,
            dead_letter_queue,
            max_concurrency,
            retry_delay,
        )

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._database.directory.path

    @property
    def database(self) -> Database:
        """The database that all bindings of this directory share in this process."""
        return self._database

    @property
    def clock(self) -> Clock:
        return self._clock

    @asynccontextmanager
    async def transaction(
        self, objects: Sequence[DurableObjectStub] = ()
    ) -> AsyncIterator[StateTransaction]:
        """One commit over several systems: ``async with state.transaction() as tx``.

        Write through ``tx.kv(…)`` and its like; reads through them see those writes. All other
        writers of the directory wait until the block ends, so keep it short. An exception that
        leaves the block undoes everything.

        ``objects`` are stubs of Durable Objects of which keys and values are to be read and
        written, through ``tx.object_storage(stub)``. They run in this process, and stand still
        until the block ends; do not call them inside of it.
        """
        if objects:
            from .bindings.object_transaction import HeldObjects

            if self._database.in_transaction:
                raise StateError("transactions do not nest")
            async with HeldObjects.hold(objects) as held, self._transaction() as tx:
                tx._held = held
                yield tx
        else:
            async with self._transaction() as tx:
                yield tx

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[StateTransaction]:
        session: TransactionSession | None = None
        try:
            async with self._database.transaction() as tx:
                session = TransactionSession(tx, self._database.path)
                yield StateTransaction(session, self._services, self._clock, self._timer)
        finally:
            if session is not None:
                await session.over()
        await self._services.drain()

    async def close(self) -> None:
        """Wait for what is being written, and close. Does nothing if closed already."""
        if self._closed:
            return
        if self._database.in_transaction:
            raise StateError("a state cannot be closed inside a transaction of its own")
        self._closed = True
        if self._unheeded is not None:
            self._unheeded()
        try:
            await self._services.end_consumers(_PATIENCE_SECONDS)
            for host in self._objects.values():
                await host.close()
            await self._timer.close()
            await self._services.close()
        finally:
            for file in self._d1.values():
                await file.release()
            self._d1.clear()
            await self._database.release()

    async def __aenter__(self) -> Self:
        self._timer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def open(  # noqa: A001 - `bunflare.open` is the name one expects
    path: str | os.PathLike[str] | None = None,
    *,
    durability: Literal["full", "normal", "off"] | None = None,
    clock: Clock | None = None,
) -> State:
    """Open a data directory, made if it is not there.

    ``path`` is the directory; by default ``BUNFLARE_DIR``, or ``.bunflare`` in the project root
    (the nearest ancestor with a wrangler file, then ``pyproject.toml``, then ``.git``; else the
    working directory). ``":memory:"`` gives a throw-away state that is gone when closed.

    ``durability`` is "full" (the default: what was acknowledged survives a loss of power) or
    "normal" (it survives the end of the process, however sudden), or "off" (nothing is flushed,
    so a loss of power may ruin it all: for what is thrown away soon). ``clock`` replaces the
    system's clock for everything timed.

    Raises `DirectoryError`, `FutureFormatError`, `DatabaseCorrupt` and other kinds of
    `BunflareError` where the directory cannot be used; it is then left as it was.
    """
    database = open_database(path, durability)
    try:
        return State(database, clock or SystemClock())
    except BaseException:
        database.leave()
        raise


def default_directory(root: Path) -> Path:
    """The data directory of the project at ``root``: ``BUNFLARE_DIR``, or ``.bunflare`` in it."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or root / DIRECTORY_NAME)


__all__ = ["State", "StateTransaction", "default_directory", "open", "project_root"]
