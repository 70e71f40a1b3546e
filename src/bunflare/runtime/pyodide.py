"""The names of ``pyodide`` that Python Workers use: ``ffi``, ``http``, ``code``, ``webloop``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..bindings.rpc import takes
from ..errors import BodyUsedError, FetchStatusError, WorkerError
from ..web import Response
from . import switching
from .js_values import (
    JsArray,
    JsDate,
    JsException,
    JsMap,
    PyProxy,
    Uint8Array,
    jsnull,
    to_js,
)

# The version of Pyodide that the platform has at this time, for code that asks.
_VERSION = "0.28.2"


class JsProxy:
    """What an object of JavaScript's is on the platform. Here there are none."""


# Kinds of such objects, for ``isinstance``, which is false.
_KINDS = {
    name: type(
        name, (JsProxy,), {"__doc__": "A kind of JavaScript's objects; here there are none."}
    )
    for name in (
        *("JsAsyncGenerator", "JsAsyncIterable", "JsAsyncIterator", "JsBigInt", "JsCallable"),
        *("JsCallableDoubleProxy", "JsDomElement", "JsDoubleProxy", "JsFetchResponse"),
        *("JsGenerator", "JsIterable", "JsIterator", "JsMutableMap", "JsPromise", "JsTypedArray"),
    )
}


class InternalError(Exception):
    """Pyodide itself has failed."""


class AbortError(OSError):
    """A request was aborted."""


async def eval_code_async(code: str, globals: Any = None, locals: Any = None) -> Any:
    """Run Python's code, which may await, and give the value of its last expression."""
    import ast

    names = {} if globals is None else globals
    result: Any = None
    for kind, part in _parts(ast.parse(code)):
        compiled = compile(part, "<exec>", kind, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(compiled, names, locals)
        if inspect.iscoroutine(result):
            result = await result
    return result


def eval_code(code: str, globals: Any = None, locals: Any = None) -> Any:
    """Run Python's code, and give the value of its last expression."""
    import ast

    names = {} if globals is None else globals
    result: Any = None
    for kind, part in _parts(ast.parse(code)):
        result = eval(compile(part, "<exec>", kind), names, locals)
    return result


def _parts(tree: Any) -> Any:
    import ast

    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body.pop()
        return [("exec", tree), ("eval", ast.Expression(last.value))]
    return [("exec", tree)]


def find_imports(code: str) -> list[str]:
    """The names of the packages that Python's code imports."""
    import ast

    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found.update((one.name.partition(".")[0], None) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found[node.module.partition(".")[0]] = None
    return list(found)


class WebLoop:
    """Pyodide's event loop. The one here is asyncio's own."""


class ConversionError(Exception):
    """A value has no counterpart in JavaScript."""


def destroy_proxies(proxies: Any) -> None:
    """End the life of what `create_proxy` made."""
    for proxy in proxies:
        if isinstance(proxy, PyProxy):
            proxy.destroy()


def relaxed_call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with as many positional arguments as it takes."""
    return function(*args[: takes(function)], **kwargs)


def relaxed_wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that drops surplus arguments."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return relaxed_call(function, *args, **kwargs)

    return wrapper


def run_js(code: str) -> Any:
    """Not here: there is no JavaScript."""
    raise WorkerError("pyodide.code.run_js is not available in bunflare: there is no JavaScript")


def pyodide_modules(fetch: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """The modules and their names."""

    def get(name: str) -> Any:
        # Who asks for it will use it: stacks are made ready for that.
        if name in ("run_sync", "can_run_sync"):
            switching.enable()
            return getattr(switching, name)
        raise AttributeError(f"module 'pyodide.ffi' has no attribute {name!r}")

    ffi = {
        **_KINDS,
        "ConversionError": ConversionError,
        "InternalError": InternalError,
        "JsArray": JsArray,
        "JsBuffer": Uint8Array,
        "JsDate": JsDate,
        "JsException": JsException,
        "JsMap": JsMap,
        "JsNull": type(jsnull),
        "JsProxy": JsProxy,
        "__getattr__": get,
        "create_once_callable": lambda value: PyProxy(value, once=True),
        "create_proxy": PyProxy,
        "destroy_proxies": destroy_proxies,
        "jsnull": jsnull,
        "to_js": to_js,
    }
    return {
        "pyodide": {"__version__": _VERSION, "to_js": to_js, "create_proxy": PyProxy},
        "pyodide.ffi": ffi,
        "pyodide.http": {
            "AbortError": AbortError,
            "BodyUsedError": BodyUsedError,
            "FetchResponse": Response,
            "HttpStatusError": FetchStatusError,
            "pyfetch": fetch,
        },
        "pyodide.code": {
            "eval_code": eval_code,
            "eval_code_async": eval_code_async,
            "find_imports": find_imports,
            "relaxed_call": relaxed_call,
            "relaxed_wrap": relaxed_wrap,
            "run_js": run_js,
        },
        "pyodide.webloop": {"WebLoop": WebLoop},
    }
