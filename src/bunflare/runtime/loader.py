"""Loading a Worker's main module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import WorkerError
from .entrypoints import WorkerEntrypoint

Entrypoint = Callable[[Any, Any], WorkerEntrypoint]


def load_module(main: Path) -> ModuleType:
    """Import ``main`` as the platform does.

    Modules beside it can be imported by their names. Whatever the module raises is left as it is:
    its traceback shows the Worker's own frames.
    """
    if not main.is_file():
        raise WorkerError(f"{main} does not exist (it is `main` in the configuration)")
    sys.path.insert(0, str(main.parent))
    name = main.stem
    spec = importlib.util.spec_from_file_location(name, main)
    if spec is None or spec.loader is None:
        raise WorkerError(f"{main} is not a Python module (`main` must name a .py file)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def default_entrypoint(module: ModuleType, main: Path) -> Entrypoint:
    """The class that answers the Worker's events."""
    default = getattr(module, "Default", None)
    if not (isinstance(default, type) and issubclass(default, WorkerEntrypoint)):
        raise WorkerError(f"{main} has no class Default(WorkerEntrypoint) to answer requests")
    return default
