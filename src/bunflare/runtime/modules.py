"""What a Worker's import statements find: the SDK's modules, its own, and then everything else.

The Worker's modules run with an ``__import__`` of their own. It alone finds ``workers``, ``js``
and ``pyodide``, before any package of such a name that is installed; the rest of the process, which
may take the presence of ``js`` for a browser, finds none. Two Workers in one process may both have
a ``helper.py``: each has a table of its modules, which lies in ``sys.modules`` only while one of
its import statements is at work. The first Worker's own modules stay there, for what looks modules
up by their names at other times (`importlib.import_module`, pickle, Django). Installed packages
that are made for Workers (`libraries.py`) are treated as the Worker's own.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from . import libraries

_lock = threading.RLock()


class WorkerModules:
    """The modules of one Worker."""

    def __init__(
        self, roots: Sequence[Path], provided: Mapping[str, ModuleType], resident: bool = True
    ) -> None:
        self.roots = [str(root) for root in roots]
        # Directories of installed packages that are made for Workers.
        self.libraries: list[str] = []
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._provided = {name.partition(".")[0] for name in provided}
        self._table: dict[str, ModuleType] = dict(provided)
        self._displaced: dict[str, ModuleType] = {}
        self._depth = 0
        self._own: dict[str, bool] = {}
        self._wished = resident
        # Whether the Worker's modules lie in `sys.modules` at all times.
        self._resident = False
        self.open()

    def open(self) -> None:
        """Let the modules be found by the rest of the process, if this is the first Worker."""
        if self._wished and not self._resident:
            self._resident = True
            sys.path[:0] = self.roots
            sys.meta_path.insert(0, WorkerFinder(self))
            own = {name: one for name, one in self._table.items() if not self._provides(name)}
            sys.modules.update(own)

    def load(self, path: Path) -> ModuleType:
        """The module at ``path``, the Worker's main one. It is run unless it has been imported."""
        name = path.stem
        self._own[name] = True
        with self._active():
            known = sys.modules.get(name)
            if known is not None and self._made(known):
                return known
            loader = _Loader(name, str(path))
            loader.modules = self
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, loader, origin=str(path))
            module.__file__ = str(path)
            module.__loader__ = loader
            sys.modules[name] = module
            try:
                loader.exec_module(module)
            except BaseException:
                sys.modules.pop(name, None)
                raise
            return module

    def sources(self) -> Iterator[str]:
        """The files of the Worker's modules that have been imported."""
        for module in {**self._table, **dict(sys.modules)}.values():
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and any(file.startswith(root) for root in self.roots):
                yield file

    def close(self) -> None:
        """Leave `sys.modules`, so that other modules of these names can be imported.

        The Worker's own import statements go on finding its modules.
        """
        if not self._resident:
            return
        self._resident = False
        self._unhook()
        for root in self.roots:
            if root in sys.path:
                sys.path.remove(root)
        for name in [name for name in sys.modules if self.owns(name.partition(".")[0])]:
            if not self._provides(name):
                self._table[name] = sys.modules.pop(name)

    def _made(self, module: ModuleType) -> bool:
        return getattr(getattr(module, "__loader__", None), "modules", None) is self

    def _provides(self, name: str) -> bool:
        return name.partition(".")[0] in self._provided

    def _unhook(self) -> None:
        sys.meta_path[:] = [
            one for one in sys.meta_path if getattr(one, "modules", None) is not self
        ]

    def owns(self, top: str) -> bool:
        """Whether modules of that top-level name run with the Worker's imports."""
        if top in self._provided:
            return True
        known = self._own.get(top)
        if known is None:
            spec = PathFinder.find_spec(top, self.roots)
            # A directory without modules may be anything, and hides nothing of the same name.
            known = spec is not None and (spec.origin is not None or top not in sys.modules)
            if not known and (library := libraries.directory(top)) is not None:
                self.libraries.append(library)
                known = True
            self._own[top] = known
        return known

    def has(self, file: str) -> bool:
        """Whether that is the file of one of the modules that run with the Worker's imports."""
        return any(file.startswith(f"{one}/") for one in (*self.roots, *self.libraries))

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        package = (globals or {}).get("__package__") or "" if level else name
        if not self.owns(package.partition(".")[0]):
            if self._depth and not _is_imported(name, fromlist):
                with self._outside():
                    return builtins.__import__(name, globals, locals, fromlist or (), level)
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = None if level else self._table.get(name)
        if found is not None and fromlist and all(hasattr(found, one) for one in fromlist):
            # An import statement in a function, which runs again and again.
            return found
        with self._active():
            return builtins.__import__(name, globals, locals, fromlist or (), level)

    @contextmanager
    def _active(self) -> Iterator[None]:
        """Put the Worker's modules into ``sys.modules`` for as long as an import lasts."""
        with _lock:
            self._depth += 1
            if self._depth == 1:
                self._enter()
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._leave()

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Take them out again while a library is imported, which is none of the Worker's."""
        with _lock:
            depth, self._depth = self._depth, 0
            self._leave()
            try:
                yield
            finally:
                self._enter()
                self._depth = depth

    def _enter(self) -> None:
        for name in [name for name in sys.modules if self.owns(name.partition(".")[0])]:
            if name not in self._table:
                if self._made(sys.modules[name]):
                    # By what imports without a statement: `importlib.import_module`.
                    self._table[name] = sys.modules[name]
                else:
                    self._displaced[name] = sys.modules.pop(name)
        for name, module in self._table.items():
            if name in sys.modules and sys.modules[name] is not module:
                self._displaced[name] = sys.modules[name]
            sys.modules[name] = module
        if not self._resident:
            sys.path[:0] = self.roots
            sys.meta_path.insert(0, WorkerFinder(self))

    def _leave(self) -> None:
        for name in [name for name in sys.modules if self.owns(name.partition(".")[0])]:
            self._table[name] = sys.modules[name]
            if not self._resident or self._provides(name):
                del sys.modules[name]
        if not self._resident:
            for root in self.roots:
                sys.path.remove(root)
            self._unhook()
        sys.modules.update(self._displaced)
        self._displaced.clear()


def _is_imported(name: str, fromlist: Sequence[str] | None) -> bool:
    """Whether an import statement has nothing left to run."""
    found = sys.modules.get(name)
    return found is not None and all(hasattr(found, one) for one in fromlist or ())


class _Loader(SourceFileLoader):
    """Runs a module of the Worker's with the Worker's ``__import__``."""

    modules: WorkerModules

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self.modules.builtins
        super().exec_module(module)

    def path_stats(self, path: str) -> dict[str, float]:
        """Milliseconds, where Python has seconds: a file may change twice in one."""
        found = Path(path).stat()
        return {"mtime": found.st_mtime_ns // 1_000_000, "size": found.st_size}


class WorkerFinder:
    """Finds modules below the Worker's roots, before the interpreter's own finders."""

    def __init__(self, modules: WorkerModules) -> None:
        self.modules = modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and name in sys.builtin_module_names:
            return None
        spec = PathFinder.find_spec(name, self.modules.roots if path is None else path, target)
        if spec is None and path is None and self.modules.owns(name):
            spec = PathFinder.find_spec(name, None, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or spec.origin is None:
            return None
        if not self.modules.has(spec.origin):
            return None
        loader = _Loader(spec.loader.name, spec.loader.path)
        loader.modules = self.modules
        spec.loader = loader
        return spec
