"""The modules that a Worker imports and no package index offers: ``workers`` and ``js``.

They are put in front of whatever packages of these names are installed, in the process that runs
the Worker.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .. import web
from ..bindings.rpc import RpcTarget
from ..errors import DurableObjectAbort
from .context import Background
from .entrypoints import DurableObject, WorkerEntrypoint


def install(env: object, caches: object, background: Background) -> None:
    """Make ``from workers import …`` and ``from js import …`` work in this process."""
    workers = {
        "Blob": web.Blob,
        "DurableObject": DurableObject,
        "DurableObjectAbort": DurableObjectAbort,
        "File": web.File,
        "FormData": web.FormData,
        "Headers": web.Headers,
        "Request": web.Request,
        "Response": web.Response,
        "RpcTarget": RpcTarget,
        "WorkerEntrypoint": WorkerEntrypoint,
        "env": env,
        "waitUntil": background.add,
        "wait_until": background.add,
    }
    js = {
        "Headers": web.Headers,
        "Request": web.Request,
        "Response": web.Response,
        "caches": caches,
    }
    _module("workers", "What a Python Worker imports from the platform's SDK.", workers)
    _module("js", "JavaScript's globals, as far as Python Workers use them.", js)


def _module(name: str, doc: str, names: dict[str, Any]) -> None:
    module = ModuleType(name, doc)
    module.__dict__.update(names)
    module.__dict__["__all__"] = sorted(names)
    sys.modules[name] = module
