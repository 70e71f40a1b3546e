"""Test modules import what the Worker imports: ``workers``, ``js`` and ``pyodide``.

They find them as the Worker's own modules do, through an ``__import__`` of their own, so that no
library of the process sees them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..runtime.modules import WorkerFinder, WorkerModules


class TestFinder:
    """Finds the modules of a project's tests: those below its root that are not installed."""

    __test__ = False

    def __init__(self, modules: WorkerModules, root: Path) -> None:
        self._modules = modules
        self._root = root

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and name in sys.builtin_module_names:
            return None
        for finder in sys.meta_path:
            if finder is self or isinstance(finder, WorkerFinder):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if not self._is_ours(spec):
                    return None
                spec.loader = _Loader(spec.loader, self._modules)  # type: ignore[assignment]
                return spec
        return None

    def _is_ours(self, spec: ModuleSpec) -> bool:
        if spec.origin is None or not spec.origin.endswith(".py"):
            return False
        origin = Path(spec.origin)
        if not origin.is_relative_to(self._root) or "site-packages" in origin.parts:
            return False
        # What lies beside the Worker's main module is the Worker's, unless pytest runs it.
        rewritten = type(spec.loader).__name__ == "AssertionRewritingHook"
        return rewritten or not any(origin.is_relative_to(one) for one in self._modules.roots)


class _Loader:
    """Another loader, which runs modules with the Worker's ``__import__``."""

    def __init__(self, loader: Any, modules: WorkerModules) -> None:
        self._loader = loader
        self._modules = modules

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._modules.builtins
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
