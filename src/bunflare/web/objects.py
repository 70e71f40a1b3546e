"""What JavaScript's objects and arrays become: dicts and lists that know their other names."""

from __future__ import annotations

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

    def to_py(self, **_: Any) -> list[Any]:
        return [item.to_py() if hasattr(item, "to_py") else item for item in self]


# `from` is a keyword of Python's, and the name that JavaScript has.
setattr(JsArray, "from", classmethod(lambda cls, items: cls(items)))
