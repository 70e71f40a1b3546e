"""The buckets of a data directory: which there are, what they hold, making and deleting them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import R2ValueError
from ..store import names
from ..store import r2 as store
from ..store.r2_paths import bucket_name
from ..store.threads import on_thread
from .r2_options import from_iso

if TYPE_CHECKING:
    from datetime import datetime

    from ..clock import Clock
    from ..store.database import Database
    from ..store.transaction import Transaction

_SYSTEM = "r2"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")


@dataclass(frozen=True, slots=True)
class R2BucketInfo:
    """What a bucket holds."""

    name: str
    #: Epoch milliseconds; None where nobody made it by name.
    created_at: int | None
    objects: int
    #: Bytes of all objects.
    size: int
    oldest: datetime | None
    newest: datetime | None


class R2Buckets:
    """All buckets."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def names(self) -> list[str]:
        """Buckets that hold objects, were made by name, or have a directory of somebody's files."""
        view = self._database.view
        found = {*store.buckets(view), *names.created(view, _SYSTEM)}
        directories = {bucket_name(name) for name in found}
        for name in self._directories():
            # One that an odd name was turned into does not tell that name.
            if name not in directories and bucket_name(name) == name:
                found.add(name)
        return sorted(found)

    def _directories(self) -> list[str]:
        root = self._database.directory.r2
        if not root.is_dir():
            return []
        return [one.name for one in root.iterdir() if _has_files(one)]

    def info(self, name: str) -> R2BucketInfo:
        view = self._database.view
        count, size, oldest, newest = store.statistics(view, name)
        created = names.created(view, _SYSTEM).get(name)
        return R2BucketInfo(
            name,
            created,
            count,
            size,
            None if oldest is None else from_iso(oldest),
            None if newest is None else from_iso(newest),
        )

    def keys(self, name: str, prefix: str, limit: int) -> list[str]:
        """The first keys of a bucket that begin with ``prefix``."""
        found = store.list_objects(self._database.view, name, prefix, None, limit)
        return [key for key, _ in found if key.startswith(prefix)]

    async def create(self, name: str) -> None:
        """Make an empty bucket, by the platform's rules for its name."""
        if _NAME.fullmatch(name) is None:
            raise R2ValueError(
                f"The specified bucket name is not valid: {name!r} (3 to 63 of a-z, 0-9 and -)",
                10005,
                "create",
            )
        if name in self.names():
            raise R2ValueError(
                f"The bucket you tried to create already exists: {name!r}", 10004, "create"
            )
        await self._database.write(names.add, _SYSTEM, name, self._clock.now())

    async def delete(self, name: str) -> None:
        """Delete a bucket, which has to be empty."""
        if name not in self.names():
            raise R2ValueError(f"The specified bucket does not exist: {name!r}", 10006, "delete")
        await self._database.write(_delete, name)
        await on_thread(_clear, self._database.directory.r2 / bucket_name(name))


def _has_files(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False  # somebody has just removed it, or it is none


def _clear(root: Path) -> None:
    """Remove empty directories. Files that belong to no object stay."""
    for directory, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()


def _delete(tx: Transaction, name: str) -> None:
    count = store.statistics(tx, name)[0]
    if count:
        raise R2ValueError(
            f"The bucket you tried to delete is not empty: {name!r} holds {count} objects",
            10008,
            "delete",
        )
    names.remove(tx, _SYSTEM, name)
