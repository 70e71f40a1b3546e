"""Running an instance again from its log: every step gives what it gave before, in that order.

Code that does the same with the same answers asks for the same steps. So what had ended is handed
out in the order in which it had ended, each when the code asks for it; a step that is new waits
until all of the log has been asked for. If then nothing moves any more although the log has an
entry left, the code has changed, and the entry names the step.

A step within another step's callback is not part of this order: it is looked up when that callback
runs once more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import WorkflowChangedError
from .workflow_scope import slot_of
from .workflow_turns import REST

if TYPE_CHECKING:
    from ..store.connection import Row
    from .workflow_scope import Use

# What code of several tasks, which may wait for other things too, may take for that, in seconds.
_PATIENCE = 30.0

#: What an entry is of, and whether it is the end of it.
_KINDS = {
    "step_completed": ("do", True),
    "step_errored": ("do", True),
    "attempt_errored": ("do", False),
    "sleep_started": ("sleep", False),
    "sleep_completed": ("sleep", True),
    "wait_started": ("wait", False),
    "wait_completed": ("wait", True),
    "wait_timed_out": ("wait", True),
    "rollback_step_completed": ("rollback", True),
    "rollback_step_errored": ("rollback", True),
    "rollback_attempt_errored": ("rollback", False),
}
# What is before a name in a path.
_STEPS = re.compile(r"(?:^|/)(?:do|rollback):[\d.]+:")
_WORDS = {"do": "step", "sleep": "sleep", "wait": "wait for an event", "rollback": "rollback"}


class Record:
    """What the log says of one step."""

    __slots__ = ("attempts", "count", "due", "row")

    def __init__(self, count: int) -> None:
        #: How often its name had been used.
        self.count = count
        #: How it ended; None if it has not.
        self.row: Row | None = None
        #: How often it has failed.
        self.attempts = 0
        self.due: int | None = None


def kind_of(entry: str) -> str | None:
    """What an entry is of: do, sleep, wait, rollback."""
    found = _KINDS.get(entry)
    return None if found is None else found[0]


def key_of(kind: str | None, place: str | int, name: str) -> str:
    """As `Use.key`, for an entry with this place, or else this count."""
    return f"{kind}:{place}:{name}"


def name_of(path: str) -> str:
    """The name of the step that a `Use.path` leads to."""
    return _STEPS.split(path)[-1]


def spoken(key: str) -> str:
    """A step as an error names it."""
    kind, place, name = key.split(":", 2)
    count = place.rsplit(".", 1)[-1]
    times = f" ({count})" if count != "1" else ""
    return f'{_WORDS[kind]} "{name}"{times}'


class Replay:
    """The log of an instance, on its way to being asked for."""

    def __init__(
        self, rows: Sequence[Row], over: Callable[[], object], changed: Callable[[str], object]
    ) -> None:
        #: Of the steps within a step: by their parent, then by their own key.
        self.nested: dict[str, dict[str, Record]] = {}
        self.rollbacks: dict[str, Record] = {}
        #: Why the instance is being rolled back, as it was stored.
        self.rolling: str | None = None
        #: The numbers that uses of a name were given; by kind and name.
        self.taken: dict[str, set[int]] = {}
        #: Whether the log tells tasks apart.
        self._placed = False
        self._over = over
        self._changed = changed
        self._records: dict[str, Record] = {}
        self._order: list[str] = []
        self._at = 0
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._held: list[tuple[str, asyncio.Future[None]]] = []
        self._progress = 0
        self._looking = False
        #: Whether more than one task has asked.
        self.parallel = False
        self._read(rows)
        self._unasked = set(self._records)

    def _read(self, rows: Sequence[Row]) -> None:
        records, order = self._records, self._order
        for row in rows:
            found = _KINDS.get(row[1])
            if found is None:
                if row[1] == "rollback_started":
                    self.rolling = row[9]
                continue
            kind, ends = found
            key = f"{kind}:{row[11] or row[3]}:{row[2]}"
            parent = row[4]
            if kind == "rollback":
                into = self.rollbacks
                key = key if parent is None else f"{parent}/{key}"
            else:
                into = records if parent is None else self.nested.setdefault(parent, {})
            if parent is not None and row[1] == "step_errored":
                # It is tried again with the step around it.
                into.pop(key, None)
                continue
            record = into.get(key)
            if record is None:
                record = into[key] = Record(row[3])
            if ends:
                record.row = row
                if into is records:
                    order.append(key)
            else:
                record.due = row[8]
                record.attempts = row[5] or 0
            if parent is None:
                self._placed = self._placed or row[11] is not None
                self.taken.setdefault(slot_of(kind, row[2]), set()).add(row[3])

    @property
    def done(self) -> bool:
        """Whether all of the log has been asked for."""
        return self._at == len(self._order) and not self._unasked

    async def reach(self, use: Use) -> Record | None:
        """What the log has of a step, once it is its turn; None for a new one."""
        key = use.key
        kind = key.partition(":")[0]
        if use.place is not None and not self._placed:
            # The log of another program, which knows no places.
            key = key_of(kind, use.count, use.name)
        self._progress += 1
        self._unasked.discard(key)
        record = self._records.get(key)
        if record is None:
            taken = self.taken.setdefault(slot_of(kind, use.name), set())
            while use.count in taken:
                use.count += 1
            taken.add(use.count)
        if record is not None and record.row is not None:
            if self._order[self._at] == key:
                self._at += 1
                self._advance()
                return record
            waiting = self._asking[key] = asyncio.get_running_loop().create_future()
        elif self.done:
            self._advance()
            return record
        else:
            waiting = asyncio.get_running_loop().create_future()
            self._held.append((key, waiting))
        self._look()
        await waiting
        return record

    def _advance(self) -> None:
        order = self._order
        while self._at < len(order) and (waiting := self._asking.pop(order[self._at], None)):
            self._at += 1
            self._progress += 1
            if not waiting.done():
                waiting.set_result(None)
        if self.done:
            held, self._held = self._held, []
            for _, waiting in held:
                if not waiting.done():
                    waiting.set_result(None)
            self._over()

    def _look(self) -> None:
        """See to it that something moves."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._turn, REST, self._progress, True)

    def _turn(self, turns: int, progress: int, patient: bool) -> None:
        if self.done or not (self._held or self._asking):
            self._looking = False
            return
        loop = asyncio.get_running_loop()
        if progress != self._progress:
            loop.call_soon(self._turn, REST, self._progress, True)
        elif turns:
            loop.call_soon(self._turn, turns - 1, progress, patient)
        elif self.parallel and patient:
            loop.call_later(_PATIENCE, self._turn, 0, progress, False)
        else:
            held = [key for key, _ in self._held]
            new = [key for key in held if key not in self._records]
            # What the log does not have says most.
            asked = [*new, *self._asking, *held][0]
            self._changed(
                f"it asks for {spoken(asked)} where {spoken(self._next())} had been recorded"
            )

    def _next(self) -> str:
        """The entry that nobody asks for."""
        if self._at < len(self._order):
            return self._order[self._at]
        return next(key for key in self._records if key in self._unasked)

    async def ended(self) -> None:
        """The code has returned. Raises `WorkflowChangedError` if there was more in the log."""
        quiet = 0
        while quiet < 3 * REST:
            progress = self._progress
            if self.done:
                return
            await asyncio.sleep(0)
            quiet = quiet + 1 if progress == self._progress else 0
        raise WorkflowChangedError(
            f"it ended without asking for {spoken(self._next())}, which had been recorded"
        )
