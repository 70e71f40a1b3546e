"""Looking after a directory's D1 databases: which there are, and removing one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..errors import D1Error
from ..store.d1_remove import remove as remove_file
from .d1_name import check_name


class D1Care:
    """The databases of a data directory."""

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "d1"

    def path(self, name: str) -> Path:
        """Where a database of that name is, or would be. Raises `D1ValueError`."""
        return self._folder / f"{check_name(name)}.sqlite"

    def sizes(self) -> dict[str, int]:
        """The names of all databases, with the bytes of their files."""
        found = {}
        for path in sorted(self._folder.glob("[!.]*.sqlite")):
            with suppress(FileNotFoundError):  # somebody has just removed it
                found[path.stem] = path.stat().st_size
        return found

    def remove(self, name: str) -> None:
        """Remove a database and its history.

        Raises `D1Error` if there is none, and `DatabaseBusy` where somebody has it open.
        """
        if not self.path(name).exists():
            raise D1Error(f"there is no database {name!r}")
        remove_file(self.path(name))
