"""R2 against a plain dict, over random histories with restarts."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Named
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, multiple, rule

import bunflare
from bunflare import R2Bucket, R2Error, R2MultipartUpload, R2ObjectBody, R2UploadedPart
from tests.bindings.r2_tools import SMALL, beside, bucket_with, chunks, objects_on_disk, pages
from tests.bindings.test_r2_list import entries_of, expected_entries
from tests.support import chores_done

T = TypeVar("T")

# Few and close together, so that histories meet, below each other and with odd characters.
KEYS = st.lists(st.sampled_from(["a", "b", "A", "%", "", ".", "\0", "é"]), min_size=1, max_size=3)
NAMES = KEYS.map("/".join).filter(bool)
# In the row, at its edge, and in a file that is written in advance.
VALUES = st.binary(max_size=20) | st.sampled_from([b"x" * 65_536, b"y" * 65_537, b"z" * 200_000])
PARTS = st.text("ab/%", max_size=2)
LEAST = SMALL.least_part_size
WEEK = 7 * 86_400_000


@dataclass
class Entry:
    value: bytes
    etag: str
    version: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Upload:
    handle: R2MultipartUpload
    metadata: dict[str, str]
    created: int
    parts: dict[int, tuple[R2UploadedPart, bytes]] = field(default_factory=dict)
    over: bool = False


class R2Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = bunflare.ManualClock()
        self.model: dict[str, Entry] = {}
        self.running: list[Upload] = []
        self.open()

    def open(self) -> None:
        async def opened() -> bunflare.State:
            return bunflare.open(self.directory, durability="normal", clock=self.clock)

        self.state = self.run(opened())
        self.bucket: R2Bucket = bucket_with(self.state, "bucket", SMALL)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def stored(self, key: str, value: bytes, object: Any, metadata: dict[str, str]) -> None:
        assert (object.key, object.size) == (key, len(value))
        assert object.custom_metadata == metadata
        assert all(object.version != entry.version for entry in self.model.values())
        self.model[key] = Entry(value, object.etag, object.version, metadata)

    keys = Named("keys")
    bodies = Named("bodies")
    uploads = Named("uploads")

    @rule(target=keys, key=NAMES)
    def name(self, key: str) -> str:
        return key

    @rule(
        key=keys,
        value=VALUES,
        streamed=st.booleans(),
        metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    )
    def put(self, key: str, value: bytes, streamed: bool, metadata: dict[str, str]) -> None:
        given = chunks(value[:10], value[10:]) if streamed else value
        found = self.run(self.bucket.put(key, given, custom_metadata=metadata))
        assert found is not None
        assert found.etag == hashlib.md5(value).hexdigest()
        self.stored(key, value, found, metadata)

    @rule(key=keys, other=keys, value=VALUES, matches=st.booleans())
    def put_if(self, key: str, other: str, value: bytes, matches: bool) -> None:
        entry, etag = self.model.get(key), "0" * 32
        if other in self.model:
            etag = self.model[other].etag
        equal = entry is not None and entry.etag == etag
        name = "etag_matches" if matches else "etag_does_not_match"
        found = self.run(self.bucket.put(key, value, only_if={name: etag}))
        assert (found is not None) == (equal if matches else not equal)
        if found is not None:
            self.stored(key, value, found, {})

    @rule(key=keys, value=VALUES)
    def put_with_a_wrong_digest(self, key: str, value: bytes) -> None:
        with pytest.raises(R2Error):
            self.run(self.bucket.put(key, value, sha256=hashlib.sha256(value + b"!").digest()))

    @rule(
        key=keys, other=keys, third=keys, value=VALUES, streamed=st.booleans(), fails=st.booleans()
    )
    def transact(
        self, key: str, other: str, third: str, value: bytes, streamed: bool, fails: bool
    ) -> None:
        found: dict[str, Any] = {}

        async def work() -> None:
            async with self.state.transaction() as tx:
                inside = tx.r2("bucket")
                await inside.delete(other)
                given = chunks(value[:7], value[7:]) if streamed else value
                found[key] = await inside.put(key, given)
                found[third] = await inside.copy(key, third)
                seen = await inside.get(third)
                assert isinstance(seen, R2ObjectBody)
                assert await seen.bytes() == value
                if fails:
                    raise ZeroDivisionError

        if fails:
            with pytest.raises(ZeroDivisionError):
                self.run(work())
            return
        self.run(work())
        self.model.pop(other, None)
        for name, stored in found.items():
            self.stored(name, value, stored, {})

    @rule(source=keys, key=keys)
    def copy(self, source: str, key: str) -> None:
        found = self.run(self.bucket.copy(source, key))
        assert (found is not None) == (source in self.model)
        if found is not None:
            entry = self.model[source]
            assert found.etag == entry.etag
            self.stored(key, entry.value, found, entry.metadata)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.run(self.bucket.delete(key))
        self.model.pop(key, None)

    @rule(names=st.lists(keys, max_size=4))
    def delete_many(self, names: list[str]) -> None:
        self.run(self.bucket.delete(names))
        for key in names:
            self.model.pop(key, None)

    @rule(key=keys)
    def get(self, key: str) -> None:
        async def work() -> None:
            head, found = await self.bucket.head(key), await self.bucket.get(key)
            if key not in self.model:
                assert (head, found) == (None, None)
                return
            entry = self.model[key]
            assert head is not None
            assert isinstance(found, R2ObjectBody)
            for one in (head, found):
                assert (one.etag, one.version) == (entry.etag, entry.version)
                assert one.custom_metadata == entry.metadata
            assert await found.bytes() == entry.value

        self.run(work())

    @rule(key=keys, offset=st.integers(0, 70_000), length=st.integers(1, 70_000))
    def get_a_part(self, key: str, offset: int, length: int) -> None:
        async def work() -> None:
            value = self.model[key].value if key in self.model else b""
            wanted = value[offset : offset + length]
            try:
                found = await self.bucket.get(key, range={"offset": offset, "length": length})
            except R2Error:
                assert wanted == b""
                return
            if found is None:
                assert key not in self.model
                return
            assert isinstance(found, R2ObjectBody)
            assert await found.bytes() == wanted

        self.run(work())

    @rule(target=bodies, key=keys)
    def begin_to_read(self, key: str) -> Any:
        found = self.run(self.bucket.get(key))
        if found is None:
            return multiple()
        assert isinstance(found, R2ObjectBody)
        return found, self.model[key].value

    @rule(body=consumes(bodies))
    def read_what_was_begun(self, body: Any) -> None:
        found, value = body
        assert self.run(found.bytes()) == value

    @rule(
        prefix=PARTS,
        delimiter=st.none() | st.sampled_from(["/", "a", "a/"]),
        limit=st.integers(1, 5),
        start_after=st.none() | PARTS,
    )
    def list(self, prefix: str, delimiter: str | None, limit: int, start_after: str | None) -> None:
        options = {"prefix": prefix, "delimiter": delimiter, "start_after": start_after}

        async def collected() -> Any:
            return [entries_of(page) async for page in pages(self.bucket, limit=limit, **options)]

        found = self.run(collected())
        wanted = expected_entries([*self.model], prefix, delimiter, start_after)
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
        assert sorted(entry for page in found for entry in page) == sorted(wanted)

    # -- in parts --------------------------------------------------------------------------

    @rule(target=uploads, key=keys, metadata=st.dictionaries(st.just("m"), st.just("1")))
    def create_upload(self, key: str, metadata: dict[str, str]) -> Upload:
        handle = self.run(self.bucket.create_multipart_upload(key, custom_metadata=metadata))
        self.running.append(Upload(handle, metadata, self.clock.now()))
        return self.running[-1]

    @rule(
        upload=uploads,
        number=st.integers(1, 3),
        size=st.sampled_from([LEAST, LEAST, LEAST - 1, 100_000]),
        letter=st.sampled_from([b"p", b"q"]),
    )
    def upload_part(self, upload: Upload, number: int, size: int, letter: bytes) -> None:
        work = upload.handle.upload_part(number, letter * size)
        if upload.over:
            with pytest.raises(R2Error):
                self.run(work)
        else:
            upload.parts[number] = (self.run(work), letter * size)

    @rule(upload=uploads)
    def complete(self, upload: Upload) -> None:
        chosen = [upload.parts[number] for number in sorted(upload.parts)]
        sizes = [len(value) for _, value in chosen]
        fits = all(size == sizes[0] >= LEAST for size in sizes[:-1]) and (
            len(sizes) < 2 or sizes[-1] <= sizes[0]
        )
        work = upload.handle.complete([part for part, _ in chosen])
        if upload.over or not fits:
            with pytest.raises(R2Error):
                self.run(work)
            return
        found = self.run(work)
        upload.over = True
        self.stored(
            upload.handle.key, b"".join(value for _, value in chosen), found, upload.metadata
        )

    @rule(upload=uploads)
    def abort(self, upload: Upload) -> None:
        if upload.created + WEEK <= self.clock.now():
            # Nobody remembers it, however it ended.
            with pytest.raises(R2Error):
                self.run(upload.handle.abort())
            return
        self.run(upload.handle.abort())
        upload.over = True

    # -- time and restarts -----------------------------------------------------------------

    @rule(days=st.sampled_from([1, 3]))
    def time_passes(self, days: int) -> None:
        self.run(self.clock.advance(days=days))
        self.run(chores_done(self.state))
        # What fell due while a state was just opening is done a moment later.
        self.run(self.clock.advance(milliseconds=1))
        self.run(chores_done(self.state))
        for upload in self.running:
            if upload.created + WEEK <= self.clock.now():
                upload.over = True

    @rule()
    def reopen(self) -> None:
        self.run(self.state.close())
        self.open()
        for upload in self.running:
            handle = upload.handle
            upload.handle = self.bucket.resume_multipart_upload(handle.key, handle.upload_id)

    @invariant()
    def every_object_is_a_file_and_every_file_an_object(self) -> None:
        found = objects_on_disk(self.directory)
        assert sorted(found.values()) == sorted(entry.value for entry in self.model.values())
        parts = [
            value
            for upload in self.running
            if not upload.over
            for _, value in upload.parts.values()
        ]
        assert sorted(beside(self.directory).values()) == sorted(parts)

    def teardown(self) -> None:
        self.run(self.state.close())
        self.runner.close()
        shutil.rmtree(self.directory)


R2Model.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestR2Model = R2Model.TestCase
