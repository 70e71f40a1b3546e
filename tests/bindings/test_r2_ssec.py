"""Objects under a customer's key: on disk they are ciphertext, and no other key opens them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import ManualClock, R2Bucket, R2Error, R2Object, R2Range
from tests.bindings.r2_tools import (
    MIB,
    SMALL,
    beside,
    bucket_with,
    chunks,
    code_of,
    objects_on_disk,
    opened,
    read,
    written,
)
from tests.support import files

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SECRET = b"attack at dawn! " * 10


def everything(directory: Path) -> bytes:
    """Each byte of each file of the data directory."""
    return b"".join(files(directory).values())


async def refused(work: Any) -> None:
    with pytest.raises(R2Error) as caught:
        await work
    # With a code of the platform, and without the key in the words.
    assert caught.value.code is not None
    assert KEY.hex() not in str(caught.value)
    assert OTHER_KEY.hex() not in str(caught.value)


async def test_only_the_key_opens_the_object(bucket: R2Bucket) -> None:
    for value in (SECRET, chunks(SECRET), os.urandom(3 * MIB)):
        stored = await written(bucket, "key", value, ssec_key=KEY)
        assert stored.ssec_key_md5 == hashlib.md5(KEY).hexdigest()
        for key in (KEY, KEY.hex(), bytearray(KEY), memoryview(KEY)):
            found = await opened(bucket, "key", ssec_key=key)
            assert found.ssec_key_md5 == stored.ssec_key_md5
            assert found.size == stored.size
            body = await found.bytes()
            assert len(body) == stored.size
            assert body == (value if isinstance(value, bytes) else SECRET)
        await refused(bucket.get("key"))
        await refused(bucket.get("key", ssec_key=OTHER_KEY))
        await refused(bucket.get("key", ssec_key=OTHER_KEY.hex()))
        await refused(bucket.get("key", ssec_key=bytes(32), range={"offset": 3}))


async def test_an_object_without_a_key_is_not_encrypted(bucket: R2Bucket) -> None:
    stored = await written(bucket, "key", SECRET)
    assert stored.ssec_key_md5 is None
    assert await read(bucket, "key") == SECRET


async def test_head_and_list_need_no_key(bucket: R2Bucket) -> None:
    stored = await written(bucket, "key", SECRET, ssec_key=KEY, custom_metadata={"a": "b"})
    assert await bucket.head("key") == stored
    (listed,) = (await bucket.list()).objects
    assert (listed.size, listed.etag) == (stored.size, stored.etag)
    assert listed.ssec_key_md5 == stored.ssec_key_md5


@pytest.mark.parametrize("size", [160, 160 * 1024])
async def test_nothing_on_disk_shows_what_was_stored(
    directory: Path, clock: ManualClock, size: int
) -> None:
    value = SECRET * (size // len(SECRET))
    async with bunflare.open(directory, clock=clock) as state:
        bucket = state.r2("bucket")
        await written(bucket, "key", value, ssec_key=KEY)
        await written(bucket, "stream", chunks(value[:50], value[50:]), ssec_key=KEY.hex())
        upload = await bucket.create_multipart_upload("parts", ssec_key=KEY)
        part = await upload.upload_part(1, value, ssec_key=KEY)
        for disk in (everything(directory),):
            assert SECRET[:16] not in disk
            assert KEY not in disk
            assert KEY.hex().encode() not in disk
        await upload.complete([part])
        stored = objects_on_disk(directory)
        assert set(stored) == {"key", "stream", "parts"}
    disk = everything(directory)
    assert SECRET[:16] not in disk
    assert KEY not in disk
    assert KEY.hex().encode() not in disk


async def test_the_same_bytes_look_different_each_time(bucket: R2Bucket, directory: Path) -> None:
    """With a key stream used twice, the difference of two objects would be readable."""
    seen = set()
    for key in ("a", "b"):
        for _ in range(2):
            await bucket.put(key, bytes(1000), ssec_key=KEY)
            seen.add(objects_on_disk(directory)[key][-1000:])
            await bucket.put(key, chunks(bytes(100_000)), ssec_key=KEY)
            blocks = objects_on_disk(directory)[key]
            seen.add(blocks[-1000:])
            # Nor does one repeat within an object.
            pieces = [blocks[i : i + 16] for i in range(0, 99_968, 16)]
            assert len(set(pieces)) == len(pieces)
    assert len(seen) == 8


async def test_ranges_are_decrypted_from_anywhere(bucket: R2Bucket) -> None:
    value = os.urandom(200_003)
    await bucket.put("small", value[:1003], ssec_key=KEY)
    await bucket.put("large", chunks(value), ssec_key=KEY)
    for key, whole in (("small", value[:1003]), ("large", value)):
        size = len(whole)
        for offset in (0, 1, 15, 16, 17, 255, 1000, size - 1):
            for length in (1, 16, 31, 5000):
                wanted = whole[offset : offset + length]
                found = await opened(bucket, key, range=R2Range(offset, length), ssec_key=KEY)
                assert await found.bytes() == wanted, (key, offset, length)
                assert found.range == R2Range(offset, len(wanted))
        assert await read(bucket, key, range={"suffix": 33}, ssec_key=KEY) == whole[-33:]
    for offset in (65_535, 65_536, 131_071, 199_999):
        found = await opened(bucket, "large", range=R2Range(offset, 70_000), ssec_key=KEY)
        pieces = [piece async for piece in found.body]
        assert b"".join(pieces) == value[offset : offset + 70_000]


async def test_digests_are_those_of_the_bytes_given(bucket: R2Bucket) -> None:
    right = hashlib.sha256(SECRET).hexdigest()
    stored = await written(bucket, "key", SECRET, ssec_key=KEY, sha256=right)
    assert stored.checksums.to_json()["sha256"] == right
    with pytest.raises(R2Error) as caught:
        await bucket.put("key", SECRET, ssec_key=KEY, sha256=hashlib.sha256(b"other").hexdigest())
    assert code_of(caught.value) == 10037
    assert await read(bucket, "key", ssec_key=KEY) == SECRET


async def test_conditions_work_on_encrypted_objects(bucket: R2Bucket) -> None:
    stored = await written(bucket, "key", SECRET, ssec_key=KEY)
    missed = await bucket.get("key", only_if={"etag_does_not_match": stored.etag}, ssec_key=KEY)
    assert isinstance(missed, R2Object)
    assert getattr(missed, "body", None) is None
    assert await bucket.put("key", "x", only_if={"etag_does_not_match": stored.etag}) is None
    assert await read(bucket, "key", ssec_key=KEY) == SECRET


async def test_a_put_replaces_whatever_the_keys_are(bucket: R2Bucket) -> None:
    await bucket.put("key", "one", ssec_key=KEY)
    await bucket.put("key", "two", ssec_key=OTHER_KEY)
    await refused(bucket.get("key", ssec_key=KEY))
    assert await read(bucket, "key", ssec_key=OTHER_KEY) == b"two"
    await bucket.put("key", "three")
    assert await read(bucket, "key") == b"three"


async def test_an_empty_object_has_a_key_too(bucket: R2Bucket) -> None:
    stored = await written(bucket, "key", b"", ssec_key=KEY)
    assert stored.size == 0
    assert await read(bucket, "key", ssec_key=KEY) == b""
    await refused(bucket.get("key", ssec_key=OTHER_KEY))
    await refused(bucket.get("key"))


async def test_a_body_stays_what_it_was_when_the_object_is_replaced(bucket: R2Bucket) -> None:
    for size in (100, 3 * MIB):
        value = os.urandom(size)
        await bucket.put("key", value, ssec_key=KEY)
        body = await opened(bucket, "key", ssec_key=KEY)
        await bucket.put("key", os.urandom(size), ssec_key=OTHER_KEY)
        assert await body.bytes() == value


async def test_an_encrypted_object_outlives_the_state(directory: Path, clock: ManualClock) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.r2("bucket").put("key", SECRET, ssec_key=KEY)
    async with bunflare.open(directory, clock=clock) as state:
        assert await read(state.r2("bucket"), "key", ssec_key=KEY) == SECRET
        await refused(state.r2("bucket").get("key"))


# -- in parts ----------------------------------------------------------------------------------


async def test_parts_are_encrypted_with_the_uploads_key(small: R2Bucket, directory: Path) -> None:
    upload = await small.create_multipart_upload("key", ssec_key=KEY.hex())
    values = [os.urandom(77), os.urandom(77), os.urandom(13)]
    parts = []
    for number, value in enumerate(values, 1):
        await refused(upload.upload_part(number, value))
        await refused(upload.upload_part(number, value, ssec_key=OTHER_KEY))
        parts.append(await upload.upload_part(number, value, ssec_key=KEY))
    stored = await upload.complete(parts)
    assert stored.ssec_key_md5 == hashlib.md5(KEY).hexdigest()
    whole = b"".join(values)
    assert await read(small, "key", ssec_key=KEY) == whole
    for offset in (0, 70, 76, 77, 78, 150, 154, 166):
        wanted = whole[offset : offset + 20]
        assert await read(small, "key", range=R2Range(offset, 20), ssec_key=KEY) == wanted
    await refused(small.get("key"))
    await refused(small.get("key", ssec_key=OTHER_KEY))
    assert whole[:20] not in everything(directory)
    assert beside(directory) == {}


async def test_a_part_that_is_sent_again_shares_no_key_stream(
    small: R2Bucket, directory: Path
) -> None:
    """Whoever can read the disk sees both, and must not learn their difference."""
    upload = await small.create_multipart_upload("key", ssec_key=KEY)
    first, second = bytes(100_000), b"\x01" * 100_000
    await upload.upload_part(1, first, ssec_key=KEY)
    (one,) = beside(directory).values()
    await upload.upload_part(1, second, ssec_key=KEY)
    (two,) = beside(directory).values()
    assert one[-1000:] != two[-1000:]
    difference = bytes(a ^ b for a, b in zip(one[-1000:], two[-1000:], strict=True))
    assert difference != b"\x01" * 1000


async def test_an_encrypted_upload_is_resumed(directory: Path, clock: ManualClock) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        bucket = bucket_with(state, "bucket", SMALL)
        upload = await bucket.create_multipart_upload("key", ssec_key=KEY)
        first = await upload.upload_part(1, b"1" * 50, ssec_key=KEY)
    async with bunflare.open(directory, clock=clock) as state:
        bucket = bucket_with(state, "bucket", SMALL)
        upload = bucket.resume_multipart_upload("key", upload.upload_id)
        await refused(upload.upload_part(2, b"2"))
        last = await upload.upload_part(2, b"2", ssec_key=KEY)
        await upload.complete([first, last])
        assert await read(bucket, "key", ssec_key=KEY) == b"1" * 50 + b"2"
