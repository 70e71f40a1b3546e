"""diskcache (PyPI): keys and values in SQLite, from Python, without a server."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..floor import Pair
from ..report import tell

NAME = "diskcache, synchronous=FULL"


class DiskCache:
    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def fill(self, pairs: Sequence[Pair]) -> None:
        with self._cache.transact():
            self.put(pairs)

    def get(self, keys: Sequence[str]) -> int:
        get = self._cache.get
        for key in keys:
            get(key)
        return len(keys)

    def put(self, pairs: Sequence[Pair]) -> int:
        put = self._cache.set
        for key, value in pairs:
            put(key, value)
        return len(pairs)


def start(directory: Path, stack: AsyncExitStack) -> DiskCache | None:
    """An empty cache that is as durable as our database and evicts nothing."""
    try:
        diskcache = importlib.import_module("diskcache")
    except ImportError as error:
        tell(f"diskcache is not measured: {error}")
        return None
    cache = diskcache.Cache(
        str(directory), eviction_policy="none", cull_limit=0, sqlite_synchronous=2
    )
    stack.callback(cache.close)
    return DiskCache(cache)
