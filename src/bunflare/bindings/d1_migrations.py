"""Migrations of a D1 database: which files they are, and in which order, as wrangler has it."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from ..errors import D1Error, D1TypeError, D1ValueError
from ..store import d1_files as store
from ..store.d1 import D1File

#: Which files of a directory are migrations, unless something else is said.
PATTERN = "*.sql"
# What wrangler sorts migrations by: JavaScript's `parseInt` of what stands before the first "_".
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_DIRECTORIES = r"(?:(?!\.)[^/]+/)*"


async def migrate(
    file: D1File, directory: str | os.PathLike[str], table: str, pattern: str
) -> list[str]:
    """Apply what was not applied yet. The names, in their order."""
    done = []
    folder = Path(directory)
    for name in pending(file, folder, table, pattern):
        path = folder / name
        text = _read(path)
        if await file.write(
            store.apply_migration,
            file.running.executes,
            text,
            str(path),
            name,
            table,
            heavy=True,
        ):
            done.append(name)
    return done


def pending(file: D1File, directory: str | os.PathLike[str], table: str, pattern: str) -> list[str]:
    """The names of the migrations that were not applied yet, in their order."""
    if not isinstance(table, str):
        raise D1TypeError(f"the table of migrations has a name (a str), not {type(table).__name__}")
    if not table or "\0" in table or table.lower().startswith(("_cf_", "sqlite_")):
        raise D1ValueError(f"{table!r} cannot name the table of migrations")
    if not isinstance(pattern, str):
        raise D1TypeError(f"the pattern of migrations is a str, not {type(pattern).__name__}")
    found = migration_names(Path(directory), pattern)
    known = store.applied(file, table)
    return [name for name in found if name not in known]


def migration_names(directory: Path, pattern: str = PATTERN) -> list[str]:
    """All migrations, as paths within the directory, in their order: by number, then by name.

    ``pattern`` is a glob of such paths: ``*``, ``?``, ``[…]``, ``{…,…}``, and ``**`` for any
    directories. What begins with a dot is found by its name alone.
    """
    if not directory.is_dir():
        raise D1Error(f"there is no directory of migrations at {directory}")
    matches = is_migration(pattern)
    found = []
    for where, folders, files in os.walk(directory):
        folders[:] = [one for one in folders if "/" in pattern]
        inner = Path(where).relative_to(directory)
        found += [name for one in files if matches.fullmatch(name := (inner / one).as_posix())]
    return sorted(found, key=_turn)


def is_migration(pattern: str) -> re.Pattern[str]:
    """What the names of migrations match as a whole."""
    return re.compile("|".join(f"(?:{_expression(one)})" for one in _without_braces(pattern)))


def number_of(name: str) -> float:
    """The number that a name begins with; those without come last."""
    number = _NUMBER.match(name)
    return int(number[1]) if number else math.inf


def _turn(name: str) -> list[tuple[float, str]]:
    return [(number_of(part), part) for part in name.split("/")]


def _without_braces(pattern: str) -> list[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [
        whole
        for choice in braces[1].split(",")
        for whole in _without_braces(f"{before}{choice}{after}")
    ]


def _expression(pattern: str) -> str:
    *folders, last = pattern.split("/")
    parts = [_DIRECTORIES if one == "**" else f"{_segment(one)}/" for one in folders]
    parts.append(f"{_DIRECTORIES}{_segment('*')}" if last == "**" else _segment(last))
    return "".join(parts)


def _segment(glob: str) -> str:
    """One name of a path."""
    text = r"(?!\.)" if glob[:1] in ("*", "?", "[") else ""
    for part in re.findall(r"\[[!^]?\]?[^\]]*\]|.", glob, re.DOTALL):
        match part:
            case "*":
                text += "[^/]*"
            case "?":
                text += "[^/]"
            case _ if len(part) > 1:
                inside = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
                text += f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
            case _:
                text += re.escape(part)
    return text


def _read(path: Path) -> str:
    try:
        # Line ends stay as they are: they may be within strings.
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise D1Error(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise D1Error(f"{path} is not UTF-8 text (byte {error.start})") from error
