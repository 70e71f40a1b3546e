"""The modules that a Worker imports and no package index offers: ``workers``, ``js``, ``pyodide``.

`make_modules` makes a set of them for one Worker; `modules.py` puts them in front of whatever
packages of these names are installed, for that Worker alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, Protocol

from .. import web
from ..bindings.durable_objects import DurableObject
from ..bindings.rpc import RpcTarget
from ..bindings.workflows import WorkflowEntrypoint
from ..errors import DurableObjectAbort, NonRetryableError, WorkerError
from ..web.objects import JsDict
from . import bridge_asgi, bridge_wsgi, fetching, js_values
from .bridges import Bridge, EncodeBody, Options
from .context import Background
from .entrypoints import WorkerEntrypoint, handler
from .js_globals import js_names
from .pyodide import pyodide_modules

# What the SDK says that a Response may be made of.
_BODIES = frozenset(
    {
        *("ArrayBuffer", "BigInt64Array", "BigUint64Array", "Blob", "DataView", "Float16Array"),
        *("Float32Array", "Float64Array", "FormData", "Int16Array", "Int32Array", "Int8Array"),
        *("ReadableStream", "Response", "TypedArray", "URLSearchParams", "Uint16Array"),
        *("Uint32Array", "Uint8Array", "Uint8ClampedArray"),
    }
)


class Context(Protocol):
    """The type of ``ctx``."""

    def waitUntil(self, other: Awaitable[Any]) -> None: ...


class BlobEnding(StrEnum):
    """What becomes of line ends in a blob's texts."""

    TRANSPARENT = "transparent"
    NATIVE = "native"


def make_modules(
    env: Any, caches: object, background: Background, flags: tuple[str, ...] = ()
) -> dict[str, ModuleType]:
    """The platform's modules for one Worker, by their names."""

    def import_from_javascript(module_name: str) -> Any:
        if module_name == "cloudflare:workers":
            return platform
        if module_name == "cloudflare:sockets":
            return SimpleNamespace(connect=_no_connect)
        raise ImportError(f"Failed to import '{module_name}': it is JavaScript's")

    @contextmanager
    def patch_env(d: Any = None, **kwds: Any) -> Iterator[None]:
        with env.patched({**dict(d or {}), **kwds}):
            yield

    platform = SimpleNamespace(
        env=env, waitUntil=background.add, WorkerEntrypoint=WorkerEntrypoint, constructor=None
    )
    workers = {
        "Blob": web.Blob,
        "BlobEnding": BlobEnding,
        "BlobValue": Any,
        "Body": Any,
        "Context": Context,
        "DurableObject": DurableObject,
        "DurableObjectAbort": DurableObjectAbort,
        "FetchKwargs": dict,
        "FetchResponse": web.Response,
        "File": web.File,
        "FormData": web.FormData,
        "FormDataValue": Any,
        "Headers": web.Headers,
        "JSBody": Any,
        "Request": web.Request,
        "RequestInitCfProperties": dict,
        "Response": web.Response,
        "RpcTarget": RpcTarget,
        "WorkerEntrypoint": WorkerEntrypoint,
        "WorkflowEntrypoint": WorkflowEntrypoint,
        "env": env,
        "fetch": fetching.fetch,
        "handler": handler,
        "import_from_javascript": import_from_javascript,
        "patch_env": patch_env,
        "python_from_rpc": js_values.python_from_rpc,
        "python_to_rpc": js_values.python_to_rpc,
        "waitUntil": background.add,
        "wait_until": background.add,
    }
    bridge = Bridge(background, WorkerEntrypoint)
    asgi = bridge_asgi.names(bridge)
    rpc = {
        "JsDict": JsDict,
        "python_from_rpc": js_values.python_from_rpc,
        "python_to_rpc": js_values.python_to_rpc,
    }
    made = {
        "workers": _module("workers", "What a Python Worker imports of the platform.", workers),
        "workers.asgi": _module("workers.asgi", "Runs ASGI applications.", asgi),
        "workers.wsgi": _module("workers.wsgi", "Runs WSGI ones.", bridge_wsgi.names(bridge)),
        "workers.workflows": _module(
            "workers.workflows", "Errors of workflows.", {"NonRetryableError": NonRetryableError}
        ),
        "workers.rpc": _module("workers.rpc", "Values at the edge.", rpc),
        "js": _module("js", "JavaScript's globals.", js_names(fetching.fetch, caches)),
        "_cloudflare_compat_flags": _flags(flags),
        "_pyodide_entrypoint_helper": _module(
            "_pyodide_entrypoint_helper",
            "What the SDK has beneath it on the platform.",
            {"cloudflareWorkersModule": platform, "patchWaitUntil": lambda ctx: None},
        ),
        **{
            name: _module(name, "Names of Pyodide's that Workers use.", names)
            for name, names in pyodide_modules(fetching.fetch).items()
        },
    }
    made.update(_submodules())
    for part, (kind, names) in {
        "types": (
            "Types for annotations.",
            ("Body", "Context", "FetchKwargs", "Headers", "JSBody", "RequestInitCfProperties"),
        ),
        "fetch": ("Requests to others.", ("fetch",)),
        "request": ("Requests.", ("Request",)),
        "response": ("Responses.", ("FetchResponse", "Response")),
        "formdata": ("Forms.", ("FormData", "FormDataValue")),
        "blob": ("Blobs.", ("Blob", "BlobEnding", "BlobValue", "File")),
        "entrypoints": (
            "Handlers.",
            (
                "DurableObject",
                "DurableObjectAbort",
                "WorkerEntrypoint",
                "WorkflowEntrypoint",
                "handler",
            ),
        ),
        "utils": ("Helpers.", ("import_from_javascript", "patch_env")),
    }.items():
        submodule = _module(f"workers.{part}", kind, {name: workers[name] for name in names})
        made[f"workers.{part}"] = submodule
    made["workers.utils"].__dict__.update(
        get_compat_flag=lambda flag: flag in flags,
        HTTPMessageMapping=web.Headers,
        RESPONSE_ACCEPTED_TYPES=_BODIES,
        import_sdk_javascript_module_async=_no_javascript,
    )
    made["workers.entrypoints"].__dict__["__getattr__"] = _object_context
    for name, module in made.items():
        parent, _, child = name.rpartition(".")
        # `workers.fetch` is the function, as with the SDK.
        if parent and not hasattr(made[parent], child):
            setattr(made[parent], child, module)
    # The name that the bridge had before.
    made["asgi"] = made["workers.asgi"]
    return made


def _object_context(name: str) -> Any:
    """Few ask for it, and its imports take their time."""
    if name != "DurableObjectContext":
        raise AttributeError(f"module 'workers.entrypoints' has no attribute {name!r}")
    from .objects import ObjectContext

    return ObjectContext


async def _no_javascript(name: str) -> NoReturn:
    raise ImportError(f"Failed to import '{name}': it is JavaScript's")


def _no_connect(*args: Any, **kwargs: Any) -> NoReturn:
    raise WorkerError(
        "connect() of cloudflare:sockets is not available in bunflare; asyncio.open_connection is"
    )


def _submodules() -> dict[str, ModuleType]:
    """Submodules that few Workers know of."""
    options = {"BaseOptions": Options, "EncodeBody": EncodeBody}
    return {
        "workers.gateway": _module("workers.gateway", "What the adapters share.", options),
        "workers.gateway.options": _module("workers.gateway.options", "Their options.", options),
    }


def _flags(flags: tuple[str, ...]) -> ModuleType:
    module = _module("_cloudflare_compat_flags", "The Worker's compatibility flags.", {})

    def flag(name: str) -> bool:
        if name.startswith("__"):
            raise AttributeError(name)
        return name in flags

    module.__dict__["__getattr__"] = flag
    return module


def _module(name: str, doc: str, names: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name, doc)
    module.__dict__.update(names)
    if "__all__" not in names:
        module.__dict__["__all__"] = sorted(one for one in names if not one.startswith("_"))
    module.__dict__["__path__"] = []
    return module
