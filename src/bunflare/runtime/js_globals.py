"""The names of the ``js`` module: JavaScript's globals that Python Workers use."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from .. import web
from ..bindings.websocket import WebSocketRequestResponsePair
from .js_crypto import Subtle
from .js_more import more_names, parse_float, parse_int
from .js_rewriter import HTMLRewriter
from .js_sockets import WorkerWebSocket, WorkerWebSocketPair
from .js_streams import stream_names
from .js_text import TextDecoder, TextDecoderStream, TextEncoder, TextEncoderStream
from .js_url import JsUrl
from .js_values import (
    JsArray,
    JsDate,
    JsException,
    JsMap,
    JsSet,
    Uint8Array,
    from_entries,
    to_py,
)

_running: set[asyncio.Future[Any]] = set()
_log = logging.getLogger("bunflare.worker")


class JsClass:
    """A class of JavaScript's: ``Response.new(…)``, with options as one dict or as keywords."""

    def __init__(self, kind: type, new: Callable[..., Any], **static: Any) -> None:
        self._kind = kind
        self.new = new
        self.name = kind.__name__
        self.__dict__.update(static)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.new(*args, **kwargs)

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, self._kind)

    def __repr__(self) -> str:
        return f"function {self.name}() {{ [native code] }}"


def _options(given: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {**(given or {}), **keywords}


def _response(body: Any = None, options: Any = None, **keywords: Any) -> web.Response:
    if isinstance(options, web.Response):
        return options.replace_body(body)
    init = _options(options, keywords)
    response = web.Response(
        body,
        init.get("status", 200),
        init.get("statusText", ""),
        init.get("headers"),
        init.get("webSocket"),
        init.get("cf"),
    )
    if init.get("encodeBody"):
        response.__dict__["encode_body"] = init["encodeBody"]
    return response


def _response_json(data: Any, options: Any = None, **keywords: Any) -> web.Response:
    init = _options(options, keywords)
    return web.Response.from_json(
        to_py(data), init.get("status", 200), init.get("statusText", ""), init.get("headers")
    )


def _request(url: Any, options: Any = None, **keywords: Any) -> web.Request:
    source = url if isinstance(url, web.Request) else str(url)
    if isinstance(options, web.Request):
        return web.Request(options)
    return web.Request(source, **_options(options, keywords))


def _blob(parts: Any = (), options: Any = None, **keywords: Any) -> web.Blob:
    return web.Blob(parts, **_options(options, keywords))


def _file(parts: Any, name: str, options: Any = None, **keywords: Any) -> web.File:
    init = _options(options, keywords)
    return web.File(parts, name, init.get("type"), last_modified=init.get("lastModified"))


class _Object:
    """``Object``."""

    fromEntries = staticmethod(from_entries)

    @staticmethod
    def new(**values: Any) -> Any:
        return from_entries(values.items())

    @staticmethod
    def keys(value: Mapping[str, Any]) -> JsArray:
        return JsArray(value)

    @staticmethod
    def values(value: Mapping[str, Any] | WorkerWebSocketPair) -> JsArray:
        return JsArray(value.values())

    @staticmethod
    def entries(value: Mapping[str, Any]) -> JsArray:
        return JsArray(JsArray(pair) for pair in value.items())

    @staticmethod
    def assign(target: dict[str, Any], *sources: Mapping[str, Any]) -> dict[str, Any]:
        for source in sources:
            target.update(source)
        return target


class _Json:
    """``JSON``."""

    @staticmethod
    def parse(text: str) -> Any:
        try:
            return _objects(json.loads(text))
        except ValueError as error:
            raise JsException("SyntaxError", str(error)) from error

    @staticmethod
    def stringify(value: Any, _replacer: Any = None, indent: int | str | None = None) -> str:
        separators = (",", ":") if not indent else (",", ": ")
        return json.dumps(to_py(value), ensure_ascii=False, separators=separators, indent=indent)


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        return from_entries((key, _objects(item)) for key, item in value.items())
    return JsArray(map(_objects, value)) if isinstance(value, list) else value


class _Console:
    """``console``: what is said goes to the server's log."""

    _LEVELS: Mapping[str, int] = {
        **dict.fromkeys(("error", "assert"), logging.ERROR),
        "warn": logging.WARNING,
        "debug": logging.DEBUG,
        **dict.fromkeys(("log", "info", "trace", "dir", "dirxml", "table"), logging.INFO),
        **dict.fromkeys(("group", "groupCollapsed"), logging.INFO),
    }
    # What only has an effect in a browser's console, or measures.
    _QUIET = frozenset(
        {
            *("clear", "count", "countReset", "groupEnd", "profile", "profileEnd"),
            *("time", "timeEnd", "timeLog", "timeStamp"),
        }
    )

    def __getattr__(self, name: str) -> Callable[..., None]:
        level = self._LEVELS.get(name)
        if level is None and name not in self._QUIET:
            raise AttributeError(name)

        def say(*values: Any) -> None:
            if name == "assert":
                passed, *values = values or (False,)  # type: ignore[assignment]
                if passed:
                    return
                values = ("Assertion failed:", *values)
            if level is not None:
                _log.log(level, "%s", " ".join(map(str, values)))

        return say


class _Crypto:
    """``crypto``."""

    subtle = Subtle()

    @staticmethod
    def randomUUID() -> str:
        return str(uuid.uuid4())

    @staticmethod
    def getRandomValues(array: Uint8Array) -> Uint8Array:
        array[:] = secrets.token_bytes(len(array))
        return array


class AbortSignal:
    """``AbortSignal``."""

    def __init__(self) -> None:
        self.aborted = False
        self.reason: Any = None
        self.onabort: Callable[..., Any] | None = None
        self._told: list[Callable[[], Any]] = []
        self._listeners: list[Callable[..., Any]] = []

    def addEventListener(self, kind: str, listener: Callable[..., Any], *_: Any) -> None:
        if kind == "abort":
            self._listeners.append(listener)

    def removeEventListener(self, kind: str, listener: Callable[..., Any], *_: Any) -> None:
        self._listeners = [one for one in self._listeners if one != listener]

    def on_abort(self, listener: Callable[[], Any]) -> None:
        self._told.append(listener)

    def throwIfAborted(self) -> None:
        if self.aborted:
            raise self.reason

    def abort_with(self, reason: Any) -> None:
        if self.aborted:
            return
        self.aborted = True
        if not isinstance(reason, BaseException):
            reason = JsException(
                "AbortError", "The operation was aborted" if reason is None else str(reason)
            )
        self.reason = reason
        for told in self._told:
            told()
        event = from_entries([("type", "abort"), ("target", self)])
        for listener in [*self._listeners, *([self.onabort] if self.onabort else [])]:
            _call(listener, event)

    @classmethod
    def any(cls, signals: Iterable[AbortSignal]) -> AbortSignal:
        """A signal that is aborted with the first of some."""
        signal = cls()
        for one in signals:
            if one.aborted:
                signal.abort_with(one.reason)
            one.on_abort(lambda one=one: signal.abort_with(one.reason))  # type: ignore[misc]
        return signal

    @classmethod
    def abort(cls, reason: Any = None) -> AbortSignal:
        signal = cls()
        signal.abort_with(reason)
        return signal

    @classmethod
    def timeout(cls, milliseconds: float) -> AbortSignal:
        signal = cls()
        error = JsException("TimeoutError", "The operation was aborted due to timeout")
        asyncio.get_running_loop().call_later(milliseconds / 1000, signal.abort_with, error)
        return signal


class AbortController:
    """``AbortController``."""

    def __init__(self) -> None:
        self.signal = AbortSignal()

    def abort(self, reason: Any = None) -> None:
        self.signal.abort_with(reason)


def _web_socket(url: Any, protocols: Any = None) -> WorkerWebSocket:
    # Imported here because most Workers open none.
    from .connecting import open_socket

    return open_socket(url, protocols)


def _set_timeout(function: Callable[..., Any], delay: float = 0, *args: Any) -> Any:
    loop = asyncio.get_running_loop()
    return loop.call_later((delay or 0) / 1000, lambda: _call(function, *args))


def _call(function: Callable[..., Any], *args: Any) -> None:
    result = function(*args)
    if asyncio.iscoroutine(result):
        task = asyncio.ensure_future(result)
        _running.add(task)
        task.add_done_callback(_running.discard)


def _queue_microtask(function: Callable[[], Any]) -> None:
    asyncio.get_running_loop().call_soon(_call, function)


def _number(value: Any = 0) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return float("nan")


def _error(name: str) -> JsClass:
    return JsClass(JsException, lambda message="", *_: JsException(name, message))


def js_names(fetch: Callable[..., Any], caches: object) -> dict[str, Any]:
    """What ``from js import …`` finds."""

    async def js_fetch(resource: Any, options: Any = None, **keywords: Any) -> web.Response:
        response: web.Response = await fetch(resource, **_options(options, keywords))
        return response

    def plain(kind: Any) -> JsClass:
        return JsClass(kind, kind)

    names: dict[str, Any] = {
        "AbortController": plain(AbortController),
        "AbortSignal": AbortSignal,
        "Array": JsArray,
        "ArrayBuffer": JsClass(Uint8Array, Uint8Array, isView=lambda value: False),
        "Blob": JsClass(web.Blob, _blob),
        "Boolean": JsClass(bool, bool),
        "Date": JsDate,
        "Error": _error("Error"),
        "File": JsClass(web.File, _file),
        "FormData": plain(web.FormData),
        "Headers": plain(web.Headers),
        "HTMLRewriter": HTMLRewriter,
        "JSON": _Json,
        "Map": JsMap,
        "Number": JsClass(
            float,
            _number,
            name="Number",
            MAX_SAFE_INTEGER=2**53 - 1,
            MIN_SAFE_INTEGER=1 - 2**53,
            isInteger=lambda value: not isinstance(value, str) and float(value).is_integer(),
            parseFloat=parse_float,
            parseInt=parse_int,
        ),
        "Object": _Object,
        "RangeError": _error("RangeError"),
        "Request": JsClass(web.Request, _request),
        "Response": JsClass(
            web.Response,
            _response,
            json=_response_json,
            redirect=web.Response.redirect,
            error=web.Response.error,
        ),
        "Set": JsSet,
        "String": JsClass(
            str, str, name="String", fromCharCode=lambda *codes: "".join(map(chr, codes))
        ),
        "SyntaxError": _error("SyntaxError"),
        "TextDecoder": plain(TextDecoder),
        "TextDecoderStream": TextDecoderStream,
        "TextEncoder": plain(TextEncoder),
        "TextEncoderStream": TextEncoderStream,
        "TypeError": _error("TypeError"),
        "URL": JsClass(JsUrl, JsUrl, name="URL", canParse=JsUrl.canParse, parse=JsUrl.parse),
        "URLSearchParams": plain(web.URLSearchParams),
        "Uint8Array": Uint8Array,
        "WebSocket": JsClass(
            WorkerWebSocket,
            _web_socket,
            name="WebSocket",
            **{
                name: getattr(WorkerWebSocket, name)
                for state in ("CONNECTING", "OPEN", "CLOSING", "CLOSED")
                for name in (state, f"READY_STATE_{state}")
            },
        ),
        "WebSocketPair": JsClass(WorkerWebSocketPair, WorkerWebSocketPair, name="WebSocketPair"),
        "WebSocketRequestResponsePair": plain(WebSocketRequestResponsePair),
        "atob": lambda text: base64.b64decode(text).decode("latin-1"),
        "btoa": lambda text: base64.b64encode(text.encode("latin-1")).decode(),
        "caches": caches,
        "clearInterval": lambda handle: handle and handle.cancel(),
        "clearTimeout": lambda handle: handle and handle.cancel(),
        "console": _Console(),
        "crypto": _Crypto(),
        "fetch": js_fetch,
        "performance": JsPerformance(),
        "queueMicrotask": _queue_microtask,
        "setTimeout": _set_timeout,
        "undefined": None,
    }
    names.update(more_names())
    names.update(stream_names())
    # The global object, under its three names.
    names["globalThis"] = names["self"] = SimpleNamespace(**names)
    return names


class JsPerformance:
    """``performance``."""

    timeOrigin = 0

    @staticmethod
    def now() -> float:
        return time.time() * 1000
