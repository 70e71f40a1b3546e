"""What keys of a wrangler file have to do with one another."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """A class that a Worker has, or has had, and what became of it."""

    type: Literal["durable-object", "worker"]
    storage: Literal["sqlite", "legacy-kv"] | None = None
    state: Literal["created", "deleted", "renamed", "transferred", "expecting-transfer"] = "created"
    renamed_to: str | None = None
    transferred_to: str | None = None
    transfer_from: str | None = None
    container: Any = None

    @property
    def live(self) -> bool:
        """Whether the Worker has the class, for Durable Objects."""
        return self.type == "durable-object" and self.state in ("created", "expecting-transfer")


# What an entry of a state has to say, and nothing else of these.
_FIELDS: dict[str, tuple[str, ...]] = {
    "created": ("storage",),
    "deleted": (),
    "renamed": ("renamed_to",),
    "transferred": ("transferred_to",),
    "expecting-transfer": ("storage", "transfer_from"),
}
_ALL_FIELDS = ("storage", "renamed_to", "transferred_to", "transfer_from")


def check_exports(exports: Mapping[str, ExportConfig], migrations: object) -> None:
    """Raise `ConfigError` where entries say too little or too much, or contradict each other."""
    if exports and migrations:
        raise ConfigError('"exports" and "migrations" cannot both be there: exports say it all')
    for name, one in exports.items():
        if one.type != "durable-object":
            continue
        needed = _FIELDS[one.state]
        for field in _ALL_FIELDS:
            given = getattr(one, field) is not None
            if given and field not in needed:
                raise ConfigError(f'"exports.{name}" is "{one.state}" and has no "{field}"')
            if not given and field in needed:
                raise ConfigError(f'"exports.{name}" is "{one.state}" and needs "{field}"')
        target = None if one.renamed_to is None else exports.get(one.renamed_to)
        if one.state == "renamed" and (target is None or not target.live):
            raise ConfigError(
                f'"exports.{name}" is renamed to "{one.renamed_to}", which has to be in "exports" '
                'with its "storage"'
            )


def glob_within(directory: str, pattern: str | None) -> str:
    """``migrations_pattern`` as it is within ``migrations_dir``."""
    if pattern is None:
        return "*.sql"
    folder = posixpath.normpath(directory.replace("\\", "/"))
    found = posixpath.normpath(pattern.replace("\\", "/"))
    if folder != "." and not found.startswith(f"{folder}/"):
        raise ConfigError(
            f'The configured migrations_pattern: "{pattern}" must start with "{folder}/" to match '
            f'"migrations_dir": "{folder}".'
        )
    return found if folder == "." else found[len(folder) + 1 :]
