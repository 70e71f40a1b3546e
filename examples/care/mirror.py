"""Keeps a folder of text files like a KV namespace, by following what changes.

    python mirror.py .bunflare SETTINGS settings/

Whoever writes to the namespace, and in whatever process, its files follow. It may be killed at any
time: it goes on from the position that it has noted last, and what it does twice does no harm.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from urllib.parse import quote

import bunflare


def place(folder: Path, key: str, value: str | None) -> None:
    """Have a key's file say what the key does."""
    path = folder / quote(key, safe="")
    if value is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(value)


class Noted:
    """The position up to which the folder is like the namespace."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / ".position"

    def get(self) -> int | None:
        return int(self._path.read_text()) if self._path.exists() else None

    def set(self, position: int) -> None:
        """Whole or not at all, whenever this is killed."""
        partial = self._path.with_suffix(".new")
        partial.write_text(str(position))
        partial.replace(self._path)


async def mirror(directory: str, namespace: str, folder: Path) -> None:
    noted = Noted(folder)
    async with bunflare.open(directory) as state:
        kv = state.kv(namespace)
        position = noted.get()
        if position is None or not state.changes.enabled:
            await state.changes.enable()
            position = state.changes.position
            # From here on nothing is missed, so what is there now may be looked at in peace.
            async for key in kv.scan():
                place(folder, key.name, await kv.get(key.name))
            noted.set(position)
        sys.stdout.write("following\n")
        sys.stdout.flush()
        async for change in state.changes.follow(position):
            if (change.system, change.kind, change.name) == ("kv", "key", namespace):
                place(folder, change.key, await kv.get(change.key))
            noted.set(change.position)


if __name__ == "__main__":
    asyncio.run(mirror(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
