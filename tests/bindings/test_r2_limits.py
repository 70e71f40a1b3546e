"""What R2 refuses: each limit from both sides, and that nothing is written by what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import R2Bucket, R2UploadedPart
from tests.bindings.r2_tools import beside, chunks, code_of, contents, objects_on_disk, read

NAME = "The specified object name is not valid"
KEY_CALLS: list[tuple[str, Callable[[R2Bucket, Any], Any]]] = [
    ("head", lambda bucket, key: bucket.head(key)),
    ("get", lambda bucket, key: bucket.get(key)),
    ("put", lambda bucket, key: bucket.put(key, "value")),
    ("put", lambda bucket, key: bucket.put(key, chunks(b"value"))),
    ("delete", lambda bucket, key: bucket.delete(key)),
    ("delete", lambda bucket, key: bucket.delete(["kept", key])),
    ("createMultipartUpload", lambda bucket, key: bucket.create_multipart_upload(key)),
]
calls = pytest.mark.parametrize(("action", "call"), KEY_CALLS)


@calls
async def test_a_key_has_at_most_1024_bytes(
    bucket: R2Bucket, directory: Path, action: str, call: Callable[[R2Bucket, Any], Any]
) -> None:
    await bucket.put("kept", "kept")
    for key in ("k" * 1025, "é" * 512 + "x", "🙂" * 256 + "x"):
        with pytest.raises(ValueError, match=f"{action}: {NAME}") as caught:
            await call(bucket, key)
        assert code_of(caught.value) == 10020
    assert objects_on_disk(directory) == {"kept": b"kept"}
    assert beside(directory) == {}


@calls
async def test_a_key_is_text(
    bucket: R2Bucket, directory: Path, action: str, call: Callable[[R2Bucket, Any], Any]
) -> None:
    await bucket.put("kept", "kept")
    for key in (None, 12, b"bytes", 1.5, object()):
        with pytest.raises(TypeError) as caught:
            await call(bucket, key)
        assert isinstance(caught.value, bunflare.R2Error)
    assert objects_on_disk(directory) == {"kept": b"kept"}


async def test_keys_of_1024_bytes_are_fine(bucket: R2Bucket) -> None:
    for key in ("k" * 1024, "é" * 512, "🙂" * 256, "/" * 1024, "a/" * 512, "." * 1024):
        await bucket.put(key, key)
        assert await read(bucket, key) == key.encode()
        assert [item.key for item in (await bucket.list()).objects] == [key]
        await bucket.delete(key)
        assert await read(bucket, key) is None


async def test_a_resumed_upload_has_a_valid_key(bucket: R2Bucket) -> None:
    with pytest.raises(bunflare.R2Error, match=NAME) as caught:
        await bucket.resume_multipart_upload("k" * 1025, "id").upload_part(1, "value")
    assert code_of(caught.value) == 10020


def test_the_limits_are_the_platforms() -> None:
    limits = bunflare.R2Limits()
    assert limits.key_size == 1024
    assert limits.object_size == 5 * 1024**3 - 5 * 1024**2
    assert limits.metadata_size == 8192
    assert limits.least_part_size == 5 * 1024**2
    assert limits.parts == 10_000
    assert limits.list_keys == limits.delete_keys == 1000


# -- sizes -------------------------------------------------------------------------------------


async def test_an_object_is_not_larger_than_the_limit(
    small: R2Bucket, directory: Path, tmp_path: Path
) -> None:
    """A bucket whose limit is 300,000 bytes stands for the platform's of nearly 5 GiB."""
    await small.put("key", "kept")
    file = tmp_path / "file"
    file.write_bytes(bytes(300_001))
    values: list[Callable[[], Any]] = [
        lambda: small.put("key", bytes(300_001)),
        lambda: small.put("new", "é" * 150_001),
        lambda: small.put("new", bunflare.Blob([bytes(300_001)])),
        lambda: small.put("key", chunks(bytes(300_000), b"x")),
        lambda: small.put("new", chunks(bytes(10_000_000))),
        lambda: small.upload_file("key", file),
    ]
    for value in values:
        with pytest.raises(ValueError, match="exceeds the maximum allowed object size") as caught:
            await value()
        assert code_of(caught.value) == 100100
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}
    for fitting in (bytes(300_000), chunks(bytes(100_000), bytes(200_000))):
        await small.put("key", fitting)
        assert await read(small, "key") == bytes(300_000)


async def test_an_endless_stream_is_left_when_it_is_too_large(small: R2Bucket) -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 10_000
            yield bytes(10_000)

    with pytest.raises(bunflare.R2Error):
        await small.put("key", endless())
    assert taken < 30_000_000


FITS = [
    {"key": "x" * 8189},
    {"k": "x" * 8191},
    {"": "x" * 8192},
    {"key1": "🙂" * 2047},
    {"a" * 4096: "b" * 4096},
    {str(n): "xxxx" for n in range(1000, 2000)},
]
TOO_LARGE = [
    {"key": "x" * 8190},
    {"x" * 8193: ""},
    {"key12": "🙂" * 2047},
    {"🙂" * 2048: "x"},
    {str(n): "xxxxx" for n in range(1000, 2000)},
]


async def test_metadata_has_at_most_8192_bytes(bucket: R2Bucket, directory: Path) -> None:
    for fitting in FITS:
        stored = await bucket.put("key", "kept", custom_metadata=fitting)
        assert stored is not None
        assert stored.custom_metadata == fitting
        await (await bucket.create_multipart_upload("key", custom_metadata=fitting)).abort()
    message = "metadata headers exceed the maximum allowed metadata size"
    for large in TOO_LARGE:
        for work in (
            bucket.put("key", "value", custom_metadata=large),
            bucket.put("new", chunks(b"value"), custom_metadata=large),
            bucket.create_multipart_upload("new", custom_metadata=large),
        ):
            with pytest.raises(ValueError, match=message) as caught:
                await work
            assert code_of(caught.value) == 10012
    assert objects_on_disk(directory) == {"key": b"kept"}


# -- options -----------------------------------------------------------------------------------

HEX = "0" * 32
BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"md5": HEX, "sha1": "0" * 40}, TypeError, "You cannot specify multiple hashing algorithms."),
    ({"sha256": bytes(32), "sha512": bytes(64)}, TypeError, "multiple hashing algorithms"),
    ({"md5": bytes(15)}, TypeError, "MD5 is 16 bytes, not 15"),
    ({"md5": "0" * 31}, TypeError, "MD5 is 32 hex characters, not 31"),
    ({"md5": "g" * 32}, TypeError, "Provided MD5 wasn't a valid hex string"),
    ({"sha1": bytes(21)}, TypeError, "SHA-1 is 20 bytes, not 21"),
    ({"sha1": ""}, TypeError, "SHA-1 is 40 hex characters, not 0"),
    ({"sha1": "x" * 40}, TypeError, "Provided SHA-1 wasn't a valid hex string"),
    ({"sha256": bytes(16)}, TypeError, "SHA-256 is 32 bytes, not 16"),
    ({"sha256": HEX}, TypeError, "SHA-256 is 64 hex characters, not 32"),
    ({"sha256": " " * 64}, TypeError, "Provided SHA-256 wasn't a valid hex string"),
    ({"sha384": bytes(32)}, TypeError, "SHA-384 is 48 bytes, not 32"),
    ({"sha384": HEX}, TypeError, "SHA-384 is 96 hex characters, not 32"),
    ({"sha384": "-" * 96}, TypeError, "Provided SHA-384 wasn't a valid hex string"),
    ({"sha512": b""}, TypeError, "SHA-512 is 64 bytes, not 0"),
    ({"sha512": HEX}, TypeError, "SHA-512 is 128 hex characters, not 32"),
    ({"sha512": "é" * 128}, TypeError, "SHA-512"),
    ({"md5": 12}, TypeError, ""),
    ({"sha256": ["a"]}, TypeError, ""),
    ({"custom_metadata": "text"}, TypeError, ""),
    ({"custom_metadata": ["a"]}, TypeError, ""),
    ({"custom_metadata": {"a": 1}}, TypeError, ""),
    ({"custom_metadata": {"a": None}}, TypeError, ""),
    ({"custom_metadata": {1: "a"}}, TypeError, ""),
    ({"http_metadata": "text/plain"}, TypeError, ""),
    ({"http_metadata": {"content_type": 12}}, TypeError, ""),
    ({"http_metadata": {"cacheExpiry": "tomorrow"}}, TypeError, ""),
    ({"storage_class": "Glacier"}, ValueError, ""),
    ({"storage_class": 12}, TypeError, ""),
    ({"ssec_key": "0" * 63}, ValueError, "SSE-C Key must be 32 bytes in length"),
    ({"ssec_key": "0" * 66}, ValueError, "SSE-C Key must be 32 bytes in length"),
    ({"ssec_key": "G" * 64}, ValueError, "SSE-C Key has invalid format"),
    ({"ssec_key": "A" * 64}, ValueError, "SSE-C Key has invalid format"),
    ({"ssec_key": ""}, ValueError, "SSE-C Key has invalid format"),
    ({"ssec_key": bytes(31)}, ValueError, "SSE-C Key must be 32 bytes in length"),
    ({"ssec_key": bytes(64)}, ValueError, "SSE-C Key must be 32 bytes in length"),
    ({"ssec_key": 12}, TypeError, ""),
]


async def test_what_a_put_cannot_take_is_refused_and_nothing_written(
    bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("key", "kept")
    for options, kind, message in BAD_OPTIONS:
        for key in ("key", "new"):
            for value in ("value", chunks(b"value"), bytes(300_000)):
                with pytest.raises(kind) as caught:
                    await bucket.put(key, value, **options)
                assert isinstance(caught.value, bunflare.R2Error), options
                assert message in str(caught.value), options
    assert await contents(bucket) == {"key": b"kept"}
    assert objects_on_disk(directory) == {"key": b"kept"}
    assert beside(directory) == {}


async def test_an_unknown_option_is_refused(bucket: R2Bucket, directory: Path) -> None:
    with pytest.raises(TypeError):
        await bucket.put("key", "value", nonsense=1)  # type: ignore[call-arg]
    assert objects_on_disk(directory) == {}


async def test_a_value_that_is_refused_is_not_read(bucket: R2Bucket) -> None:
    async def untouched() -> Any:
        raise AssertionError("the stream was read")
        yield b""

    with pytest.raises(TypeError, match="multiple"):
        await bucket.put("key", untouched(), md5=HEX, sha1="0" * 40)


async def test_what_is_no_key_to_decrypt_with_is_refused(bucket: R2Bucket) -> None:
    await bucket.put("key", "value")
    for options, kind, message in BAD_OPTIONS:
        if "ssec_key" in options:
            with pytest.raises(kind) as caught:
                await bucket.get("key", **options)
            assert message in str(caught.value), options


async def test_what_an_upload_cannot_take_is_refused(bucket: R2Bucket) -> None:
    for options, kind, message in BAD_OPTIONS:
        if set(options) & {"custom_metadata", "http_metadata", "storage_class", "ssec_key"}:
            with pytest.raises(kind) as caught:
                await bucket.create_multipart_upload("key", **options)
            assert isinstance(caught.value, bunflare.R2Error), options
            assert message in str(caught.value), options


async def test_a_part_has_a_number_between_1_and_10000(bucket: R2Bucket) -> None:
    upload = await bucket.create_multipart_upload("key")
    message = "Part number must be between 1 and 10000"
    for number in (0, -1, 10_001, 99_999):
        with pytest.raises(TypeError, match=message):
            await upload.upload_part(number, "value")
        with pytest.raises(TypeError, match=message):
            await upload.complete([R2UploadedPart(number, "etag")])
    for wrong in ("1", None, 1.5):
        with pytest.raises(TypeError):
            await upload.upload_part(wrong, "value")  # type: ignore[arg-type]
    part = await upload.upload_part(10_000, "last")
    assert (await upload.complete([part])).size == 4


@pytest.mark.parametrize("value", [12, None, ["a"], {"a": 1}, object()])
async def test_what_is_no_part_is_refused(bucket: R2Bucket, directory: Path, value: Any) -> None:
    upload = await bucket.create_multipart_upload("key")
    with pytest.raises(TypeError):
        await upload.upload_part(1, value)
    assert beside(directory) == {}


async def test_what_lists_no_parts_is_refused(bucket: R2Bucket) -> None:
    upload = await bucket.create_multipart_upload("key")
    part = await upload.upload_part(1, "value")
    for wrong in (
        None,
        12,
        [12],
        ["etag"],
        [{"partNumber": "1", "etag": part.etag}],
        [{"partNumber": 1}],
        [{"partNumber": 1, "etag": 1}],
    ):
        with pytest.raises(TypeError):
            await upload.complete(wrong)  # type: ignore[arg-type]
    assert await bucket.head("key") is None
    assert (await upload.complete([part])).size == 5


async def test_an_upload_is_resumed_by_texts(bucket: R2Bucket) -> None:
    with pytest.raises(TypeError):
        bucket.resume_multipart_upload(12, "id")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bucket.resume_multipart_upload("key", 12)  # type: ignore[arg-type]
