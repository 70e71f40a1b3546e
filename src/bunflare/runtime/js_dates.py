"""Dates: JavaScript's, and what the SDK makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

_PARTS: dict[str, Callable[[datetime], int]] = {
    "FullYear": lambda moment: moment.year,
    "Month": lambda moment: moment.month - 1,
    "Date": lambda moment: moment.day,
    "Day": lambda moment: moment.isoweekday() % 7,
    "Hours": lambda moment: moment.hour,
    "Minutes": lambda moment: moment.minute,
    "Seconds": lambda moment: moment.second,
    "Milliseconds": lambda moment: moment.microsecond // 1000,
    "TimezoneOffset": lambda moment: 0,
}


class _Methods:
    """What a Date can be asked, for a datetime."""

    def getTime(self: Any) -> float:
        milliseconds: float = round(self.timestamp() * 1000)
        return milliseconds

    valueOf = getTime

    def toISOString(self: Any) -> str:
        moment = self.astimezone(UTC)
        return str(moment.strftime("%Y-%m-%dT%H:%M:%S.")) + f"{moment.microsecond // 1000:03d}Z"

    toJSON = toISOString

    def toUTCString(self: Any) -> str:
        return str(self.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"))

    def __getattr__(self: Any, name: str) -> Callable[[], int]:
        # `getHours` and `getUTCHours` and so on. A Worker's own time zone is UTC.
        read = _PARTS.get(name.removeprefix("get").removeprefix("UTC"))
        if read is None or not name.startswith("get"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return lambda: int(read(self.astimezone(UTC)))


class LocalDate(_Methods, datetime):
    """What the SDK makes of a Date: local time, without saying so; or leaves as it is.

    Those in a list of R2's objects are JavaScript's own, so their methods are there too.
    """

    @classmethod
    def of(cls, moment: datetime) -> LocalDate:
        return cls.fromtimestamp(moment.timestamp())

    def to_py(self, **_: Any) -> datetime:
        return self


class JsDate(_Methods, datetime):
    """A Date: a moment, which bindings take as an aware datetime."""

    @classmethod
    def new(cls, value: Any = None, *parts: int) -> JsDate:
        if parts:
            year, month, *rest = (value, *parts)
            day, hour, minute, second, ms = (*rest, *(1, 0, 0, 0, 0)[len(rest) :])
            moment = datetime(year, month + 1, day, hour, minute, second, ms * 1000, tzinfo=UTC)
            return cls.of(moment)
        if value is None:
            return cls.of(datetime.now(UTC))
        if isinstance(value, str):
            return cls.of(datetime.fromisoformat(value.replace("Z", "+00:00")))
        if isinstance(value, datetime):
            return cls.of(value)
        return cls.of(datetime.fromtimestamp(value / 1000, UTC))

    @classmethod
    def of(cls, moment: datetime) -> JsDate:
        aware = moment.astimezone(UTC)
        return cls.fromtimestamp(aware.timestamp(), UTC)

    @staticmethod
    def UTC(*parts: int) -> float:
        return JsDate.new(*parts, *(1,) * (3 - len(parts))).getTime()

    @staticmethod
    def parse(value: str) -> float:
        return JsDate.new(value).getTime()

    def to_py(self, **_: Any) -> datetime:
        return datetime.fromtimestamp(self.timestamp())


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


# ``Date.now()`` gives milliseconds, which `datetime.now` must not be typed as.
JsDate.now = staticmethod(_epoch_ms)  # type: ignore[assignment]
