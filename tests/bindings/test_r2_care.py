"""Looking after a bucket's files: what others did to them, and files that somebody put there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import bunflare
from bunflare import ManualClock, R2Bucket, R2Error, R2HTTPMetadata
from tests.bindings.r2_tools import names, objects_on_disk, opened, read

LARGE = bytes(range(256)) * 1000


async def settled(bucket: R2Bucket) -> None:
    """Have everything in files alone."""
    await bucket._settler.flush()


def of(directory: Path, key: str) -> Path:
    return directory / "r2" / "bucket" / key


async def test_a_sound_bucket_has_no_problems(bucket: R2Bucket) -> None:
    nothing = await bucket.check(digests=True)
    assert (nothing.objects, nothing.size, nothing.problems, nothing.strangers) == (0, 0, [], [])
    await bucket.put("a", "one")
    await bucket.put("a/b", LARGE)
    found = await bucket.check(digests=True)
    assert (found.objects, found.size) == (2, 3 + len(LARGE))
    assert (found.problems, found.strangers) == ([], [])
    assert (await bucket.check()) == found


@pytest.mark.parametrize(
    ("harm", "kind", "repaired"),
    [
        (lambda path: path.unlink(), "missing", None),
        (lambda path: path.write_bytes(b"other"), "changed", b"other"),
        (lambda path: path.write_bytes(b"0" * len(LARGE)), "changed", b"0" * len(LARGE)),
        (lambda path: os.utime(path), "changed", LARGE),
    ],
)
async def test_what_was_done_to_a_file_is_told_and_put_right(
    bucket: R2Bucket,
    directory: Path,
    harm: Callable[[Path], None],
    kind: str,
    repaired: bytes | None,
) -> None:
    await bucket.put("dir/key", LARGE, custom_metadata={"kept": "yes"})
    await bucket.put("other", "sound")
    await settled(bucket)
    harm(of(directory, "dir/key"))
    [problem] = (await bucket.check()).problems
    assert (problem.key, problem.kind) == ("dir/key", kind)
    assert (await bucket.repair()).problems == [problem]
    if repaired is None:
        assert [one.kind for one in (await bucket.check()).problems] == ["missing"]
        with pytest.raises(R2Error, match="missing"):
            await bucket.get("dir/key")
        return
    assert (await bucket.check(digests=True)).problems == []
    found = await opened(bucket, "dir/key")
    assert (await found.bytes(), found.custom_metadata) == (repaired, {"kept": "yes"})


async def test_changed_bytes_of_the_same_time_and_size_are_found_by_their_digest(
    bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("key", LARGE)
    await settled(bucket)
    path = of(directory, "key")
    before = path.stat()
    path.write_bytes(b"0" * len(LARGE))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await bucket.check()).problems == []
    assert [one.kind for one in (await bucket.check(digests=True)).problems] == ["digest"]
    await bucket.repair()
    assert await read(bucket, "key") == b"0" * len(LARGE)


async def test_reading_puts_up_with_a_new_time_but_not_with_other_bytes(
    bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("key", LARGE)
    await settled(bucket)
    os.utime(of(directory, "key"))
    assert await read(bucket, "key") == LARGE
    of(directory, "key").write_bytes(b"0" * len(LARGE))
    with pytest.raises(R2Error, match="were changed beside bunflare"):
        await bucket.get("key")
    of(directory, "key").write_bytes(b"shorter")
    with pytest.raises(R2Error, match="missing, or was changed"):
        await bucket.get("key")


async def test_a_copied_directory_works_whatever_became_of_its_times(
    directory: Path, tmp_path: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        bucket = state.r2("bucket")
        await bucket.put("small", "value")
        await bucket.put("dir/large", LARGE)
    copied = tmp_path / "copy"
    shutil.copytree(directory, copied, copy_function=shutil.copyfile)
    async with bunflare.open(copied, clock=clock) as state:
        bucket = state.r2("bucket")
        assert await read(bucket, "small") == b"value"
        assert await read(bucket, "dir/large") == LARGE
        await bucket.repair()
        assert (await bucket.check(digests=True)).problems == []


async def test_files_put_there_by_hand_become_objects(bucket: R2Bucket, directory: Path) -> None:
    await bucket.put("known", "value")
    of(directory, "site/img").mkdir(parents=True)
    of(directory, "site/img/cat.png").write_bytes(b"png")
    of(directory, "site/50% off.txt").write_text("sale")
    of(directory, "notes").write_bytes(LARGE)
    strangers = (await bucket.check()).strangers
    assert strangers == ["notes", "site/50% off.txt", "site/img/cat.png"]
    counts: list[int] = []
    adopted = await bucket.adopt("site/", progress=counts.append)
    assert [one.key for one in adopted] == strangers[1:]
    assert counts == list(range(1, len(strangers)))
    assert await names(bucket) == ["known", *strangers[1:]]
    cat = await opened(bucket, "site/img/cat.png")
    assert cat.http_metadata == R2HTTPMetadata(content_type="image/png")
    assert (await cat.bytes(), await read(bucket, "site/50% off.txt")) == (b"png", b"sale")
    [notes] = await bucket.adopt()
    assert (notes.size, await read(bucket, "notes")) == (len(LARGE), LARGE)
    assert await bucket.adopt() == []
    found = await bucket.check(digests=True)
    assert (found.objects, found.problems, found.strangers) == (4, [], [])


async def test_a_stranger_keeps_its_bytes_until_it_is_adopted_or_replaced(
    bucket: R2Bucket, directory: Path
) -> None:
    await bucket.put("small", "value")
    of(directory, "stranger").write_bytes(b"stranger")
    assert await bucket.get("stranger") is None
    await bucket.delete("small")
    assert of(directory, "stranger").read_bytes() == b"stranger"
    # Whoever puts an object of that name means it.
    await bucket.put("stranger", "mine")
    assert await read(bucket, "stranger") == b"mine"
    assert of(directory, "stranger").read_bytes() == b"mine"


async def test_odd_names_are_adopted_as_they_are(bucket: R2Bucket, directory: Path) -> None:
    odd = ["100%", "%2F", "a:b", "con", "trailing ", "x%", "é", "%41"]
    of(directory, "").mkdir(parents=True)
    for name in odd:
        of(directory, name).write_bytes(name.encode())
    adopted = await bucket.adopt()
    assert len(adopted) == len(odd)
    values = {await read(bucket, item.key) for item in adopted}
    assert values == {name.encode() for name in odd}
    # None was lost, whatever it is called now.
    looked = await bucket.check(digests=True)
    assert (looked.objects, looked.problems, looked.strangers) == (len(odd), [], [])
    assert await bucket.adopt() == []


async def test_links_and_odd_things_are_never_adopted(
    bucket: R2Bucket, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    await bucket.put("key", "value")
    of(directory, "link").symlink_to(tmp_path / "secret")
    of(directory, "dir").symlink_to(tmp_path)
    os.mkfifo(of(directory, "pipe"))
    assert (await bucket.check()).strangers == []
    assert await bucket.adopt() == []


async def test_an_encrypted_object_whose_file_was_touched_keeps_its_key(
    bucket: R2Bucket, directory: Path
) -> None:
    key = os.urandom(32)
    await bucket.put("key", LARGE, ssec_key=key)
    await settled(bucket)
    os.utime(of(directory, "key"))
    await bucket.repair()
    assert await read(bucket, "key", ssec_key=key) == LARGE
    of(directory, "key").write_bytes(b"what is this")
    assert [one.kind for one in (await bucket.repair()).problems] == ["changed"]
    assert [one.kind for one in (await bucket.check()).problems] == ["changed"]


async def test_a_bucket_cannot_be_looked_after_inside_a_transaction(state: bunflare.State) -> None:
    async with state.transaction() as tx:
        for look in (tx.r2("bucket").check, tx.r2("bucket").repair, tx.r2("bucket").adopt):
            with pytest.raises(R2Error):
                await look()


# -- what other programs wrote -------------------------------------------------------------------


def seed_object(directory: Path, key: str, data: bytes, **row: object) -> None:
    """Write an object as a program does that follows the seed."""
    path = of(directory, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    values = {
        "size": len(data),
        "etag": "etag",
        "uploaded": "2025-01-02T03:04:05.678Z",
        "http_metadata": '{"contentType":"text/plain"}',
        "custom_metadata": '{"a":"b"}',
        **row,
    }
    connection = apsw.Connection(str(directory / "data.sqlite"))
    connection.execute(
        "INSERT INTO r2_objects (bucket, key, size, etag, uploaded, http_metadata, custom_metadata)"
        " VALUES ('bucket', ?, ?, ?, ?, ?, ?) ON CONFLICT (bucket, key) DO UPDATE SET"
        " size = excluded.size, etag = excluded.etag, uploaded = excluded.uploaded",
        (key, *values.values()),
    )
    connection.close()


async def test_objects_of_a_program_that_follows_the_seed_are_read(directory: Path) -> None:
    async with bunflare.open(directory):
        pass
    seed_object(directory, "dir/100%.txt", b"value")
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        found = await opened(bucket, "dir/100%.txt")
        assert (await found.bytes(), found.etag, found.size) == (b"value", "etag", 5)
        assert found.uploaded.isoformat() == "2025-01-02T03:04:05.678000+00:00"
        assert found.http_metadata == R2HTTPMetadata(content_type="text/plain")
        assert (found.custom_metadata, found.storage_class) == ({"a": "b"}, "Standard")
        assert found.version
        assert (await bucket.check()).problems == []
        assert (await bucket.copy("dir/100%.txt", "copy")) is not None
        await bucket.put("dir/100%.txt", "ours")
        assert await read(bucket, "dir/100%.txt") == b"ours"
        await bucket.delete(["dir/100%.txt", "copy"])
    assert objects_on_disk(directory) == {}


async def test_what_a_program_writes_over_one_of_ours_is_what_it_wrote(directory: Path) -> None:
    async with bunflare.open(directory) as state:
        await state.r2("bucket").put("key", "ours")
        await state.r2("bucket").put("large", LARGE, storage_class="InfrequentAccess")
    seed_object(directory, "key", b"theirs, and longer")
    seed_object(directory, "large", b"theirs", uploaded="not a date")
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        assert await read(bucket, "key") == b"theirs, and longer"
        found = await opened(bucket, "large")
        assert (await found.text(), found.storage_class) == ("theirs", "Standard")
        assert (await bucket.check()).problems == []


async def test_the_file_of_another_programs_object_is_nobody_elses(directory: Path) -> None:
    async with bunflare.open(directory):
        pass
    # The path that we would use for the key "a%b".
    seed_object(directory, "a%25b", b"theirs")
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        await bucket.put("a%b", "ours")
        assert await read(bucket, "a%25b") == b"theirs"
        assert await read(bucket, "a%b") == b"ours"
