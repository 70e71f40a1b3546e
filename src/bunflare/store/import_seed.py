"""Reading a data directory of any program that follows the seed's schema, of whatever version.

Some add columns and tables of their own, some have fewer. Each column is looked for by its name; a
table that nothing here has a place for is counted and said.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import BunflareError, ValueCorrupt
from ..values import loads
from . import queues
from .foreign import ForeignFile, foreign_file
from .intake import THERE, ForeignObject, Intake, text_of
from .r2_files import R2Files

_STEP = 500
_DAY_MS = 24 * 3600 * 1000

#: Tables of ours that are carried over as they are, where both sides have them.
_CARRIED = (
    "bunflare_names",
    "bunflare_object_classes",
    "bunflare_object_migrations",
    "bunflare_queues",
    "bunflare_workflow_log",
    "bunflare_workflow_events",
    "bunflare_workflow_chunks",
)
#: Tables that are read below, or hold what passes with its program.
_READ = frozenset(
    {
        *("kv", "r2_objects", "do_storage", "do_alarms", "queue_messages", "workflow_instances"),
        *("cache_entries", "r2_multipart_uploads", "r2_multipart_parts", "do_instances"),
        *("queue_leases", "workflow_steps", "workflow_step_attempts", "workflow_events"),
        *("workflow_occurrences", "workflow_legacy_claims"),
        *("do_migrations", "do_alarm_revisions"),
    }
)
#: What lies in a data directory.
_KNOWN = frozenset(
    {
        *("r2", "r2-staging", "d1", "do-sql", "cache", "snapshots"),
        *("processes", "sockets", "writer.lock"),
    }
)
_OF_THERE = ("bunflare_holder", "bunflare_counted")
_UNFINISHED = frozenset({"queued", "running", "waiting"})

#: What our log calls the end of a step, by what such a program calls the step.
_ENDS = {"do": "step_completed", "sleep": "sleep_completed", "waitForEvent": "wait_completed"}

Progress = Callable[[int], object]


class SeedImport:
    """One such directory, on its way into ours."""

    def __init__(
        self, root: Path, file: ForeignFile, intake: Intake, inline_body: int, progress: Progress
    ) -> None:
        self._root = root
        self._file = file
        self._intake = intake
        self._inline_body = inline_body
        self._progress = progress
        self._tables = file.tables()
        self._files = R2Files(root / "r2", root / "r2-staging")
        # The probe for it would write into the source.
        self._files._folding = False
        self._done = 0

    def run(self) -> None:
        # First, since what they say of queues decides which messages are still kept.
        for table in _CARRIED:
            if table in self._tables and self._intake.columns(table):
                for one in self._records(table):
                    self._intake.insert(table, one)
        for section in (
            self._kv,
            self._r2,
            self._uploads,
            self._databases,
            self._objects,
            self._queues,
            self._workflows,
            self._cache,
        ):
            try:
                section()
            except KeyError as error:
                reason = f"its table has no column {error}"
                self._intake.tally.leave_out(section.__name__[1:], "the rest", None, reason)
        self._other_files()
        for table in sorted(self._tables - _READ):
            if not table.startswith("bunflare_") and (found := self._file.count(table)):
                reason = f"{found} rows: nothing here keeps them"
                self._intake.tally.leave_out("other tables", table, None, reason)

    def _other_files(self) -> None:
        """What lies in the directory and is not taken over."""
        tally = self._intake.tally
        for path in sorted((self._root / "d1").glob(".*.history")):
            name = path.name.removeprefix(".").removesuffix(".history")
            tally.leave_out("d1", name, None, "its history: time travel begins anew")
        for path in sorted((self._root / "do-sql").glob("*/.*.history")):
            name = path.name.removeprefix(".").removesuffix(".history")
            reason = "its history: point-in-time recovery begins anew"
            tally.leave_out("objects", path.parent.name, name, reason)
        for path in sorted((self._root / "snapshots").glob("[!.]*")):
            tally.leave_out("snapshots", path.name, None, "an import takes the present state alone")
        for path in sorted(self._root.iterdir()):
            if path.name not in _KNOWN and not path.name.startswith(("data.sqlite", ".")):
                tally.leave_out("other files", path.name, None, "nothing here knows them")

    def _records(self, table: str) -> Iterator[dict[str, Any]]:
        if table not in self._tables:
            return
        for one in self._file.records(table):
            self._done += 1
            if self._done % _STEP == 0:
                self._progress(self._done)
            yield one

    # -- KV --------------------------------------------------------------------------------

    def _kv(self) -> None:
        for one in self._records("kv"):
            value = one["value"]
            expiration = one.get("expiration")
            if isinstance(expiration, float):
                expiration = int(expiration)
            if isinstance(expiration, int) and expiration * 1000 <= self._intake.now:
                continue
            data = value.encode() if isinstance(value, str) else bytes(value)
            row = {
                "namespace": one["namespace"],
                "key": one["key"],
                "value": data,
                "metadata": text_of(one.get("metadata")),
                "expiration": expiration,
            }
            self._intake.add("kv", row, ("kv", one["namespace"], one["key"]), len(data))

    # -- R2 --------------------------------------------------------------------------------

    def _r2(self) -> None:
        unsettled = {
            (one["bucket"], one["key"]): one for one in self._records("bunflare_r2_unsettled")
        }
        for one in self._records("r2_objects"):
            own = one.get("bunflare_version") and one.get("bunflare_etag") == one["etag"]
            found = ForeignObject(
                one["bucket"],
                one["key"],
                one["size"],
                one["etag"],
                one["uploaded"],
                text_of(one.get("http_metadata")),
                text_of(one.get("custom_metadata")),
                text_of(one.get("bunflare_checksums") if own else one.get("checksums")),
                one.get("bunflare_storage_class") if own else None,
                one.get("bunflare_ssec") if own else None,
            )
            pending = unsettled.get((one["bucket"], one["key"]), {})
            self._intake.put_object(found, [self._bytes(one, pending, bool(own))])

    def _bytes(self, one: dict[str, Any], pending: dict[str, Any], own: bool) -> Path | bytes:
        """Where an object's bytes are."""
        version: str | None = one.get("bunflare_version")
        if own and pending.get("version") == version and version:
            if pending.get("data") is not None:
                return bytes(pending["data"])
            staged = self._root / "r2-staging" / version
            if staged.exists():
                return staged
        bucket = Path(self._files.bucket(one["bucket"]))
        for path in reversed(self._files.paths_of(one["key"], own)):
            found = bucket.joinpath(*path)
            if found.is_file() and found.stat().st_size == int(one["size"]):
                return found
        # What such a program made of a key with a part that is empty.
        plain = Path(self._root, "r2", one["bucket"], one["key"].replace("\0", ""))
        within = (self._root / "r2" / one["bucket"]).resolve()
        if plain.is_file() and plain.resolve().is_relative_to(within):
            return plain
        return bucket / "\x01missing"

    def _uploads(self) -> None:
        taken: dict[str, tuple[str, str]] = {}
        for one in self._records("r2_multipart_uploads"):
            row = {
                "upload_id": one["upload_id"],
                "bucket": one["bucket"],
                "key": one["key"],
                "created": _milliseconds(one.get("created_at"), self._intake.now),
                "state": "open",
                "http_metadata": text_of(one.get("http_metadata")),
                "custom_metadata": text_of(one.get("custom_metadata")),
                "storage_class": "Standard",
            }
            self._upload(row, taken)
        for one in self._records("bunflare_r2_uploads"):
            if one["state"] == "open":
                self._upload(one, taken)
        for one in self._records("r2_multipart_parts"):
            path = Path(str(one["file_path"]))
            if one["upload_id"] in taken and not path.is_file():
                # The whole directory may have been moved.
                bucket = taken[one["upload_id"]][0]
                path = self._root / "r2" / bucket / "__multipart__" / one["upload_id"] / path.name
            self._part(one, path, None, None, taken)
        for one in self._records("bunflare_r2_parts"):
            path = self._root / "r2-staging" / one["file"]
            self._part(one, path, one["etag"], one.get("ssec"), taken)

    def _upload(self, row: dict[str, Any], taken: dict[str, tuple[str, str]]) -> None:
        what = ("r2 uploads", row["bucket"], row["key"])
        if row["created"] + 7 * _DAY_MS <= self._intake.now:
            self._intake.tally.leave_out(*what, "it has expired: its seven days are over")
        elif self._intake.add("bunflare_r2_uploads", row, what, 0):
            taken[row["upload_id"]] = (row["bucket"], row["key"])

    def _part(
        self,
        one: dict[str, Any],
        path: Path,
        etag: str | None,
        ssec: str | None,
        taken: dict[str, tuple[str, str]],
    ) -> None:
        if one["upload_id"] not in taken:
            return
        bucket, key = taken[one["upload_id"]]
        number = one["part_number"]
        why = self._intake.put_part(one["upload_id"], number, path, etag, ssec)
        if why is not None:
            self._intake.tally.leave_out("r2 uploads", bucket, f"{key}, part {number}", why)

    # -- D1 --------------------------------------------------------------------------------

    def _databases(self) -> None:
        for path in sorted((self._root / "d1").glob("*.sqlite")):
            if path.name.startswith("."):
                continue
            try:
                with foreign_file(path) as file:
                    size = self._intake.copy_database(file, "d1", path.stem)
            except BunflareError as error:
                self._intake.tally.leave_out("d1", path.stem, None, str(error))
                continue
            if size is None:
                reason = f"{THERE} of that name"
                self._intake.tally.leave_out("d1", path.stem, None, reason)
            else:
                self._intake.tally.took("d1", path.stem, size)

    # -- Durable Objects -------------------------------------------------------------------

    def _objects(self) -> None:
        intake = self._intake
        named = {(one["namespace"], one["id"]): one for one in self._records("do_instances")}
        ours = {(one["namespace"], one["id"]): one for one in self._records("bunflare_objects")}
        sizes: dict[tuple[str, str], int] = {}
        for one in self._records("do_storage"):
            key = (one["namespace"], one["id"])
            text = text_of(one["value"]) or ""
            try:
                loads(text)
            except ValueCorrupt as error:
                intake.tally.leave_out("objects", key[0], f"{key[1]}: {one['key']}", str(error))
                continue
            if intake.insert("do_storage", {**one, "value": text}):
                sizes[key] = sizes.get(key, 0) + len(text)
            else:
                told = f"{key[1]}: {one['key']}"
                intake.tally.leave_out("objects", key[0], told, THERE)
        for one in self._records("do_alarms"):
            key = (one["namespace"], one["id"])
            row = {"namespace": key[0], "id": key[1], "alarm_time": one["alarm_time"]}
            if intake.add("do_alarms", row, ("alarms", *key), 0):
                sizes.setdefault(key, 0)
        for path in sorted((self._root / "do-sql").glob("*/*.sqlite")):
            key = (path.parent.name, path.stem)
            with foreign_file(path) as file:
                size = intake.copy_database(file, f"do-sql/{key[0]}", key[1])
            if size is None:
                reason = f"{THERE} with tables"
                intake.tally.leave_out("objects", key[0], key[1], reason)
            else:
                sizes[key] = sizes.get(key, 0) + size
        for key in sorted({*sizes, *named, *ours}):
            about = ours.get(key) or named.get(key) or {}
            row = {
                "namespace": key[0],
                "id": key[1],
                "name": about.get("name"),
                "created_at": _milliseconds(about.get("created_at"), intake.now),
                "applied": about.get("applied", 0),
            }
            if intake.insert("bunflare_objects", row) or key in sizes:
                intake.tally.took("objects", key[0], sizes.get(key, 0))

    # -- queues ----------------------------------------------------------------------------

    def _queues(self) -> None:
        leases = {one["message_id"]: one["expires_at"] for one in self._records("queue_leases")}
        done = 0
        for one in self._records("queue_messages"):
            if one.get("status", "pending") in ("acked", "failed", "completed", "done"):
                done += 1
                continue
            body, kind = one["body"], one.get("content_type", "json")
            if isinstance(body, bytes):
                body = base64.b64encode(body).decode() if kind == "bytes" else text_of(body)
            kept = queues.settings(self._intake.tx, one["queue"]).retention_ms
            what = ("queues", one["queue"], one["id"])
            if (one.get("bunflare_expires") or one["created_at"] + kept) <= self._intake.now:
                self._intake.tally.leave_out(*what, "it has expired: it was kept for long enough")
                continue
            # None is visible before it was sent, by which the time that it is kept for is found.
            times = (one["visible_at"], one["created_at"], leases.get(one["id"], 0))
            visible = max(map(int, times))
            row = {**one, "body": body, "visible_at": visible}
            # Claims are those of processes that nobody here knows; it is counted here, not there.
            row = {name: item for name, item in row.items() if name not in _OF_THERE}
            self._intake.add("queue_messages", row, what, len(str(body)))
        if done:
            reason = f"{done} messages that were done with"
            self._intake.tally.leave_out("queues", "all", None, reason)

    # -- workflows -------------------------------------------------------------------------

    def _workflows(self) -> None:
        intake = self._intake
        unfinished: dict[str, str] = {}
        for one in self._records("workflow_instances"):
            row = {
                **{name: item for name, item in one.items() if name != "bunflare_due"},
                "params": text_of(one.get("params")),
                "output": text_of(one.get("output")),
            }
            if "error_name" in one:
                row.setdefault("bunflare_error_name", one["error_name"])
            if one["status"] in _UNFINISHED:
                unfinished[one["id"]] = one["workflow_name"]
                # Whoever runs the workflow next goes on with it.
                row["bunflare_due"] = one["created_at"]
            what = ("workflows", one["workflow_name"], one["id"])
            if not intake.add("workflow_instances", row, what, len(row["output"] or "")):
                unfinished.pop(one["id"], None)
        carried = self._occurrences(unfinished)
        steps: dict[str, int] = {}
        for table in ("workflow_steps", "workflow_step_attempts"):
            for one in self._records(table):
                if one["instance_id"] in unfinished.keys() - carried:
                    steps[one["instance_id"]] = steps.get(one["instance_id"], 0) + 1
        for instance, number in sorted(steps.items()):
            reason = f"{number} steps: it begins anew"
            intake.tally.leave_out("workflows", unfinished[instance], instance, reason)
        self._events(unfinished)

    def _occurrences(self, unfinished: dict[str, str]) -> set[str]:
        """What steps of unfinished instances have given; of which instances that was known."""
        runs = {
            (one.get("incarnation"), one.get("run")): one["id"]
            for one in self._records("workflow_instances")
            if one["id"] in unfinished and one.get("incarnation") is not None
        }
        ended: dict[str, list[dict[str, Any]]] = {}
        for one in self._records("workflow_occurrences"):
            instance = runs.get((one["incarnation"], one["run"]))
            if instance is not None and one["completed_at"] is not None:
                ended.setdefault(instance, []).append(one)
        for instance, found in ended.items():
            found.sort(key=lambda one: (one["completed_at"], one["id"]))
            self._log(instance, unfinished[instance], found)
        return set(ended)

    def _log(self, instance: str, workflow: str, ended: list[dict[str, Any]]) -> None:
        """Write the steps of an instance, in the order in which they ended, as our log has them."""
        known = bool(self._intake.columns("bunflare_workflow_log"))
        for number, one in enumerate(ended, 1):
            kind = _ENDS.get(one["type"])
            if not known or kind is None or one["state"] != "completed" or one.get("stream_id"):
                # Those that ended later follow from this one, and cannot be without it.
                reason = f'{len(ended) - number + 1} steps, from "{one["name"]}" on: they run again'
                self._intake.tally.leave_out("workflows", workflow, instance, reason)
                return
            gives = one["type"] != "sleep"
            row = {
                "instance": instance,
                "number": number,
                "kind": kind,
                "name": one["name"],
                "count": one["count"],
                "attempt": one.get("attempt", 1) if one["type"] == "do" else None,
                "started_at": one["completed_at"],
                "at": one["completed_at"],
                "value": (text_of(one.get("output")) or "null") if gives else None,
            }
            self._intake.insert("bunflare_workflow_log", row)

    def _events(self, unfinished: dict[str, str]) -> None:
        """Events that were sent and not used."""
        numbers: dict[str, int] = {}
        for one in self._records("workflow_events"):
            instance = one["instance_id"]
            if instance not in unfinished:
                continue
            numbers[instance] = numbers.get(instance, 0) + 1
            row = {
                "instance": instance,
                "number": numbers[instance],
                "type": one["event_type"],
                "payload": text_of(one.get("payload")),
                "at": one["created_at"],
            }
            if not self._intake.columns("bunflare_workflow_events"):
                reason = f"an event of type {one['event_type']}"
                self._intake.tally.leave_out("workflows", unfinished[instance], instance, reason)
            else:
                self._intake.insert("bunflare_workflow_events", row)

    # -- cache -----------------------------------------------------------------------------

    def _cache(self) -> None:
        intake = self._intake
        for one in self._records("cache_entries"):
            what = ("cache", one["cache_name"], one["url"])
            expires = one.get("bunflare_expires") or one.get("expires_at")
            if expires is not None and expires <= intake.now:
                continue
            body: bytes | Path = one["body"]
            if isinstance(body, str):
                body = body.encode()
            file = one.get("bunflare_file")
            if file is not None and not body:
                body = self._root / "cache" / re.sub(r"[^0-9a-f]", "", file)
            try:
                pairs = json.loads(one["headers"])
                pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
                headers = [(str(name), str(value)) for name, value in pairs]
                size = len(body) if isinstance(body, bytes) else body.stat().st_size
                kept, name = intake.keep_body(body, self._inline_body)
            except OSError:
                intake.tally.leave_out(*what, "the file of its body is missing")
                continue
            except (ValueError, TypeError):
                intake.tally.leave_out(*what, "its headers cannot be read")
                continue
            row = {
                "cache_name": one["cache_name"],
                "url": one["url"],
                "status": one["status"],
                "headers": json.dumps(headers, ensure_ascii=False, separators=(",", ":")),
                "body": kept,
                "bunflare_expires": expires,
                "bunflare_stored": one.get("bunflare_stored"),
                "bunflare_file": name,
            }
            intake.add("cache_entries", row, what, size)


def find_seed(path: Path) -> Path | None:
    """The data directory of such a program, from it or the project around it."""
    for candidate in (path, path / ".bunflare", path / ".lopata"):
        if (candidate / "data.sqlite").is_file():
            return candidate
    return None


def count(file: ForeignFile) -> int:
    """How many rows there are, for a progress bar."""
    tables = file.tables()
    return sum(file.count(table) for table in tables & _READ)


def _milliseconds(value: object, otherwise: int) -> int:
    """Epoch milliseconds of a time, which some programs store as text."""
    if isinstance(value, int):
        return value
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        return otherwise
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
