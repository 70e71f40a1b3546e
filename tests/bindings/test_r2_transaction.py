"""R2 in a transaction: objects come and go with the commit, files and all."""

from __future__ import annotations

from pathlib import Path

import pytest

import bunflare
from bunflare import R2Bucket, R2ObjectBody, State
from tests.bindings.r2_tools import beside, chunks, contents, objects_on_disk, read, written

LARGE = b"large" * 50_000


async def test_all_of_a_transaction_is_there_or_nothing(
    state: State, bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("kept", "old")
    await bucket.put("gone", LARGE)
    for fails in (True, False):
        try:
            async with state.transaction() as tx:
                inside = tx.r2("bucket")
                await inside.put("kept", "new")
                await inside.put("stream", chunks(LARGE))
                await inside.put("small", "small")
                await inside.delete("gone")
                await tx.kv("KV").put("key", "value")
                # It sees what it wrote, and nobody else does.
                assert await contents(inside) == {
                    "kept": b"new",
                    "stream": LARGE,
                    "small": b"small",
                }
                assert await contents(bucket) == {"kept": b"old", "gone": LARGE}
                assert objects_on_disk(directory) == {"kept": b"old", "gone": LARGE}
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert await contents(bucket) == {"kept": b"old", "gone": LARGE}
            assert await state.kv("KV").get("key") is None
            assert objects_on_disk(directory) == {"kept": b"old", "gone": LARGE}
            assert beside(directory) == {}
    expected = {"kept": b"new", "stream": LARGE, "small": b"small"}
    assert await contents(bucket) == expected
    assert await state.kv("KV").get("key") == "value"
    assert objects_on_disk(directory) == expected
    assert beside(directory) == {}


async def test_the_last_write_of_a_key_counts(
    state: State, bucket: R2Bucket, directory: Path
) -> None:
    async with state.transaction() as tx:
        inside = tx.r2("bucket")
        for value in (b"1", LARGE, b"2", LARGE[:-1], b"3"):
            await inside.put("a", value)
            assert await read(inside, "a") == value
            await inside.put("b", chunks(value))
            await inside.put("c", value)
            await inside.delete("c")
            assert await inside.head("c") is None
        await inside.put("b", chunks(LARGE))
    assert await contents(bucket) == {"a": b"3", "b": LARGE}
    assert objects_on_disk(directory) == {"a": b"3", "b": LARGE}
    assert beside(directory) == {}


async def test_conditions_see_the_transaction(state: State, bucket: R2Bucket) -> None:
    first = await written(bucket, "key", "first")
    async with state.transaction() as tx:
        inside = tx.r2("bucket")
        second = await written(inside, "key", "second")
        assert await inside.put("key", "x", only_if={"etag_matches": first.etag}) is None
        assert await inside.put("key", "third", only_if={"etag_matches": second.etag})
        assert await inside.put("new", "x", only_if={"etag_does_not_match": "*"})
        assert await inside.put("new", "y", only_if={"etag_does_not_match": "*"}) is None
    assert await contents(bucket) == {"key": b"third", "new": b"x"}


async def test_uploads_in_parts_are_part_of_it(
    state: State, bucket: R2Bucket, directory: Path
) -> None:
    upload = await bucket.create_multipart_upload("key")
    part = await upload.upload_part(1, LARGE)
    before = beside(directory)

    async def complete(fails: bool) -> None:
        async with state.transaction() as tx:
            inside = tx.r2("bucket")
            await inside.resume_multipart_upload("key", upload.upload_id).complete([part])
            assert await read(inside, "key") == LARGE
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await complete(True)
    assert await bucket.head("key") is None
    assert beside(directory) == before
    await complete(False)
    assert await contents(bucket) == {"key": LARGE}
    assert objects_on_disk(directory) == {"key": LARGE}
    assert beside(directory) == {}


async def test_a_body_of_a_transaction_that_failed_can_be_read_on(
    state: State, bucket: R2Bucket
) -> None:
    bodies: list[R2ObjectBody] = []
    for value in (b"small", LARGE):
        with pytest.raises(ZeroDivisionError):
            async with state.transaction() as tx:
                inside = tx.r2("bucket")
                await inside.put("key", value)
                found = await inside.get("key")
                assert isinstance(found, R2ObjectBody)
                bodies.append(found)
                raise ZeroDivisionError
    assert [await body.bytes() for body in bodies] == [b"small", LARGE]
    assert await bucket.head("key") is None


async def test_a_bucket_of_a_finished_transaction_is_of_no_use(
    state: State, bucket: R2Bucket
) -> None:
    async with state.transaction() as tx:
        inside = tx.r2("bucket")
        await inside.put("key", "value")
    with pytest.raises(bunflare.BunflareError):
        await inside.put("key", "late")
    assert await read(bucket, "key") == b"value"


async def test_large_objects_are_whole_after_the_commit(
    state: State, bucket: R2Bucket, directory: Path
) -> None:
    """Their bytes were written in advance, and must not be given up before the commit."""
    await bucket.put("source", LARGE)
    upload = await bucket.create_multipart_upload("completed")
    part = await upload.upload_part(1, LARGE)
    async with state.transaction() as tx:
        inside = tx.r2("bucket")
        await inside.put("bytes", LARGE)
        await inside.put("stream", chunks(LARGE))
        await inside.copy("source", "copy")
        await inside.resume_multipart_upload("completed", upload.upload_id).complete([part])
        begun = await inside.create_multipart_upload("begun")
        late = await begun.upload_part(1, LARGE)
    await bucket.resume_multipart_upload("begun", begun.upload_id).complete([late])
    expected = dict.fromkeys(("source", "bytes", "stream", "copy", "completed", "begun"), LARGE)
    assert await contents(bucket) == expected
    assert objects_on_disk(directory) == expected
    assert beside(directory) == {}


async def test_a_part_of_a_transaction_that_failed_was_never_uploaded(
    state: State, bucket: R2Bucket, directory: Path
) -> None:
    upload = await bucket.create_multipart_upload("key")
    first = await upload.upload_part(1, b"first" * 30_000)
    before = beside(directory)
    with pytest.raises(ZeroDivisionError):
        async with state.transaction() as tx:
            inside = tx.r2("bucket").resume_multipart_upload("key", upload.upload_id)
            await inside.upload_part(1, b"second" * 30_000)
            raise ZeroDivisionError
    assert beside(directory) == before
    await upload.complete([first])
    assert await read(bucket, "key") == b"first" * 30_000
