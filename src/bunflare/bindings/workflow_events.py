"""What happens to an instance, as a sequence of events, read from its log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from ..errors import WorkflowTypeError, WorkflowValueError
from ..store import workflow_log as log
from ..store import workflows as store
from ..values import loads
from .workflow_elsewhere import follow
from .workflow_errors import described
from .workflow_options import DEFAULTS, about
from .workflow_types import WorkflowInstanceEvent

if TYPE_CHECKING:
    from ..store.connection import Row
    from ..store.session import Session
    from .workflow_engine import WorkflowHost
    from .workflow_under_way import Begun

#: What is shown of a result that is sensitive.
MASKED = "[REDACTED]"
# An entry of the log stands for so many events at most: its own, and behind them those that tell
# what has begun since, before the next entry.
_SPAN = 2**20
_OWN = 8
_PAGE = 256
# The instance's end is told from its row; it comes behind all entries.
_END = 2**32

TYPES = frozenset(
    {
        *("workflow_queued", "workflow_started", "workflow_running", "workflow_paused"),
        *("workflow_waiting_for_pause", "workflow_waiting", "workflow_completed"),
        *("workflow_errored", "workflow_terminated", "step_started", "step_completed"),
        *("step_errored", "attempt_started", "attempt_completed", "attempt_errored"),
        *("sleep_started", "sleep_completed", "wait_started", "wait_completed", "wait_timed_out"),
        *("rollback_started", "rollback_step_started", "rollback_step_completed"),
        *("rollback_step_errored", "rollback_attempt_started", "rollback_attempt_completed"),
        *("rollback_attempt_errored", "rollback_completed", "rollback_errored"),
    }
)

_Told = tuple[str, int, dict[str, Any]]


def error_detail(text: str) -> dict[str, str]:
    error = loads(text)
    name, message = described(error) if isinstance(error, BaseException) else ("Error", str(error))
    return {"name": name, "message": message}


def shown_output(text: str | None, about: str | None) -> Any:
    """A step's result where people see it."""
    if about is not None and loads(about).get("sensitive") == "output":
        return MASKED
    return "[stream]" if text is None else loads(text)


def expand(row: Row) -> Iterator[_Told]:
    """The events that an entry of the log stands for: ``(type, time, detail)``.

    A time that another program has spoilt is 0, as that of an instance is.
    """
    _, kind, name, count, _, attempt, started, at, due, value, about, _ = row
    left = 0 if due is None or at is None else due - at
    started, at = started or 0, at or 0
    step: dict[str, Any] = {} if name is None else {"step_name": f"{name}-{count}"}
    prefix = "rollback_" if kind.startswith("rollback_") else ""
    bare = kind.removeprefix("rollback_")
    if bare in ("step_completed", "step_errored", "attempt_errored") and attempt is not None:
        tried = {**step, "attempt": attempt}
        if attempt == 1:
            config = DEFAULTS if about is None else loads(about)
            yield f"{prefix}step_started", started, {**step, "config": config}
        yield f"{prefix}attempt_started", started, tried
        if bare == "step_completed":
            yield f"{prefix}attempt_completed", at, tried
            output = {} if prefix else {"output": shown_output(value, about)}
            yield kind, at, {**step, **output}
            return
        error = error_detail(value)
        wait = {} if due is None else {"retry_delay_ms": left}
        yield f"{prefix}attempt_errored", at, {**tried, **wait, "error": error}
        if bare == "step_errored":
            yield kind, at, {**step, "error": error} if prefix else step
    elif kind == "sleep_started":
        yield kind, at, {**step, "duration_ms": max(left, 0)}
    elif kind == "wait_started":
        yield kind, at, {**step, "event_type": loads(about)["type"]}
    elif kind == "wait_completed":
        # `due` is when the event was sent.
        yield kind, at, step
    else:
        yield kind, at, step


def _starts(begun: Begun) -> Iterator[_Told]:
    """What `expand` will say of an attempt's begin when the log has its end."""
    prefix = "rollback_" if begun.undoing else ""
    step: dict[str, Any] = {"step_name": f"{begun.use.name}-{begun.use.count}"}
    if begun.attempt == 1:
        text = about(begun.config)
        config = DEFAULTS if text is None else loads(text)
        yield f"{prefix}step_started", begun.started, {**step, "config": config}
    yield f"{prefix}attempt_started", begun.started, {**step, "attempt": begun.attempt}


def _number(begun: Begun) -> int:
    return begun.after * _SPAN + min(_OWN + 2 * begun.place, _SPAN - 2)


class WorkflowInstanceSubscription:
    """Iterate it asynchronously, or ask for the `next` event; None comes after the last one."""

    def __init__(
        self,
        host: WorkflowHost,
        session: Session,
        key: str,
        instance: str,
        cursor: int | None,
        filter: Sequence[str] | None,
    ) -> None:
        if cursor is not None and (not isinstance(cursor, int) or isinstance(cursor, bool)):
            raise WorkflowTypeError("a cursor is the event_id of an event")
        if filter is not None:
            if isinstance(filter, str) or not isinstance(filter, Sequence):
                raise WorkflowTypeError("a filter is a list of types of events")
            if unknown := set(filter) - TYPES:
                raise WorkflowValueError(f"there are no events of the type {min(unknown)!r}")
        self._host = host
        self._session = session
        self._key = key
        self._instance = instance
        self._cursor = cursor or 0
        self._filter = None if filter is None else frozenset(filter)
        self._waiting: list[WorkflowInstanceEvent] = []
        self._closed = False
        self._following = False
        self._woken: asyncio.Event | None = None
        # What has begun and is not told yet, by its number; and whose begin needs no telling when
        # the log has the end.
        self._begun: dict[int, Begun] = {}
        self._known: set[tuple[Any, ...]] = set()
        # Ends hearing of it from another process.
        self._unheard: Any = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WorkflowInstanceEvent:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self) -> WorkflowInstanceEvent | None:
        """The next event, once there is one; None if there will be none."""
        if not self._following:
            self._follow()
        while not self._waiting:
            if self._closed:
                return None
            before = self._position()
            if not self._read():
                if self._is_over():
                    self.close()
                    return None
                await self._more(before)
        return self._waiting.pop(0)

    def close(self) -> None:
        """No more events."""
        self._closed = True
        if self._unheard is not None:
            self._unheard()
        followers = self._host.followers.get(self._key)
        if followers is not None:
            followers.discard(self)
            if not followers:
                del self._host.followers[self._key]
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _is_over(self) -> bool:
        status = store.status(self._session.view, self._key)
        return status is None or (status in store.FINAL and self._cursor >= _END * _SPAN)

    def _follow(self) -> None:
        """Hear of what begins from now on, and of what is under way, if that is here."""
        self._following = True
        if not self._host.owner:
            self._unheard = follow(self, self._key, self._host.database.presence)
        if not self._host.here:
            return
        self._host.followers.setdefault(self._key, WeakSet()).add(self)
        run = self._host.runs.get(self._key)
        for begun in () if run is None else run.under_way.values():
            self._take(begun)

    def hear(self, begun: Begun) -> None:
        """An attempt has begun."""
        self._take(begun)
        self._wake()

    def _take(self, begun: Begun) -> None:
        number = _number(begun)
        if number + 1 > self._cursor:
            self._begun[number] = begun
        # What is before the cursor was told to whoever has it.
        use = begun.use
        self._known.add(
            (begun.undoing, use.name, use.count, use.parent, begun.attempt, begun.started)
        )

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()

    async def _more(self, before: tuple[int, str | None, int]) -> None:
        """Wait until something was written, or has begun."""
        woken = self._woken = asyncio.Event()
        unsubscribe = self._host.database.watch.subscribe(woken.set)
        try:
            while not self._closed and self._position() == before:
                await woken.wait()
                woken.clear()
        finally:
            unsubscribe()
        await asyncio.sleep(0)

    def _position(self) -> tuple[int, str | None, int]:
        view = self._session.view
        more = log.entries(view, self._key, self._cursor // _SPAN, 1)
        return len(more), store.status(view, self._key), len(self._begun)

    def _read(self) -> bool:
        """Take what there is; whether there was something."""
        view = self._session.view
        row = store.read(view, self._key)
        found: list[tuple[int, _Told]] = []
        if row is None:
            return False
        created = row[6]
        found.append((1, ("workflow_queued", created, {})))
        params = None if row[1] is None else loads(row[1])
        found.append((2, ("workflow_started", created, {"params": params})))
        entries = log.entries(view, self._key, max(self._cursor // _SPAN - 1, 0), _PAGE)
        seen = self._cursor // _SPAN
        for entry in entries:
            seen = max(seen, entry[0])
            told = enumerate(self._expand(entry))
            found += [(entry[0] * _SPAN + at, one) for at, one in told if one is not None]
        # What began behind an entry that is not there yet has to wait for that.
        for number, begun in sorted(self._begun.items()):
            if begun.after <= seen:
                del self._begun[number]
                found += [(number + at, one) for at, one in enumerate(_starts(begun))]
        found.sort(key=lambda one: one[0])
        if len(entries) < _PAGE and row[2] in store.FINAL:
            found.append((_END * _SPAN, self._end(row)))
        fresh = [(number, told) for number, told in found if number > self._cursor]
        if not fresh:
            return False
        self._cursor = fresh[-1][0]
        for number, (kind, time, detail) in fresh:
            if self._filter is None or kind in self._filter:
                event = WorkflowInstanceEvent(kind, self._instance, number, time, detail)
                self._waiting.append(event)
        return True

    def _expand(self, entry: Row) -> Iterator[_Told | None]:
        """The events of an entry; None in the place of one that was told when it happened."""
        _, kind, name, count, parent, attempt, started, *_ = entry
        known = (kind.startswith("rollback_"), name, count, parent, attempt, started) in self._known
        for told in expand(entry):
            yield None if known and told[0].endswith("_started") else told

    def _end(self, row: Row) -> _Told:
        status, output, message, name, at = row[2], row[3], row[4], row[5], row[7]
        if status == "complete":
            return "workflow_completed", at, {"output": None if output is None else loads(output)}
        if status == "errored":
            error = {"name": name or "Error", "message": message or ""}
            return "workflow_errored", at, {"error": error}
        return "workflow_terminated", at, {}
