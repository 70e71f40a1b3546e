"""Hyperdrive: here, the address of a database that the author names, which it stands for."""

from __future__ import annotations

import os
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from ..config import HyperdriveConfig
from ..errors import WorkerError
from .env import UnavailableBinding

# As wrangler has it.
_VARIABLE = "CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_"
_PORTS = {"postgres": 5432, "postgresql": 5432, "mysql": 3306}


class Hyperdrive:
    """``host``, ``port``, ``user``, ``password``, ``database`` and ``connectionString``."""

    def __init__(self, binding: str, connection: str) -> None:
        parts = urlsplit(connection)
        database = unquote(parts.path.removeprefix("/"))
        if parts.scheme not in _PORTS or not parts.hostname or not database:
            raise WorkerError(
                f'the connection string of the binding "{binding}" (hyperdrive) must be like '
                "postgres://user:password@host:port/database, or mysql://…"
            )
        self.connectionString = self.connection_string = connection
        self.host = parts.hostname
        self.port = parts.port or _PORTS[parts.scheme]
        self.user = unquote(parts.username or "")
        self.password = unquote(parts.password or "")
        self.database = database

    def connect(self) -> NoReturn:
        raise WorkerError(
            "connect() of a Hyperdrive is not available in bunflare; give a driver its host, port, "
            "user, password and database"
        )


def hyperdrive(config: HyperdriveConfig) -> Any:
    """The binding; one that fails at first use where nothing says what it stands for."""
    variable = _VARIABLE + config.binding
    connection = os.environ.get(variable) or config.localConnectionString
    if connection is None:
        return UnavailableBinding(
            config.binding,
            "hyperdrive",
            f"needs localConnectionString in the wrangler file, or the variable {variable}, to say "
            "which database it stands for",
        )
    return Hyperdrive(config.binding, connection)
