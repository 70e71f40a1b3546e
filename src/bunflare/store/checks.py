"""What must be true of a data directory beyond each row by itself, and what mends it.

Rows are held against the files that they name, files against rows, the SQL files of objects against
what has been applied of them, and every SQLite file against itself. R2's objects are looked after
in `bindings.r2_care`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from ..errors import DatabaseError, ValueCorrupt
from . import blobs, cache, objects, queue_delivery, r2, r2_uploads, workflow_owners
from .beside import open_beside, reading
from .connection import translate
from .directory import Directory
from .invariants import INVARIANTS
from .layout import SNAPSHOTS, sql_files
from .moment import signature
from .object_redo import redo_sequence
from .transaction import Transaction

if TYPE_CHECKING:
    from .processes import Presence

_MOST_FINDINGS = 100
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    #: kv, r2, d1, objects, queues, workflows, cache, files, or snapshots.
    system: str
    kind: str
    #: A namespace, a bucket, a database, a file, a snapshot.
    name: str
    key: str
    detail: str
    #: What `repair` does about it; None if it can do nothing.
    remedy: str | None


@dataclass(frozen=True, slots=True)
class StateCheck:
    """What a look at a whole state has found."""

    #: How many files were looked at, and their bytes.
    files: int
    size: int
    problems: tuple[Problem, ...]
    #: What is as it may be, but is left over or not finished.
    notes: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class StateRepair:
    """What became of the problems."""

    mended: tuple[Problem, ...]
    left: tuple[Problem, ...]


# -- every SQLite file -------------------------------------------------------------------------


def check_sql(
    directory: Directory, full: bool, progress: Callable[[int], object]
) -> tuple[int, int, list[Problem]]:
    """Have SQLite check each of its files; how many, their bytes, and what is wrong. Blocks.

    ``progress`` is told how many bytes are done.
    """
    root = directory.path
    names = list(sql_files(root))
    found: list[Problem] = []
    size = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        looks = pool.map(lambda name: _check_file(root, name, full), names)
        for name, problems in zip(names, looks, strict=True):
            found += problems
            size += signature(root / name)[1]
            progress(size)
    return len(names), size, found


def size_of_sql(directory: Directory) -> int:
    """The bytes of all SQLite files."""
    root = directory.path
    return sum(signature(root / name)[1] for name in sql_files(root))


def _check_file(root: Path, name: str, full: bool) -> list[Problem]:
    system = {"d1": "d1", "do-sql": "objects"}.get(name.partition("/")[0], "files")
    try:
        connection = open_beside(root / name)
        try:
            texts = findings(connection, full)
        finally:
            connection.close()
    except apsw.CantOpenError:
        return []  # it has just been removed
    except apsw.Error as error:
        return [Problem(system, "damaged", name, "", str(translate(error, root / name)), None)]
    index = [text for text in texts if "index" in text.lower()]
    if not texts:
        return []
    remedy = "its indexes are built anew" if len(index) == len(texts) else None
    return [Problem(system, "damaged", name, "", summary(texts), remedy)]


def findings(connection: apsw.Connection, full: bool) -> list[str]:
    """What SQLite finds wrong with a file; ``full`` says that index entries count."""
    pragma = "integrity_check" if full else "quick_check"
    connection.execute(f"PRAGMA mmap_size={1 << 40}")
    rows = connection.execute(f"PRAGMA {pragma}({_MOST_FINDINGS})").fetchall()
    return [str(row[0]) for row in rows if row[0] != "ok"]


def summary(texts: list[str]) -> str:
    """Findings in one line."""
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return texts[0].strip().replace("\n", ": ") + more


def reindex(path: Path) -> None:
    """Build the indexes of a file anew, in one transaction. Blocks."""
    try:
        connection = open_beside(path)
        try:
            connection.execute("REINDEX")
        finally:
            connection.close()
    except apsw.Error as error:
        raise translate(error, path) from error


# -- rows --------------------------------------------------------------------------------------


def check_rows(directory: Directory, now: int) -> list[Problem]:
    """Hold the rows of every system against what it says must be true of them. Blocks."""
    found: list[Problem] = []
    with reading(directory.database) as connection:
        for one in INVARIANTS:
            query = f"SELECT * FROM ({one.broken}) LIMIT {_MOST_FINDINGS}"
            parameters = {"now": now} if ":now" in one.broken else {}
            for name, key, detail in connection.execute(query, parameters):
                remedy = one.remedy if one.repair else None
                detail = detail if one.repair or not one.remedy else f"{detail}; {one.remedy}"
                found.append(
                    Problem(one.system, one.kind, str(name), str(key), str(detail), remedy)
                )
    return found


def mend_row(path: Path, problem: Problem) -> None:
    """Mend what `check_rows` has found, as one commit. Blocks."""
    for one in INVARIANTS:
        if (one.system, one.kind) == (problem.system, problem.kind) and one.repair is not None:
            # Readers of this process remember rows by the statements of their systems; what comes
            # through a connection of its own is to them as another program's commit.
            try:
                connection = open_beside(path)
                try:
                    connection.execute(one.repair, {"name": problem.name, "key": problem.key})
                finally:
                    connection.close()
            except apsw.Error as error:
                raise translate(error, path) from error


# -- rows and files ----------------------------------------------------------------------------


def check_files(
    directory: Directory, presence: Presence, digests: bool
) -> tuple[list[Problem], list[Problem]]:
    """Hold files against rows, but for those of R2's objects: problems and notes. Blocks."""
    problems: list[Problem] = []
    notes: list[Problem] = []
    # What lies there is looked at first: whatever has no row afterwards is left over.
    bodies = set(blobs.leftovers(directory.cache_bodies))
    staged = set(blobs.leftovers(directory.r2_staging))
    with reading(directory.database) as connection:
        view = Transaction(connection)
        problems += missing_bodies(view, directory, bodies)
        problems += missing_parts(view, directory, digests)
        named = cache.files(view)
        notes += (
            Problem("cache", "left over", "cache", name, "no response has this body", "removed")
            for name in sorted(bodies - named)
        )
        named = {*r2.staged_files(view), *r2_uploads.files(view)}
        notes += (
            Problem("r2", "left over", "r2-staging", name, "nothing names this file", "removed")
            for name in sorted(staged - named)
        )
        notes += _stale(view, presence)
        problems += _objects(view, directory, notes)
    notes += (
        Problem("files", "left over", SNAPSHOTS, path.name, "it was never finished", "removed")
        for path in (directory.path / SNAPSHOTS).glob(".making-*")
    )
    return problems, notes


def _stale(view: Transaction, presence: Presence) -> Iterator[Problem]:
    """What is held in the name of processes that have ended."""
    held = (
        *(("objects", name, owner, "objects") for name, owner in objects.owners(view)),
        *(("workflows", name, owner, "instances") for name, owner in workflow_owners.owners(view)),
        *(
            ("queues", queue, holder.partition(".")[0], f"{count} messages")
            for queue, holder, count in queue_delivery.holders(view)
        ),
    )
    for system, name, owner, what in held:
        if not presence.alive(owner):
            yield Problem(
                system,
                "stale",
                name,
                owner,
                f"the process that had its {what} has ended",
                "the next one takes over",
            )


def missing_bodies(view: Transaction, directory: Directory, bodies: set[str]) -> Iterator[Problem]:
    """Cached responses whose files are not there; ``bodies`` are files that were."""
    for name, url, file in cache.bodies(view):
        if file not in bodies and not (directory.cache_bodies / file).exists():
            yield Problem(
                "cache", "missing", name, url, "its body's file is not there", "it is removed"
            )


def missing_parts(view: Transaction, directory: Directory, digests: bool) -> Iterator[Problem]:
    """Parts of uploads whose files are not there, or are not as they were."""
    for upload, part in r2_uploads.all_parts(view):
        path = directory.r2_staging / part.file
        wrong = None
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            wrong = f"the file of part {part.part_number} is not there"
        else:
            if part.ssec is None and size != part.size:
                wrong = f"the file of part {part.part_number} has {size} bytes, not {part.size}"
            elif part.ssec is None and digests and _md5(path) != part.etag:
                wrong = f"the file of part {part.part_number} has other bytes than were uploaded"
        if wrong is not None:
            yield Problem(
                "r2",
                "upload",
                upload,
                part.file,
                wrong,
                "the part is forgotten; upload it again",
            )


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _objects(view: Transaction, directory: Directory, notes: list[Problem]) -> Iterator[Problem]:
    """The SQL files of objects against what has been applied of them."""
    root = directory.path / "do-sql"
    moving = {target or source for source, target in objects.moves(view)}
    notes += (
        Problem(
            "objects",
            "moving",
            name,
            "",
            "its SQL files have not followed a migration of its class yet",
            "done when the objects run next",
        )
        for name in sorted(moving)
    )
    for namespace, digits in objects.with_sql(view):
        if namespace not in moving and not (root / namespace / f"{digits}.sqlite").exists():
            yield Problem(
                "objects", "missing", namespace, digits, "its SQL file is not there", None
            )
    for name in sql_files(directory.path):
        if not name.startswith("do-sql/"):
            continue
        namespace, _, file = name.removeprefix("do-sql/").rpartition("/")
        digits = file.removesuffix(".sqlite")
        try:
            sequence = redo_sequence(directory.path / name)
            applied = objects.applied(view, namespace, digits)
        except DatabaseError:
            continue  # which is found where SQLite's files are checked
        except ValueCorrupt as error:
            yield Problem("objects", "damaged", namespace, digits, str(error), None)
            continue
        if sequence < applied:
            yield Problem(
                "objects",
                "behind",
                namespace,
                digits,
                f"its SQL file is older than its rows (commit {sequence}, rows are at {applied})",
                None,
            )
        elif sequence > applied:
            notes.append(
                Problem(
                    "objects",
                    "redo",
                    namespace,
                    digits,
                    "its last commit is not in its rows yet",
                    "done when the object runs next",
                )
            )


def forget_response(tx: Transaction, directory: Path, problem: Problem) -> None:
    """Remove a cached response whose body is gone."""
    cache.delete(tx, directory, problem.name, problem.key, 0)


def forget_part(tx: Transaction, problem: Problem) -> None:
    r2_uploads.forget_part(tx, problem.name, problem.key)


def remove_left(directory: Directory, problem: Problem, named: bool) -> None:
    """Remove a file, unless something has come to name it. Blocks."""
    where = {"cache": directory.cache_bodies, "r2-staging": directory.r2_staging}[problem.name]
    if not named:
        blobs.remove(where / problem.key)
