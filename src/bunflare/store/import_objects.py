"""What of wrangler's state has values that V8 has serialized: Durable Objects and Workflows."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import DatabaseCorrupt, ValueCorrupt
from ..values import dumps
from .foreign import ForeignFile, foreign_file
from .intake import THERE, Intake

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_HALF = 16
_STEP = 500
# What the platform's runtime and miniflare keep beside the tables of the user.
INTERNAL = ("_cf_KV", "_cf_METADATA", "_cf_ALARM", "__miniflare_do_name")
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


class ObjectsImport:
    """The part of an import that is about objects and instances of workflows."""

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

    def _step(self) -> None:
        self._done += 1
        if self._done % _STEP == 0:
            self._progress(self._done)

    def _value(self, data: bytes) -> Any:
        if self._read is None:
            self._read = self._reader()
        return self._read(data)

    # -- Durable Objects -------------------------------------------------------------------

    def _read_file(
        self, system: str, name: str, path: Path, work: Callable[[ForeignFile], object]
    ) -> None:
        """Do ``work`` on a file; one that is damaged, or of another form, is left out."""
        try:
            with foreign_file(path) as file:
                work(file)
        except DatabaseCorrupt:
            self._intake.tally.leave_out(system, name, path.name, "its file is damaged")
        except KeyError as error:
            reason = f"its file is of a form that nothing here knows: it has no {error}"
            self._intake.tally.leave_out(system, name, path.name, reason)

    def take_objects(self) -> None:
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
                    work = partial(self._object_file, namespace, path.stem, alarms)
                    self._read_file("objects", namespace, path, work)
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
        found: dict[str, dict[str, Any]] = {}

        def read(file: ForeignFile) -> None:
            found.update({one["actor_id"]: one for one in file.records("_cf_ALARM")})

        self._read_file("alarms", folder.name, path, read)
        return found

    def _object_file(
        self,
        namespace: str,
        digits: str,
        alarms: dict[str, dict[str, Any]],
        file: ForeignFile,
    ) -> None:
        intake = self._intake
        size = 0
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
            intake.tally.leave_out("objects", namespace, called, THERE)
            return
        for one in file.records("_cf_KV") if "_cf_KV" in tables else ():
            size += self._entry(namespace, digits, called, one["key"], one["value"])
        if tables - set(INTERNAL):
            size += intake.copy_database(file, f"do-sql/{namespace}", digits, INTERNAL) or 0
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

    def take_workflows(self) -> None:
        root = self._root / "workflows"
        prefix = "miniflare-workflows-"
        for folder in sorted(root.glob(f"{prefix}*")):
            name = folder.name.removeprefix(prefix)
            for path in sorted(folder.glob("*.sqlite")):
                if _DIGEST.match(path.stem):
                    self._read_file("workflows", name, path, partial(self._instance, name))

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


def _milliseconds(text: object) -> int | None:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
