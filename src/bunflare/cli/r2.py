"""``bunflare r2``: objects in and out, and a look after their files. Names are wrangler's."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from .. import state as states
from ..bindings.r2 import R2Bucket
from ..bindings.r2_care import R2Check
from ..bindings.r2_objects import R2Object, R2ObjectBody
from ..errors import BunflareError

_BLOCK = 1024 * 1024
# Transfers under way at once.
_AT_ONCE = 8

Progress = Callable[[int, int | None], None]


class ObjectPath(click.ParamType[tuple[str, str]]):
    """``BUCKET/KEY``."""

    name = "bucket/key"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        bucket, slash, key = str(value).partition("/")
        if not bucket or not slash or not key:
            self.fail(f"{value!r} is not of the form BUCKET/KEY", param, ctx)
        return bucket, key


_OBJECT = click.argument("path", metavar="BUCKET/KEY", type=ObjectPath())
_BUCKET = click.argument("bucket")
_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_PREFIX = click.option("--prefix", default="", help="Only keys that begin with this.")


def _command(group: click.Group, name: str) -> Callable[..., Any]:
    """A command that works on a state: its function is asynchronous and gets that first."""

    def decorate(function: Callable[..., Coroutine[Any, Any, None]]) -> click.Command:
        @click.option(
            "--persist-to",
            type=click.Path(path_type=Path, file_okay=False),
            help="The data directory; by default BUNFLARE_DIR, or .bunflare in the project's root.",
        )
        @wraps(function)
        def run(persist_to: Path | None, **options: Any) -> None:
            async def work() -> None:
                async with states.open(persist_to) as state:
                    await function(state, **options)

            try:
                asyncio.run(work())
            except BrokenPipeError:
                raise  # whoever read has had enough; click ends quietly
            except OSError as error:
                raise BunflareError(_reason(error)) from error

        return group.command(name)(run)

    return decorate


def _reason(error: OSError) -> str:
    """What the system refused, on one line."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


@click.group("r2")
def command() -> None:
    """Put, get and list objects, and look after their files."""


@command.group("object")
def object_group() -> None:
    """One object: put, get, head, delete; or list them."""


@command.group("bulk")
def bulk_group() -> None:
    """Whole folders."""


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    """A progress bar, where somebody watches; what comes back is told how far things are."""
    with ExitStack() as stack:
        bars: list[Any] = []

        def progress(done: int, whole: int | None) -> None:
            if not bars and sys.stderr.isatty():
                bar: Any = click.progressbar(length=whole, label=label, file=sys.stderr)
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.update(done - bar.pos)

        yield progress


# -- one object --------------------------------------------------------------------------------


@_command(object_group, "put")
@_OBJECT
@click.option("--file", "-f", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--pipe", "-p", is_flag=True, help="Take the bytes from standard input.")
@click.option("--content-type", "--ct")
@click.option("--content-disposition", "--cd")
@click.option("--content-encoding", "--ce")
@click.option("--content-language", "--cl")
@click.option("--cache-control", "--cc")
@click.option("--expires", help="An ISO 8601 date.")
@click.option("--storage-class", "-s", type=click.Choice(["Standard", "InfrequentAccess"]))
async def put_object(
    state: states.State,
    path: tuple[str, str],
    file: Path | None,
    pipe: bool,
    expires: str | None,
    storage_class: Any,
    **metadata: str | None,
) -> None:
    """Set an object to a file, or to what comes through a pipe."""
    if (file is None) is not pipe:
        raise click.UsageError("give either --file or --pipe")
    bucket, key = path
    http_metadata: dict[str, Any] = dict(metadata)
    if expires is not None:
        http_metadata["cache_expiry"] = _date(expires)
    if file is None:
        stored = await state.r2(bucket).put(
            key, _input(), http_metadata=http_metadata, storage_class=storage_class
        )
    else:
        with _bar(key) as progress:
            stored = await state.r2(bucket).upload_file(
                key,
                file,
                progress=progress,
                http_metadata=http_metadata,
                storage_class=storage_class,
            )
    assert stored is not None
    click.echo(f"{bucket}/{key}: {stored.size} bytes, etag {stored.etag}", err=True)


def _date(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an ISO 8601 date", param_hint="--expires"
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


async def _input() -> AsyncIterator[bytes]:
    stream = sys.stdin.buffer
    while block := await asyncio.to_thread(stream.read, _BLOCK):
        yield block


@_command(object_group, "get")
@_OBJECT
@click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--pipe", "-p", is_flag=True, help="Write the bytes to standard output.")
async def get_object(
    state: states.State, path: tuple[str, str], file: Path | None, pipe: bool
) -> None:
    """Write an object to a file (by default one of its name, here), or into a pipe."""
    if file is not None and pipe:
        raise click.UsageError("give either --file or --pipe")
    bucket, key = path
    if pipe:
        found = await state.r2(bucket).get(key)
        if not isinstance(found, R2ObjectBody):
            _missing(key)
        stream = sys.stdout.buffer
        async for chunk in found.body:
            await asyncio.to_thread(stream.write, chunk)
        await asyncio.to_thread(stream.flush)
        return
    target = file or Path(key.rstrip("/").rpartition("/")[2])
    if not target.name:
        raise click.UsageError(f"{key!r} is no name for a file; give one with --file")
    await _download(state.r2(bucket), key, target)
    click.echo(f"{target} was written", err=True)


async def _download(bucket: R2Bucket, key: str, target: Path) -> None:
    with _bar(key) as progress:
        try:
            found = await bucket.download_file(key, target, progress=progress)
        except OSError as error:
            # The file beside the target, which the error names, means nothing to the user.
            raise BunflareError(f"{target}: {error.strerror or error}") from error
    if found is None:
        _missing(key)


def _missing(key: str) -> NoReturn:
    raise BunflareError(f"{key!r}: The specified key does not exist.")


@_command(object_group, "head")
@_OBJECT
async def head_object(state: states.State, path: tuple[str, str]) -> None:
    """Print an object's metadata as JSON."""
    bucket, key = path
    found = await state.r2(bucket).head(key)
    if found is None:
        _missing(key)
    click.echo(json.dumps(_described(found), indent=2, ensure_ascii=False))


def _described(found: R2Object) -> dict[str, Any]:
    metadata = found.http_metadata
    headers = (
        {}
        if metadata is None
        else {
            name: getattr(metadata, name)
            for name in metadata.__dataclass_fields__
            if getattr(metadata, name) is not None
        }
    )
    return {
        "key": found.key,
        "size": found.size,
        "etag": found.etag,
        "version": found.version,
        "uploaded": found.uploaded.isoformat(),
        "storage_class": found.storage_class,
        "checksums": found.checksums.to_json(),
        "http_metadata": {name: str(value) for name, value in headers.items()},
        "custom_metadata": found.custom_metadata,
    }


@_command(object_group, "delete")
@_OBJECT
async def delete_object(state: states.State, path: tuple[str, str]) -> None:
    """Delete an object."""
    bucket, key = path
    await state.r2(bucket).delete(key)


@_command(object_group, "list")
@_BUCKET
@_PREFIX
@click.option("--delimiter", help="Tell what keys share up to this once.")
@click.option("--limit", type=click.IntRange(1), help="At most so many; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each line.")
async def list_objects(
    state: states.State,
    bucket: str,
    prefix: str,
    delimiter: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print size, time and key of each object."""
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        page = await state.r2(bucket).list(
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
                click.echo(json.dumps(_described(found), ensure_ascii=False))
            else:
                click.echo(f"{found.size:>12}  {found.uploaded:%Y-%m-%dT%H:%M:%S.%fZ}  {found.key}")
        if left is not None:
            left -= len(page.objects) + len(page.delimited_prefixes)
        cursor = page.cursor
        if cursor is None:
            return


# -- folders -----------------------------------------------------------------------------------


@_command(bulk_group, "put")
@_BUCKET
@_FOLDER
@_PREFIX
async def put_folder(state: states.State, bucket: str, folder: Path, prefix: str) -> None:
    """Put every file of FOLDER under its path there, behind the prefix."""
    if not folder.is_dir():
        raise BunflareError(f"{folder} is not a directory")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    target = state.r2(bucket)

    async def put(path: Path) -> None:
        await target.upload_file(prefix + path.relative_to(folder).as_posix(), path)

    failures = await _all(f"{len(found)} files", put, found)
    click.echo(f"{len(found) - len(failures)} files were put into {bucket}", err=True)
    _refuse(failures)


@_command(bulk_group, "get")
@_BUCKET
@_FOLDER
@_PREFIX
async def get_folder(state: states.State, bucket: str, folder: Path, prefix: str) -> None:
    """Write the objects whose keys begin with the prefix into FOLDER, under the rest of these."""
    source = state.r2(bucket)
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = await source.list(prefix=prefix, cursor=cursor)
        keys += [found.key for found in page.objects]
        cursor = page.cursor
        if cursor is None:
            break
    left_out = [key for key in keys if not _is_path(key.removeprefix(prefix))]

    async def get(key: str) -> None:
        target = folder / key.removeprefix(prefix)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await source.download_file(key, target)
        except OSError as error:
            raise BunflareError(f"{target}: {error.strerror or error}") from error

    wanted = [key for key in keys if key not in set(left_out)]
    failures = await _all(f"{len(wanted)} objects", get, wanted)
    click.echo(f"{len(wanted) - len(failures)} objects were written to {folder}", err=True)
    if left_out:
        names = ", ".join(map(repr, left_out))
        failures.append(f"these keys are no paths of files: {names}")
    _refuse(failures)


def _is_path(key: str) -> bool:
    """Whether a key can be the path of a file within a folder."""
    return "\0" not in key and not {"", ".", ".."} & set(key.split("/"))


async def _all(
    label: str, work: Callable[[Any], Coroutine[Any, Any, None]], items: list[Any]
) -> list[str]:
    """Do the work on each; why some failed, which does not keep the others back."""
    waiting = iter(items)
    failures: list[str] = []
    done = 0
    with _bar(label) as progress:

        async def worker() -> None:
            nonlocal done
            for item in waiting:
                try:
                    await work(item)
                except BunflareError as error:
                    failures.append(str(error))
                except OSError as error:
                    failures.append(_reason(error))
                done += 1
                progress(done, len(items))

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(worker())
    return failures


def _refuse(failures: list[str]) -> None:
    """End with what went wrong, if anything did: a line each."""
    if failures:
        *others, last = failures
        for failure in others:
            click.echo(f"error: {failure}", err=True)
        raise BunflareError(last)


# -- care --------------------------------------------------------------------------------------


@_command(command, "check")
@_BUCKET
@click.option("--digests", is_flag=True, help="Read every file and compare its MD5.")
async def check(state: states.State, bucket: str, digests: bool) -> None:
    """Compare objects and files. The exit code is 1 if an object is not as it should be."""
    found = await state.r2(bucket).check(digests)
    _tell(found)
    for name in found.strangers:
        click.echo(f"stranger: {name}")
    if found.problems:
        raise BunflareError(f"{len(found.problems)} objects are not as they should be")


@_command(command, "repair")
@_BUCKET
async def repair(state: states.State, bucket: str) -> None:
    """Put right what is safe: files that were moved, touched or changed, and what a crash left."""
    _tell(await state.r2(bucket).repair())
    left = (await state.r2(bucket).check()).problems
    if left:
        raise BunflareError(f"{len(left)} objects cannot be repaired: put or delete them")


def _tell(found: R2Check) -> None:
    click.echo(f"{found.objects} objects, {found.size} bytes")
    for problem in found.problems:
        click.echo(f"{problem.kind}: {problem.key}: {problem.detail}")


@_command(command, "adopt")
@_BUCKET
@_PREFIX
async def adopt(state: states.State, bucket: str, prefix: str) -> None:
    """Make objects of the files that were put into r2/BUCKET/ by hand."""
    for found in await state.r2(bucket).adopt(prefix):
        click.echo(f"{found.size:>12}  {found.key}")
