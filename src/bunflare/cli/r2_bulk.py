"""``bunflare r2 bulk``: many files into a bucket, and out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import BunflareError
from .place import Place, on_state
from .r2_common import BUCKET, PREFIX, bucket_of, date_of, must_exist, name_of, put_options
from .r2_transfer import AT_ONCE, do_all, download, files_of, is_path, objects_of, refuse
from .tables import JSON, many, tell

if TYPE_CHECKING:
    from ..bindings.r2_writing import R2PutOptions


@click.group("bulk")
def bulk_group() -> None:
    """Many files at once: whole folders, or a list."""


@on_state(bulk_group, "put")
@BUCKET
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--filename",
    "-f",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of a folder: a JSON array of objects with key and file.",
)
@click.option("--prefix", default="", help="What the keys begin with.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100),
    default=AT_ONCE,
    show_default=True,
    help="Files at once.",
)
@put_options
@JSON
async def put_folder(
    place: Place,
    bucket: str,
    folder: Path | None,
    filename: Path | None,
    prefix: str,
    concurrency: int,
    options: R2PutOptions,
    as_json: bool,
) -> None:
    """Put every file of FOLDER under its path there, or those that a JSON file lists.

    What options say of metadata is so for all of them, but for those of which the list says it.
    """
    if (folder is None) == (filename is None):
        raise click.UsageError("give either FOLDER or --filename")
    wanted = _listed(filename) if filename is not None else _within(folder or Path())
    target = bucket_of(place, bucket)

    async def put(one: _Wanted) -> None:
        both: R2PutOptions = {**options, **one.options}
        await target.upload_file(prefix + one.key, one.file, **both)

    failures = await do_all(f"{len(wanted)} files", put, wanted, concurrency)
    count = len(wanted) - len(failures)
    sentence = f"{many(count, 'file', 'was', 'were')} put into {bucket}"
    tell(as_json, sentence, bucket=name_of(place, bucket), objects=count, failures=failures)
    refuse(failures)


class _Wanted(NamedTuple):
    """A file that is to be put."""

    key: str
    file: Path
    options: R2PutOptions


def _within(folder: Path) -> list[_Wanted]:
    return [_Wanted(key, path, {}) for key, path in files_of(folder).items()]


def _listed(filename: Path) -> list[_Wanted]:
    """Keys and files as wrangler's list has them, and metadata as `state export` tells it."""
    try:
        found = json.loads(filename.read_bytes())
    except ValueError as error:
        raise BunflareError(f"{filename} is not JSON: {error}") from error
    if not isinstance(found, list):
        raise BunflareError(f"{filename} must hold a JSON array of objects with key and file")
    wanted = []
    for number, one in enumerate(found):
        if not (
            isinstance(one, dict)
            and isinstance(one.get("key"), str)
            and isinstance(one.get("file"), str)
        ):
            raise BunflareError(f"entry {number} of {filename} is no object with key and file")
        wanted.append(_Wanted(one["key"], Path(one["file"]), _options(one)))
    return wanted


def _options(one: dict[str, Any]) -> R2PutOptions:
    options: R2PutOptions = {}
    headers = one.get("http_metadata")
    if isinstance(headers, dict) and headers:
        expiry = headers.get("cache_expiry")
        more = {} if expiry is None else {"cache_expiry": date_of(str(expiry))}
        options["http_metadata"] = {**headers, **more}
    if isinstance(one.get("custom_metadata"), dict):
        options["custom_metadata"] = one["custom_metadata"]
    if one.get("storage_class") in ("Standard", "InfrequentAccess"):
        options["storage_class"] = one["storage_class"]
    return options


@on_state(bulk_group, "get", reads=True)
@BUCKET
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@PREFIX
@JSON
async def get_folder(place: Place, bucket: str, folder: Path, prefix: str, as_json: bool) -> None:
    """Write the objects whose keys begin with the prefix into FOLDER, under the rest of these."""
    source = bucket_of(place, bucket)
    must_exist(place, bucket)
    keys = [found.key async for found in objects_of(source, prefix)]
    left_out = [key for key in keys if not is_path(key.removeprefix(prefix))]

    async def get(key: str) -> None:
        await download(source, key, folder / key.removeprefix(prefix))

    wanted = [key for key in keys if key not in set(left_out)]
    failures = await do_all(f"{len(wanted)} objects", get, wanted)
    written = len(wanted) - len(failures)
    if left_out:
        names = ", ".join(map(repr, left_out))
        failures.append(f"these keys are no paths of files: {names}")
    sentence = f"{many(written, 'object', 'was', 'were')} written to {folder}"
    tell(as_json, sentence, folder=str(folder), objects=written, failures=failures)
    refuse(failures)
