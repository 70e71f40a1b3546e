"""Objects of R2: what goes in, what comes out, and what is said of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from array import array
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    Blob,
    Headers,
    ManualClock,
    R2Bucket,
    R2HTTPMetadata,
    R2Object,
    R2ObjectBody,
    R2Range,
    Request,
    Response,
)
from tests.bindings.r2_tools import (
    MIB,
    beside,
    chunks,
    code_of,
    contents,
    objects_on_disk,
    opened,
    read,
    written,
)

MD5 = "2063c1608d6e0baf80249c42e2be5804"  # of "value"
EXPIRY = datetime(2027, 2, 24, 12, 30, 15, tzinfo=UTC)
HTTP = R2HTTPMetadata(
    content_type="text/plain; charset=utf-8",
    content_language="en-GB",
    content_disposition='attachment; filename="value.txt"',
    content_encoding="gzip",
    cache_control="max-age=3600",
    cache_expiry=EXPIRY,
)
AS_HEADERS = {
    "content-type": "text/plain; charset=utf-8",
    "content-language": "en-GB",
    "content-disposition": 'attachment; filename="value.txt"',
    "content-encoding": "gzip",
    "cache-control": "max-age=3600",
    "expires": "Wed, 24 Feb 2027 12:30:15 GMT",
}

# -- what is said of an object -----------------------------------------------------------------


async def test_there_is_nothing_under_a_new_key(bucket: R2Bucket) -> None:
    assert await bucket.head("missing") is None
    assert await bucket.get("missing") is None
    await bucket.delete("missing")


async def test_put_says_what_it_stored(bucket: R2Bucket, clock: ManualClock) -> None:
    clock.set(1_772_000_000_123)
    stored = await written(
        bucket, "key", "value", http_metadata=HTTP, custom_metadata={"a": "b", "é": "🙂", "": ""}
    )
    assert stored.key == "key"
    assert stored.size == 5
    assert stored.etag == MD5
    assert stored.http_etag == f'"{MD5}"'
    assert re.fullmatch("[0-9a-f]{32}", stored.version)
    assert stored.uploaded == datetime.fromtimestamp(1_772_000_000, UTC) + timedelta(
        milliseconds=123
    )
    assert stored.uploaded.tzinfo == UTC
    assert stored.http_metadata == HTTP
    assert stored.custom_metadata == {"a": "b", "é": "🙂", "": ""}
    assert stored.checksums.to_json() == {"md5": MD5}
    assert stored.storage_class == "Standard"
    assert stored.ssec_key_md5 is None
    assert stored.range is None
    assert not isinstance(stored, R2ObjectBody)


async def test_head_and_get_say_the_same(bucket: R2Bucket) -> None:
    stored = await written(
        bucket,
        "key",
        "value",
        http_metadata=HTTP,
        custom_metadata={"a": "b"},
        storage_class="InfrequentAccess",
    )
    head = await bucket.head("key")
    body = await opened(bucket, "key")
    assert isinstance(head, R2Object)
    assert isinstance(body, R2Object)
    assert not isinstance(head, R2ObjectBody)
    for field in (
        "key",
        "version",
        "size",
        "etag",
        "http_etag",
        "checksums",
        "uploaded",
        "http_metadata",
        "custom_metadata",
        "storage_class",
        "ssec_key_md5",
    ):
        assert getattr(head, field) == getattr(stored, field), field
        assert getattr(body, field) == getattr(stored, field), field
    assert stored.storage_class == "InfrequentAccess"
    assert body.range == R2Range(offset=0, length=5)


async def test_an_object_without_metadata_has_empty_metadata(bucket: R2Bucket) -> None:
    await bucket.put("key", "value")
    head = await bucket.head("key")
    assert head is not None
    assert head.http_metadata == R2HTTPMetadata()
    assert head.custom_metadata == {}


async def test_each_put_makes_a_new_version(bucket: R2Bucket, clock: ManualClock) -> None:
    first = await written(bucket, "key", "value", custom_metadata={"a": "b"}, http_metadata=HTTP)
    await clock.advance(milliseconds=1)
    second = await written(bucket, "key", "value")
    assert second.version != first.version
    assert second.uploaded - first.uploaded == timedelta(milliseconds=1)
    assert second.etag == first.etag
    # Nothing of the first one stays.
    head = await bucket.head("key")
    assert head == second
    assert head.custom_metadata == {}
    assert head.http_metadata == R2HTTPMetadata()


async def test_an_object_cannot_be_changed(bucket: R2Bucket) -> None:
    stored = await written(bucket, "key", "value")
    with pytest.raises(AttributeError):
        stored.size = 6  # type: ignore[misc]


# -- HTTP metadata -----------------------------------------------------------------------------


async def test_http_metadata_comes_as_a_dataclass_a_dict_or_headers(bucket: R2Bucket) -> None:
    snake = {
        "content_type": HTTP.content_type,
        "content_language": HTTP.content_language,
        "content_disposition": HTTP.content_disposition,
        "content_encoding": HTTP.content_encoding,
        "cache_control": HTTP.cache_control,
        "cache_expiry": EXPIRY,
    }
    camel = {
        "contentType": HTTP.content_type,
        "contentLanguage": HTTP.content_language,
        "contentDisposition": HTTP.content_disposition,
        "contentEncoding": HTTP.content_encoding,
        "cacheControl": HTTP.cache_control,
        "cacheExpiry": EXPIRY,
    }
    headers = Headers({**AS_HEADERS, "x-other": "is not kept"})
    for form in (HTTP, snake, camel, headers):
        stored = await written(bucket, "key", "value", http_metadata=form)
        assert stored.http_metadata == HTTP
        head = await bucket.head("key")
        assert head is not None
        assert head.http_metadata == HTTP
    partial = await written(bucket, "key", "v", http_metadata={"contentType": "a/b"})
    assert partial.http_metadata == R2HTTPMetadata(content_type="a/b")


async def test_an_expiry_of_another_zone_is_the_same_moment(bucket: R2Bucket) -> None:
    there = EXPIRY.astimezone(timezone(timedelta(hours=5, minutes=30)))
    await bucket.put("key", "value", http_metadata={"cache_expiry": there})
    head = await bucket.head("key")
    assert head is not None
    assert head.http_metadata is not None
    assert head.http_metadata.cache_expiry == EXPIRY


async def test_write_http_metadata_sets_the_headers_of_a_response(bucket: R2Bucket) -> None:
    await bucket.put("key", "value", http_metadata=HTTP)
    found = await opened(bucket, "key")
    headers = Headers({"content-type": "to be replaced", "x-mine": "kept"})
    found.write_http_metadata(headers)
    assert dict(headers.items()) == {**AS_HEADERS, "x-mine": "kept"}
    await bucket.put("bare", "value")
    bare = await opened(bucket, "bare")
    headers = Headers({"content-type": "kept"})
    bare.write_http_metadata(headers)
    assert dict(headers.items()) == {"content-type": "kept"}


# -- values ------------------------------------------------------------------------------------


async def test_text_bytes_buffers_and_nothing_are_values(bucket: R2Bucket) -> None:
    values: list[tuple[Any, bytes]] = [
        ("héllo 🙂", "héllo 🙂".encode()),
        ("", b""),
        (None, b""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcdef")[1:3], b"bc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(array("H", [1, 256])), array("H", [1, 256]).tobytes()),
        (Blob(["a", b"b"]), b"ab"),
        (chunks(), b""),
        (chunks(b"a", b"", bytearray(b"b"), memoryview(b"c")), b"abc"),
        (Response("answer").body, b"answer"),
        (Request("http://h/", method="POST", body="question").body, b"question"),
    ]
    for value, expected in values:
        stored = await written(bucket, "key", value)
        assert stored.size == len(expected)
        assert stored.etag == hashlib.md5(expected).hexdigest()
        assert await read(bucket, "key") == expected


@pytest.mark.parametrize("size", [4095, 4096, 65_536, 65_537, MIB - 1, MIB, 3 * MIB + 1])
async def test_values_of_every_size_come_back(bucket: R2Bucket, directory: Path, size: int) -> None:
    value = os.urandom(size)
    for given in (value, chunks(value[: size // 3], value[size // 3 :])):
        stored = await written(bucket, "key", given)
        assert (stored.size, stored.etag) == (size, hashlib.md5(value).hexdigest())
        assert await read(bucket, "key") == value
    # As a plain file, which anybody can read.
    assert objects_on_disk(directory) == {"key": value}
    assert beside(directory) == {}


async def test_a_stream_of_many_small_pieces_is_one_value(bucket: R2Bucket) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(20_000):
            yield str(number).encode()

    await bucket.put("key", pieces())
    assert await read(bucket, "key") == "".join(map(str, range(20_000))).encode()


async def test_a_buffer_that_changes_after_the_put_does_not_change_the_object(
    bucket: R2Bucket,
) -> None:
    for size in (10, 300_000):
        value = bytearray(b"a" * size)
        work = asyncio.ensure_future(bucket.put("key", value))
        stored = await work
        value[:] = b"b" * size
        assert isinstance(stored, R2Object)
        assert await read(bucket, "key") == b"a" * size


@pytest.mark.parametrize(
    "value", [12, 1.5, True, ["a"], {"a": 1}, object(), {b"set"}, ("a", "b"), range(3)]
)
async def test_what_is_no_value_is_refused(bucket: R2Bucket, directory: Path, value: Any) -> None:
    await bucket.put("key", "kept")
    for key in ("key", "new"):
        with pytest.raises(TypeError) as caught:
            await bucket.put(key, value)
        assert isinstance(caught.value, bunflare.R2Error)
    assert objects_on_disk(directory) == {"key": b"kept"}


@pytest.mark.parametrize("piece", ["text", 12, None, object()])
async def test_a_stream_of_other_things_than_bytes_is_refused(
    bucket: R2Bucket, directory: Path, piece: Any
) -> None:
    await bucket.put("key", "kept")
    for key in ("key", "new"):
        with pytest.raises(TypeError):
            await bucket.put(key, chunks(b"x" * 100_000, piece))
    assert await contents(bucket) == {"key": b"kept"}
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_a_stream_that_fails_half_way_leaves_the_old_object(
    bucket: R2Bucket, directory: Path, size: int
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * size
        raise ZeroDivisionError("half-way")

    before = await written(bucket, "key", "kept")
    for key in ("key", "new"):
        with pytest.raises(ZeroDivisionError, match="half-way"):
            await bucket.put(key, failing())
    assert await bucket.head("key") == before
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


async def test_a_put_that_is_cancelled_leaves_the_old_object(
    bucket: R2Bucket, directory: Path
) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        begun.set()
        await asyncio.Event().wait()

    before = await written(bucket, "key", "kept")
    work = asyncio.ensure_future(bucket.put("key", endless()))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await bucket.head("key") == before
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


async def test_an_object_is_put_straight_under_another_key(bucket: R2Bucket) -> None:
    value = os.urandom(MIB)
    await bucket.put("one", value)
    await bucket.put("two", (await opened(bucket, "one")).body)
    assert await contents(bucket) == {"one": value, "two": value}
    # And over itself, while it is read.
    await bucket.put("one", (await opened(bucket, "one", range={"offset": 1})).body)
    assert await read(bucket, "one") == value[1:]


async def test_buckets_know_nothing_of_each_other(state: bunflare.State) -> None:
    one, two = state.r2("one"), state.r2("two")
    await one.put("key", "1")
    await two.put("key", "2")
    await two.delete("key")
    assert await contents(one) == {"key": b"1"}
    assert await contents(two) == {}
    assert await contents(state.r2("one")) == {"key": b"1"}


async def test_objects_outlive_the_state(directory: Path, clock: ManualClock) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        stored = await written(
            state.r2("bucket"), "key", "value", http_metadata=HTTP, custom_metadata={"a": "b"}
        )
    async with bunflare.open(directory, clock=clock) as state:
        assert await state.r2("bucket").head("key") == stored
        assert await read(state.r2("bucket"), "key") == b"value"


# -- digests -----------------------------------------------------------------------------------

DIGESTS = ["md5", "sha1", "sha256", "sha384", "sha512"]
SPOKEN = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384"}


@pytest.mark.parametrize("name", DIGESTS)
async def test_a_right_digest_is_kept(bucket: R2Bucket, name: str) -> None:
    digest = hashlib.new(name, b"value")
    forms = (digest.hexdigest(), digest.hexdigest().upper(), digest.digest())
    for form in (*forms, bytearray(digest.digest()), memoryview(digest.digest())):
        for value in ("value", chunks(b"val", b"ue")):
            stored = await written(bucket, "key", value, **{name: form})
            expected = {"md5": MD5, name: digest.hexdigest()}
            assert stored.checksums.to_json() == expected
            assert getattr(stored.checksums, name) == digest.digest()
            head = await bucket.head("key")
            assert head is not None
            assert head.checksums == stored.checksums
            absent = set(DIGESTS) - {"md5", name}
            assert all(getattr(head.checksums, other) is None for other in absent)
    found = await opened(bucket, "key")
    assert found.checksums.to_json() == {"md5": MD5, name: digest.hexdigest()}
    # A put without one keeps none of the last.
    assert (await written(bucket, "key", "value")).checksums.to_json() == {"md5": MD5}


@pytest.mark.parametrize("name", DIGESTS)
async def test_a_wrong_digest_is_an_error_and_nothing_is_written(
    bucket: R2Bucket, directory: Path, name: str
) -> None:
    before = await written(bucket, "key", "kept")
    wrong = hashlib.new(name, b"other")
    for form in (wrong.hexdigest(), wrong.digest()):
        for key in ("key", "new"):
            for value in ("value", b"x" * 300_000, chunks(b"val", b"ue")):
                with pytest.raises(bunflare.R2Error, match="checksum you specified did not match"):
                    await bucket.put(key, value, **{name: form})  # type: ignore[arg-type]
    with pytest.raises(bunflare.R2Error, match=SPOKEN.get(name, "SHA-512")) as caught:
        await bucket.put("key", "value", **{name: wrong.hexdigest()})  # type: ignore[arg-type]
    assert code_of(caught.value) == 10037
    # Which one was given and which one was found.
    assert wrong.hexdigest() in str(caught.value)
    assert hashlib.new(name, b"value").hexdigest() in str(caught.value)
    assert await bucket.head("key") == before
    assert await bucket.head("new") is None
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


# -- bodies ------------------------------------------------------------------------------------


async def test_a_body_is_read_as_what_is_asked_for(bucket: R2Bucket) -> None:
    text = json.dumps({"a": [1, None, "é"]})
    await bucket.put("key", text, http_metadata={"content_type": "application/json"})
    assert await (await opened(bucket, "key")).bytes() == text.encode()
    assert bytes(await (await opened(bucket, "key")).array_buffer()) == text.encode()
    assert await (await opened(bucket, "key")).text() == text
    assert await (await opened(bucket, "key")).json() == {"a": [1, None, "é"]}
    blob = await (await opened(bucket, "key")).blob()
    assert isinstance(blob, Blob)
    assert (blob.size, blob.type) == (len(text.encode()), "application/json")
    assert await blob.bytes() == text.encode()
    pieces = [piece async for piece in (await opened(bucket, "key")).body]
    assert b"".join(pieces) == text.encode()


async def test_bytes_that_are_no_text_are_replaced(bucket: R2Bucket) -> None:
    await bucket.put("key", b"a\xff\xfeb")
    assert await (await opened(bucket, "key")).text() == "a\ufffd\ufffdb"
    with pytest.raises(ValueError):
        await (await opened(bucket, "key")).json()


async def test_a_body_is_read_once(bucket: R2Bucket) -> None:
    for value in (b"small", bytes(MIB)):
        await bucket.put("key", value)
        for first in ("bytes", "text", "array_buffer", "blob", "body"):
            found = await opened(bucket, "key")
            assert found.body_used is False
            if first == "body":
                async for _ in found.body:
                    break
            else:
                await getattr(found, first)()
            assert found.body_used is True
            for second in ("bytes", "text", "array_buffer", "blob", "json"):
                with pytest.raises(TypeError):
                    await getattr(found, second)()


@pytest.mark.parametrize("size", [10, 4096, 5 * MIB])
@pytest.mark.parametrize("how", ["overwrite", "delete", "delete and put"])
async def test_a_body_that_is_being_read_stays_what_it_was(
    bucket: R2Bucket, size: int, how: str
) -> None:
    value = os.urandom(size)
    await bucket.put("key", value)
    unread = await opened(bucket, "key")
    half = await opened(bucket, "key")
    late = await opened(bucket, "key", range={"suffix": 5})
    stream = half.body.__aiter__()
    got = await anext(stream)
    if how != "overwrite":
        await bucket.delete("key")
    if how != "delete":
        await bucket.put("key", os.urandom(size))
        await bucket.put("key", chunks(os.urandom(size)))
    assert await unread.bytes() == value
    assert got + b"".join([piece async for piece in stream]) == value
    assert await late.bytes() == value[-5:]


async def test_many_bodies_that_nobody_reads_are_no_leak(bucket: R2Bucket) -> None:
    await bucket.put("key", bytes(300_000))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(100):
        await opened(bucket, "key")
        stream = (await opened(bucket, "key")).body.__aiter__()
        await anext(stream)
        await stream.aclose()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5


async def test_a_body_goes_straight_into_a_response(bucket: R2Bucket) -> None:
    value = os.urandom(300_000)
    await bucket.put("key", value, http_metadata={"content_type": "image/png"})
    found = await opened(bucket, "key")
    headers = Headers()
    found.write_http_metadata(headers)
    headers.set("etag", found.http_etag)
    response = Response(found.body, headers=headers)
    assert response.headers.get("content-type") == "image/png"
    assert response.headers.get("etag") == f'"{hashlib.md5(value).hexdigest()}"'
    assert await response.bytes() == value


# -- delete ------------------------------------------------------------------------------------


async def test_delete_removes_one_or_many(bucket: R2Bucket, directory: Path) -> None:
    for key in ("a", "b", "c/d", "e"):
        await bucket.put(key, key)
    await bucket.delete("a")
    assert await contents(bucket) == {"b": b"b", "c/d": b"c/d", "e": b"e"}
    await bucket.delete(["b", "missing", "c/d", "b"])
    assert await contents(bucket) == {"e": b"e"}
    assert objects_on_disk(directory) == {"e": b"e"}
    assert beside(directory) == {}
    await bucket.delete([])
    await bucket.delete("e")
    assert objects_on_disk(directory) == {}


# -- helpers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 3 * MIB + 7])
async def test_files_go_in_and_out(bucket: R2Bucket, tmp_path: Path, size: int) -> None:
    value = os.urandom(size)
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(value)
    stored = await bucket.upload_file("key", source)
    assert isinstance(stored, R2Object)
    assert (stored.size, stored.etag) == (size, hashlib.md5(value).hexdigest())
    assert await read(bucket, "key") == value
    target.write_bytes(b"older and longer" * 10)
    await bucket.download_file("key", target)
    assert target.read_bytes() == value
    # The object is not the file itself.
    source.write_bytes(b"changed")
    target.write_bytes(b"changed")
    assert await read(bucket, "key") == value


async def test_a_download_of_nothing_writes_no_file(bucket: R2Bucket, tmp_path: Path) -> None:
    target = tmp_path / "target.bin"
    assert await bucket.download_file("missing", target) is None
    assert not target.exists()


async def test_an_upload_of_a_missing_file_leaves_the_old_object(
    bucket: R2Bucket, tmp_path: Path
) -> None:
    await bucket.put("key", "kept")
    with pytest.raises(FileNotFoundError):
        await bucket.upload_file("key", tmp_path / "missing")
    assert await read(bucket, "key") == b"kept"


async def test_an_upload_takes_the_options_of_a_put(bucket: R2Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"value")
    stored = await bucket.upload_file(
        "key", source, http_metadata=HTTP, custom_metadata={"a": "b"}, md5=MD5
    )
    assert isinstance(stored, R2Object)
    assert (stored.http_metadata, stored.custom_metadata) == (HTTP, {"a": "b"})
    with pytest.raises(bunflare.R2Error) as caught:
        await bucket.upload_file("key", source, md5="0" * 32)
    assert code_of(caught.value) == 10037
    assert await bucket.upload_file("key", source, only_if={"etag_does_not_match": "*"}) is None


@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
async def test_a_copy_has_all_that_the_original_has(bucket: R2Bucket, size: int) -> None:
    value = os.urandom(size)
    original = await written(
        bucket,
        "a/original",
        value,
        http_metadata=HTTP,
        custom_metadata={"a": "b"},
        storage_class="InfrequentAccess",
        sha256=hashlib.sha256(value).hexdigest(),
    )
    await bucket.put("copy", "replaced")
    copied = await bucket.copy("a/original", "copy")
    assert isinstance(copied, R2Object)
    assert copied.key == "copy"
    assert copied.version != original.version
    for field in ("size", "etag", "http_metadata", "custom_metadata", "storage_class"):
        assert getattr(copied, field) == getattr(original, field), field
    await bucket.put("a/original", "changed")
    assert await read(bucket, "copy") == value
    assert await bucket.head("copy") == copied


async def test_the_copy_of_nothing_changes_nothing(bucket: R2Bucket) -> None:
    await bucket.put("copy", "kept")
    assert await bucket.copy("missing", "copy") is None
    assert await contents(bucket) == {"copy": b"kept"}


@pytest.mark.parametrize("size", [10, 300_000])
async def test_an_object_is_copied_onto_itself(
    bucket: R2Bucket, directory: Path, size: int
) -> None:
    value = os.urandom(size)
    before = await written(bucket, "key", value, custom_metadata={"a": "b"})
    after = await bucket.copy("key", "key")
    assert isinstance(after, R2Object)
    assert after.version != before.version
    assert after.custom_metadata == {"a": "b"}
    assert await read(bucket, "key") == value
    assert objects_on_disk(directory) == {"key": value}
    assert beside(directory) == {}
