"""Reading the state that wrangler (miniflare) keeps: ``.wrangler/state/v3``.

Names of things are hashed there: a file is called by a digest of the namespace's id, the bucket's
or the database's name. A name is found again by making that digest of every name that may be it:
those of the directories beside it, and those of the wrangler file. What has no name that way is
taken over under its digest, and said.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import BunflareError, ValueCorrupt
from ..values import dumps
from .foreign import ForeignFile, foreign_file
from .intake import ForeignObject, Intake

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_HALF = 16
_STEP = 500
# What the platform's runtime and miniflare keep beside the tables of the user.
_INTERNAL = ("_cf_KV", "_cf_METADATA", "_cf_ALARM", "__miniflare_do_name")
_ALARM_KEY = 1

_STATUS = {3: "errored", 4: "terminated", 5: "complete"}
_STATUS_UNFINISHED = {0: "queued", 1: "running", 2: "paused"}
# Events of an instance.
_QUEUED, _SUCCESS, _FAILURE = 0, 2, 3

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Names:
    """What things may be called: names that wrangler has used, with those that they have here."""

    kv: dict[str, str] = field(default_factory=dict)
    r2: dict[str, str] = field(default_factory=dict)
    d1: dict[str, str] = field(default_factory=dict)
    #: Names of classes, by those of workflows.
    workflows: dict[str, str] = field(default_factory=dict)


def object_id(unique_key: str, name: str) -> str:
    """The id that the platform's local runtime makes of a name."""
    key = hashlib.sha256(unique_key.encode()).digest()
    first = hmac.digest(key, name.encode(), "sha256")[:_HALF]
    return (first + hmac.digest(key, first, "sha256")[:_HALF]).hex()


class WranglerImport:
    """One state of wrangler, on its way into ours."""

    def __init__(
        self,
        root: Path,
        intake: Intake,
        names: Names,
        read_value: Callable[[], Callable[[bytes], Any]],
        named_cache: Callable[[str], str],
        inline_body: int,
        progress: Progress,
    ) -> None:
        self._root = root
        self._intake = intake
        self._names = names
        self._reader = read_value
        self._read: Callable[[bytes], Any] | None = None
        self._named_cache = named_cache
        self._inline_body = inline_body
        self._progress = progress
        self._done = 0

    def run(self) -> None:
        self._kv()
        self._r2()
        self._d1()
        self._objects()
        self._workflows()
        self._cache()
        known = {"kv", "r2", "d1", "do", "workflows", "cache"}
        for one in sorted(self._root.iterdir()):
            if one.name not in known and _holds_files(one):
                reason = "nothing here keeps what that product stores"
                self._intake.tally.leave_out(one.name, one.name, None, reason)

    def _step(self) -> None:
        self._done += 1
        if self._done % _STEP == 0:
            self._progress(self._done)

    def _value(self, data: bytes) -> Any:
        if self._read is None:
            self._read = self._reader()
        return self._read(data)

    def _files(self, system: str, kind: str) -> Iterator[tuple[str, Path]]:
        """The databases of a kind, by the digests that they are called by."""
        for path in sorted((self._root / system / kind).glob("*.sqlite")):
            if path.stem != "metadata":
                yield path.stem, path

    def _folders(self, system: str) -> list[str]:
        path = self._root / system
        if not path.is_dir():
            return []
        return [one.name for one in path.iterdir() if (one / "blobs").is_dir()]

    def _resolved(
        self, system: str, kind: str, digest: str, known: dict[str, str], more: Iterable[str]
    ) -> tuple[str, str | None]:
        """What a thing is called here, and what wrangler called it (None if nobody knows)."""
        for name in (*known, *more):
            if object_id(kind, name) == digest:
                return known.get(name, name), name
        self._intake.tally.leave_out(
            system, digest, None, "its name: nothing tells it, so its digest is its name here"
        )
        return digest, None

    # -- KV --------------------------------------------------------------------------------

    def _kv(self) -> None:
        kind = "miniflare-KVNamespaceObject"
        folders = self._folders("kv")
        for digest, path in self._files("kv", kind):
            name, folder = self._resolved("kv", kind, digest, self._names.kv, folders)
            if folder is None:
                folder = self._folder_of(path, "kv", folders)
            blobs = self._root / "kv" / (folder or digest) / "blobs"
            with foreign_file(path) as file:
                for one in file.records("_mf_entries"):
                    self._key(name, one, blobs)

    def _folder_of(self, path: Path, system: str, folders: list[str]) -> str | None:
        """The folder that holds the first blob of a database whose name nobody knows."""
        with foreign_file(path) as file:
            for one in file.records("_mf_entries"):
                for folder in folders:
                    if (self._root / system / folder / "blobs" / one["blob_id"]).exists():
                        return folder
        return None

    def _key(self, name: str, one: dict[str, Any], blobs: Path) -> None:
        self._step()
        expires = one["expiration"]
        if expires is not None and expires <= self._intake.now:
            return
        try:
            value = (blobs / one["blob_id"]).read_bytes()
        except OSError:
            self._intake.tally.leave_out("kv", name, one["key"], "the file of its value is missing")
            return
        row = {
            "namespace": name,
            "key": one["key"],
            "value": value,
            "metadata": one["metadata"],
            "expiration": None if expires is None else -(-expires // 1000),
        }
        self._intake.add("kv", row, ("kv", name, one["key"]), len(value))

    # -- R2 --------------------------------------------------------------------------------

    def _r2(self) -> None:
        kind = "miniflare-R2BucketObject"
        folders = self._folders("r2")
        for digest, path in self._files("r2", kind):
            name, folder = self._resolved("r2", kind, digest, self._names.r2, folders)
            blobs = self._root / "r2" / (folder or digest) / "blobs"
            with foreign_file(path) as file:
                parts: dict[str, list[Path | bytes]] = {}
                for part in file.records("_mf_multipart_parts", "upload_id, part_number"):
                    if part["object_key"] is not None:
                        parts.setdefault(part["object_key"], []).append(blobs / part["blob_id"])
                for one in file.records("_mf_objects"):
                    self._object(name, one, blobs, parts)
                self._uploads(name, file, blobs)

    def _object(
        self, name: str, one: dict[str, Any], blobs: Path, parts: dict[str, list[Path | bytes]]
    ) -> None:
        self._step()
        blob = one["blob_id"]
        found = ForeignObject(
            name,
            one["key"],
            one["size"],
            one["etag"],
            _iso(one["uploaded"]),
            _or_none(one["http_metadata"]),
            _or_none(one["custom_metadata"]),
            _or_none(one["checksums"]),
        )
        sources = parts.get(one["key"], []) if blob is None else [blobs / blob]
        self._intake.put_object(found, sources)

    def _uploads(self, name: str, file: ForeignFile, blobs: Path) -> None:
        open_ones = {}
        for one in file.records("_mf_multipart_uploads"):
            if one["state"] != 0:
                continue
            open_ones[one["upload_id"]] = one["key"]
            row = {
                "upload_id": one["upload_id"],
                "bucket": name,
                "key": one["key"],
                "created": self._intake.now,
                "state": "open",
                "http_metadata": _or_none(one["http_metadata"]),
                "custom_metadata": _or_none(one["custom_metadata"]),
                "storage_class": "Standard",
            }
            what = ("r2 uploads", name, one["key"])
            if not self._intake.add("bunflare_r2_uploads", row, what, 0):
                del open_ones[one["upload_id"]]
        for part in file.records("_mf_multipart_parts", "upload_id, part_number"):
            if part["upload_id"] in open_ones:
                why = self._intake.put_part(
                    part["upload_id"],
                    part["part_number"],
                    blobs / part["blob_id"],
                    part["checksum_md5"],
                    None,
                )
                if why is not None:
                    key = f"{open_ones[part['upload_id']]}, part {part['part_number']}"
                    self._intake.tally.leave_out("r2 uploads", name, key, why)

    # -- D1 --------------------------------------------------------------------------------

    def _d1(self) -> None:
        kind = "miniflare-D1DatabaseObject"
        for digest, path in self._files("d1", kind):
            name, _ = self._resolved("d1", kind, digest, self._names.d1, ())
            with foreign_file(path) as file:
                size = self._intake.copy_database(file, "d1", name, _INTERNAL)
            self._step()
            if size is None:
                self._intake.tally.leave_out("d1", name, None, "there is such a database already")
            else:
                self._intake.tally.took("d1", name, size)

    # -- Durable Objects -------------------------------------------------------------------

    def _objects(self) -> None:
        root = self._root / "do"
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if not folder.is_dir():
                continue
            # The name of a Worker may have hyphens, that of a class cannot.
            namespace = folder.name.rpartition("-")[2]
            alarms = self._alarms(folder)
            ids = []
            for path in sorted(folder.iterdir()):
                if _DIGEST.match(path.stem) and path.suffix == ".sqlite":
                    ids.append(path.stem)
                    self._object_file(namespace, path, alarms)
                elif not path.name.startswith("metadata.sqlite") and not path.name.endswith(
                    (".sqlite-wal", ".sqlite-shm")
                ):
                    self._intake.tally.leave_out(
                        "objects", namespace, path.name, "a file of an older form of storage"
                    )
            if ids:
                row = {"namespace": namespace, "unique_key": folder.name}
                if not self._intake.insert("bunflare_object_classes", row):
                    self._intake.tally.leave_out(
                        "objects", namespace, None, "what its ids are bound to: it has ids already"
                    )

    def _alarms(self, folder: Path) -> dict[str, dict[str, Any]]:
        path = folder / "metadata.sqlite"
        if not path.exists():
            return {}
        with foreign_file(path) as file:
            return {one["actor_id"]: one for one in file.records("_cf_ALARM")}

    def _object_file(self, namespace: str, path: Path, alarms: dict[str, dict[str, Any]]) -> None:
        digits, intake = path.stem, self._intake
        size = 0
        with foreign_file(path) as file:
            tables = file.tables()
            name = self._object_name(file, tables, alarms.get(digits))
            row = {
                "namespace": namespace,
                "id": digits,
                "name": name,
                "created_at": intake.now,
            }
            called = name or digits
            if not intake.insert("bunflare_objects", row):
                intake.tally.leave_out("objects", namespace, called, "there is one already")
                return
            for one in file.records("_cf_KV") if "_cf_KV" in tables else ():
                size += self._entry(namespace, digits, called, one["key"], one["value"])
            if tables - set(_INTERNAL):
                size += intake.copy_database(file, f"do-sql/{namespace}", digits, _INTERNAL) or 0
        alarm = alarms.get(digits, {}).get("scheduled_time")
        if alarm is not None:
            # Nanoseconds there, milliseconds here.
            row = {"namespace": namespace, "id": digits, "alarm_time": alarm // 1_000_000}
            intake.insert("do_alarms", row)
            intake.tally.took("alarms", namespace, 0)
        intake.tally.took("objects", namespace, size)

    def _object_name(
        self, file: ForeignFile, tables: set[str], alarm: dict[str, Any] | None
    ) -> str | None:
        if "__miniflare_do_name" in tables:
            for row in file.rows("SELECT name FROM __miniflare_do_name"):
                return str(row[0])
        return (alarm or {}).get("actor_name")

    def _entry(self, namespace: str, digits: str, called: str, key: str, data: bytes) -> int:
        self._step()
        try:
            text = dumps(self._value(data))
        except (ValueCorrupt, TypeError) as error:
            self._intake.tally.leave_out("objects", namespace, f"{called}: {key}", str(error))
            return 0
        row = {"namespace": namespace, "id": digits, "key": key, "value": text}
        self._intake.insert("do_storage", row)
        return len(text)

    # -- workflows -------------------------------------------------------------------------

    def _workflows(self) -> None:
        root = self._root / "workflows"
        prefix = "miniflare-workflows-"
        for folder in sorted(root.glob(f"{prefix}*")):
            name = folder.name.removeprefix(prefix)
            for path in sorted(folder.glob("*.sqlite")):
                if _DIGEST.match(path.stem):
                    with foreign_file(path) as file:
                        self._instance(name, file)

    def _instance(self, name: str, file: ForeignFile) -> None:
        self._step()
        tally = self._intake.tally
        kept = {one["key"]: one["value"] for one in file.records("_cf_KV")}
        try:
            status = self._value(kept["ENGINE_STATUS"])
            about = self._value(kept["INSTANCE_METADATA"])
            public = str(about["instance"]["id"])
        except (KeyError, TypeError, ValueCorrupt):
            tally.leave_out("workflows", name, file.path.stem, "it has not begun")
            return
        if status not in _STATUS:
            told = _STATUS_UNFINISHED.get(status, "unfinished")
            tally.leave_out(
                "workflows", name, public, f"it is {told}; only what has ended can be taken over"
            )
            return
        events = {
            one["event"]: one
            for one in file.records("states", "id")
            if one["event"] in (_QUEUED, _SUCCESS, _FAILURE)
        }
        try:
            row = self._instance_row(name, public, _STATUS[status], about, events)
        except (ValueError, TypeError, KeyError) as error:
            tally.leave_out("workflows", name, public, f"it cannot be read: {error}")
            return
        what = ("workflows", name, public)
        self._intake.add("workflow_instances", row, what, len(row["output"] or ""))

    def _instance_row(
        self,
        name: str,
        public: str,
        status: str,
        about: dict[str, Any],
        events: dict[int, dict[str, Any]],
    ) -> dict[str, Any]:
        told = {kind: json.loads(one["metadata"] or "{}") for kind, one in events.items()}
        error = told.get(_FAILURE, {}).get("error") or {}
        params = (about.get("event") or {}).get("payload")
        created = _milliseconds(about["instance"].get("created_on")) or self._intake.now
        ended = max((_milliseconds(one["timestamp"]) or 0) for one in events.values())
        has_output = _SUCCESS in told and "result" in told[_SUCCESS]
        return {
            "id": public,
            "workflow_name": name,
            "class_name": self._names.workflows.get(name, name),
            "params": None if params is None else dumps(params),
            "status": status,
            "output": dumps(told[_SUCCESS]["result"]) if has_output else None,
            "error": error.get("message"),
            "bunflare_error_name": error.get("name"),
            "created_at": created,
            "updated_at": ended or created,
        }

    # -- cache -----------------------------------------------------------------------------

    def _cache(self) -> None:
        kind = "miniflare-CacheObject"
        folders = self._folders("cache")
        # "named:x" is a cache that was opened as x; in the name of its folder ":" is "_".
        known = {"default": "default"}
        for folder in folders:
            if folder.startswith("named_"):
                name = folder.removeprefix("named_")
                known[f"named:{name}"] = self._named_cache(name)
        for digest, path in self._files("cache", kind):
            name, called = self._resolved("cache", kind, digest, known, ())
            if called is None:
                folder = self._folder_of(path, "cache", folders) or digest
            else:
                folder = called.replace(":", "_")
            with foreign_file(path) as file:
                for one in file.records("_mf_entries"):
                    self._response(name, one, self._root / "cache" / folder / "blobs")

    def _response(self, name: str, one: dict[str, Any], blobs: Path) -> None:
        self._step()
        expires = one["expiration"]
        if expires is not None and expires <= self._intake.now:
            return
        tally, url = self._intake.tally, one["key"]
        try:
            about = json.loads(one["metadata"])
            status = int(about["status"])
            headers = [(str(header), str(value)) for header, value in about["headers"]]
            path = blobs / one["blob_id"]
            size = path.stat().st_size
            body, file = self._intake.keep_body(path, self._inline_body)
        except OSError:
            tally.leave_out("cache", name, url, "the file of its body is missing")
            return
        except (ValueError, TypeError, KeyError):
            tally.leave_out("cache", name, url, "its headers cannot be read")
            return
        row = {
            "cache_name": name,
            "url": url,
            "status": status,
            "headers": json.dumps(headers, ensure_ascii=False, separators=(",", ":")),
            "body": body,
            "bunflare_expires": expires,
            "bunflare_stored": self._intake.now,
            "bunflare_file": file,
        }
        self._intake.add("cache_entries", row, ("cache", name, url), size)


def find_wrangler(path: Path) -> Path | None:
    """The ``v3`` of a state of wrangler, from any directory around it."""
    for candidate in (path, path / "v3", path / "state/v3", path / ".wrangler/state/v3"):
        if candidate.is_dir() and any(
            (candidate / system).is_dir()
            and any(
                one.name.startswith("miniflare-") or system == "do"
                for one in (candidate / system).iterdir()
            )
            for system in ("kv", "r2", "d1", "do", "workflows", "cache")
        ):
            return candidate
    return None


def count(root: Path) -> int:
    """About how many things there are, for a progress bar."""
    whole = 0
    for table, pattern in (
        ("_mf_entries", "kv/miniflare-*/*.sqlite"),
        ("_mf_objects", "r2/miniflare-*/*.sqlite"),
        ("_cf_KV", "do/*/*.sqlite"),
        ("_mf_entries", "cache/miniflare-*/*.sqlite"),
    ):
        for path in root.glob(pattern):
            try:
                with foreign_file(path) as file:
                    whole += file.count(table) if table in file.tables() else 0
            except BunflareError:
                continue  # the import itself says what is wrong with it
    return whole


def _holds_files(path: Path) -> bool:
    return path.is_file() or any(one.is_file() for one in path.rglob("*"))


def _or_none(text: str | None) -> str | None:
    return None if text in (None, "", "{}", "null") else text


def _iso(milliseconds: int) -> str:
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(text: object) -> int | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
