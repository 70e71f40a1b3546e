"""Where a workflow's instances run: at any time in one process, which the store names.

The first process that has the workflow's class becomes its owner and runs every instance; so no two
run one. Others write what they want into the rows and ring (`Presence.ring`). When the owner ends,
however suddenly, the next process takes over, and what was running waits to be run.

Nothing is loaded at the start. A chore asks the index for what is due (what waits to be run, sleeps
that are over, what a dead process ran) and takes some at a time.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..clock import SystemClock
from ..errors import StateError
from ..store import loops
from ..store import workflow_log as log
from ..store import workflow_owners as owners
from ..store import workflows as store
from ..store.gathered import Gatherer
from ..timer import Chore
from . import workflow_elsewhere
from .workflow_context import WorkflowContext
from .workflow_create import create_all
from .workflow_options import MOST_STEPS, RETENTION_MS
from .workflow_owner import Ownership
from .workflow_run import Run
from .workflow_steps import WorkflowStep

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.connection import Row
    from ..store.database import Database
    from ..timer import Timer
    from .workflow_events import WorkflowInstanceSubscription
    from .workflow_modifiers import Modifiers
    from .workflow_types import End

_log = logging.getLogger("bunflare")

#: How many instances run at the same time; those that sleep and wait are not counted.
MOST_AT_ONCE = 10_000
# How many are woken in one go.
_GROUP = 256
# How many that sleep and wait stay in memory, so that they need not be replayed.
_MOST_ASLEEP = 1_000
# When a run that could not write is gone on with.
_TRY_AGAIN_MS = 60_000
# How long the end waits for what is under way, and a clock moved by hand for what it has woken.
_GRACE = 5.0
_PATIENCE = 0.5

Maker = Callable[[], Any]


def itself(value: Any) -> Any:
    return value


class WorkflowHost(Ownership):
    """One state's hold on a workflow."""

    def __init__(
        self,
        database: Database,
        name: str,
        made: Any,
        env: Any,
        clock: Clock,
        timer: Timer,
        concurrency: int | None = None,
        most_steps: int | None = None,
    ) -> None:
        super().__init__(database, name, clock)
        self.made = made
        self._class_name: str | None = None
        self.concurrency = concurrency or MOST_AT_ONCE
        self.most_steps = most_steps or MOST_STEPS
        self.retention = RETENTION_MS
        #: Milliseconds of a duration that is a number.
        self.unit: float = getattr(made, "unit", 1000)
        #: How plain values are shown to the workflow's code.
        self.shown: Callable[[Any], Any] = getattr(made, "shown", itself)
        self.runs: dict[str, Run] = {}
        #: What tests change, by instance; None for all of them.
        self.modifiers: dict[str | None, Modifiers] = {}
        #: Who is told what begins, by the instances' ids.
        self.followers: dict[str, WeakSet[WorkflowInstanceSubscription]] = {}
        #: And those in other processes: `workflow_elsewhere.look`.
        self.elsewhere: dict[str, set[str]] = {}
        #: New instances.
        self.created = Gatherer[tuple[Any, ...], list[str | None]](database, create_all)
        #: What the runs of a turn add to their logs, and their ends.
        self.journal = Gatherer[log.Entry | log.Awaited, Any](database, log.write_all)
        self.ends = Gatherer[tuple[Any, ...], bool](database, store.finish_all)
        self._env = env
        self._timer = timer
        self._active = 0
        self._backlog = False
        self._asleep: dict[str, Run] = {}
        self._numbers = itertools.count(secrets.randbits(47))
        self._pulling: asyncio.Task[None] | None = None
        self._waiters: dict[str, list[asyncio.Future[End | None]]] = {}
        self._chore = Chore(f"the workflow {name}", self._due, self._act)

    def open(self) -> None:
        """Begin to run instances, where an event loop runs already."""
        if self.made is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self.settle()

    def replace(
        self, made: Any, env: Any, concurrency: int | None = None, most_steps: int | None = None
    ) -> None:
        """Run instances with another class from now on, those under way after their step."""
        self.made = made
        self._class_name = None
        self._env = env
        self.concurrency = concurrency or MOST_AT_ONCE
        self.most_steps = most_steps or MOST_STEPS
        if not self._started:
            self.open()
        self.unit = getattr(made, "unit", 1000)
        self.shown = getattr(made, "shown", itself)
        for run in list(self.runs.values()):
            run.renew()

    # -- what a run asks -------------------------------------------------------------------

    @property
    def class_name(self) -> str:
        if self.made is None:
            # Another process has it.
            return store.class_name(self.database.view, self.name) or self.name
        if self._class_name is None:
            made = getattr(self.made, "made", self.made)
            self._class_name = str(getattr(made, "__name__", self.name))
        return self._class_name

    @property
    def names(self) -> Mapping[str, Any]:
        """The names of the module that the workflow's class is in."""
        run = getattr(getattr(self.made, "made", self.made), "run", None)
        return getattr(run, "__globals__", {})

    def make(self) -> Any:
        """An instance of the workflow's class."""
        made = self.made
        if isinstance(made, type):
            return made(WorkflowContext(), self._env)
        return made(self._env)

    def step_of(self, run: Run) -> Any:
        return WorkflowStep(run, self.unit)

    def modifiers_of(self, instance: str) -> Modifiers | None:
        if not self.modifiers:
            return None
        return self.modifiers.get(instance) or self.modifiers.get(None)

    def modify(self, instance: str | None, modifiers: Modifiers | None) -> None:
        """Have an instance, or all of them, meet what a test says."""
        if modifiers is None:
            self.modifiers.pop(instance, None)
        else:
            self.modifiers[instance] = modifiers
        for run in self.runs.values():
            run.modifiers = self.modifiers_of(run.instance)

    # -- what others do -------------------------------------------------------------------------

    @property
    def able(self) -> bool:
        return self.made is not None

    def _begin(self) -> None:
        self._timer.add(self._chore)
        workflow_elsewhere.look(self)
        self._pull()

    def _rung(self) -> None:
        """A process has ended, or has changed something."""
        if self.closing:
            return
        if not self.owner:
            self.settle()
            return
        workflow_elsewhere.look(self)
        if owners.signalled(self.database.view, self.name):
            self.quietly(self.database.submit(owners.take_signals, self.name), self._signalled)
        self._pull()

    def _signalled(self, ids: list[str]) -> None:
        for one in ids:
            self.refresh(one)

    def noticed(self, id: str | None = None) -> None:
        """Something was written about an instance. To be called in any event loop."""
        if not self.owner:
            self.database.presence.ring()
        elif asyncio.get_running_loop() is self.loop:
            self._notice(id)
        else:
            loops.call_soon(self.loop, partial(self._notice, id))

    def _notice(self, id: str | None) -> None:
        if id is not None:
            self.refresh(id)
        self._pull()

    # -- running ---------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many more instances may run."""
        return self.concurrency - self._active

    def next_number(self) -> int:
        """The number of a new run, which no other run has."""
        return next(self._numbers)

    def begin(
        self,
        id: str,
        number: int,
        params: str | None,
        created: int,
        schedule: str | None,
        success: int | None,
        error: int | None,
    ) -> None:
        """Run an instance that was created just now, by a commit that is on disk."""
        if asyncio.get_running_loop() is not self.loop:
            told = (id, number, params, created, schedule, success, error)
            loops.call_soon(self.loop, partial(self.begin, *told))
        elif self._active >= self.concurrency or not self.owner:
            self._backlog = True
            self.quietly(self.database.submit(store.park, id, number, "queued", created, created))
        elif not self.closing:
            self._active += 1
            run = Run(self, id, number, params, created, schedule, success, error)
            self.runs[id] = run
            run.begin()

    def again(self, id: str) -> None:
        """Go on with an instance that this process is running."""
        row = store.get(self.database.view, self.name, id)
        if row is not None and row[9] == owners.RUNNING and id not in self.runs and self.owner:
            self._resume(row)

    def _resume(self, row: Row) -> None:
        key, params, status, number = row[0], row[1], row[2], row[8]
        run = self.runs.get(key)
        if run is not None and run.number != number:
            run.drop()
            run = None
        if run is None:
            run = Run(self, key, number, params, row[6], *row[11:])
            self.runs[key] = run
            self._active += 1
            if status == "waitingForPause":
                run.drop()
                self.pause_row(run)
            else:
                run.again(row)
            return
        if run.row_parked is not None:
            self._active += 1
            if run.row_parked[0] == "waiting":
                run.tell("workflow_running")
            run.row_parked = None
        self._asleep.pop(key, None)
        run.woken(self.clock.now())

    def _due(self) -> float | None:
        if not self.owner or self.closing:
            return None
        if self._active >= self.concurrency:
            self._backlog = True
            return None
        return store.next_due(self.database.view, self.name)

    def _pull(self) -> None:
        """Take what is due already, without waiting for the clock."""
        if self._pulling is None and self.owner and not self.closing:
            self._pulling = self.loop.create_task(self._take_due(), context=contextvars.Context())

    async def _take_due(self) -> None:
        try:
            while (due := self._due()) is not None and due <= self.clock.now():
                await self._act(self.clock.now())
        except Exception as error:
            if not self.closing:
                _log.error("the workflow %s cannot be run: %s", self.name, error)
        finally:
            self._pulling = None
            if not self.closing:
                self._timer.look()

    async def _act(self, now: int) -> None:
        if self.free <= 0:
            return
        rows = await self.database.write(store.wake, self.name, now, min(self.free, _GROUP))
        for row in rows:
            self._resume(row)
        if not isinstance(self.clock, SystemClock):
            await self._rest([row[0] for row in rows])

    async def _rest(self, ids: list[str]) -> None:
        """Wait, not for long, until instances sleep, wait or have ended."""
        deadline = self.loop.time() + _PATIENCE
        while self.loop.time() < deadline:
            if all(
                (run := self.runs.get(one)) is None or run.row_parked is not None for one in ids
            ):
                return
            await asyncio.sleep(0)

    def park(self, run: Run, status: str, due: int, again: bool) -> None:
        """A run sleeps or waits until then; ``again``: until another time than it did."""
        if not again:
            self._active -= 1
        self._asleep[run.id] = run
        if len(self._asleep) > _MOST_ASLEEP:
            self._asleep[next(iter(self._asleep))].drop()

        def parked(still: bool) -> None:
            if still:
                self._timer.at(due)
            else:
                self.refresh(run.id)

        self._set(
            run,
            status,
            due,
            "workflow_waiting" if status == "waiting" and not again else None,
            parked,
        )
        self._next()

    def unpark(self, run: Run, status: str, waited: bool) -> None:
        """A run goes on; ``waited`` says that it was told that it waits."""
        self._active += 1
        self._asleep.pop(run.id, None)

        def unparked(still: bool) -> None:
            if not still:
                self.refresh(run.id)

        told = "workflow_running" if waited else None
        self._set(run, status, owners.RUNNING, told, unparked)

    def _set(
        self, run: Run, status: str, due: int, told: str | None, then: Callable[[bool], object]
    ) -> None:
        now = self.clock.now()
        entry = None if told is None else run.entry(told, at=now)
        self.quietly(
            self.database.submit(store.park, run.id, run.number, status, due, now, entry), then
        )

    def pause_row(self, run: Run) -> None:
        """Nothing of a run that is to be paused is under way any more."""
        now = self.clock.now()
        entry = run.entry("workflow_paused", at=now)
        self.quietly(self.database.submit(store.paused, run.id, run.number, now, entry))

    def gone(self, run: Run) -> None:
        """A run has left memory."""
        if self.runs.get(run.id) is run:
            del self.runs[run.id]
        self._asleep.pop(run.id, None)
        if run.row_parked is None:
            self._active -= 1
        self._next()

    def ended(self, run: Run, end: End | None, expires: int) -> None:
        """A run has come to its end, which is on disk, if it is not another's."""
        self.gone(run)
        self._timer.at(expires)
        self._tell(run.id, end)

    def stalled(self, run: Run) -> None:
        """A run could not write."""
        self.clock.call_at(self.clock.now() + _TRY_AGAIN_MS, partial(self.again, run.id))

    def _next(self) -> None:
        """There is room for another one."""
        if self._backlog and not self.closing:
            self._backlog = False
            self._pull()

    def refresh(self, id: str) -> None:
        """Compare a run with its row, which somebody has changed."""
        run = self.runs.get(id)
        row = store.get(self.database.view, self.name, id)
        if row is None or row[2] in store.FINAL:
            self._tell(id)
        if run is None and row is not None and row[2] == "paused":
            self.quietly(self.database.submit(store.tell_paused, id, self.clock.now()))
        if run is None or run.over:
            return
        if row is None or row[8] != run.number or row[2] in store.FINAL:
            run.drop()
        elif row[2] in ("waitingForPause", "paused"):
            run.pause(row[2] == "waitingForPause")
        elif row[2] == "rollingBack" and row[10] == "terminated":
            run.roll_back("terminated")
        else:
            run.unpause()
            run.event_sent()

    # -- those who wait for the end --------------------------------------------------------

    def waiter(self, id: str) -> asyncio.Future[End | None]:
        """The end of an instance; None when it may have come to its end."""
        waiting: asyncio.Future[End | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(id, []).append(waiting)
        return waiting

    def _tell(self, id: str, end: End | None = None) -> None:
        for waiting in self._waiters.pop(id, ()):
            if not waiting.done():
                waiting.set_result(end)

    def quietly(
        self, written: asyncio.Future[Any], then: Callable[[Any], object] | None = None
    ) -> None:
        """Nobody waits for this write."""

        def done(written: asyncio.Future[Any]) -> None:
            if written.cancelled() or self.closing:
                written.cancelled() or written.exception()
            elif (error := written.exception()) is not None:
                _log.error("the workflow %s could not be written: %s", self.name, error)
            elif then is not None:
                then(written.result())

        written.add_done_callback(done)

    # -- the end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop, and leave the instances to others; they go on from their logs."""
        if self.closing:
            return
        self.closing = True
        self._timer.remove(self._chore)
        await self._stop_claiming()
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
        tasks = []
        for run in list(self.runs.values()):
            run.drop()
            if run.task is not None and not run.task.done():
                tasks.append(run.task)
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE)
        for waiters in self._waiters.values():
            for waiting in waiters:
                if not waiting.done():
                    waiting.set_exception(StateError("the state was closed"))
        self._waiters.clear()
        await self._give_back()
