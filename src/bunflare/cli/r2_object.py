"""``bunflare r2 object``: one object in and out, and listings."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..bindings.r2_objects import R2ObjectBody
from ..errors import BunflareError
from .place import Place, on_state
from .progress import progress_bar
from .r2_common import (
    BUCKET,
    FORCE,
    JURISDICTION,
    OBJECT,
    PREFIX,
    ObjectPath,
    bucket_of,
    described,
    missing,
    must_exist,
    name_of,
    put_options,
)
from .tables import ALWAYS_JSON, JSON, many, show_json, tell

if TYPE_CHECKING:
    from ..bindings.r2_writing import R2PutOptions

_BLOCK = 1024 * 1024


@click.group("object")
def object_group() -> None:
    """One object: put, get, head, copy, delete; list them, or sync a folder."""


@on_state(object_group, "put")
@OBJECT
@click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the bytes from it.",
)
@click.option("--pipe", "-p", is_flag=True, help="Take the bytes from standard input.")
@put_options
@JSON
async def put_object(
    place: Place,
    path: tuple[str, str],
    file: Path | None,
    pipe: bool,
    options: R2PutOptions,
    as_json: bool,
) -> None:
    """Set an object to a file, or to what comes through a pipe."""
    if (file is None) is not pipe:
        raise click.UsageError("give either --file or --pipe")
    bucket, key = path
    if file is None:
        stored = await bucket_of(place, bucket).put(key, _input(), **options)
    else:
        with progress_bar(key) as progress:
            stored = await bucket_of(place, bucket).upload_file(
                key, file, progress=progress, **options
            )
    assert stored is not None
    sentence = f"{bucket}/{key}: {many(stored.size, 'byte')}, etag {stored.etag}"
    tell(as_json, sentence, **described(stored))


async def _input() -> AsyncIterator[bytes]:
    stream = sys.stdin.buffer
    while block := await asyncio.to_thread(stream.read, _BLOCK):
        yield block


@on_state(object_group, "get", reads=True)
@OBJECT
@JURISDICTION
@click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the bytes to it; by default to the last part of the key.",
)
@click.option("--pipe", "-p", is_flag=True, help="Write the bytes to standard output.")
@JSON
async def get_object(
    place: Place, path: tuple[str, str], file: Path | None, pipe: bool, as_json: bool
) -> None:
    """Write an object to a file (by default one of its name, here), or into a pipe."""
    if file is not None and pipe:
        raise click.UsageError("give either --file or --pipe")
    if pipe and as_json:
        raise click.UsageError("--pipe has the bytes where --json would have JSON")
    bucket, key = path
    if pipe:
        found = await bucket_of(place, bucket).get(key)
        if not isinstance(found, R2ObjectBody):
            missing(place, bucket, key)
        stream = sys.stdout.buffer
        async for chunk in found.body:
            await asyncio.to_thread(stream.write, chunk)
        await asyncio.to_thread(stream.flush)
        return
    target = file or Path(key.rstrip("/").rpartition("/")[2])
    if not target.name:
        raise click.UsageError(f"{key!r} is no name for a file; give one with --file")
    with progress_bar(key) as progress:
        try:
            done = await bucket_of(place, bucket).download_file(key, target, progress=progress)
        except OSError as error:
            # The file beside the target, which the error names, means nothing to the user.
            raise BunflareError(f"{target}: {error.strerror or error}") from error
    if done is None:
        missing(place, bucket, key)
    tell(as_json, f"{target} was written", file=str(target), **described(done))


@on_state(object_group, "head", reads=True)
@OBJECT
@ALWAYS_JSON
async def head_object(place: Place, path: tuple[str, str]) -> None:
    """Print an object's metadata as JSON."""
    bucket, key = path
    found = await bucket_of(place, bucket).head(key)
    if found is None:
        missing(place, bucket, key)
    show_json(described(found))


@on_state(object_group, "delete", reads=True)
@OBJECT
@JURISDICTION
@FORCE
@JSON
async def delete_object(place: Place, path: tuple[str, str], as_json: bool) -> None:
    """Delete an object; nothing happens if there is none."""
    bucket, key = path
    must_exist(place, bucket)
    await bucket_of(place, bucket).delete(key)
    tell(as_json, None, bucket=name_of(place, bucket), key=key)


@on_state(object_group, "copy", reads=True)
@click.argument("source", metavar="BUCKET/KEY", type=ObjectPath())
@click.argument("target", metavar="BUCKET/KEY", type=ObjectPath())
@JSON
async def copy_object(
    place: Place, source: tuple[str, str], target: tuple[str, str], as_json: bool
) -> None:
    """Set an object to the bytes and the metadata of another, of any bucket."""
    (bucket, key), (other, name) = source, target
    if name_of(place, bucket) == name_of(place, other):
        stored = await bucket_of(place, bucket).copy(key, name)
        if stored is None:
            missing(place, bucket, key)
    else:
        found = await bucket_of(place, bucket).get(key)
        if not isinstance(found, R2ObjectBody):
            missing(place, bucket, key)
        stored = await bucket_of(place, other).put(
            name,
            found.body,
            http_metadata=found.http_metadata,
            custom_metadata=found.custom_metadata,
            storage_class="InfrequentAccess"
            if found.storage_class == "InfrequentAccess"
            else "Standard",
        )
    assert stored is not None
    sentence = f"{other}/{name}: {many(stored.size, 'byte')}, etag {stored.etag}"
    tell(as_json, sentence, **described(stored))


@on_state(object_group, "list", reads=True)
@BUCKET
@PREFIX
@click.option("--delimiter", help="Tell what keys share up to this once.")
@click.option("--limit", type=click.IntRange(1), help="At most so many; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on each line.")
async def list_objects(
    place: Place,
    bucket: str,
    prefix: str,
    delimiter: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print size, time and key of each object."""
    must_exist(place, bucket)
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        page = await bucket_of(place, bucket).list(
            prefix=prefix,
            delimiter=delimiter,
            limit=None if left is None else min(left, 1000),
            cursor=cursor,
            include=["httpMetadata", "customMetadata"] if as_json else None,
        )
        for shared in page.delimited_prefixes:
            line = (
                json.dumps({"prefix": shared}, ensure_ascii=False)
                if as_json
                else f"{'':>39}{shared}"
            )
            click.echo(line)
        for found in page.objects:
            if as_json:
                click.echo(json.dumps(described(found), ensure_ascii=False))
            else:
                click.echo(f"{found.size:>12}  {found.uploaded:%Y-%m-%dT%H:%M:%S.%fZ}  {found.key}")
        if left is not None:
            left -= len(page.objects) + len(page.delimited_prefixes)
        cursor = page.cursor
        if cursor is None:
            return
