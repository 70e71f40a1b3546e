"""A Worker that runs: its configuration, its modules, its bindings, and its events."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..bindings.rpc import relaxed
from ..clock import Clock
from ..config import Config
from ..errors import WorkerError
from ..state import State
from ..timer import Chore, Timer
from ..web import Request, Response
from .asgi import WorkerApp
from .assets import Assets
from .context import ExecutionContext
from .cron import Cron
from .entrypoints import WorkerEntrypoint
from .env import make_env
from .limits import RateLimit, version_metadata
from .program import Program
from .queues import BatchFacade, configure_pulls, make_consumers
from .services import Exports, Service

if TYPE_CHECKING:
    from ..bindings.queue_batch import MessageBatch
    from ..bindings.queue_consumer import Consumer
    from .objects import NamespaceFacade
    from .workflows import Definition

_log = logging.getLogger("bunflare")

#: Finds a Worker of the process by its name.
Find = Callable[[str], "Worker"]


class ScheduledController:
    """What ``scheduled`` is told."""

    type = "scheduled"

    def __init__(self, cron: str, time: int) -> None:
        self.cron = cron
        #: Epoch milliseconds.
        self.scheduledTime = time
        self.scheduled_time = time

    def noRetry(self) -> None:
        """Accepted and without effect: a failed run is not repeated."""

    no_retry = noRetry


class Worker:
    """One Worker; `close` waits for what it is still doing."""

    def __init__(self, config: Config, state: State, find: Find, program: Program) -> None:
        self.config = config
        self.program = program
        self.background = program.background
        self.background.exports = Exports(self)
        self.env = program.env
        self.env.become(make_env(config, state))
        #: The static assets, if there are some.
        self.assets: Assets | None = None
        if config.assets is not None and config.assets.directory is not None:
            self.assets = Assets(
                config.assets, config.root, navigation_first=_navigation_first(config)
            )
        self.env.__dict__.update(_bindings(config, state.clock, find, self.assets))
        self.loaded = program.load()
        if hasattr(self.loaded.default, "email"):
            _log.warning("%s has an email handler, which bunflare does not support", config.main)
        default = self.loaded.default
        self.answers = _answers(default)
        self._app = (
            WorkerApp(self.loaded.entrypoint(), self.env, self.background) if self.answers else None
        )
        self._crons = {text: Cron(text) for text in config.triggers.crons}
        #: Whether objects and workflows were told to run this version.
        self.in_charge = False
        #: The classes of its Durable Objects, and their namespaces, by the names of the classes.
        self.classes: dict[str, type] = {}
        if config.durable_objects.bindings or config.migrations or config.exports:
            # Imported here because most Workers have none.
            from .objects import object_classes

            self.classes = object_classes(config, self.loaded.module)
        self.namespaces: dict[str, NamespaceFacade] = {}
        self._definitions: dict[str, Definition] = {}
        self._consumers: list[Consumer] = []
        self.clock = state.clock
        self._looked = state.clock.now()
        self._timer = Timer(state.clock, (Chore("a cron trigger", self._due, self._fire),))
        if self._crons:
            self._timer.start()

    async def bind(self, state: State) -> None:
        """Put into ``env`` what the Worker's own classes are needed for, and begin.

        Nothing is taken from an earlier version before everything has been looked at.
        """
        config = self.config
        if config.workflows:
            from .workflows import workflow_classes

            module = self.loaded.module
            self._definitions = workflow_classes(config, module, self.background)
        self._consumers = make_consumers(config, state, self)
        await configure_pulls(config, state)
        if config.migrations:
            from ..bindings.object_migrations import apply_migrations

            await apply_migrations(state.database, self.name, config.migrations, state.clock.now())
        if any(not one.live for one in config.exports.values()):
            from ..bindings.object_migrations import apply_exports

            await apply_exports(state.database, config.exports)
        for chore in self.take_over(state):
            self._timer.add(chore)
        for consumer in self._consumers:
            await consumer.start()

    def take_over(self, state: State) -> list[Chore]:
        """Have objects and workflows run this version's code; what is to be done in time for that.

        An earlier version takes them back that way when a later one could not begin.
        """
        self.in_charge = True
        if self.classes:
            from .objects import bind_objects

            self.namespaces = bind_objects(
                self.config, state, self.env, self.classes, self.background.exports
            )
        if self.config.workflows:
            from .workflows import bind_workflows

            return bind_workflows(self.config, state, self.env, self._definitions)
        return []

    @property
    def name(self) -> str:
        return self.config.name or self.config.root.name

    @property
    def app(self) -> WorkerApp:
        """What answers requests from outside."""
        if self._app is None:
            self.loaded.entrypoint()
            raise WorkerError("the Worker has no fetch handler to answer requests")
        return self._app

    def instance(
        self, entrypoint: str | None = None, props: dict[str, Any] | None = None
    ) -> WorkerEntrypoint:
        """A fresh object of an entrypoint's class, for one event."""
        ctx = ExecutionContext(self.background)
        ctx.props = dict(props or {})
        return self.loaded.entrypoint(entrypoint)(ctx, self.env)

    async def fetch(
        self, request: Request, entrypoint: str | None = None, props: dict[str, Any] | None = None
    ) -> Response:
        """Answer a request that comes from inside."""
        handler = getattr(self.instance(entrypoint, props), "fetch", None)
        if handler is None:
            raise TypeError("The entrypoint has no fetch handler")
        answer = relaxed(handler, request)
        if inspect.isawaitable(answer):
            answer = await answer
        if not isinstance(answer, Response):
            raise WorkerError(f"fetch must return a Response, not {type(answer).__name__}")
        return answer

    async def scheduled(self, cron: str = "", time: int | None = None) -> None:
        """Run the ``scheduled`` handler. Raises what it raises."""
        instance = self.instance()
        handler = getattr(instance, "scheduled", None)
        if handler is None:
            raise WorkerError("the Worker has no scheduled handler")
        controller = ScheduledController(cron, self.clock.now() if time is None else time)
        result = relaxed(handler, controller, self.env, instance.ctx)
        if inspect.isawaitable(result):
            await result

    async def queue(self, batch: MessageBatch) -> None:
        """Run the ``queue`` handler. Raises what it raises."""
        instance = self.instance()
        handler = getattr(instance, "queue", None)
        if handler is None:
            raise WorkerError("Handler does not export a queue() function")
        result = relaxed(handler, BatchFacade(batch), self.env, instance.ctx)
        if inspect.isawaitable(result):
            await result

    def _due(self) -> float | None:
        times = [cron.next_after(self._looked) for cron in self._crons.values()]
        return min((time for time in times if time is not None), default=None)

    async def _fire(self, now: int) -> None:
        looked, self._looked = self._looked, now
        for text, cron in self._crons.items():
            # What fell due while the process could not look happens once.
            time = cron.next_after(looked)
            if time is not None and time <= now:
                self.background.add(self._run(text, time))

    async def _run(self, cron: str, time: int) -> None:
        try:
            await self.scheduled(cron, time)
        except Exception:
            _log.exception('the scheduled handler failed on "%s"', cron)

    async def close(self, timeout: float, *, replaced: bool = False) -> None:
        """Start nothing more; wait for tasks under way, ``timeout`` seconds at most.

        The WebSockets of one that was ``replaced`` may go on for any time.
        """
        await self._timer.close()
        if self._consumers:
            await asyncio.gather(*[one.close(timeout) for one in self._consumers])
        try:
            if replaced:
                await self.background.talked()
        finally:
            await self.background.drain(timeout)


def _navigation_first(config: Config) -> bool:
    flags = config.compatibility_flags
    if "assets_navigation_has_no_effect" in flags:
        return False
    date = config.compatibility_date
    return (
        "assets_navigation_prefers_asset_serving" in flags or date is None or date >= "2025-04-01"
    )


def _answers(default: type[WorkerEntrypoint] | None) -> bool:
    return default is not None and hasattr(default, "fetch")


def _bindings(config: Config, clock: Clock, find: Find, assets: Assets | None) -> dict[str, Any]:
    """The bindings that are the runtime's own."""
    values: dict[str, Any] = {}
    for binding in config.durable_objects.bindings:
        if binding.script_name not in (None, config.name):
            from .objects import OtherNamespace

            values[binding.name] = OtherNamespace(binding, find)
    for service in config.services:
        values[service.binding] = Service(service, find)
    for database in config.hyperdrive:
        from .hyperdrive import hyperdrive

        values[database.binding] = hyperdrive(database)
    for limit in config.ratelimits:
        values[limit.name] = RateLimit(limit, clock)
    if config.version_metadata is not None:
        values[config.version_metadata.binding] = version_metadata(config)
    if assets is not None and config.assets is not None and config.assets.binding is not None:
        values[config.assets.binding] = assets
    return values
