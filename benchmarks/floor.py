"""The floor: SQLite through APSW with nothing around it, used as well as we know how."""

from __future__ import annotations

from pathlib import Path

import apsw

from bunflare.store import kv

GET = "SELECT value, metadata, expiration FROM kv WHERE namespace = ? AND key = ?"
LIST = (
    "SELECT key, expiration, metadata FROM kv WHERE namespace = ? AND key >= ? ORDER BY key LIMIT ?"
)


def connect(path: Path) -> apsw.Connection:
    """WAL, every commit flushed, checkpoints as SQLite makes them."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    # APSW's library is built to flush less in WAL mode unless it is told.
    connection.execute("PRAGMA synchronous=FULL")
    assert connection.execute("PRAGMA synchronous").fetchall() == [(2,)]
    return connection


def kv_table(path: Path) -> apsw.Connection:
    """A fresh file with the plain table, without the indexes that bunflare adds."""
    connection = connect(path)
    connection.execute(kv.KV)
    return connection


def keys(count: int) -> list[str]:
    """Keys in an order that is none, so that every page is as likely as any other."""
    return [f"key-{number * 7919 % count:08}" for number in range(count)]
