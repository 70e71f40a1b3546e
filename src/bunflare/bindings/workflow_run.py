"""One run of an instance, in memory: its code as a task, and the log that grows with it.

What a step gives is handed to the code when it is on disk, and as a copy that was made from what is
there, so that a later run sees the same. While the code only sleeps and waits, its row says until
when (`_settle`), and the run may be dropped from memory at any time: it is made anew from its log.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import (
    DatabaseError,
    StateError,
    WorkflowChangedError,
    WorkflowError,
    WorkflowFatalError,
)
from ..store import workflow_log as log
from ..store import workflows as store
from ..values import loads
from .workflow_do import Rollback
from .workflow_errors import described
from .workflow_options import payload
from .workflow_replay import Record, Replay
from .workflow_rollback import roll_back
from .workflow_scope import Scope, current
from .workflow_turns import Turns
from .workflow_types import WorkflowCronSchedule, WorkflowEvent

if TYPE_CHECKING:
    from ..clock import Timer as Wakeup
    from ..store.connection import Row
    from .workflow_engine import WorkflowHost
    from .workflow_modifiers import Modifiers
    from .workflow_scope import Use
    from .workflow_under_way import Begun

_log = logging.getLogger("bunflare")

T = TypeVar("T")

# Turns of the event loop after which code that goes on has begun its next step.
_TURNS = 2


_NOWHERE = (None, None, None, None)


class Run:
    """One run. Everything happens in its host's event loop."""

    __slots__ = (
        *("_alarm", "_changed", "_considering", "_created", "_held", "_params", "_retention"),
        *("_schedule", "active", "blocked", "clock", "database", "ending", "halted", "heard"),
        *("host", "id", "instance", "last", "modifiers", "nested", "number", "outdated", "over"),
        *("parked", "pausing", "replay", "rollbacks", "rolling", "row_parked", "scope", "starts"),
        *("steps", "task", "tasks", "turns", "under_way", "undone", "why"),
    )

    def __init__(
        self,
        host: WorkflowHost,
        id: str,
        number: int,
        params: str | None,
        created: int,
        schedule: str | None,
        success_retention: int | None,
        error_retention: int | None,
    ) -> None:
        self.host = host
        self.id = id
        self.number = number
        self.instance = store.public_id(host.name, id) if "/" in id else id
        self.task: asyncio.Task[None] | None = None
        #: The row's status while nothing but time or an event can go on with it.
        self.row_parked: tuple[str, int | None] | None = None
        self.replay: Replay | None = None
        #: Whether somebody else, or nobody, goes on with the instance.
        self.over = False
        self.pausing = False
        #: Whether its code is an older version.
        self.outdated = False
        #: Whether one of these is so, or `blocked`: then no step begins.
        self.halted = False
        #: The status that rolling back ends with.
        self.ending: str | None = None
        self.modifiers: Modifiers | None = host.modifiers_of(self.instance)
        self._params = params
        self._created = created
        self._schedule = schedule
        self._retention = (success_retention, error_retention)
        self.database = host.database
        self.clock = host.clock
        self.scope = Scope(None, None)
        self.turns = Turns(host.loop)
        self.nested: dict[str, dict[str, Record]] = {}
        self.undone: dict[str, Record] = {}
        self.why: str | None = None
        self.rollbacks: list[Rollback] = []
        self.steps = 0
        self.last = 0
        #: How many attempts it has begun, and those of which others are to know, by that number.
        self.starts = 0
        self.under_way: dict[int, Begun] = {}
        self.active = 0
        #: How often it was told that there may be an event.
        self.heard = 0
        self.parked: dict[asyncio.Future[None], tuple[int, str]] = {}
        self._held: list[asyncio.Future[None]] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.blocked = False
        self.rolling = False
        self._considering = False
        self._alarm: tuple[int, Wakeup] | None = None
        self._changed: WorkflowChangedError | None = None

    # -- beginning -------------------------------------------------------------------------

    def begin(self) -> None:
        """Run the code from its beginning. The instance has no log yet."""
        self.task = self.host.loop.create_task(self._main(), context=contextvars.Context())

    def again(self, row: Row) -> None:
        """Run the code once more, from its log."""
        rows = log.entries(self.database.view, self.id)
        if row[2] == "rollingBack":
            self.blocked = self.halted = True
            self.ending = row[10] or "errored"
        if rows:
            self.last = rows[-1][0]
            if rows[-1][1] in ("workflow_waiting", "workflow_paused"):
                self.tell("workflow_running")
        if rows or self.blocked:
            replay = Replay(rows, self._replayed, self._is_changed)
            self.nested = replay.nested
            self.undone = replay.rollbacks
            self.why = replay.rolling
            if not replay.done:
                self.replay = replay
        self.begin()

    def _replayed(self) -> None:
        assert self.replay is not None
        self.scope.reserve(self.replay.taken)
        self.replay = None
        self.consider()

    def _is_changed(self, how: str) -> None:
        if self.blocked:
            # It has come as far as it does; what it has to undo is known.
            self._cancel()
            return
        self._changed = self._change(how)
        self._cancel()

    def _change(self, how: str) -> WorkflowChangedError:
        return WorkflowChangedError(
            f'the code of the workflow "{self.host.name}" has changed under its instance '
            f'"{self.instance}": {how}'
        )

    async def _main(self) -> None:
        error: Exception
        self.task = self.scope.task = asyncio.current_task()
        current.set(self.scope)
        try:
            output = self._call()
            if isawaitable(output):
                output = await output
            if self.replay is not None:
                await self.replay.ended()
            if self.blocked:
                await roll_back(self, None)
            else:
                await self.end("complete", output=payload(output, "the output"))
            return
        except asyncio.CancelledError:
            assert self.task is not None
            self.task.uncancel()
            if self.over:
                return
            if self._changed is not None:
                error = self._changed
            elif self.blocked:
                await roll_back(self, None)
                return
            else:
                # The event loop is being ended, or the code has cancelled itself.
                error = WorkflowError("the run was cancelled")
                if self.host.closing:
                    return
        except WorkflowChangedError as changed:
            error = changed if self.replay is None else self._change(str(changed))
            self._changed = error
        except SystemExit:
            error = WorkflowError("sys.exit was called in a workflow")
        except Exception as failed:
            error = failed
        try:
            if (self.rollbacks or self.blocked) and self._changed is None:
                await roll_back(self, error)
            else:
                await self.end("errored", error=error)
        except asyncio.CancelledError:
            return

    def _call(self) -> Any:
        """Call the code."""
        schedule = None if self._schedule is None else loads(self._schedule)
        event = WorkflowEvent(
            None if self._params is None else loads(self._params),
            datetime.fromtimestamp(self._created / 1000, UTC),
            self.instance,
            self.host.name,
            None if schedule is None else WorkflowCronSchedule(*schedule),
        )
        return self.host.make().run(event, self.host.step_of(self))

    # -- steps -----------------------------------------------------------------------------

    async def recall(self, use: Use) -> Record | None:
        """What the log has of a step; `Use.count` is what it was then."""
        if asyncio.current_task(self.host.loop) is not self.task:
            self.join()
        if use.parent is not None:
            record = self.nested[use.parent].get(use.key) if use.parent in self.nested else None
        elif self.replay is not None:
            record = await self.replay.reach(use)
            if self.turns.branched and record is not None and record.row is not None:
                await self.handed()
        else:
            return None
        if record is not None:
            use.count = record.count
        return record

    async def handed(self) -> None:
        """Return when a result, which is on disk, may be given to the code (see `Turns`)."""
        self.active += 1
        try:
            await self.turns.come()
        finally:
            self.active -= 1
            if self.parked or self.halted:
                self.consider()

    def join(self) -> None:
        """Steps are asked for in more than one task."""
        task = asyncio.current_task()
        assert task is not None
        if task not in self.tasks:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        if self.replay is not None:
            self.replay.parallel = True

    async def go_on(self) -> None:
        """Return when a step may begin."""
        while self.halted:
            if self.over or self.blocked:
                self._cancel()
                raise asyncio.CancelledError
            held = self.host.loop.create_future()
            self._held.append(held)
            self.consider()
            await held

    def too_many_steps(self) -> NoReturn:
        raise WorkflowFatalError(
            f"The limit of {self.host.most_steps} steps has been reached. This limit can be "
            "changed in your worker configuration."
        )

    def entry(
        self,
        kind: str,
        use: Use | None = None,
        attempt: int | None = None,
        started: int | None = None,
        at: int | None = None,
        due: int | None = None,
        value: str | None = None,
        about: str | None = None,
    ) -> tuple[object, ...]:
        """The next entry of the log, as `workflow_log.record` takes it.

        One that is of no step says how the instance stands; a replay passes over it.
        """
        number = self.last = self.last + 1
        name, count, parent, place = (
            _NOWHERE if use is None else (use.name, use.count, use.parent, use.place)
        )
        last = (attempt, started, at, due, value, about)
        return self.id, self.number, number, kind, name, count, parent, place, *last

    def tell(self, kind: str) -> None:
        """Add to the log how the instance stands; nobody waits for that."""
        self.host.quietly(self.host.journal.add(self.entry(kind, at=self.clock.now())))

    async def record(self, entry: tuple[object, ...]) -> None:
        """Add to the log, unless somebody else goes on by now."""
        if self.over:
            raise asyncio.CancelledError
        await self._written(self.host.journal.add(entry))

    async def write(self, verb: Callable[..., T | None], *args: object) -> T:
        """What a verb on the log gives; if that is nothing, the run is over."""
        return await self._written(self.database.submit(verb, *args))

    async def look(self, awaited: log.Awaited) -> Any:
        """What there is of an event."""
        return await self._written(self.host.journal.add(awaited))

    async def _written(self, writing: Awaitable[T | None]) -> T:
        self.active += 1
        try:
            given = await writing
            if given:
                return given
        except (DatabaseError, StateError) as error:
            self.stall(error)
        finally:
            self.active -= 1
            if self.parked or self.halted:
                self.consider()
        self.drop()
        raise asyncio.CancelledError

    # -- sleeping and waiting --------------------------------------------------------------

    async def until(self, due: int, kind: str) -> None:
        """Let time pass; what waits for an event also returns when there is one."""
        if due <= self.clock.now() and kind != "wait":
            return
        waiting: asyncio.Future[None] = self.host.loop.create_future()
        self.parked[waiting] = (due, kind)
        self.consider()
        try:
            await waiting
        finally:
            del self.parked[waiting]
            if self.row_parked is not None and not self.over:
                self.unpark()

    def woken(self, now: int) -> None:
        """The instance's time has come, or an event."""
        for waiting, (due, kind) in self.parked.items():
            if (due <= now or kind == "wait") and not waiting.done():
                waiting.set_result(None)
        self.consider()

    def event_sent(self) -> None:
        """There may be an event for those that wait for one."""
        self.heard += 1
        for waiting, (_, kind) in self.parked.items():
            if kind == "wait" and not waiting.done():
                waiting.set_result(None)

    def consider(self) -> None:
        """See soon whether anything is still going on."""
        if not self._considering and not self.over:
            self._considering = True
            self.host.loop.call_soon(self._settle, _TURNS)

    def _settle(self, turns: int) -> None:
        if turns:
            self.host.loop.call_soon(self._settle, turns - 1)
            return
        self._considering = False
        if self.over or self.replay is not None:
            return
        if self.active:
            # The row says that it runs; what ends meanwhile ends here.
            if self.parked:
                self._wake_at(min(due for due, _ in self.parked.values()))
        elif self.pausing:
            self.drop()
            self.host.pause_row(self)
        elif self.outdated:
            self.drop()
            self.host.again(self.id)
        elif self.parked and not any(waiting.done() for waiting in self.parked):
            due = min(due for due, _ in self.parked.values())
            asleep = all(kind != "retry" for _, kind in self.parked.values())
            status = "rollingBack" if self.rolling else "waiting" if asleep else "running"
            if self.row_parked != (status, due):
                again = self.row_parked is not None
                self.row_parked = (status, due)
                self.host.park(self, status, due, again)

    def _wake_at(self, due: int) -> None:
        if self._alarm is not None:
            if self._alarm[0] <= due:
                return
            self._alarm[1].cancel()

        def wake() -> None:
            self._alarm = None
            if not self.over:
                self.woken(self.clock.now())

        self._alarm = due, self.clock.call_at(due, wake)

    def unpark(self) -> None:
        """Something is under way again."""
        waited = self.row_parked is not None and self.row_parked[0] == "waiting"
        self.row_parked = None
        self.host.unpark(self, "rollingBack" if self.rolling else "running", waited)

    # -- from outside ----------------------------------------------------------------------

    def pause(self, under_way: bool) -> None:
        """End what is under way, if anything is, and begin nothing."""
        if under_way and not self.pausing:
            self.tell("workflow_waiting_for_pause")
        self.pausing = self.halted = True
        self.consider()

    def renew(self) -> None:
        """Go on with the newer code, from the log, when what is under way has ended."""
        self.outdated = self.halted = True
        self.consider()

    def unpause(self) -> None:
        if self.pausing:
            self.tell("workflow_running")
        self.pausing = False
        self.halted = self.outdated or self.blocked
        held, self._held = self._held, []
        for one in held:
            if not one.done():
                one.set_result(None)

    def roll_back(self, ending: str) -> None:
        """Stop, and undo what was done."""
        if not self.rolling and not self.blocked:
            self.ending = ending
            self.blocked = self.halted = True
            self._cancel()

    def drop(self) -> None:
        """Leave memory. Somebody else, or a later run, goes on."""
        if not self.over:
            self._leave()
            self.host.gone(self)
            self._cancel()

    def _leave(self) -> None:
        self.over = self.halted = True
        if self._alarm is not None:
            self._alarm[1].cancel()

    def stall(self, error: Exception) -> None:
        """What has happened cannot be written: go on later, from what was."""
        if not self.over and not self.host.closing:
            _log.error("the workflow %s %s stands still: %s", self.host.name, self.instance, error)
            self.host.stalled(self)
        self.drop()

    def _cancel(self) -> None:
        for task in [self.task, *self.tasks]:
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    # -- the end ---------------------------------------------------------------------------

    async def end(
        self, status: str, output: str | None = None, error: Exception | None = None
    ) -> None:
        name, message = (None, None) if error is None else described(error)
        now = self.clock.now()
        usual = self.host.retention
        end = (status, output, message, name)
        try:
            ended = await self.host.ends.add((self.id, self.number, *end, now, usual))
        except (DatabaseError, StateError) as failed:
            self.stall(failed)
            return
        if error is not None and ended:
            _log.error(
                "the workflow %s %s has failed", self.host.name, self.instance, exc_info=error
            )
        if not self.over:
            self._leave()
            kept = self._retention[status != "complete"]
            self.host.ended(self, end if ended else None, now + (usual if kept is None else kept))
            for task in list(self.tasks):
                task.cancel()
