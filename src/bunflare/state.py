"""`State`: one data directory, opened, and everything that lives in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .bindings.cache_chores import cache_chore, sweep_chore
from .bindings.care import StateCare
from .bindings.kv import KVNamespace, kv_chore
from .bindings.r2_chores import recovery_chore, uploads_chore
from .clock import Clock, SystemClock
from .errors import StateError
from .store.database import Database, open_database
from .store.directory import DIRECTORY_NAME, ENVIRONMENT_VARIABLE, project_root
from .store.session import Session, TransactionSession
from .timer import Timer

if TYPE_CHECKING:
    from .bindings.cache import CacheStorage
    from .bindings.d1 import D1Database
    from .bindings.durable_objects import DurableObjectNamespace
    from .bindings.object_host import ObjectHost
    from .bindings.r2 import R2Bucket
    from .store.d1 import D1File
    from .store.r2_settle import Settler


class _Services:
    """What bindings of one state share, each made when it is first needed.

    Modules are imported with them: a program pays for the systems that it uses.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settler: Settler | None = None

    def settler(self) -> Settler:
        if self._settler is None:
            from .store.r2_settle import Settler

            self._settler = Settler(self._database)
        return self._settler

    async def drain(self) -> None:
        """Wait for what follows the commits that were made."""
        if self._settler is not None:
            await self._settler.drain()

    async def close(self) -> None:
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


class StateTransaction(_Systems):
    """Bindings inside one transaction: their writes become visible together, or not at all."""


class State(_Systems, StateCare):
    """What `bunflare.open` gives. Close it with ``await state.close()`` or use ``async with``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        services = _Services(database)
        chores = (
            kv_chore(database),
            cache_chore(database),
            sweep_chore(database),
            recovery_chore(database, services.settler),
            uploads_chore(database),
        )
        timer = Timer(clock, chores)
        super().__init__(database, services, clock, timer)
        self._database = database
        self._d1: dict[str, D1File] = {}
        self._objects: dict[str, ObjectHost] = {}
        self._closed = False
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
        from .store.d1 import open_d1

        file = self._d1.get(name) if isinstance(name, str) else None
        if file is None:
            if self._closed:
                raise StateError("the state is closed")
            file = open_d1(self._database.directory, check_name(name), self._database.durability)
            self._d1[name] = file
        return D1Database(file, self._clock)

    def durable_objects(
        self,
        made: Callable[[Any, Any], object],
        namespace: str | None = None,
        env: Any = None,
        *,
        idle_seconds: float = 10.0,
        replace: bool = False,
    ) -> DurableObjectNamespace:
        """The Durable Objects of a class, which is a subclass of `bunflare.DurableObject`.

        ``namespace`` names them, by default as the class is named. ``env`` is what their
        constructor is given beside the context. An object to which nothing happens for
        ``idle_seconds`` leaves memory. ``replace`` says that the class may be another than
        before: an object's next instance is of it.
        """
        from .bindings.durable_objects import DurableObjectNamespace
        from .bindings.object_host import ObjectHost, check_namespace

        name = check_namespace(namespace or getattr(made, "__name__", None))
        host = self._objects.get(name)
        if host is None:
            if self._closed:
                raise StateError("the state is closed")
            host = ObjectHost(
                self._database, name, made, env, self._clock, self._timer, idle_seconds
            )
            self._objects[name] = host
            host.open()
        elif replace:
            host.replace(made, env)
        elif host.made is not made:
            raise StateError(f"the objects of {name!r} are of another class already")
        return DurableObjectNamespace(host)

    @property
    def caches(self) -> CacheStorage:
        """The Cache API: ``caches.default`` and ``await caches.open(name)``."""
        from .bindings.cache import CacheStorage

        return CacheStorage(self._database, self._clock, self._timer)

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
    async def transaction(self) -> AsyncIterator[StateTransaction]:
        """One commit over several systems: ``async with state.transaction() as tx``.

        Write through ``tx.kv(…)`` and its like; reads through them see those writes. All other
        writers of the directory wait until the block ends, so keep it short. An exception that
        leaves the block undoes everything.
        """
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
        try:
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
    durability: Literal["full", "normal"] | None = None,
    clock: Clock | None = None,
) -> State:
    """Open a data directory, made if it is not there.

    ``path`` is the directory; by default ``BUNFLARE_DIR``, or ``.bunflare`` in the project root
    (the nearest ancestor with a wrangler file, then ``pyproject.toml``, then ``.git``; else the
    working directory). ``":memory:"`` gives a throw-away state that is gone when closed.

    ``durability`` is "full" (the default: what was acknowledged survives a loss of power) or
    "normal" (it survives the end of the process, however sudden). ``clock`` replaces the system's
    clock for everything timed.

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
