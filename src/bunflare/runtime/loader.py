"""Loading a Worker: its main module, and the classes in it that events go to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import WorkerError
from .entrypoints import HANDLERS, WorkerEntrypoint, of_functions
from .modules import WorkerModules

Entrypoint = Callable[[Any, Any], WorkerEntrypoint]


@dataclass(frozen=True, slots=True)
class LoadedWorker:
    """A Worker's module and what it offers."""

    module: ModuleType
    #: ``Default``, and the other entrypoints by the names of their classes.
    default: type[WorkerEntrypoint] | None
    entrypoints: Mapping[str, type[WorkerEntrypoint]] = field(default_factory=dict)

    def entrypoint(self, name: str | None = None) -> type[WorkerEntrypoint]:
        """The default entrypoint, or the one of that name."""
        if name is None or name == "default":
            if self.default is None:
                raise WorkerError(
                    f"{self.module.__file__} has no class Default(WorkerEntrypoint) to answer "
                    "requests, nor a function on_fetch"
                )
            return self.default
        if name not in self.entrypoints:
            raise WorkerError(
                f'{self.module.__file__} has no entrypoint "{name}"; '
                f"it has {', '.join(self.entrypoints) or 'none'}"
            )
        return self.entrypoints[name]


def load_worker(main: Path, modules: WorkerModules) -> LoadedWorker:
    """Import ``main`` as the platform does, as the main one of ``modules``.

    Whatever the module raises is left as it is: its traceback shows the Worker's own frames.
    """
    if not main.is_file():
        raise WorkerError(f"{main} does not exist (it is `main` in the configuration)")
    if main.suffix != ".py":
        raise WorkerError(f"{main} is not a Python module (`main` must name a .py file)")
    try:
        module = modules.load(main.absolute())
    except BaseException:
        modules.close()
        raise
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, WorkerEntrypoint)
        and value is not WorkerEntrypoint
    }
    default = classes.get("Default")
    if default is None:
        functions = {
            name: function
            for name in HANDLERS
            if callable(function := getattr(module, f"on_{name}", None))
        }
        default = of_functions(functions) if functions else None
    return LoadedWorker(module, default, classes)
