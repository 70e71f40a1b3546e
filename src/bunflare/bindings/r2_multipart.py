"""R2: uploads in parts.

Follows https://developers.cloudflare.com/r2/objects/multipart-objects/. Parts are staged files, and
no part is seen as an object before the upload is completed, which is one commit.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..clock import Clock
from ..errors import R2Error, R2TypeError
from ..store import r2_uploads as store
from ..store.blobs import Draft, OpenFile
from ..store.r2 import ObjectRow
from ..store.r2_settle import Job, Settler
from ..store.r2_uploads import Part, Upload
from ..store.session import Session
from ..store.threads import on_thread
from .r2_objects import R2Object, R2UploadedPart, object_of
from .r2_options import (
    R2Limits,
    date_of,
    from_mapping,
    iso,
    part_number_of,
    refuse,
    text_of,
)
from .r2_ssec import Keystream, Ssec, SsecKey, check_key, ssec_key_of
from .r2_staging import Staged, finished, known, stage


async def create(
    session: Session,
    bucket: str,
    key: str,
    now: int,
    http_metadata: str | None,
    custom_metadata: str | None,
    storage_class: str,
    ssec_key: SsecKey | None,
) -> str:
    """Begin an upload; its id."""
    upload = Upload(
        secrets.token_urlsafe(96),
        bucket,
        key,
        now,
        "open",
        http_metadata,
        custom_metadata,
        storage_class,
        None if ssec_key is None else ssec_key.md5,
    )
    await session.write(store.create, upload)
    return upload.upload_id


class R2MultipartUpload:
    """An upload in parts, which may or may not exist. Made by `R2Bucket`."""

    __slots__ = ("_bucket", "_clock", "_limits", "_session", "_settler", "key", "upload_id")

    def __init__(
        self,
        session: Session,
        settler: Settler,
        bucket: str,
        key: str,
        upload_id: str,
        clock: Clock,
        limits: R2Limits,
    ) -> None:
        self._session = session
        self._settler = settler
        self._bucket = bucket
        #: Key of the object that it will become.
        self.key = key
        #: By which it can be resumed, from anywhere.
        self.upload_id = upload_id
        self._clock = clock
        self._limits = limits

    async def upload_part(
        self, part_number: int, value: Any, ssec_key: str | bytes | None = None
    ) -> R2UploadedPart:
        """Add or replace a part (1 to 10,000). All but the last have one size, of 5 MiB or more.

        ``ssec_key`` is the key that the upload was begun with, if it was.
        """
        number = part_number_of(part_number, self._limits)
        secret = ssec_key_of(ssec_key)
        if value is None:
            raise R2TypeError("uploadPart() needs the bytes of a part, not None")
        content = known(value, "uploadPart")
        upload = self._open("uploadPart")
        check_key(secret, upload.ssec, "uploadPart")
        ssec = None if secret is None else Ssec.fresh(secret)
        keystream = None if secret is None or ssec is None else Keystream(secret, ssec)
        staged = await stage(
            self._settler.files.staging,
            content,
            ("md5",),
            keystream,
            self._limits.object_size,
            "uploadPart",
            self._clock.now,
        )
        try:
            part = Part(
                number,
                staged.draft.name,
                staged.size,
                staged.digests["md5"].hex(),
                None if ssec is None else ssec.sized(staged.size).dump(),
            )
            added = await self._session.write(
                store.put_part, self._settler.files.staging, upload, part, staged.draft.keep
            )
        finally:
            await self._session.when_over(staged.close)
        if not added:
            _no_such_upload("uploadPart")
        return R2UploadedPart(number, part.etag)

    async def complete(
        self, uploaded_parts: Iterable[R2UploadedPart | Mapping[str, Any]]
    ) -> R2Object:
        """Make these parts the object, in the order of their numbers, and end the upload."""
        action = "completeMultipartUpload"
        wanted = [_part_of(part, self._limits) for part in uploaded_parts]
        upload = self._open(action)
        chosen = self._chosen(wanted)
        row, staged = await self._joined(upload, chosen)
        try:
            job = Job(self._bucket, self.key, row)

            def committed(elsewhere: list[str]) -> None:
                staged.draft.keep()
                self._settler.submit([job], elsewhere)

            staging = self._settler.files.staging
            if not await self._session.write(
                store.complete, staging, upload, chosen, row, committed
            ):
                self._open(action)
                _invalid_part()
        finally:
            await self._session.when_over(staged.close)
        if self._session.immediate:
            await job.done
        return object_of(self.key, row)

    async def abort(self) -> None:
        """End the upload without an object, and remove its parts."""
        upload = self._find()
        if upload is None:
            _no_such_upload("abortMultipartUpload")
        if upload.state == "open":
            await self._session.write(store.abort, self._settler.files.staging, self.upload_id)

    def _find(self) -> Upload | None:
        upload = store.get(self._session.view, self.upload_id)
        if upload is None or (upload.bucket, upload.key) != (self._bucket, self.key):
            return None
        return upload

    def _open(self, action: str) -> Upload:
        upload = self._find()
        if upload is None or upload.state != "open":
            _no_such_upload(action)
        return upload

    def _chosen(self, wanted: list[R2UploadedPart]) -> list[Part]:
        """The parts that were named, in their order; refused if they do not make an object."""
        action = "completeMultipartUpload"
        present = {
            part.part_number: part for part in store.parts(self._session.view, self.upload_id)
        }
        if len({part.part_number for part in wanted}) < len(wanted):
            _invalid_part()
        for one in wanted:
            found = present.get(one.part_number)
            if found is None or found.etag != one.etag:
                _invalid_part()
        chosen = [present[number] for number in sorted(one.part_number for one in wanted)]
        for part in chosen[:-1]:
            if part.size < self._limits.least_part_size:
                refuse(
                    action,
                    10011,
                    "Your proposed upload is smaller than the minimum allowed object size.",
                )
            if part.size != chosen[0].size:
                refuse(action, 10048, "There was a problem with the multipart upload.")
        if len(chosen) > 1 and chosen[-1].size > chosen[0].size:
            refuse(action, 10048, "There was a problem with the multipart upload.")
        return chosen

    async def _joined(self, upload: Upload, chosen: list[Part]) -> tuple[ObjectRow, Staged]:
        """A staged file of all parts, and the row that goes with it."""
        staging = self._settler.files.staging
        staged = Staged(await on_thread(Draft, staging))

        def join() -> None:
            for part in chosen:
                file = OpenFile(staging / part.file)
                try:
                    staged.draft.append(file.descriptor, 0, part.size)
                finally:
                    file.close()
            staged.mtime = self._clock.now() * 1_000_000 + secrets.randbelow(1_000_000)
            staged.draft.stamp(staged.mtime)
            staged.draft.sync()

        try:
            await finished(join)
        except BaseException as error:
            await staged.close()
            if isinstance(error, FileNotFoundError):
                # The upload was ended, or a part replaced, just now.
                self._open("completeMultipartUpload")
                _invalid_part()
            raise
        digest = hashlib.md5(
            b"".join(bytes.fromhex(part.etag) for part in chosen), usedforsecurity=False
        )
        etag = f"{digest.hexdigest()}-{len(chosen)}"
        ssec = None
        if upload.ssec is not None:
            segments = [Ssec.load(part.ssec).segments[0] for part in chosen if part.ssec]
            ssec = Ssec(upload.ssec, tuple(segments)).dump()
        row = ObjectRow(
            sum(part.size for part in chosen),
            etag,
            iso(date_of(staged.mtime // 1_000_000)),
            upload.http_metadata,
            upload.custom_metadata,
            staged.draft.name,
            etag,
            staged.mtime,
            None,
            upload.storage_class,
            ssec,
        )
        return row, staged


def _part_of(part: object, limits: R2Limits) -> R2UploadedPart:
    if isinstance(part, Mapping):
        part = from_mapping(R2UploadedPart, part, "an uploaded part")
    if not isinstance(part, R2UploadedPart):
        raise R2TypeError(f"a part must be an R2UploadedPart, not {type(part).__name__}")
    return R2UploadedPart(
        part_number_of(part.part_number, limits), text_of(part.etag, "a part's etag")
    )


def _no_such_upload(action: str) -> NoReturn:
    raise R2Error("The specified multipart upload does not exist.", 10024, action)


def _invalid_part() -> NoReturn:
    raise R2Error(
        "One or more of the specified parts could not be found.", 10025, "completeMultipartUpload"
    )
