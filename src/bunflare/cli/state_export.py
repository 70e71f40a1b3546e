"""``bunflare state export``: files that wrangler takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from ..errors import BunflareError
from .d1_common import care as databases
from .kv_common import entry_of
from .place import Place, on_state
from .progress import Progress, progress_bar
from .r2_common import described
from .r2_transfer import download, is_path, objects_of
from .tables import JSON, show_json

if TYPE_CHECKING:
    from ..bindings.kv import KVNamespace

_Tell = Callable[[Path, int, str], None]
_SYSTEMS = ("kv", "d1", "r2")


@on_state(None, "export", reads=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--only", multiple=True, type=click.Choice(_SYSTEMS), help="Only this; may be repeated."
)
@JSON
async def export_command(place: Place, folder: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Write KV, D1 and R2 into FOLDER, which is new or empty, as wrangler takes them.

    kv/NAMESPACE.json is for `kv bulk put`, d1/DATABASE.sql for `d1 execute --file`, and
    r2/BUCKET.json, which lists the files in r2/BUCKET/ and their metadata, for `r2 bulk put
    --filename`, to be run in FOLDER.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BunflareError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = only or _SYSTEMS
    written: list[dict[str, Any]] = []

    def tell(path: Path, count: int, what: str) -> None:
        written.append({"path": str(path), what: count})
        if not as_json:
            click.echo(f"{path}: {count} {what}")

    if "kv" in wanted:
        await _kv(place, folder / "kv", tell)
    if "d1" in wanted:
        await _d1(place, folder / "d1", tell)
    if "r2" in wanted:
        await _r2(place, folder, tell)
    if as_json:
        show_json(written)
    left = sorted(
        {one.system for one in (await place.state.info()).figures if one.count} - set(_SYSTEMS)
    )
    if left and not only:
        click.echo(
            f"not exported, since wrangler takes none of it: {', '.join(left)} "
            "(`bunflare state backup` keeps everything)",
            err=True,
        )


def _file_name(name: str) -> str:
    """A name of a file for any name; a plain one stays as it is."""
    return quote(name, safe=" @+=,()!~'") if name.strip(".") else name.replace(".", "%2E")


async def _kv(place: Place, folder: Path, tell: _Tell) -> None:
    from ..bindings.kv_care import KVCare

    for one in KVCare(place.state.database, place.state.clock).namespaces():
        folder.mkdir(exist_ok=True)
        path = folder / f"{_file_name(one.name)}.json"
        count = 0
        with path.open("w", encoding="utf-8") as file, progress_bar(path.name, "items") as progress:
            lead = "[\n"
            async for entry in _entries(place.state.kv(one.name)):
                file.write(lead + json.dumps(entry, ensure_ascii=False))
                lead = ",\n"
                count += 1
                if count % 1000 == 0:
                    progress(count, None)
            file.write("[]\n" if lead == "[\n" else "\n]\n")
        tell(path, count, "keys")


async def _entries(kv: KVNamespace) -> AsyncIterator[dict[str, Any]]:
    async for key in kv.scan():
        value = await kv.get(key.name, "bytes")
        if value is None:
            continue  # it expired just now
        entry = entry_of(key.name, value)
        if key.expiration is not None:
            entry["expiration"] = key.expiration
        if key.metadata is not None:
            entry["metadata"] = key.metadata
        yield entry


async def _d1(place: Place, folder: Path, tell: _Tell) -> None:
    for name in databases(place).sizes():
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.sql"
        with progress_bar(path.name, "items") as progress:
            await place.state.d1(name).export_sql(path, progress=partial(_rows, progress))
        tell(path, path.stat().st_size, "bytes")


def _rows(progress: Progress, done: int) -> None:
    progress(done, None)


async def _r2(place: Place, folder: Path, tell: _Tell) -> None:
    from ..bindings.r2_buckets import R2Buckets

    care = R2Buckets(place.state.database, place.state.clock)
    for name in care.names():
        bucket = place.state.r2(name)
        whole = care.info(name).objects
        listed = []
        target = folder / "r2" / _file_name(name)
        target.mkdir(parents=True, exist_ok=True)
        with progress_bar(name, "items") as progress:
            async for found in objects_of(bucket, ""):
                path = await _object(bucket, found.key, target)
                head = await bucket.head(found.key) or found
                listed.append({"file": str(path.relative_to(folder)), **described(head)})
                progress(len(listed), whole)
        (folder / "r2" / f"{_file_name(name)}.json").write_text(
            json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        tell(target, len(listed), "objects")


async def _object(bucket: Any, key: str, target: Path) -> Path:
    """Write an object under its key, or, where that is no path or taken, under a digest of it."""
    if is_path(key):
        try:
            await download(bucket, key, target / key)
            return target / key
        except BunflareError:
            pass
    path = target / f"%{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    await download(bucket, key, path)
    return path
