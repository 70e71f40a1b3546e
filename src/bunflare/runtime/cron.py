"""Cron expressions in the platform's dialect, in UTC.

Five fields: minute, hour, day of the month, month, day of the week. Days of the week count from
1 = Sunday to 7 = Saturday; names are taken in any case, ranges may run over the end ("FRI-MON").
``L`` is the last day, ``L-3`` three days before it, ``15W`` the weekday nearest to the 15th, ``LW``
the last weekday, ``L-3W`` the one nearest to ``L-3``, ``2#1`` the first Monday, ``6L`` the last
Friday. Where both the day of the month and the day of the week are restricted, either is enough.
https://developers.cloudflare.com/workers/configuration/cron-triggers/
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from ..errors import WorkerError

_MONTHS = {
    name: at
    for at, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_DAYS = {name: at for at, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}
# The 29th of February of a day of the week comes within so many years.
_YEARS = 41
_Rule = Callable[[date], bool]


class Cron:
    """When an expression is due."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        fields = expression.upper().split()
        if len(fields) != 5:
            raise WorkerError(f'cron "{expression}": five fields are needed, not {len(fields)}')
        try:
            self._minutes = sorted(_values(fields[0], 0, 59, {}))
            self._hours = sorted(_values(fields[1], 0, 23, {}))
            self._months = _values(fields[3], 1, 12, _MONTHS)
            month_days = [_month_rule(part) for part in fields[2].split(",")]
            week_days = [_week_rule(part) for part in fields[4].split(",")]
        except ValueError as error:
            raise WorkerError(f'cron "{expression}": {error}') from None
        open_month, open_week = fields[2] in ("*", "?"), fields[4] in ("*", "?")
        if open_month:
            self._rules = week_days
        else:
            self._rules = month_days if open_week else month_days + week_days

    def next_after(self, now: int) -> int | None:
        """The next time in epoch milliseconds, or None if there is none ("0 0 31 2 *")."""
        moment = datetime.fromtimestamp(now / 1000, UTC).replace(second=0, microsecond=0)
        moment += timedelta(minutes=1)
        day, first = moment.date(), (moment.hour, moment.minute)
        for _ in range(366 * _YEARS):
            if day.month in self._months and any(rule(day) for rule in self._rules):
                for hour in self._hours:
                    for minute in self._minutes:
                        if (hour, minute) >= first:
                            found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                            return int(found.timestamp()) * 1000
            day += timedelta(days=1)
            first = (0, 0)
        return None


def _values(field: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step_text = part.partition("/")
        step = int(step_text) if step_text else 1
        if step < 1:
            raise ValueError(f"a step must be 1 or more ({part})")
        if span in ("*", "?"):
            start, end = low, high
        else:
            begin, dash, stop = span.partition("-")
            start = _number(begin, low, high, names)
            # "5/15" goes on to the end.
            end = _number(stop, low, high, names) if dash else (high if step_text else start)
        if end >= start:
            found.update(range(start, end + 1, step))
        else:
            around = [*range(start, high + 1), *range(low, end + 1)]
            found.update(around[::step])
    return found


def _number(text: str, low: int, high: int, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ValueError(f'"{text}" is not between {low} and {high}')
    return int(text)


def _last(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, wanted: int) -> int:
    """The weekday nearest to a day of the month, within the month."""
    last = _last(day)
    target = min(wanted, last)
    week_day = date(day.year, day.month, target).weekday()
    if week_day == 5:
        return target - 1 if target > 1 else target + 2
    if week_day == 6:
        return target + 1 if target < last else target - 2
    return target


def _month_rule(part: str) -> _Rule:
    if found := re.fullmatch(r"L(?:-(\d+))?", part):
        back = int(found[1] or 0)
        return lambda day: day.day == _last(day) - back
    if found := re.fullmatch(r"L(?:-(\d+))?W", part):
        before = int(found[1] or 0)
        return lambda day: (
            before < _last(day) and day.day == _nearest_weekday(day, _last(day) - before)
        )
    if found := re.fullmatch(r"(\d+)W", part):
        wanted = _number(found[1], 1, 31, {})
        return lambda day: wanted <= _last(day) and day.day == _nearest_weekday(day, wanted)
    values = _values(part, 1, 31, {})
    return lambda day: day.day in values


def _week_rule(part: str) -> _Rule:
    if part == "L":
        part = "7"
    if found := re.fullmatch(r"(\w+)L", part):
        wanted = _number(found[1], 1, 7, _DAYS)
        return lambda day: _week_day(day) == wanted and day.day > _last(day) - 7
    if found := re.fullmatch(r"(\w+)#([1-5])", part):
        wanted, which = _number(found[1], 1, 7, _DAYS), int(found[2])
        return lambda day: _week_day(day) == wanted and (day.day + 6) // 7 == which
    values = _values(part, 1, 7, _DAYS)
    return lambda day: _week_day(day) in values


def _week_day(day: date) -> int:
    return day.isoweekday() % 7 + 1
