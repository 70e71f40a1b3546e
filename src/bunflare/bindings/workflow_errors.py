"""Errors of steps: the live run sees of them what a later one can see, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import errors
from ..errors import StoredError
from ..values import dumps, loads

_OURS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(errors).items()
    if name.startswith("Workflow") or name == "NonRetryableError"
}


def text_of(error: BaseException) -> str:
    """An error as the log keeps it."""
    if not isinstance(error, Exception):
        error = StoredError(type(error).__name__, str(error))
    return dumps(error)


def revive(text: str, names: Mapping[str, Any]) -> Exception:
    """The error of a text.

    Python's own classes and ours come back, and so do classes that ``names`` has, the names of the
    workflow's module; others are `StoredError`.
    """
    error = loads(text)
    if not isinstance(error, Exception):
        return StoredError("Error", str(error))
    if isinstance(error, StoredError):
        kind = _OURS.get(error.name) or names.get(error.name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            # What its constructor wants is not known; every exception has its arguments.
            made = kind.__new__(kind, error.message)
            made.args = (error.message,)
            if isinstance(made, errors.WorkflowError):
                made.code = None
            return made
    return error


def described(error: BaseException) -> tuple[str, str]:
    """The name and the message of an error, as a status shows them."""
    if isinstance(error, StoredError):
        return error.name, error.message
    return type(error).__name__, str(error)
