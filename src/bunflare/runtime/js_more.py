"""More of JavaScript's globals: typed arrays, promises, and small functions."""

from __future__ import annotations

import array
import asyncio
import base64
import math
import re
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any
from urllib.parse import quote, unquote

from .js_values import JsArray, JsDate, JsException, JsMap, JsSet, PyProxy, Uint8Array, from_entries

# What JavaScript's two encoders of URLs leave as it is.
_COMPONENT = "-_.!~*'()"
_WHOLE = _COMPONENT + ";/?:@&=+$,#"

_pending: set[asyncio.Future[Any]] = set()


class JsPromise:
    """A promise: awaited as any other awaitable is."""

    def __init__(self, work: Awaitable[Any]) -> None:
        self._future = asyncio.ensure_future(work)
        _pending.add(self._future)
        self._future.add_done_callback(_pending.discard)

    @classmethod
    def new(cls, executor: Callable[[Any, Any], Any]) -> JsPromise:
        future = asyncio.get_running_loop().create_future()

        def resolve(value: Any = None) -> None:
            if not future.done():
                future.set_result(value)

        def reject(reason: Any = None) -> None:
            if not future.done():
                future.set_exception(_raisable(reason))

        executor(resolve, reject)
        return cls(future)

    @classmethod
    def resolve(cls, value: Any = None) -> JsPromise:
        return value if isinstance(value, JsPromise) else cls(_settled(value))

    @classmethod
    def reject(cls, reason: Any = None) -> JsPromise:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(_raisable(reason))
        return cls(future)

    @classmethod
    def all(cls, values: Iterable[Any]) -> JsPromise:
        return cls(_all(list(values)))

    @classmethod
    def race(cls, values: Iterable[Any]) -> JsPromise:
        return cls(_race(list(values)))

    @classmethod
    def allSettled(cls, values: Iterable[Any]) -> JsPromise:
        return cls(_all_settled(list(values)))

    def then(self, kept: Any = None, broken: Any = None) -> JsPromise:
        return type(self)(_then(self._future, kept, broken))

    def catch(self, broken: Any) -> JsPromise:
        return self.then(None, broken)

    def finally_(self, always: Callable[[], Any]) -> JsPromise:
        return type(self)(_finally(self._future, always))

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._future.__await__()


def _raisable(reason: Any) -> BaseException:
    return reason if isinstance(reason, BaseException) else JsException("Error", str(reason))


async def _settled(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


async def _all(values: list[Any]) -> JsArray:
    return JsArray(await asyncio.gather(*map(_settled, values)))


async def _race(values: list[Any]) -> Any:
    tasks = [asyncio.ensure_future(_settled(value)) for value in values]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    return next(iter(done)).result()


async def _all_settled(values: list[Any]) -> JsArray:
    results = await asyncio.gather(*map(_settled, values), return_exceptions=True)
    return JsArray(
        from_entries(
            [("status", "rejected"), ("reason", one)]
            if isinstance(one, BaseException)
            else [("status", "fulfilled"), ("value", one)]
        )
        for one in results
    )


async def _then(future: asyncio.Future[Any], kept: Any, broken: Any) -> Any:
    try:
        value = await future
    except Exception as error:
        if broken is None:
            raise
        return await _settled(broken(error))
    return value if kept is None else await _settled(kept(value))


async def _finally(future: asyncio.Future[Any], always: Callable[[], Any]) -> Any:
    try:
        return await future
    finally:
        await _settled(always())


class _Typed:
    """A class of typed arrays, such as ``Float64Array``."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self._code = code
        self.BYTES_PER_ELEMENT = array.array(code).itemsize

    def new(self, source: Any = 0) -> memoryview:
        """Numbers in memory: of a count, of an iterable of them, or of a buffer's bytes."""
        if isinstance(source, int):
            made = array.array(self._code, bytes(source * self.BYTES_PER_ELEMENT))
        elif isinstance(source, bytes | bytearray | memoryview):
            made = array.array(self._code, bytes(source))
        else:
            made = array.array(self._code, source)
        return memoryview(made)

    __call__ = new


class Buffer(Uint8Array):
    """Node's ``Buffer``, as far as it turns bytes into texts and back."""

    @classmethod
    def from_(cls, source: Any, encoding: str = "utf8") -> Buffer:
        if not isinstance(source, str):
            return cls(source)
        if encoding == "hex":
            return cls.fromhex(source)
        if encoding in ("base64", "base64url"):
            text = source.replace("-", "+").replace("_", "/").rstrip("=")
            return cls(base64.b64decode(text + "=" * (-len(text) % 4)))
        return cls(source.encode("latin-1" if encoding in ("latin1", "binary") else "utf-8"))

    @classmethod
    def alloc(cls, size: int) -> Buffer:
        return cls(size)

    @classmethod
    def concat(cls, parts: Iterable[Any]) -> Buffer:
        return cls(b"".join(map(bytes, parts)))

    def toString(self, encoding: str = "utf8") -> str:
        if encoding == "hex":
            return self.hex()
        if encoding == "base64":
            return base64.b64encode(self).decode()
        if encoding == "base64url":
            return base64.urlsafe_b64encode(self).decode().rstrip("=")
        return self.decode("latin-1" if encoding in ("latin1", "binary") else "utf-8", "replace")


# `from` is a keyword of Python's, and the name that JavaScript has.
setattr(Buffer, "from", Buffer.from_)


class _Scheduler:
    """``scheduler``."""

    @staticmethod
    async def wait(milliseconds: float, _options: Any = None) -> None:
        await asyncio.sleep(milliseconds / 1000)


class _Interval:
    """What ``setInterval`` gives."""

    def __init__(self, function: Callable[[], Any], milliseconds: float) -> None:
        self._function = function
        self._seconds = max(milliseconds, 1) / 1000
        self._arm()

    def _arm(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        self._arm()
        self._function()

    def cancel(self) -> None:
        self._handle.cancel()


def structured_clone(value: Any, _options: Any = None) -> Any:
    """A deep copy of what can be copied."""
    from ..values import dumps, loads

    if isinstance(value, JsDate | Uint8Array):
        return type(value).new(value)
    if isinstance(value, JsMap):
        return JsMap((structured_clone(k), structured_clone(v)) for k, v in value.items())
    if isinstance(value, dict):
        return from_entries((key, structured_clone(one)) for key, one in value.items())
    if isinstance(value, list):
        return JsArray(map(structured_clone, value))
    if isinstance(value, JsSet):
        return JsSet(value)
    if callable(value) or isinstance(value, PyProxy):
        raise JsException("DataCloneError", f"{value!r} could not be cloned.")
    return loads(dumps(value))


def parse_int(text: Any, radix: int = 10) -> float:
    found = re.match(r"\s*([+-]?)(0[xX])?([0-9a-zA-Z]+)", str(text))
    if found is None:
        return math.nan
    base = 16 if found[2] else int(radix or 10)
    digits = ""
    for digit in found[3]:
        if not digit.isascii() or int(digit, 36) >= base:
            break
        digits += digit
    return int(found[1] + digits, base) if digits else math.nan


def parse_float(text: Any) -> float:
    found = re.match(r"\s*[+-]?(Infinity|\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)", str(text))
    return math.nan if found is None else float(found[0].replace("Infinity", "inf"))


class _Math:
    """``Math``."""

    PI, E = math.pi, math.e
    abs, max, min = staticmethod(abs), staticmethod(max), staticmethod(min)
    ceil, floor, sqrt = staticmethod(math.ceil), staticmethod(math.floor), staticmethod(math.sqrt)
    trunc, log, exp = staticmethod(math.trunc), staticmethod(math.log), staticmethod(math.exp)
    sin, cos, tan = staticmethod(math.sin), staticmethod(math.cos), staticmethod(math.tan)
    pow, log2, log10 = staticmethod(math.pow), staticmethod(math.log2), staticmethod(math.log10)

    @staticmethod
    def round(value: float) -> int:
        return math.floor(value + 0.5)

    @staticmethod
    def random() -> float:
        import secrets

        return secrets.randbits(53) / 2**53


def more_names() -> dict[str, Any]:
    """What ``from js import …`` finds beside what `js_globals` has."""
    typed = {
        "BigInt64Array": "q",
        "BigUint64Array": "Q",
        "Float32Array": "f",
        "Float64Array": "d",
        "Int16Array": "h",
        "Int32Array": "i",
        "Int8Array": "b",
        "Uint16Array": "H",
        "Uint32Array": "I",
        "Uint8ClampedArray": "B",
    }
    return {
        **{name: _Typed(name, code) for name, code in typed.items()},
        "BigInt": int,
        "Buffer": Buffer,
        "Infinity": math.inf,
        "Math": _Math,
        "NaN": math.nan,
        "Promise": JsPromise,
        "decodeURI": unquote,
        "decodeURIComponent": unquote,
        "encodeURI": lambda text: quote(str(text), safe=_WHOLE),
        "encodeURIComponent": lambda text: quote(str(text), safe=_COMPONENT),
        "isFinite": lambda value: math.isfinite(float(value)),
        "isNaN": lambda value: math.isnan(float(value)),
        "navigator": from_entries([("userAgent", "Cloudflare-Workers"), ("language", "en")]),
        "parseFloat": parse_float,
        "parseInt": parse_int,
        "scheduler": _Scheduler,
        "setInterval": lambda function, delay=0, *args: _Interval(
            lambda: function(*args), delay or 0
        ),
        "structuredClone": structured_clone,
    }
