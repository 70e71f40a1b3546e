"""Uploads in parts: sizes, numbers, etags, what completes and what does not, and what is left."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    Headers,
    ManualClock,
    R2Bucket,
    R2Error,
    R2HTTPMetadata,
    R2MultipartUpload,
    R2Object,
    R2UploadedPart,
)
from tests.bindings.r2_tools import (
    MIB,
    SMALL,
    beside,
    bucket_with,
    chunks,
    code_of,
    contents,
    names,
    objects_on_disk,
    opened,
    read,
    written,
)
from tests.support import child, chores_done, eventually

PART = 50
"""What a part must have at least in the bucket ``small``; on the platform it is 5 MiB."""


def etag_of(*parts: bytes) -> str:
    together = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(together).hexdigest()}-{len(parts)}"


async def upload_parts(upload: R2MultipartUpload, *values: bytes) -> list[R2UploadedPart]:
    return [await upload.upload_part(n, value) for n, value in enumerate(values, 1)]


# -- what completes ----------------------------------------------------------------------------


async def test_parts_become_one_object(
    small: R2Bucket, directory: Path, clock: ManualClock
) -> None:
    http = R2HTTPMetadata(content_type="text/plain")
    upload = await small.create_multipart_upload(
        "dir/key",
        http_metadata=http,
        custom_metadata={"a": "b"},
        storage_class="InfrequentAccess",
    )
    assert upload.key == "dir/key"
    assert upload.upload_id
    values = [b"1" * PART, b"2" * PART, b"3"]
    parts = await upload_parts(upload, *values)
    assert [part.part_number for part in parts] == [1, 2, 3]
    assert len({part.etag for part in parts}) == 3
    await clock.advance(minutes=5)
    stored = await upload.complete(parts)
    assert isinstance(stored, R2Object)
    assert stored.key == "dir/key"
    assert stored.size == 2 * PART + 1
    # What S3 and R2 make of the parts' digests.
    assert stored.etag == etag_of(*values) == "3b676245e58d988dc75f80c0c27a9645-3"
    assert stored.http_etag == f'"{stored.etag}"'
    assert stored.checksums.to_json() == {}
    assert (stored.http_metadata, stored.custom_metadata) == (http, {"a": "b"})
    assert stored.storage_class == "InfrequentAccess"
    assert stored.uploaded.timestamp() * 1000 == clock.now()
    assert stored.range is None
    assert await small.head("dir/key") == stored
    assert await read(small, "dir/key") == b"".join(values)
    assert objects_on_disk(directory) == {"dir/key": b"".join(values)}
    assert beside(directory) == {}


async def test_metadata_may_come_as_headers(small: R2Bucket) -> None:
    headers = Headers({"content-type": "text/css", "x-other": "1"})
    upload = await small.create_multipart_upload("key", http_metadata=headers)
    stored = await upload.complete(await upload_parts(upload, b"x"))
    assert stored.http_metadata == R2HTTPMetadata(content_type="text/css")


async def test_parts_of_the_platforms_sizes(bucket: R2Bucket, directory: Path) -> None:
    values = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(MIB)]
    upload = await bucket.create_multipart_upload("key")
    stored = await upload.complete(await upload_parts(upload, *values))
    assert stored.etag == etag_of(*values)
    value = b"".join(values)
    assert await read(bucket, "key") == value
    for offset, length in ((5 * MIB - 3, 7), (0, 5 * MIB + 1), (10 * MIB, MIB), (4, 4)):
        found = await read(bucket, "key", range={"offset": offset, "length": length})
        assert found == value[offset : offset + length]
    # One byte less than 5 MiB is too little for a part that is not the last.
    upload = await bucket.create_multipart_upload("key")
    parts = await upload_parts(upload, bytes(5 * MIB - 1), b"x")
    with pytest.raises(R2Error, match="smaller than the minimum allowed object size") as caught:
        await upload.complete(parts)
    assert code_of(caught.value) == 10011
    assert await bucket.head("key") == stored
    await upload.abort()
    assert beside(directory) == {}


async def test_a_part_is_text_bytes_or_a_stream(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    values: list[Any] = [
        "é" * 25,
        bytearray(b"b" * 50),
        memoryview(b"c" * 50),
        chunks(b"d" * 30, b"d" * 20),
        bunflare.Blob(["e" * 50]),
        bunflare.Request("http://h/", method="POST", body="f" * 50).body,
    ]
    parts = [await upload.upload_part(n, value) for n, value in enumerate(values, 1)]
    await upload.complete(parts)
    expected = "é" * 25 + "".join(letter * 50 for letter in "bcdef")
    assert await read(small, "key") == expected.encode()


async def test_one_part_may_have_any_size(small: R2Bucket) -> None:
    for value in (b"1", b"", b"x" * 120):
        upload = await small.create_multipart_upload("key")
        stored = await upload.complete(await upload_parts(upload, value))
        assert (stored.size, stored.etag) == (len(value), etag_of(value))
        assert await read(small, "key") == value


async def test_an_upload_without_parts_is_an_empty_object(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    stored = await upload.complete([])
    assert (stored.size, stored.etag) == (0, "d41d8cd98f00b204e9800998ecf8427e-0")
    assert await read(small, "key") == b""


async def test_numbers_may_have_gaps_and_come_in_any_order(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    values = {9: b"9" * PART, 2: b"2" * PART, 10_000: b"z", 5: b"5" * PART}
    parts = {number: await upload.upload_part(number, value) for number, value in values.items()}
    stored = await upload.complete([parts[5], parts[9], parts[2], parts[10_000]])
    ordered = [values[number] for number in sorted(values)]
    assert stored.etag == etag_of(*ordered)
    assert await read(small, "key") == b"".join(ordered)


async def test_parts_are_uploaded_at_once(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    values = [os.urandom(20_000) for _ in range(10)]
    parts = await asyncio.gather(
        *(
            upload.upload_part(n, value if n % 2 else chunks(value[:5], value[5:]))
            for n, value in enumerate(values, 1)
        )
    )
    await upload.complete(parts)
    assert await read(small, "key") == b"".join(values)


async def test_the_last_upload_of_a_part_counts(small: R2Bucket, directory: Path) -> None:
    upload = await small.create_multipart_upload("key")
    first = await upload.upload_part(1, "value")
    last = await upload.upload_part(1, "other")
    assert last.etag != first.etag
    with pytest.raises(R2Error, match="specified parts could not be found") as caught:
        await upload.complete([first])
    assert code_of(caught.value) == 10025
    await upload.complete([last])
    assert await read(small, "key") == b"other"
    assert beside(directory) == {}


async def test_parts_that_were_not_chosen_are_dropped(small: R2Bucket, directory: Path) -> None:
    upload = await small.create_multipart_upload("key")
    parts = await upload_parts(upload, b"1" * PART, b"2" * PART, b"3" * PART)
    stored = await upload.complete([parts[0], parts[2]])
    assert stored.etag == etag_of(b"1" * PART, b"3" * PART)
    assert await read(small, "key") == b"1" * PART + b"3" * PART
    assert beside(directory) == {}


async def test_a_list_of_dicts_completes_too(small: R2Bucket) -> None:
    for name in ("part_number", "partNumber"):
        upload = await small.create_multipart_upload("key")
        parts: list[Any] = [
            {name: part.part_number, "etag": part.etag}
            for part in await upload_parts(upload, b"a" * PART, b"b")
        ]
        assert (await upload.complete(parts)).size == PART + 1


async def test_a_completed_upload_replaces_what_was_there(small: R2Bucket, directory: Path) -> None:
    await small.put("key", "old", custom_metadata={"old": "1"})
    body = await opened(small, "key")
    upload = await small.create_multipart_upload("key")
    parts = await upload_parts(upload, b"n" * PART, b"ew")
    assert await read(small, "key") == b"old"
    await small.put("key", "newer old")
    stored = await upload.complete(parts)
    assert stored.custom_metadata == {}
    assert await read(small, "key") == b"n" * PART + b"ew"
    assert await body.bytes() == b"old"
    # And is replaced as any other.
    multi = await opened(small, "key")
    await small.put("key", "last")
    assert await multi.bytes() == b"n" * PART + b"ew"
    assert objects_on_disk(directory) == {"key": b"last"}
    assert beside(directory) == {}


async def test_two_uploads_of_one_key_know_nothing_of_each_other(small: R2Bucket) -> None:
    one = await small.create_multipart_upload("key")
    two = await small.create_multipart_upload("key")
    assert one.upload_id != two.upload_id
    part_of_one = await one.upload_part(1, "one")
    part_of_two = await two.upload_part(1, "two")
    for upload, part in ((one, part_of_two), (two, part_of_one)):
        with pytest.raises(R2Error) as caught:
            await upload.complete([part])
        assert code_of(caught.value) == 10025
    await one.complete([part_of_one])
    assert await read(small, "key") == b"one"
    await two.complete([part_of_two])
    assert await read(small, "key") == b"two"


# -- what does not complete --------------------------------------------------------------------

#: Sizes of the parts 1, 2, …; the order in which they are listed; and the error's code.
WRONG_SIZES: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((1, 1), (1, 2), 10011),
    ((PART - 1, PART), (1, 2), 10011),
    ((PART, PART - 1, PART), (1, 2, 3), 10011),
    ((PART, PART + 1, PART), (1, 2, 3), 10048),
    ((PART + 1, PART, PART), (1, 2, 3), 10048),
    # The last one may be shorter, not longer.
    ((PART, PART + 1), (1, 2), 10048),
    ((PART, PART, PART + 1), (1, 2, 3), 10048),
    # The last is the one with the highest number, wherever it is listed.
    ((1, PART, PART), (2, 3, 1), 10011),
    ((1, PART, 1), (2, 3, 1), 10011),
]


async def test_parts_must_have_equal_sizes(small: R2Bucket, directory: Path) -> None:
    before = await written(small, "key", "kept")
    for sizes, order, code in WRONG_SIZES:
        upload = await small.create_multipart_upload("key")
        parts = await upload_parts(upload, *(b"x" * size for size in sizes))
        with pytest.raises(R2Error, match=r"^completeMultipartUpload: ") as caught:
            await upload.complete([parts[number - 1] for number in order])
        assert code_of(caught.value) == code, (sizes, order)
        assert await small.head("key") == before
        # It can be mended.
        parts = await upload_parts(upload, b"a" * PART, b"b" * PART, b"c")
        await upload.complete(parts)
        assert await read(small, "key") == b"a" * PART + b"b" * PART + b"c"
        before = await written(small, "key", "kept")
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


async def test_missing_and_wrong_parts_are_errors(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    one, two = await upload_parts(upload, b"1" * PART, b"2")
    for wrong in (
        R2UploadedPart(3, two.etag),
        R2UploadedPart(2, "bad"),
        R2UploadedPart(2, one.etag),
        R2UploadedPart(2, ""),
        R2UploadedPart(4, "very bad"),
    ):
        with pytest.raises(R2Error, match="One or more of the specified parts") as caught:
            await upload.complete([one, wrong])
        assert code_of(caught.value) == 10025
    assert await small.head("key") is None
    assert (await upload.complete([one, two])).size == PART + 1


async def test_a_part_is_listed_once(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    part = await upload.upload_part(1, b"1" * PART)
    for parts in ([part, part], [part, R2UploadedPart(1, "other")]):
        with pytest.raises(R2Error) as caught:
            await upload.complete(parts)
        assert code_of(caught.value) in (10001, 10025)
    assert await small.head("key") is None


async def test_a_finished_upload_is_gone(small: R2Bucket, directory: Path) -> None:
    completed = await small.create_multipart_upload("key")
    part = await completed.upload_part(1, "value")
    await completed.complete([part])
    aborted = await small.create_multipart_upload("other")
    dropped = await aborted.upload_part(1, "value")
    await aborted.abort()
    message = "The specified multipart upload does not exist"
    for upload, old in ((completed, part), (aborted, dropped)):
        with pytest.raises(R2Error, match=f"completeMultipartUpload: {message}") as caught:
            await upload.complete([old])
        assert code_of(caught.value) == 10024
        with pytest.raises(R2Error, match=f"uploadPart: {message}") as caught:
            await upload.upload_part(2, "value")
        assert code_of(caught.value) == 10024
        # To abort is to have it not be there.
        await upload.abort()
    assert await contents(small) == {"key": b"value"}
    assert objects_on_disk(directory) == {"key": b"value"}
    assert beside(directory) == {}


async def test_an_upload_is_of_its_key_and_bucket(state: bunflare.State, small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    part = await upload.upload_part(1, "value")
    elsewhere = bucket_with(state, "elsewhere", SMALL)
    for stranger in (
        small.resume_multipart_upload("other", upload.upload_id),
        small.resume_multipart_upload("key", "unknown"),
        small.resume_multipart_upload("key", ""),
        elsewhere.resume_multipart_upload("key", upload.upload_id),
    ):
        with pytest.raises(R2Error) as caught:
            await stranger.upload_part(1, "stranger")
        assert code_of(caught.value) == 10024
        with pytest.raises(R2Error) as caught:
            await stranger.complete([part])
        assert code_of(caught.value) in (10001, 10024)
        with pytest.raises(R2Error) as caught:
            await stranger.abort()
        assert code_of(caught.value) in (10001, 10024)
    await upload.complete([part])
    assert await contents(small) == {"key": b"value"}
    assert await contents(elsewhere) == {}


async def test_one_of_two_that_complete_at_once_wins(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    parts = await upload_parts(upload, b"1" * PART, b"2")
    again = small.resume_multipart_upload("key", upload.upload_id)
    answers = await asyncio.gather(
        upload.complete(parts), again.complete(parts), return_exceptions=True
    )
    assert sum(isinstance(answer, R2Object) for answer in answers) == 1
    (failed,) = (answer for answer in answers if isinstance(answer, BaseException))
    assert code_of(failed) == 10024
    assert await read(small, "key") == b"1" * PART + b"2"


async def test_of_abort_and_complete_at_once_one_wins(small: R2Bucket, directory: Path) -> None:
    for number in range(10):
        key = f"key{number}"
        upload = await small.create_multipart_upload(key)
        parts = await upload_parts(upload, b"1" * PART, b"2")
        works = [upload.complete(parts), upload.abort()]
        if number % 2:
            works.reverse()
        await asyncio.gather(*works, return_exceptions=True)
        assert await read(small, key) in (None, b"1" * PART + b"2")
    assert list(objects_on_disk(directory)) == await names(small)
    assert beside(directory) == {}


# -- parts are no objects ----------------------------------------------------------------------


async def test_parts_are_never_seen_as_objects(small: R2Bucket, directory: Path) -> None:
    upload = await small.create_multipart_upload("key")
    parts = await upload_parts(upload, b"1" * PART, b"2" * 30_000)
    assert await small.head("key") is None
    assert await small.get("key") is None
    page = await small.list()
    assert (list(page.objects), list(page.delimited_prefixes)) == ([], [])
    assert objects_on_disk(directory) == {}
    await small.delete("key")
    await upload.complete([R2UploadedPart(1, parts[0].etag)])
    assert await names(small) == ["key"]


async def test_keys_that_look_like_parts_are_ordinary(small: R2Bucket) -> None:
    upload = await small.create_multipart_upload("key")
    part = await upload.upload_part(1, b"part")
    lookalikes = [
        f"__multipart__/{upload.upload_id}/1",
        f"key/{upload.upload_id}",
        f"{upload.upload_id}",
        f"key/{upload.upload_id}/1",
        f".multipart/{upload.upload_id}",
    ]
    for key in lookalikes:
        await small.put(key, "ordinary")
    await small.delete(lookalikes[:2])
    await upload.complete([part])
    assert await read(small, "key") == b"part"
    assert await names(small) == sorted(["key", *lookalikes[2:]])


async def test_a_part_that_fails_half_way_leaves_the_last_one(
    small: R2Bucket, directory: Path
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError

    upload = await small.create_multipart_upload("key")
    part = await upload.upload_part(1, "kept")
    before = beside(directory)
    with pytest.raises(ZeroDivisionError):
        await upload.upload_part(1, failing())
    with pytest.raises(TypeError):
        await upload.upload_part(1, chunks(b"x" * 100_000, "text"))
    assert beside(directory) == before
    await upload.complete([part])
    assert await read(small, "key") == b"kept"
    assert beside(directory) == {}


async def test_an_abort_removes_what_was_uploaded(small: R2Bucket, directory: Path) -> None:
    upload = await small.create_multipart_upload("key")
    await upload_parts(upload, b"1" * 100_000, b"2" * 100_000)
    await upload.abort()
    assert objects_on_disk(directory) == {}
    assert beside(directory) == {}


# -- uploads that go on ------------------------------------------------------------------------

OTHER_PROCESS = """
import asyncio, sys, bunflare
from bunflare import R2UploadedPart

async def main():
    async with bunflare.open(sys.argv[1]) as state:
        bucket = state.r2("bucket")
        upload = bucket.resume_multipart_upload("key", sys.argv[2])
        assert (upload.key, upload.upload_id) == ("key", sys.argv[2])
        last = await upload.upload_part(2, b"2" * 10)
        print("uploaded", flush=True)
        sys.stdin.readline()
        await upload.complete([R2UploadedPart(1, sys.argv[3]), last])
    print("done", flush=True)

asyncio.run(main())
"""


async def test_an_upload_is_resumed_by_another_process(directory: Path) -> None:
    first = b"1" * 5 * MIB
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        upload = await bucket.create_multipart_upload("key", custom_metadata={"a": "b"})
        part = await upload.upload_part(1, first)
        with child(OTHER_PROCESS, directory, upload.upload_id, part.etag) as process:
            assert process.line() == "uploaded"
            assert await bucket.head("key") is None
            process.tell("go on")
            assert process.line() == "done"
        stored = await bucket.head("key")
        assert stored is not None
        assert stored.custom_metadata == {"a": "b"}
        assert stored.etag == etag_of(first, b"2" * 10)
        assert await read(bucket, "key") == first + b"2" * 10
    assert beside(directory) == {}


async def test_an_upload_outlives_the_state(directory: Path, clock: ManualClock) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        upload = await bucket_with(state, "bucket", SMALL).create_multipart_upload("key")
        parts = await upload_parts(upload, b"1" * PART, b"2" * 20_000)
    async with bunflare.open(directory, clock=clock) as state:
        bucket = bucket_with(state, "bucket", SMALL)
        assert await names(bucket) == []
        again = bucket.resume_multipart_upload("key", upload.upload_id)
        third = await again.upload_part(2, b"3" * 30)
        with pytest.raises(R2Error):
            await again.complete(parts)
        await again.complete([parts[0], third])
        assert await read(bucket, "key") == b"1" * PART + b"3" * 30
    assert beside(directory) == {}


async def test_an_abandoned_upload_is_swept_after_seven_days(
    state: bunflare.State, small: R2Bucket, directory: Path, clock: ManualClock
) -> None:
    abandoned = await small.create_multipart_upload("key")
    old = await abandoned.upload_part(1, b"old" * 30_000)
    await clock.advance(days=1)
    later = await small.create_multipart_upload("later")
    young = await later.upload_part(1, b"young" * 30_000)
    # A minute before its time it is there …
    await clock.advance(days=5, hours=23, minutes=59)
    await chores_done(state)
    assert (await abandoned.upload_part(2, b"x")).part_number == 2
    # … and after it, it is not.
    await clock.advance(minutes=2)
    await chores_done(state)
    with pytest.raises(R2Error) as caught:
        await abandoned.complete([old])
    assert code_of(caught.value) == 10024
    await eventually(lambda: sorted(beside(directory).values()) == [b"young" * 30_000])
    await later.complete([young])
    assert await contents(small) == {"later": b"young" * 30_000}
    assert beside(directory) == {}


async def test_an_upload_is_abandoned_also_while_nobody_looked(
    directory: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        upload = await state.r2("bucket").create_multipart_upload("key")
        part = await upload.upload_part(1, b"old" * 30_000)
    clock.set(clock.now() + 8 * 86_400_000)
    async with bunflare.open(directory, clock=clock) as state:
        again = state.r2("bucket").resume_multipart_upload("key", upload.upload_id)
        await clock.advance(minutes=1)
        await chores_done(state)
        with pytest.raises(R2Error) as caught:
            await again.complete([part])
        assert code_of(caught.value) == 10024
        await eventually(lambda: beside(directory) == {})
