"""``bunflare r2 bucket``: which buckets there are, and a look after their files."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError
from .place import Place, confirm, on_state
from .progress import progress_bar
from .r2_common import (
    BUCKET,
    JURISDICTION,
    PREFIX,
    bucket_of,
    buckets_of,
    described,
    must_exist,
    name_of,
)
from .tables import JSON, many, show, show_json, tell
from .wrangler_file import add_table, binding_options, show_table

if TYPE_CHECKING:
    from ..bindings.r2_buckets import R2BucketInfo
    from ..bindings.r2_care import R2Check


@click.group("bucket")
def bucket_group() -> None:
    """List, create and delete buckets, and look after their files."""


@on_state(bucket_group, "list", reads=True)
@JURISDICTION
@JSON
async def list_buckets(place: Place, as_json: bool) -> None:
    """The buckets that hold something, were created, or stand in the wrangler file."""
    care = buckets_of(place)
    bound = {one.bucket: one.binding for one in (place.config.r2_buckets if place.config else ())}
    rows: list[dict[str, Any]] = []
    for name in sorted({*care.names(), *bound}):
        found = care.info(name)
        if as_json:
            rows.append(
                {"name": name, "creation_date": _created(found), "binding": bound.get(name)}
            )
        else:
            rows.append(
                {
                    "bucket": name,
                    "objects": found.objects,
                    "bytes": found.size,
                    "newest": "" if found.newest is None else f"{found.newest:%Y-%m-%dT%H:%M:%SZ}",
                    "binding": bound.get(name, ""),
                }
            )
    show(rows, as_json)


def _created(found: R2BucketInfo) -> str | None:
    if found.created_at is not None:
        return datetime.fromtimestamp(found.created_at / 1000, UTC).isoformat()
    return None if found.oldest is None else found.oldest.isoformat()


@on_state(bucket_group, "info", reads=True)
@BUCKET
@JURISDICTION
@JSON
async def info(place: Place, bucket: str, as_json: bool) -> None:
    """How many objects a bucket holds, and how many bytes."""
    must_exist(place, bucket)
    found = buckets_of(place).info(name_of(place, bucket))
    told = {
        "name": found.name,
        "created": _created(found),
        "location": "local",
        "default_storage_class": "Standard",
        "object_count": found.objects if as_json else f"{found.objects:,}",
        "bucket_size": found.size if as_json else f"{found.size:,} bytes",
    }
    if as_json:
        show_json(told)
        return
    for name, value in told.items():
        click.echo(f"{name + ':':<24}{'' if value is None else value}")


@on_state(bucket_group, "create")
@click.argument("name")
@JURISDICTION
@click.option("--location", hidden=True, expose_value=False)
@click.option("--storage-class", "-s", hidden=True, expose_value=False)
@binding_options
@JSON
async def create(
    place: Place, name: str, binding: str | None, update_config: bool, as_json: bool
) -> None:
    """Make an empty bucket, and show what binds it to a Worker.

    Nothing needs this: a bucket is there once something is put into it.
    """
    entry = {"binding": binding or re.sub(r"\W", "_", name).upper(), "bucket_name": name}
    add = add_table(place, "r2_buckets", entry) if update_config else None
    await buckets_of(place).create(name)
    click.echo(f"The bucket {name!r} was made.", err=True)
    if add is not None:
        click.echo(f"{add()} binds it as {entry['binding']}.", err=True)
    if add is None or as_json:
        show_table(place, "r2_buckets", entry, as_json)


@on_state(bucket_group, "delete", reads=True)
@BUCKET
@JURISDICTION
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@JSON
async def delete(place: Place, bucket: str, yes: bool, as_json: bool) -> None:
    """Delete a bucket, which has to be empty."""
    must_exist(place, bucket)
    confirm(f"Delete the bucket {bucket!r}?", yes)
    await buckets_of(place).delete(name_of(place, bucket))
    tell(as_json, f"The bucket {bucket!r} was deleted.", name=name_of(place, bucket), deleted=True)


@on_state(bucket_group, "verify", reads=True)
@BUCKET
@click.option("--digests", is_flag=True, help="Read every file and compare its MD5.")
@JSON
async def verify(place: Place, bucket: str, digests: bool, as_json: bool) -> None:
    """Compare objects and files. The exit code is 1 if an object is not as it should be."""
    must_exist(place, bucket)
    with progress_bar(bucket) as progress:
        found = await bucket_of(place, bucket).check(digests, progress=progress)
    _tell(found, as_json)
    if found.problems:
        raise BunflareError(
            f"{many(len(found.problems), 'object', 'is', 'are')} not as it should be"
        )


@on_state(bucket_group, "repair", reads=True)
@BUCKET
@JSON
async def repair(place: Place, bucket: str, as_json: bool) -> None:
    """Put right what is safe: files that were moved, touched or changed, and what a crash left.

    What it tells is what it found.
    """
    must_exist(place, bucket)
    _tell(await bucket_of(place, bucket).repair(), as_json)
    left = (await bucket_of(place, bucket).check()).problems
    if left:
        raise BunflareError(
            f"{many(len(left), 'object')} cannot be repaired: put or delete what is named above"
        )


def _tell(found: R2Check, as_json: bool) -> None:
    if as_json:
        show_json(asdict(found))
        return
    click.echo(f"{many(found.objects, 'object')}, {many(found.size, 'byte')}")
    for problem in found.problems:
        click.echo(f"{problem.kind}: {problem.key}: {problem.detail}")
    for name in found.strangers:
        click.echo(f"stranger: {name}")


@on_state(bucket_group, "adopt")
@BUCKET
@PREFIX
@JSON
async def adopt(place: Place, bucket: str, prefix: str, as_json: bool) -> None:
    """Make objects of the files that were put into r2/BUCKET/ by hand."""
    must_exist(place, bucket)
    with progress_bar(bucket, "items") as progress:
        found = await bucket_of(place, bucket).adopt(
            prefix, progress=lambda done: progress(done, None)
        )
    if as_json:
        show_json([described(one) for one in found])
        return
    for one in found:
        click.echo(f"{one.size:>12}  {one.key}")
