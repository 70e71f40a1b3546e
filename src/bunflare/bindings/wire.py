"""What a WebSocket speaks to, and where it finds what was said to it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .object_data import ObjectData

# How many messages wait for an `accept()` before the other side is asked to stop.
_MOST_UNREAD = 64

#: What is told to a wire: its method and the arguments.
Word = tuple[str, Any, Any]
#: Takes what has come in: "send" with a message, "close" with code and reason, "abort" with an
#: error or None.
Receiver = Callable[[str, Any, Any], object]


class Wire(Protocol):
    """What a WebSocket speaks to."""

    @property
    def buffered(self) -> int:
        """Bytes that were sent and have not left the process."""

    def send(self, message: str | bytes) -> None:
        """Take a message."""

    def close(self, code: int, reason: str) -> None:
        """Take a close frame, the last thing that is said; code 1005 is none."""

    def abort(self, error: str | None = None) -> None:
        """Hear that the other side is gone without a word, or why it failed."""

    def connect(self, other: Wire) -> None:
        """From now on tell ``other`` what is to be said."""

    def pause(self, on: bool) -> None:
        """Say no more until this is called with False."""


class Mailbox:
    """One side of a WebSocket: where it speaks to, and what it has not read."""

    __slots__ = ("_deferred", "_unread", "drained", "far", "receiver")

    def __init__(self) -> None:
        self.far: Wire | None = None
        self.receiver: Receiver | None = None
        self._unread: list[Word] = []
        self._deferred = False
        #: Set while the other side takes no more.
        self.drained: asyncio.Event | None = None

    @property
    def buffered(self) -> int:
        return 0

    def send(self, message: str | bytes) -> None:
        self._take(("send", message, None))

    def close(self, code: int, reason: str) -> None:
        self._take(("close", code, reason))

    def abort(self, error: str | None = None) -> None:
        self._take(("abort", error, None))
        if self.drained is not None:
            self.drained.set()

    def connect(self, other: Wire) -> None:
        self.far = other
        if len(self._unread) >= _MOST_UNREAD:
            other.pause(True)

    def pause(self, on: bool) -> None:
        if on:
            self.drained = self.drained or asyncio.Event()
        elif self.drained is not None:
            self.drained.set()
            self.drained = None

    def leave(self) -> None:
        """Say that nobody reads here any more."""
        if self.far is not None:
            self.far.abort()

    def _take(self, word: Word) -> None:
        receiver = self.receiver
        # Between two ends in one program nothing is heard before the speaker has finished.
        if receiver is not None and not self._unread and not isinstance(self.far, Mailbox):
            receiver(*word)
            return
        self._unread.append(word)
        if receiver is not None:
            self._read_soon()
        elif len(self._unread) == _MOST_UNREAD and self.far is not None:
            self.far.pause(True)

    def open(self, receiver: Receiver) -> None:
        """Have what comes, and what has come, taken."""
        self.receiver = receiver
        if len(self._unread) >= _MOST_UNREAD and self.far is not None:
            self.far.pause(False)
        if self._unread:
            self._read_soon()

    def _read_soon(self) -> None:
        if not self._deferred:
            self._deferred = True
            asyncio.get_running_loop().call_soon(self._read, context=contextvars.Context())

    def _read(self) -> None:
        self._deferred = False
        while self._unread and self.receiver is not None:
            self.receiver(*self._unread.pop(0))

    def empty_into(self, wire: Wire) -> None:
        """Say to another wire what was not read."""
        unread, self._unread = self._unread, []
        for word in unread:
            say(wire, word)


def say(wire: Wire, word: Word) -> None:
    """Say a word that was kept."""
    kind, first, second = word
    if kind == "send":
        wire.send(first)
    elif kind == "close":
        wire.close(first, second)
    else:
        wire.abort(first)


class Held:
    """What was said before it may leave: words that wait for one thing."""

    __slots__ = ("after", "words")

    def __init__(self) -> None:
        self.after: object = None
        self.words: list[tuple[Mailbox, Word]] = []

    def settle(self, error: BaseException | None) -> None:
        """Let them out, or drop them where what they wait for has failed."""
        words, self.words = self.words, []
        if error is None:
            for mailbox, word in words:
                if mailbox.far is not None:
                    say(mailbox.far, word)


class Speaker(Protocol):
    """A Durable Object, whose words leave it when what it has written is on disk."""

    broken: BaseException | None
    data: ObjectData
    held_words: Held | None


def say_after_writes(owner: Speaker, mailbox: Mailbox, word: Word) -> None:
    """Let something out of an object when all that was written before is on disk."""
    if owner.broken is not None:
        return
    data = owner.data
    if data.scheduled:
        data.flush()
    held = owner.held_words
    # What is said to many at once is let out at once.
    if held is None or not data.flying or held.after is not data.flying[-1]:
        held = Held()
        if not data.wait(held):
            if mailbox.far is not None:
                say(mailbox.far, word)
            return
        held.after = data.flying[-1]
        owner.held_words = held
    held.words.append((mailbox, word))
