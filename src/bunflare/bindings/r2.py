"""R2: `R2Bucket`.

Follows https://developers.cloudflare.com/r2/api/workers/workers-api-reference/, with the limits and
the messages of the platform. Beside the platform's methods there are `R2Bucket.upload_file`,
`R2Bucket.download_file` and `R2Bucket.copy`, and those that look after a bucket's files
(`R2Bucket.check`, `R2Bucket.repair`, `R2Bucket.adopt`).
"""

from __future__ import annotations

import asyncio
import builtins
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from ..clock import Clock
from ..errors import R2Error, R2TypeError
from ..store import r2 as store
from ..store.blobs import OpenFile
from ..store.r2 import SMALL, ObjectRow
from ..store.r2_settle import Job, Settler, mark_of
from ..store.session import Session
from ..store.threads import on_thread
from ..timer import Timer
from ..web import Blob, Headers
from . import r2_care, r2_files, r2_list
from .r2_care import R2Check
from .r2_chores import UPLOAD_LIFETIME
from .r2_conditions import Condition, R2Conditional, condition_of
from .r2_multipart import R2MultipartUpload, create
from .r2_objects import (
    FileStream,
    R2Object,
    R2ObjectBody,
    R2Objects,
    object_body_of,
    object_of,
)
from .r2_options import (
    LIMITS,
    R2HTTPMetadata,
    R2Limits,
    R2Range,
    dump_custom_metadata,
    dump_http_metadata,
    http_metadata_of,
    include_of,
    key_of,
    limit_of,
    range_of,
    refuse,
    resolved,
    storage_class_of,
    text_of,
)
from .r2_ssec import Keystream, Ssec, SsecKey, check_key, ssec_key_of
from .r2_staging import Staged, digests, gathered, joined, known, stage
from .r2_writing import R2PutOptions, Writing, renewed
from .text import encode_cursor

R2Value = str | bytes | bytearray | memoryview | Blob | AsyncIterable[bytes] | None


class R2Bucket:
    """A bucket of objects. Made by `State.r2`."""

    __slots__ = ("_clock", "_limits", "_name", "_session", "_settler", "_timer")

    def __init__(
        self,
        session: Session,
        settler: Settler,
        name: str,
        clock: Clock,
        timer: Timer | None = None,
        limits: R2Limits = LIMITS,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise R2TypeError("an R2 bucket needs a name (a non-empty str)")
        self._session = session
        self._settler = settler
        self._name = name
        self._clock = clock
        self._timer = timer
        self._limits = limits

    # -- reading ---------------------------------------------------------------------------

    async def head(self, key: str) -> R2Object | None:
        """The object's metadata, or None if there is none."""
        key = key_of(key, "head", self._limits)
        row = store.head(self._session.view, self._name, key)
        return None if row is None else object_of(key, row)

    async def get(
        self,
        key: str,
        only_if: R2Conditional | Headers | Mapping[str, Any] | None = None,
        range: R2Range | Headers | Mapping[str, Any] | None = None,
        ssec_key: str | bytes | None = None,
    ) -> R2ObjectBody | R2Object | None:
        """The object with its bytes, or None if there is none.

        If ``only_if`` does not hold, an `R2Object` without bytes. ``range`` asks for a part of it;
        one that no byte falls into raises `R2Error` 10039. ``ssec_key`` is the key that the object
        was put with, if it was (32 bytes, or 64 hexadecimal digits).
        """
        key = key_of(key, "get", self._limits)
        condition = None if only_if is None else condition_of(only_if)
        wanted = None if range is None else range_of(range)
        secret = None if ssec_key is None else ssec_key_of(ssec_key)
        found = await self._find(key, condition)
        if found is None:
            return None
        row, content = found
        if content is None:
            return object_of(key, row)
        return self._body(key, row, wanted, secret, content)

    async def _find(
        self, key: str, condition: Condition | None = None
    ) -> tuple[ObjectRow, bytes | OpenFile | None] | None:
        """An object's row and its bytes, or where they are; None for them if that is all.

        Between a look at the row and one at the file, another version may have come, or the file
        have moved to its place, which it does once for each version.
        """
        missed: ObjectRow | None = None
        misses = 0
        while True:
            found = store.get(self._session.view, self._name, key)
            if found is None:
                return None
            row, data = found
            if condition is not None and not condition(row):
                return row, None
            content = data if data is not None else self._open(key, row)
            if content is not None:
                return row, content
            misses = misses + 1 if row == missed else 1
            missed = row
            if misses == _MISSES or not row.own:
                file, row = await r2_care.open_odd(self._settler.files, self._name, key, row)
                return row, file

    def _open(self, key: str, row: ObjectRow) -> OpenFile | None:
        if not row.own:
            return None
        descriptor = self._settler.files.open(self._name, key, mark_of(row))
        return None if descriptor is None else OpenFile(descriptor, row.size)

    def _body(
        self,
        key: str,
        row: ObjectRow,
        wanted: R2Range | None,
        secret: SsecKey | None,
        found: bytes | OpenFile,
    ) -> R2ObjectBody:
        offset, length = (0, row.size) if wanted is None else resolved(wanted, row.size, "get")
        keystream = None
        if secret is not None or row.ssec is not None:
            ssec = None if row.ssec is None or not row.own else Ssec.load(row.ssec)
            check_key(secret, None if ssec is None else ssec.key_md5, "get")
            if secret is not None and ssec is not None:
                keystream = Keystream(secret, ssec, offset)
        if isinstance(found, bytes):
            content = found if wanted is None else found[offset : offset + length]
        elif length <= SMALL and (not length or found.cached(offset, length)):
            content = found.read(offset, length)
            found.close()
        else:
            return object_body_of(
                key, row, R2Range(offset, length), FileStream(found, offset, length, keystream)
            )
        if keystream is not None:
            content = keystream.apply(content)
        return object_body_of(key, row, R2Range(offset, length), content)

    async def list(
        self,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        delimiter: str | None = None,
        start_after: str | None = None,
        include: Iterable[str] | None = None,
    ) -> R2Objects:
        """A page of the objects whose keys start with ``prefix``, in the order of their UTF-8.

        At most ``limit`` (1 to 1,000) objects and shared prefixes: keys that have ``delimiter``
        behind ``prefix`` are told by what comes before, once. ``cursor`` is that of the page
        before. Metadata are told where ``include`` names them ("httpMetadata", "customMetadata").
        """
        prefix = "" if prefix is None else text_of(prefix, "prefix")
        delimiter = "" if delimiter is None else text_of(delimiter, "delimiter")
        most = limit_of(limit, self._limits)
        wanted = include_of(include)
        start = "" if start_after is None else text_of(start_after, "start_after") + "\0"
        if cursor:
            start = max(start, r2_list.position_of(cursor))
        fetch = partial(store.list_objects, self._session.view, self._name)
        page = r2_list.page(fetch, prefix, delimiter, start, most)
        return R2Objects(
            [object_of(key, row, None, wanted) for key, row in page.objects],
            page.next is not None,
            None if page.next is None else encode_cursor(page.next),
            page.prefixes,
        )

    # -- writing ---------------------------------------------------------------------------

    async def put(
        self, key: str, value: R2Value, **options: Unpack[R2PutOptions]
    ) -> R2Object | None:
        """Set an object to ``value`` (under 5 GiB; None: no bytes); None if ``only_if`` failed.

        The condition and the write are one step. Bytes that do not fit the digest that is given
        (one of ``md5`` to ``sha512``, bytes or hexadecimal) raise `R2Error` 10037; nothing is seen
        of them. ``custom_metadata`` are at most 8,192 bytes. When this returns, the object is on
        disk, and a reader of the old one goes on reading that.
        """
        key = key_of(key, "put", self._limits)
        writing = Writing.of(options, self._limits)
        content = known(value, "put")
        if not isinstance(content, bytes):
            content, rest = await gathered(content, SMALL)
            if rest is not None:
                return await self._put_large(key, joined(content, rest), writing)
        if len(content) > SMALL:
            return await self._put_large(key, content, writing)
        return await self._put_small(key, content, writing)

    async def _put_small(self, key: str, data: bytes, writing: Writing) -> R2Object | None:
        """The bytes go with the row; see :mod:`bunflare.store.r2`."""
        found = digests(data, writing.algorithms)
        mtime = self._clock.now() * 1_000_000 + secrets.randbelow(1_000_000)
        row = writing.row(secrets.token_hex(16), mtime, len(data), found)
        keystream = writing.keystream()
        stored = data if keystream is None else keystream.apply(data)
        job = Job(self._name, key, row, stored)
        return await self._write(key, row, stored, writing.condition, job)

    async def _put_large(
        self,
        key: str,
        content: bytes | AsyncIterator[Any],
        writing: Writing,
        progress: Callable[[int], None] | None = None,
    ) -> R2Object | None:
        if isinstance(content, bytes) and len(content) > self._limits.object_size:
            refuse("put", 100100, _TOO_LARGE)
        staged = await stage(
            self._settler.files.staging,
            content,
            writing.algorithms,
            writing.keystream(),
            self._limits.object_size,
            "put",
            self._clock.now,
            progress,
        )
        try:
            row = writing.row(staged.draft.name, staged.mtime, staged.size, staged.digests)
            return await self._publish(key, row, staged, writing.condition)
        finally:
            await self._session.when_over(staged.close)

    async def _publish(
        self, key: str, row: ObjectRow, staged: Staged, condition: Condition | None
    ) -> R2Object | None:
        """Make what was staged the object."""
        job = Job(self._name, key, row)
        return await self._write(key, row, None, condition, job, staged.draft.keep)

    async def _write(
        self,
        key: str,
        row: ObjectRow,
        data: bytes | None,
        condition: Condition | None,
        job: Job,
        keep: Callable[[], None] | None = None,
    ) -> R2Object | None:
        def committed(elsewhere: list[str]) -> None:
            if keep is not None:
                keep()
            self._settler.submit([job], elsewhere)

        written = await self._session.write(
            store.put, self._name, key, row, data, condition, committed
        )
        if not written:
            return None
        if self._session.immediate:
            await job.done
        return object_of(key, row)

    async def delete(self, keys: str | Iterable[str]) -> None:
        """Delete an object, or up to 1,000 of them in one commit. Missing ones do not matter."""
        if isinstance(keys, str):
            names = [key_of(keys, "delete", self._limits)]
        elif isinstance(keys, Iterable) and not isinstance(keys, bytes | bytearray | memoryview):
            names = [key_of(key, "delete", self._limits) for key in keys]
        else:
            raise R2TypeError(f"a key must be a str, not {type(keys).__name__}")
        if len(names) > self._limits.delete_keys:
            refuse(
                "delete", 10029, f"At most {self._limits.delete_keys} keys can be deleted at once."
            )
        jobs = [Job(self._name, key, None) for key in dict.fromkeys(names)]
        found = await self._session.write(
            store.delete,
            self._name,
            [job.key for job in jobs],
            partial(self._settler.submit, jobs),
        )
        if found and self._session.immediate:
            await asyncio.wait([job.done for job in jobs])

    # -- multipart uploads -----------------------------------------------------------------

    async def create_multipart_upload(
        self,
        key: str,
        http_metadata: R2HTTPMetadata | Headers | Mapping[str, Any] | None = None,
        custom_metadata: Mapping[str, str] | None = None,
        storage_class: Literal["Standard", "InfrequentAccess"] | None = None,
        ssec_key: str | bytes | None = None,
    ) -> R2MultipartUpload:
        """Begin an upload in parts, which is forgotten if it is not completed in seven days."""
        action = "createMultipartUpload"
        key = key_of(key, action, self._limits)
        now = self._clock.now()
        upload_id = await create(
            self._session,
            self._name,
            key,
            now,
            dump_http_metadata(http_metadata_of(http_metadata)),
            dump_custom_metadata(custom_metadata, action, self._limits),
            storage_class_of(storage_class, action),
            ssec_key_of(ssec_key),
        )
        if self._timer is not None:
            self._timer.at(now + UPLOAD_LIFETIME)
        return self.resume_multipart_upload(key, upload_id)

    def resume_multipart_upload(self, key: str, upload_id: str) -> R2MultipartUpload:
        """An upload that was begun before, perhaps by another process. Asks nobody if it exists."""
        return R2MultipartUpload(
            self._session,
            self._settler,
            self._name,
            key_of(key, "resumeMultipartUpload", self._limits),
            text_of(upload_id, "upload_id"),
            self._clock,
            self._limits,
        )

    # -- files -----------------------------------------------------------------------------

    async def upload_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int | None], None] | None = None,
        **options: Unpack[R2PutOptions],
    ) -> R2Object | None:
        """`put` a file. ``progress`` is called with the bytes done and those of the whole."""
        key = key_of(key, "put", self._limits)
        writing = Writing.of(options, self._limits)
        file = await on_thread(Path(path).open, "rb")
        try:
            size = os.fstat(file.fileno()).st_size
            if size > self._limits.object_size:
                refuse("put", 100100, _TOO_LARGE)

            def report(done: int) -> None:
                if progress is not None:
                    progress(done, size)

            if size <= SMALL:
                data = await on_thread(file.read, SMALL + 1)
                if len(data) <= SMALL:
                    result = await self._put_small(key, data, writing)
                    report(len(data))
                    return result
                file.seek(0)
            return await self._put_large(key, known(file, "put"), writing, report)
        finally:
            file.close()

    async def download_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int | None], None] | None = None,
        only_if: R2Conditional | Headers | Mapping[str, Any] | None = None,
        range: R2Range | Headers | Mapping[str, Any] | None = None,
        ssec_key: str | bytes | None = None,
    ) -> R2ObjectBody | R2Object | None:
        """`get` an object into a file, which is whole or not there; copied within the kernel.

        None, and no file, if there is no such object; an `R2Object` that is no `R2ObjectBody`, and
        no file, if ``only_if`` does not hold. ``progress`` is called with the bytes done and those
        of the whole.
        """
        found = await self.get(key, only_if, range, ssec_key)
        if isinstance(found, R2ObjectBody):
            await r2_files.download(found, Path(path), progress)
        return found

    async def copy(self, source: str, target: str) -> R2Object | None:
        """Set ``target`` to the bytes and metadata of ``source``; None if there is none.

        The bytes are copied within the kernel, and not at all where the file system can share them.
        """
        source = key_of(source, "copy", self._limits)
        target = key_of(target, "copy", self._limits)
        found = await self._find(source)
        if found is None:
            return None
        row, content = found
        if isinstance(content, bytes):
            mtime = self._clock.now() * 1_000_000 + secrets.randbelow(1_000_000)
            copied = renewed(row, secrets.token_hex(16), mtime)
            job = Job(self._name, target, copied, content)
            return await self._write(target, copied, content, None, job)
        assert content is not None
        staged = await r2_files.stage_copy(
            self._settler.files.staging, content, row.size, self._clock.now
        )
        try:
            copied = renewed(row, staged.draft.name, staged.mtime)
            return await self._publish(target, copied, staged, None)
        finally:
            await self._session.when_over(staged.close)

    # -- care ------------------------------------------------------------------------------

    async def check(
        self,
        digests: bool = False,
        *,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> R2Check:
        """Compare objects and files: whether each object has its file, and no file is alone.

        With ``digests``, also whether the bytes are those of which the etag is the MD5.
        ``progress`` is called with the bytes of the objects done, and of all.
        """
        return await r2_care.check(self._at_once(), self._settler, self._name, digests, progress)

    async def repair(self) -> R2Check:
        """Put right what is safe: files that were moved or touched, or whose content was changed.

        An object whose file was changed by hand takes over what is there; one whose file is gone is
        left as it is, and reported. Tells what was found, as `check` does.
        """
        return await r2_care.repair(self._at_once(), self._settler, self._name, self._clock)

    async def adopt(
        self, prefix: str | None = None, *, progress: Callable[[int], object] | None = None
    ) -> builtins.list[R2Object]:
        """Make objects of the files that somebody has put into ``r2/<bucket>/`` by hand.

        ``progress`` is called with how many there are so far.
        """
        prefix = "" if prefix is None else text_of(prefix, "prefix")
        return await r2_care.adopt(
            self._at_once(), self._settler, self._name, prefix, self._clock, self._limits, progress
        )

    def _at_once(self) -> Session:
        if not self._session.immediate:
            raise R2Error("the files of a bucket cannot be looked after inside a transaction")
        return self._session


# Looks for a file after which it is held to be missing, while its row stays what it is.
_MISSES = 3

_TOO_LARGE = "Your proposed upload exceeds the maximum allowed object size."
