"""Export and import of a D1 database, with the conventions of wrangler."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ..errors import D1Error, D1TypeError, D1ValueError
from ..store import d1_files as store
from ..store.d1 import D1File
from ..store.d1_load import Progress
from ..store.d1_load import load as load_file


async def export(
    file: D1File,
    path: str | os.PathLike[str] | None,
    schema: bool,
    data: bool,
    tables: Collection[str],
    progress: Progress | None,
) -> str | None:
    """Write the text to ``path``, or give it."""
    if isinstance(tables, str) or not all(isinstance(one, str) for one in tables):
        raise D1TypeError("tables are several names (str)")
    if not schema and not data:
        raise D1ValueError("an export of neither schema nor data would be empty")
    pieces = store.dump(file.path, schema, data, tables, progress)
    if path is None:
        return await file.on_thread(lambda: "".join(pieces))
    where = Path(path)
    try:
        await file.on_thread(lambda: store.write_file(where, pieces))
    except OSError as error:
        raise D1Error(f"{where} cannot be written ({error.strerror})") from error
    return None


async def load(file: D1File, path: str | os.PathLike[str], progress: Progress | None) -> int:
    """Run a file of SQL as one transaction. How many statements it had."""
    return await load_file(file, Path(path), progress)
