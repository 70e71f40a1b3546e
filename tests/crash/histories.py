"""Checking what callers of counters saw, one after the other and at once, against one true order.

A counter's ``add`` gives its new value and ``look`` the present one. A history of them can be put
into one order that agrees with time (it is linearizable) if and only if the values fit: each added
value occurs once, and whatever began after a call was answered saw at least that call's value. A
call that was never answered may have happened or not, but at most once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Times are nanoseconds of a clock that all processes share."""

    counter: str
    adds: bool
    began: int
    #: None if it was never answered.
    ended: int | None = None
    value: int | None = None


def check(calls: Iterable[Call], final: dict[str, int]) -> None:
    """Raise `AssertionError` if no order explains the calls and the values at the end."""
    by_counter: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_counter[call.counter].append(call)
    for counter, own in by_counter.items():
        _check_counter(counter, own, final[counter])


def _check_counter(counter: str, calls: list[Call], final: int) -> None:
    added = [call for call in calls if call.adds and call.value is not None]
    values = [call.value for call in added]
    assert len(set(values)) == len(values), f"{counter}: two were given the same value"
    tried = sum(call.adds for call in calls)
    assert len(values) <= final <= tried, f"{counter}: {final} after {len(values)} to {tried}"
    # In the order of time: whoever begins sees at least what was answered before.
    events = sorted(
        [(call.began, 1, call) for call in calls]
        + [(call.ended, 0, call) for call in calls if call.ended is not None],
        key=lambda event: event[:2],
    )
    seen = 0
    least: dict[int, int] = {}
    for _, begins, call in events:
        if begins:
            least[id(call)] = seen
            continue
        assert call.value is not None
        low = least[id(call)] + call.adds
        assert low <= call.value <= final, f"{counter}: {call.value} after {low - call.adds}"
        seen = max(seen, call.value)
