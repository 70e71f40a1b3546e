"""What JavaScript's objects and arrays become: dicts and lists that know their other names."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any, Self


class JsDict(dict[str, Any]):
    """What a JavaScript object becomes: ``r["key"]`` and ``r.key``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def to_py(self, **_: Any) -> JsDict:
        """Itself: code that converts results by hand goes on working."""
        return self


class JsArray(list[Any]):
    """An array."""

    @classmethod
    def new(cls, *items: Any) -> Self:
        return cls(items)

    @staticmethod
    def isArray(value: object) -> bool:
        return isinstance(value, list)

    @property
    def length(self) -> int:
        return len(self)

    def push(self, *items: Any) -> int:
        self.extend(items)
        return len(self)

    @classmethod
    def of(cls, *items: Any) -> Self:
        return cls(items)

    def map(self, function: Callable[[Any], Any]) -> JsArray:
        return JsArray(function(item) for item in self)

    def filter(self, function: Callable[[Any], Any]) -> JsArray:
        return JsArray(item for item in self if function(item))

    def forEach(self, function: Callable[[Any], Any]) -> None:
        for item in self:
            function(item)

    def find(self, function: Callable[[Any], Any]) -> Any:
        return next((item for item in self if function(item)), None)

    def includes(self, item: Any) -> bool:
        return item in self

    def indexOf(self, item: Any) -> int:
        return self.index(item) if item in self else -1

    def join(self, between: str = ",") -> str:
        return between.join("" if item is None else str(item) for item in self)

    def slice(self, start: int | None = None, end: int | None = None) -> JsArray:
        return JsArray(self[start:end])

    def concat(self, *others: Any) -> JsArray:
        made = JsArray(self)
        for one in others:
            made.extend(one if isinstance(one, list) else [one])
        return made

    def to_py(self, **_: Any) -> list[Any]:
        return [item.to_py() if hasattr(item, "to_py") else item for item in self]


# `from` is a keyword of Python's; Pyodide has it with an underscore.
for _name in ("from", "from_"):
    setattr(JsArray, _name, classmethod(lambda cls, items: cls(items)))


class JsNull:
    """``null``, where a difference to None matters to somebody."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"

    def to_py(self, **_: Any) -> None:
        """None."""


jsnull = JsNull()


def without_null(value: Any) -> Any:
    """The value with None for ``jsnull``, also within dicts and lists."""
    if value is jsnull:
        return None
    if not isinstance(value, dict | list):
        return value
    try:
        return _replaced(value)
    except RecursionError:
        # It has itself in it, and so was not written by hand.
        return value


def _replaced(value: Any) -> Any:
    if value is jsnull:
        return None
    if isinstance(value, dict):
        changed = {key: _replaced(one) for key, one in value.items()}
        same = all(changed[key] is one for key, one in value.items())
        return value if same else JsDict(changed)
    if isinstance(value, list):
        items = [_replaced(one) for one in value]
        return value if all(map(is_, items, value)) else JsArray(items)
    return value
