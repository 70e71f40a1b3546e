"""Reading the state that wrangler (miniflare) keeps: ``.wrangler/state/v3``.

Names of things are hashed there: a file is called by a digest of the namespace's id, the bucket's
or the database's name. A name is found again by making that digest of every name that may be it:
those of the directories beside it, and those of the wrangler file. What has no name that way is
taken over under its digest, and said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import BunflareError
from .foreign import ForeignFile, foreign_file
from .import_objects import INTERNAL, Names, ObjectsImport, object_id
from .intake import THERE, ForeignObject

__all__ = ["Names", "WranglerImport", "count", "find_wrangler"]


class WranglerImport(ObjectsImport):
    """One state of wrangler, on its way into ours."""

    def run(self) -> None:
        self._kv()
        self._r2()
        self._d1()
        self.take_objects()
        self.take_workflows()
        self._cache()
        known = {"kv", "r2", "d1", "do", "workflows", "cache"}
        for one in sorted(self._root.iterdir()):
            if one.name not in known and _holds_files(one):
                reason = "nothing here keeps what that product stores"
                self._intake.tally.leave_out(one.name, one.name, None, reason)

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
            self._read_file("kv", name, path, partial(self._keys, name, blobs))

    def _folder_of(self, path: Path, system: str, folders: list[str]) -> str | None:
        """The folder that holds the first blob of a database whose name nobody knows."""
        found: list[str] = []

        def look(file: ForeignFile) -> None:
            for one in file.records("_mf_entries"):
                for folder in folders:
                    if (self._root / system / folder / "blobs" / one["blob_id"]).exists():
                        found.append(folder)
                        return

        self._read_file(system, path.stem, path, look)
        return found[0] if found else None

    def _keys(self, name: str, blobs: Path, file: ForeignFile) -> None:
        for one in file.records("_mf_entries"):
            self._key(name, one, blobs)

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
            self._read_file("r2", name, path, partial(self._bucket, name, blobs))

    def _bucket(self, name: str, blobs: Path, file: ForeignFile) -> None:
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
            self._read_file("d1", name, path, partial(self._database, name))

    def _database(self, name: str, file: ForeignFile) -> None:
        self._step()
        size = self._intake.copy_database(file, "d1", name, INTERNAL)
        if size is None:
            self._intake.tally.leave_out("d1", name, None, f"{THERE} of that name")
        else:
            self._intake.tally.took("d1", name, size)

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
            blobs = self._root / "cache" / folder / "blobs"
            self._read_file("cache", name, path, partial(self._responses, name, blobs))

    def _responses(self, name: str, blobs: Path, file: ForeignFile) -> None:
        for one in file.records("_mf_entries"):
            self._response(name, one, blobs)

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
