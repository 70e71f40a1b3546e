"""A Worker's program: its modules, the ``env`` that they import, and the tasks they leave behind.

It is loaded once, and may then run on one state after another, as a suite of tests does it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..config import Config
from ..errors import WorkerError
from .context import Background
from .env import Env
from .loader import LoadedWorker, load_worker
from .modules import WorkerModules
from .sdk import make_modules


class Program:
    """The code of one Worker."""

    def __init__(self, config: Config, caches: object, *, resident: bool = True) -> None:
        if config.main is None:
            raise WorkerError(f'{config.path}: "main" is missing: which module is the Worker?')
        self.main = config.main
        #: What `workers.env` is; a Worker fills it with the bindings of its state.
        self.env = Env({})
        self.background = Background()
        provided = make_modules(self.env, caches, self.background, config.compatibility_flags)
        # Where pywrangler puts packages; what is installed comes first.
        vendored = str(config.root.absolute() / "python_modules")
        if Path(vendored).is_dir() and vendored not in sys.path:
            sys.path.append(vendored)
        self.modules = WorkerModules([self.main.parent.absolute()], provided, resident)
        self._loaded: LoadedWorker | None = None

    def load(self) -> LoadedWorker:
        """Its main module and what that offers, imported when this is first called."""
        if self._loaded is None:
            self._loaded = load_worker(self.main, self.modules)
        return self._loaded

    def suspend(self) -> None:
        """Make room for the modules of another version."""
        self.modules.close()

    def resume(self) -> None:
        """Take that room again: the other version could not be loaded."""
        self.modules.open()
