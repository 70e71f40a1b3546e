"""Looking after a bucket: what a person has done to its files is told, mended, or taken over."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bunflare
from bunflare import ManualClock, R2Bucket, R2Error
from tests.bindings.r2_tools import (
    beside,
    chunks,
    code_of,
    contents,
    names,
    objects_on_disk,
    read,
    written,
)

LARGE = os.urandom(100_000)


@pytest.fixture
async def place(bucket: R2Bucket, directory: Path) -> Path:
    """The directory of a bucket with a small object and a large one."""
    await bucket.put("small", "small", custom_metadata={"a": "b"})
    await bucket.put("dir/large", chunks(LARGE))
    # What is unsettled is flushed, so that the files are all there is.
    looked = await bucket.check(digests=True)
    assert (looked.objects, looked.size) == (2, 5 + len(LARGE))
    assert (looked.problems, looked.strangers) == ([], [])
    return directory / "r2" / "bucket"


async def kinds(bucket: R2Bucket, digests: bool = False) -> dict[str, str]:
    looked = await bucket.check(digests=digests)
    return {problem.key: problem.kind for problem in looked.problems}


async def test_an_empty_bucket_is_in_order(bucket: R2Bucket) -> None:
    looked = await bucket.check(digests=True)
    assert (looked.objects, looked.size, looked.problems, looked.strangers) == (0, 0, [], [])


async def test_a_missing_file_is_told(bucket: R2Bucket, place: Path) -> None:
    (place / "small").unlink()
    assert await kinds(bucket) == {"small": "missing"}
    with pytest.raises(R2Error) as caught:
        await bucket.get("small")
    assert code_of(caught.value) is not None
    # Nothing brings it back, and what is left of it can be deleted or replaced.
    await bucket.repair()
    assert await kinds(bucket) == {"small": "missing"}
    await bucket.put("small", "again")
    assert await read(bucket, "small") == b"again"
    shutil.rmtree(place / "dir")
    await bucket.delete("dir/large")
    assert await kinds(bucket, digests=True) == {}


async def test_a_file_that_was_changed_is_told_and_taken_over(
    bucket: R2Bucket, place: Path
) -> None:
    (place / "small").write_bytes(b"longer than before")
    (place / "dir" / "large").write_bytes(LARGE[::-1])
    assert await kinds(bucket) == {"small": "changed", "dir/large": "changed"}
    for key in ("small", "dir/large"):
        with pytest.raises(R2Error):
            await bucket.get(key)
    await bucket.repair()
    assert await kinds(bucket, digests=True) == {}
    assert await contents(bucket) == {"small": b"longer than before", "dir/large": LARGE[::-1]}
    head = await bucket.head("small")
    assert head is not None
    assert head.size == 18
    assert head.etag == hashlib.md5(b"longer than before").hexdigest()
    assert head.custom_metadata == {"a": "b"}


async def test_bytes_that_rotted_are_found_by_their_digest(bucket: R2Bucket, place: Path) -> None:
    path = place / "dir" / "large"
    before = path.stat()
    data = bytearray(LARGE)
    data[5000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await kinds(bucket) == {}
    assert await kinds(bucket, digests=True) == {"dir/large": "digest"}


async def test_files_that_were_only_touched_go_on_as_they_were(
    bucket: R2Bucket, place: Path
) -> None:
    before = [await bucket.head(key) for key in ("small", "dir/large")]
    for path in (place / "small", place / "dir" / "large"):
        os.utime(path)
    assert await contents(bucket) == {"small": b"small", "dir/large": LARGE}
    assert set(await kinds(bucket)) == {"small", "dir/large"}
    await bucket.repair()
    assert await kinds(bucket, digests=True) == {}
    after = [await bucket.head(key) for key in ("small", "dir/large")]
    for one, other in zip(before, after, strict=True):
        assert one is not None
        assert other is not None
        assert (one.etag, one.uploaded, one.custom_metadata) == (
            other.etag,
            other.uploaded,
            other.custom_metadata,
        )


async def test_a_copied_directory_is_as_good(
    directory: Path, tmp_path: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.r2("bucket").put("small", "small")
        await state.r2("bucket").put("dir/large", chunks(LARGE))
        await state.r2("bucket").put("secret", "secret", ssec_key=bytes(32))
    for how in ("copytree", "without times"):
        copied = tmp_path / how
        if how == "copytree":
            shutil.copytree(directory, copied)
        else:
            shutil.copytree(directory, copied, copy_function=shutil.copyfile)
        async with bunflare.open(copied, clock=clock) as state:
            bucket = state.r2("bucket")
            assert await read(bucket, "small") == b"small"
            assert await read(bucket, "dir/large") == LARGE
            assert await read(bucket, "secret", ssec_key=bytes(32)) == b"secret"
            await bucket.repair()
            assert (await bucket.check(digests=True)).problems == []


async def test_files_that_somebody_put_there_are_adopted(
    bucket: R2Bucket, place: Path, directory: Path, clock: ManualClock
) -> None:
    (place / "photo.jpg").write_bytes(b"jpeg")
    (place / "dir" / "deep").mkdir()
    (place / "dir" / "deep" / "page.html").write_bytes(LARGE)
    (place / "empty").touch()
    assert await names(bucket) == ["dir/large", "small"]
    looked = await bucket.check()
    assert sorted(looked.strangers) == ["dir/deep/page.html", "empty", "photo.jpg"]
    assert looked.problems == []
    adopted = await bucket.adopt("dir/")
    assert [item.key for item in adopted] == ["dir/deep/page.html"]
    adopted = await bucket.adopt()
    assert sorted(item.key for item in adopted) == ["empty", "photo.jpg"]
    expected = {
        "small": b"small",
        "dir/large": LARGE,
        "dir/deep/page.html": LARGE,
        "photo.jpg": b"jpeg",
        "empty": b"",
    }
    assert await contents(bucket) == expected
    assert objects_on_disk(directory) == expected
    assert beside(directory) == {}
    page = await bucket.head("dir/deep/page.html")
    assert page is not None
    assert page.etag == hashlib.md5(LARGE).hexdigest()
    assert page.http_metadata is not None
    assert page.http_metadata.content_type == "text/html"
    assert page.uploaded.timestamp() * 1000 == clock.now()
    looked = await bucket.check(digests=True)
    assert (looked.problems, looked.strangers) == ([], [])
    assert await bucket.adopt() == []


async def test_a_stranger_keeps_its_bytes_until_it_is_adopted_or_replaced(
    bucket: R2Bucket, place: Path
) -> None:
    (place / "stranger").write_bytes(b"stranger")
    assert await bucket.get("stranger") is None
    await bucket.delete("small")
    await bucket.delete("dir/large")
    assert (place / "stranger").read_bytes() == b"stranger"
    # Whoever puts an object of that name means it.
    await bucket.put("stranger", "mine")
    assert await read(bucket, "stranger") == b"mine"
    assert (place / "stranger").read_bytes() == b"mine"


async def test_links_are_not_adopted(bucket: R2Bucket, place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    (place / "link").symlink_to(tmp_path / "secret" / "file")
    (place / "folder").symlink_to(tmp_path / "secret", target_is_directory=True)
    os.mkfifo(place / "pipe")
    assert (await bucket.check()).strangers == []
    assert await bucket.adopt() == []
    assert await names(bucket) == ["dir/large", "small"]


async def test_odd_names_are_adopted_as_they_are(bucket: R2Bucket, place: Path) -> None:
    odd = ["100%", "%2F", "a:b", "con", "trailing ", "x%", "é", "%41"]
    for name in odd:
        (place / name).write_bytes(name.encode())
    adopted = await bucket.adopt()
    assert len(adopted) == len(odd)
    values = {await read(bucket, item.key) for item in adopted}
    assert values == {name.encode() for name in odd}
    # None was lost, whatever it is called now.
    looked = await bucket.check(digests=True)
    assert (looked.objects, looked.problems, looked.strangers) == (2 + len(odd), [], [])
    assert await bucket.adopt() == []


async def test_rows_of_another_program_are_objects(directory: Path, clock: ManualClock) -> None:
    """The seed's columns are all that such a row has, and its file lies at the plain key."""
    async with bunflare.open(directory, clock=clock) as state:
        value = b"theirs"
        for key in ("plain", "dir/plain", "100%"):
            path = directory / "r2" / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
            await state.database.write(
                lambda tx, key=key: tx.run(
                    "INSERT INTO r2_objects (bucket, key, size, etag, uploaded, http_metadata,"
                    " custom_metadata) VALUES ('bucket', ?, 6, ?, '2025-05-05T05:05:05.500Z',"
                    """ '{"contentType":"text/plain"}', '{"a":"b"}')""",
                    (key, hashlib.md5(value).hexdigest()),
                )
            )
        bucket = state.r2("bucket")
        assert await contents(bucket) == dict.fromkeys(("100%", "dir/plain", "plain"), value)
        head = await bucket.head("plain")
        assert head is not None
        assert head.uploaded.isoformat() == "2025-05-05T05:05:05.500000+00:00"
        assert head.http_metadata is not None
        assert head.http_metadata.content_type == "text/plain"
        assert head.custom_metadata == {"a": "b"}
        assert head.storage_class == "Standard"
        (found,) = [item async for item in parts(bucket, "plain")]
        assert found == b"eirs"
        looked = await bucket.check(digests=True)
        assert (looked.objects, looked.problems, looked.strangers) == (3, [], [])
        await written(bucket, "plain", "ours")
        await bucket.delete(["dir/plain", "100%"])
        assert await contents(bucket) == {"plain": b"ours"}
        assert objects_on_disk(directory) == {"plain": b"ours"}


async def parts(bucket: R2Bucket, key: str) -> AsyncIterator[bytes | None]:
    yield await read(bucket, key, range={"offset": 2})
