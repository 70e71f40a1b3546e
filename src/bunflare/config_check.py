"""Checking what a wrangler file says against the dataclasses that describe it.

A dataclass is the description: its fields' names are the keys, their types what a key may hold, a
field without a default is required. So there is one place that knows a table, and no code a table.
"""

from __future__ import annotations

import difflib
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .config_source import KeyPath, Source

T = TypeVar("T")


class Report:
    """What is wrong and what is odd, each with its file and line."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def error(self, path: KeyPath, text: str) -> None:
        self.errors.append(f'{self._source.at(path)}: "{spelled(path)}" {text}')

    def warn(self, path: KeyPath, text: str) -> None:
        self.warnings.append(f'{self._source.at(path)}: "{spelled(path)}" {text}')


def spelled(path: KeyPath) -> str:
    """``kv_namespaces[0].binding``"""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def check_table(table: type[T], value: object, path: KeyPath, report: Report) -> T | None:
    """``value`` as an instance of ``table``; None where it is wrong, which is then reported."""
    if not isinstance(value, dict):
        report.error(path, f"must be a table, not {_named(value)}")
        return None
    hints = _hints(table)  # type: ignore[arg-type]
    warn_unknown(value, set(hints), path, report)
    found: dict[str, Any] = {}
    before = len(report.errors)
    for one in fields(table):  # type: ignore[arg-type]
        if one.name in value:
            found[one.name] = check(hints[one.name], value[one.name], (*path, one.name), report)
        elif one.default is MISSING and one.default_factory is MISSING:
            report.error((*path, one.name), "is missing")
    return table(**found) if len(report.errors) == before else None


def check(kind: Any, value: object, path: KeyPath, report: Report) -> Any:
    """``value`` as a ``kind``: a scalar, a choice, a tuple of something, a dict, or a table."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return check_table(kind, value, path, report)  # type: ignore[arg-type]
    if origin is tuple:
        return _check_array(get_args(kind)[0], value, path, report)
    if origin is dict:
        if not isinstance(value, dict):
            report.error(path, f"must be a table, not {_named(value)}")
            return value
        inner = get_args(kind)[1]
        if is_dataclass(inner):
            return {key: check(inner, one, (*path, key), report) for key, one in value.items()}
        return value
    if origin is Literal:
        if value not in get_args(kind):
            choices = ", ".join(f'"{choice}"' for choice in get_args(kind))
            report.error(path, f"must be one of {choices}, not {_named(value)}")
        return value
    if origin in (Union, types.UnionType):
        return _check_union(get_args(kind), value, path, report)
    if not _is_scalar(kind, value):
        report.error(path, f"must be {_SCALARS[kind]}, not {_named(value)}")
    return value


def _check_array(kind: Any, value: object, path: KeyPath, report: Report) -> tuple[Any, ...]:
    if not isinstance(value, list):
        report.error(path, f"must be an array, not {_named(value)}")
        return ()
    return tuple(check(kind, item, (*path, index), report) for index, item in enumerate(value))


def _check_union(kinds: tuple[Any, ...], value: object, path: KeyPath, report: Report) -> Any:
    """The first kind that the value can be; else the first kind's complaint."""
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds:
        trial = Report(report._source)
        checked = check(kind, value, path, trial)
        if not trial.errors:
            return checked
    return check(kinds[0], value, path, report)


def warn_unknown(value: dict[str, Any], known: set[str], path: KeyPath, report: Report) -> None:
    """Keys that nobody reads are most often misspelled."""
    for key in value.keys() - known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        report.warn((*path, key), f"is not a known key{hint}")


_SCALARS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def _is_scalar(kind: type, value: object) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, kind)


def _named(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case int() | float():
            return str(value)
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"


@cache
def _hints(table: type) -> dict[str, Any]:
    return get_type_hints(table)
