"""What Workflows take: ids, names, durations, and the configuration of a step.

https://developers.cloudflare.com/workflows/build/sleeping-and-retrying/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

from ..errors import ValueNotSerializable, WorkflowFatalError, WorkflowTypeError, WorkflowValueError
from ..values import dumps

#: Bytes of a step's result, of an instance's parameters and of an event's payload.
LARGEST = 1024 * 1024
#: Characters of a step's name, of an event's type, and of an instance's id.
LONGEST_NAME = 256
LONGEST_TYPE = 100
LONGEST_ID = 100
DAY_MS = 86_400_000
#: How long a sleep and the waiting for an event may be.
LONGEST_WAIT_MS = 365 * DAY_MS
#: How long a finished instance is kept, where it does not say itself.
RETENTION_MS = 30 * DAY_MS
# What can be added to the time and still be stored.
_FOR_EVER_MS = 2**52
MOST_IN_BATCH = 100
MOST_STEPS = 10_000
MOST_STEPS_EVER = 25_000

_ID = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9-_]*")
_WORDS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week|month|year)s?\s*")
_UNITS_MS = {
    "second": 1000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": DAY_MS,
    "week": 7 * DAY_MS,
    "month": 30 * DAY_MS,
    "year": 365 * DAY_MS,
}

Duration = float | str | timedelta
#: What gives the pause before a retry, from the step's context and the error.
DelayFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class StepConfig:
    """How a step is tried: all in milliseconds."""

    limit: int = 5
    delay: float | DelayFunction = 10_000
    backoff: str = "exponential"
    timeout: float = 600_000
    sensitive: bool = False
    #: As it was written, which is what the step's context shows.
    shown: Mapping[str, Any] | None = None

    def pause(self, attempt: int) -> float:
        """The pause after an attempt that failed, where it is no function."""
        assert not callable(self.delay)
        if self.backoff == "exponential":
            return min(self.delay * 2.0 ** min(attempt - 1, 1000), LONGEST_WAIT_MS)
        return min(
            self.delay * attempt if self.backoff == "linear" else self.delay, LONGEST_WAIT_MS
        )


DEFAULTS = {
    "retries": {"limit": 5, "delay": "10 seconds", "backoff": "exponential"},
    "timeout": "10 minutes",
}
USUAL = StepConfig(shown=DEFAULTS)


def milliseconds(value: object, what: str, unit: float = 1000) -> float:
    """A duration: words, a timedelta, or a number of units of ``unit`` milliseconds."""
    if isinstance(value, timedelta):
        number = value.total_seconds() * 1000
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value * unit
    elif isinstance(value, str):
        found = _WORDS.fullmatch(value)
        if found is None:
            raise WorkflowValueError(
                f'{what}: "{value}" is no duration; write it as "5 minutes" '
                "(second, minute, hour, day, week, month or year)"
            )
        number = float(found[1]) * _UNITS_MS[found[2]]
    else:
        raise WorkflowTypeError(f"{what} is no duration but {type(value).__name__}")
    if not 0 <= number < float("inf"):
        raise WorkflowValueError(f"{what} cannot be {value!r}")
    return number


def wait_ms(value: object, what: str, unit: float) -> int:
    """How long to wait; a year at most."""
    number = milliseconds(value, what, unit)
    if number > LONGEST_WAIT_MS:
        raise WorkflowValueError(f"{what} cannot be longer than 365 days")
    return int(number)


def moment_ms(value: object) -> int:
    """A point in time: an aware datetime, or epoch milliseconds."""
    if isinstance(value, datetime):
        # A naive one is local time, which is what a Date becomes in a Worker.
        return int(value.timestamp() * 1000)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    raise WorkflowTypeError(
        f"sleep_until takes a datetime or epoch milliseconds, not {type(value).__name__}"
    )


def check_id(id: object) -> str:
    if not isinstance(id, str):
        raise WorkflowTypeError(f"an instance's id is a str, not {type(id).__name__}")
    if len(id) > LONGEST_ID or _ID.fullmatch(id) is None:
        raise WorkflowValueError(
            f'Workflow instance has invalid id: "{id[:120]}" (1 to {LONGEST_ID} characters of '
            "a-z, A-Z, 0-9, _ and -, not beginning with -)",
            "instance.invalid_id",
        )
    return id


def check_workflow_name(name: object) -> str:
    if not isinstance(name, str) or len(name) > 64 or _ID.fullmatch(name) is None:
        raise WorkflowValueError(
            f"{name!r} cannot name a workflow: 1 to 64 letters, digits, _ and - only"
        )
    return name


def check_workflow(made: Any, name: str | None) -> tuple[str, Any]:
    """The name of a workflow, and what makes its instances, if that is known."""
    if isinstance(made, str):
        return check_workflow_name(made), None
    if not callable(getattr(made, "run", None)):
        raise WorkflowTypeError(
            f"a workflow is a class with a method run(self, event, step), not {made!r:.100}"
        )
    return check_workflow_name(name or getattr(made, "__name__", None)), made


@lru_cache(maxsize=4096)
def check_step_name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not _is_clean(name):
        raise WorkflowFatalError(
            f'Step name "{str(name)[:300]}" exceeds max length ({LONGEST_NAME} chars) or invalid '
            "characters found"
        )
    return name


def _is_clean(text: str) -> bool:
    if text.isprintable():
        return True
    return not any(one < " " or one == "\x7f" or "\ud800" <= one <= "\udfff" for one in text)


def check_type(type: object) -> str:
    if not isinstance(type, str) or not 0 < len(type) <= LONGEST_TYPE or not _is_clean(type):
        raise WorkflowValueError(
            f"the type of an event is a str of 1 to {LONGEST_TYPE} characters, not {type!r:.120}"
        )
    return type


def step_config(config: Mapping[str, Any], name: str, unit: float = 1000) -> StepConfig:
    """Read the configuration of a step."""

    def wrong(why: str) -> NoReturn:
        raise WorkflowFatalError(
            f'Step config for "{name}" is in a invalid format: {why}. See '
            "https://developers.cloudflare.com/workflows/build/sleeping-and-retrying/"
        )

    unknown = config.keys() - {"retries", "timeout", "sensitive"}
    if unknown:
        wrong(f"there is no {sorted(unknown)[0]!r}")
    retries = config.get("retries")
    if retries is None:
        retries = {}
    elif not isinstance(retries, Mapping):
        wrong("retries is a dict")
    if unknown := retries.keys() - {"limit", "delay", "backoff"}:
        wrong(f"retries have no {sorted(unknown)[0]!r}")
    limit = retries.get("limit", USUAL.limit)
    if limit == float("inf"):
        limit = 2**53
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        wrong("limit is a number of retries")
    backoff = retries.get("backoff", USUAL.backoff)
    if backoff not in ("constant", "linear", "exponential"):
        wrong('backoff is "constant", "linear" or "exponential"')
    sensitive = config.get("sensitive")
    if sensitive not in (None, "output"):
        wrong('sensitive is "output"')
    delay = retries.get("delay", USUAL.delay if unit == 1000 else None)
    try:
        if "delay" not in retries:
            delay = USUAL.delay
        elif not callable(delay):
            delay = milliseconds(delay, "delay", unit)
        timeout = USUAL.timeout
        if config.get("timeout") is not None:
            timeout = milliseconds(config["timeout"], "timeout", unit)
    except (WorkflowTypeError, WorkflowValueError) as error:
        wrong(str(error))
    shown = {
        **DEFAULTS,
        **config,
        "retries": {**DEFAULTS["retries"], **retries},  # type: ignore[dict-item]
    }
    if callable(delay):
        del shown["retries"]["delay"]
    return StepConfig(limit, delay, backoff, timeout, sensitive is not None, shown)


def about(config: StepConfig) -> str | None:
    """What the log keeps of a configuration: nothing of the usual one."""
    if config is USUAL or config.shown is None:
        return None
    shown = dict(config.shown)
    if callable(config.delay):
        shown["retries"] = {**shown["retries"], "delay": "[dynamic]"}
    return dumps({key: _plain(value) for key, value in shown.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value if isinstance(value, int | float | str) else str(value)


def retention(value: object, unit: float = 1000) -> tuple[int | None, int | None]:
    """How long an instance is kept after success and after an error, in milliseconds."""
    if value is None:
        return None, None
    if not isinstance(value, Mapping):
        raise WorkflowTypeError("retention is a dict with success_retention and error_retention")
    success = value.get("success_retention", value.get("successRetention"))
    error = value.get("error_retention", value.get("errorRetention"))
    known = {"success_retention", "successRetention", "error_retention", "errorRetention"}
    if unknown := value.keys() - known:
        raise WorkflowValueError(f"retention has no {sorted(unknown)[0]!r}")
    kept: list[int | None] = [
        None if one is None else int(min(milliseconds(one, "retention", unit), _FOR_EVER_MS))
        for one in (success, error)
    ]
    return kept[0], kept[1]


def payload(value: object, what: str) -> str:
    """The text of what is handed to an instance."""
    try:
        text = dumps(value)
    except ValueNotSerializable as error:
        raise WorkflowTypeError(f"{what}: {error}") from None
    if len(text) > LARGEST // 4 and len(text.encode()) > LARGEST:
        raise WorkflowValueError(f"{what} exceed the maximum of 1 MiB")
    return text
