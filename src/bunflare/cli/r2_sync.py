"""``bunflare r2 object sync``: a folder and a bucket, of which one becomes like the other."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..bindings.r2_objects import R2Object, R2ObjectBody
from ..errors import BunflareError
from .place import Place, on_state
from .progress import progress_bar
from .r2_common import bucket_of, must_exist
from .r2_object import object_group
from .r2_transfer import do_all, download, files_of, is_path, objects_of, refuse
from .tables import JSON, show_json

if TYPE_CHECKING:
    from ..bindings.r2 import R2Bucket

_MARK = "r2:"
_BLOCK = 1024 * 1024
_MOST_DELETED = 1000


@dataclass(frozen=True, slots=True)
class _Sides:
    """What is in the folder and what in the bucket, both by path in the folder."""

    bucket: R2Bucket
    prefix: str
    folder: Path
    files: dict[str, Path]
    objects: dict[str, R2Object]

    async def same(self, name: str) -> bool:
        """Whether both have the same bytes: by size and MD5, or where no MD5 is known, by all."""
        path, found = self.files[name], self.objects[name]
        if path.stat().st_size != found.size:
            return False
        if "-" not in found.etag:
            return await asyncio.to_thread(_md5, path) == found.etag
        body = await self.bucket.get(found.key)
        if not isinstance(body, R2ObjectBody):
            return False
        with path.open("rb") as file:
            async for chunk in body.body:
                if await asyncio.to_thread(file.read, len(chunk)) != chunk:
                    return False
        return True


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@on_state(object_group, "sync")
@click.argument("source")
@click.argument("target")
@click.option("--delete", is_flag=True, help="Also remove what the source does not have.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@JSON
async def sync(
    place: Place, source: str, target: str, delete: bool, dry_run: bool, as_json: bool
) -> None:
    """Bring TARGET to what SOURCE is, by transferring only what changed.

    One of them is a folder, the other r2:BUCKET or r2:BUCKET/PREFIX.
    """
    if source.startswith(_MARK) == target.startswith(_MARK):
        raise click.UsageError("one of SOURCE and TARGET is r2:BUCKET[/PREFIX], the other a folder")
    up = target.startswith(_MARK)
    bucket, _, prefix = (target if up else source).removeprefix(_MARK).partition("/")
    if not bucket:
        raise click.UsageError("r2: needs the name of a bucket")
    if not up:
        must_exist(place, bucket)
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    folder = Path(source if up else target)
    files = files_of(folder) if up or folder.exists() else {}
    objects = {
        one.key.removeprefix(prefix): one
        async for one in objects_of(bucket_of(place, bucket), prefix)
    }
    sides = _Sides(bucket_of(place, bucket), prefix, folder, files, objects)
    await (_Up if up else _Down)(sides).run(delete, dry_run, as_json)


class _Sync:
    """One direction."""

    word = ""

    def __init__(self, sides: _Sides) -> None:
        self.sides = sides

    def names(self) -> tuple[list[str], list[str]]:
        """What the source has, and what only the target has."""
        raise NotImplementedError

    async def transfer(self, name: str) -> None:
        raise NotImplementedError

    async def delete(self, names: list[str]) -> None:
        raise NotImplementedError

    async def run(self, delete: bool, dry_run: bool, as_json: bool) -> None:
        names, extra = self.names()
        changed = []
        with progress_bar("comparing", "items") as progress:
            for number, name in enumerate(names, 1):
                both = name in self.sides.files and name in self.sides.objects
                if not both or not await self.sides.same(name):
                    changed.append(name)
                progress(number, len(names))
        going = extra if delete else []
        if as_json:
            show_json({self.word: changed, "delete": going, "unchanged": len(names) - len(changed)})
        else:
            for word, some in ((self.word, changed), ("delete", going)):
                for name in some:
                    click.echo(f"{word} {name}")
        failures = []
        if not dry_run:
            failures = await do_all(f"{len(changed)} files", self.transfer, changed)
            # What was there is only removed once the new is.
            if not failures:
                await self.delete(going)
        would = "would be " if dry_run else ""
        click.echo(
            f"{len(changed) - len(failures)} {would}transferred, "
            f"{len(names) - len(changed)} unchanged, "
            f"{0 if failures else len(going)} {would}deleted",
            err=True,
        )
        refuse(failures)


class _Up(_Sync):
    word = "put"

    def names(self) -> tuple[list[str], list[str]]:
        return list(self.sides.files), sorted(self.sides.objects.keys() - self.sides.files)

    async def transfer(self, name: str) -> None:
        kind, encoding = mimetypes.guess_type(name)
        await self.sides.bucket.upload_file(
            self.sides.prefix + name,
            self.sides.files[name],
            http_metadata={"content_type": kind, "content_encoding": encoding},
        )

    async def delete(self, names: list[str]) -> None:
        keys = [self.sides.prefix + name for name in names]
        for start in range(0, len(keys), _MOST_DELETED):
            await self.sides.bucket.delete(keys[start : start + _MOST_DELETED])


class _Down(_Sync):
    word = "get"

    def names(self) -> tuple[list[str], list[str]]:
        odd = [one.key for name, one in self.sides.objects.items() if not is_path(name)]
        if odd:
            raise BunflareError(f"these keys are no paths of files: {', '.join(map(repr, odd))}")
        return list(self.sides.objects), sorted(self.sides.files.keys() - self.sides.objects)

    async def transfer(self, name: str) -> None:
        await download(self.sides.bucket, self.sides.prefix + name, self.sides.folder / name)

    async def delete(self, names: list[str]) -> None:
        for name in names:
            self.sides.files[name].unlink()
