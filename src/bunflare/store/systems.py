"""The schemas of all systems, and bringing a file to the present form of all of them."""

from __future__ import annotations

import apsw

from . import cache, changes, kv, names, objects, queues, r2, r2_uploads, workflows
from .connection import enter_wal, keep_plans, translate
from .directory import Directory, check_format, ignore
from .schema import Schema, is_current, migrate
from .transaction import Transaction

SCHEMAS: tuple[Schema, ...] = (
    kv.SCHEMA,
    r2.SCHEMA,
    r2_uploads.SCHEMA,
    objects.SCHEMA,
    queues.SCHEMA,
    workflows.SCHEMA,
    cache.SCHEMA,
    names.SCHEMA,
    changes.SCHEMA,
)


def prepare(connection: apsw.Connection, directory: Directory, timeout: float) -> None:
    """Bring the file to its present form."""
    path = directory.database
    tx = Transaction(connection)
    try:
        _check_format(tx, directory)
        ignore(directory.path)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        keep_plans(connection)
        enter_wal(connection, path, timeout)
        if not is_current(tx, SCHEMAS):
            tx.run("BEGIN IMMEDIATE")
            try:
                # A newer program may have been quicker.
                _check_format(tx, directory)
                migrate(tx, SCHEMAS)
            except BaseException:
                if tx.open:
                    tx.run("ROLLBACK")
                raise
            tx.run("COMMIT")
    except apsw.Error as error:
        raise translate(error, path) from error
    path.chmod(0o600)


def _check_format(tx: Transaction, directory: Directory) -> None:
    row = tx.one("PRAGMA user_version")
    check_format(directory.path, row[0] if row else 0)
