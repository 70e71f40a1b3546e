"""Taking over 100,000 keys from a state of wrangler, where each value is a file."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from bunflare.bindings.imports import import_state

from .report import Report, seconds

_KEYS = 100_000
_VALUE = b"x" * 100
_NAMESPACE = "0f2ac74b498b48028cb68387c421e279"
# The digest by which wrangler calls that namespace's file.
_FILE = "604730949a2c43a4da6de962297f3c7fde76c71aeecb9720bc4cf749a8259307"
_RUNS = 3


async def measure(scratch: Path) -> Report:
    report = Report()
    source = scratch / "v3"
    blobs = source / "kv" / _NAMESPACE / "blobs"
    blobs.mkdir(parents=True)
    path = source / "kv/miniflare-KVNamespaceObject" / f"{_FILE}.sqlite"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE _mf_entries (key TEXT PRIMARY KEY, blob_id TEXT NOT NULL,"
        " expiration INTEGER, metadata TEXT)"
    )
    for number in range(_KEYS):
        (blobs / f"blob{number}").write_bytes(_VALUE)
        connection.execute(
            "INSERT INTO _mf_entries VALUES (?, ?, NULL, NULL)", (f"key{number}", f"blob{number}")
        )
    connection.commit()
    connection.close()

    def bare() -> None:
        """The same files read, and the same rows written, with nothing around it."""
        reading = sqlite3.connect(path)
        writing = sqlite3.connect(scratch / "floor.sqlite")
        writing.execute("CREATE TABLE kv (namespace, key, value, PRIMARY KEY (namespace, key))")
        for key, blob in reading.execute("SELECT key, blob_id FROM _mf_entries"):
            row = (_NAMESPACE, key, (blobs / blob).read_bytes())
            writing.execute("INSERT INTO kv VALUES (?, ?, ?)", row)
        writing.commit()
        writing.close()
        reading.close()
        (scratch / "floor.sqlite").unlink()

    def ours() -> None:
        import_state(source, scratch / "made")
        shutil.rmtree(scratch / "made")

    floors, times = [], []
    for _ in range(_RUNS):
        floors.append(_seconds(bare))
        times.append(_seconds(ours))
    report.at_most(
        f"processor time of an import of {_KEYS:,} keys from wrangler (floor: the same files read "
        "and rows written, bare)",
        10,
        min(floors),
        min(times),
        "at most 10 s",
        seconds,
    )
    return report


def _seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
