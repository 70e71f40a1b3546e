"""A disk that is full in the middle of a put: the old object stays, the error is clear, and nothing
is left of what failed."""

from __future__ import annotations

from pathlib import Path

from tests.support import child

# Without the right to mount a small disk, a limit on the size of files stands for one.
COMMON = """
import asyncio, os, resource, signal, sys, bunflare
from pathlib import Path

place, limited, MIB = Path(sys.argv[1]), sys.argv[2] == "limit", 2**20
KEY = bytes(range(32))

async def stream(size):
    for _ in range(size // 65536):
        yield b"s" * 65536

def files(directory):
    return {
        str(path.relative_to(directory)): path.stat().st_size
        for path in directory.rglob("*") if path.is_file()
    }

def left():
    '''What lies there beside the database.'''
    return {
        name: size for name, size in files(place).items()
        if not name.startswith(("data.sqlite", "writer.lock", ".gitignore"))
    }

async def text(bucket, key):
    found = await bucket.get(key)
    return None if found is None else await found.bytes()

async def refused(work):
    try:
        await work
    except bunflare.DatabaseError as error:
        if not limited:
            assert isinstance(error, bunflare.DatabaseFull), repr(error)
            assert "full" in str(error), error
    else:
        raise AssertionError("there was room")

def limit():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, resource.RLIM_INFINITY))

def free():
    if limited:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else:
        os.remove(sys.argv[3])

"""

LARGE = (
    COMMON
    + """
async def main():
    async with bunflare.open(place) as state:
        bucket = state.r2("bucket")
        await bucket.put("small", "kept")
        await bucket.put("large", b"k" * MIB)
        source = sys.argv[4]
        with open(source, "wb") as file:
            file.truncate(20 * MIB)
        upload = await bucket.create_multipart_upload("parts")
        part = await upload.upload_part(1, b"p" * 100_000)
        before = left()
        if limited:
            limit()
        for _ in range(2):
            for key in ("small", "large", "new"):
                await refused(bucket.put(key, b"x" * 20 * MIB))
                await refused(bucket.put(key, stream(20 * MIB)))
                await refused(bucket.put(key, stream(20 * MIB), ssec_key=KEY))
                await refused(bucket.upload_file(key, source))
            await refused(upload.upload_part(1, stream(20 * MIB)))
            await refused(upload.upload_part(2, b"x" * 20 * MIB))
            # Nothing is half, and reads go on.
            assert await text(bucket, "small") == b"kept"
            assert await text(bucket, "large") == b"k" * MIB
            assert [item.key for item in (await bucket.list()).objects] == ["large", "small"]
            assert left() == before, left()
        free()
        # There is room again.
        await bucket.put("large", stream(3 * MIB))
        await upload.complete([part])
        assert await text(bucket, "parts") == b"p" * 100_000
    async with bunflare.open(place) as state:
        bucket = state.r2("bucket")
        assert await text(bucket, "large") == b"s" * 3 * MIB
        looked = await bucket.check(digests=True)
        assert (looked.objects, looked.problems, looked.strangers) == (3, [], []), looked
        assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    assert set(left()) == {f"r2/bucket/{key}" for key in ("small", "large", "parts")}, left()
    print("fine", flush=True)

asyncio.run(main())
"""
)

SMALL = (
    COMMON
    + """
async def main():
    told = {}
    async with bunflare.open(place) as state:
        bucket = state.r2("bucket")
        await bucket.put("key0", "kept")
        told["key0"] = b"kept"
        failed = 0
        if limited:
            limit()
        for number in range(2000):
            # Each is new, and overwrites what may have failed before.
            key, value = f"key{number % 400}", b"%06d " % number * 5000
            try:
                await bucket.put(key, value)
            except bunflare.DatabaseError as error:
                assert limited or isinstance(error, bunflare.DatabaseFull), repr(error)
                assert limited or "full" in str(error), error
                failed += 1
                if failed == 20:
                    break
            else:
                told[key] = value
        # A limit on each file is only met where the database itself grows.
        assert failed == 20 or limited
        if not limited:
            # What the disk has no room for waits in the database, however much that is.
            try:
                await bucket.check()
            except bunflare.DatabaseFull:
                pass
        for key, value in told.items():
            assert await text(bucket, key) == value, key
        assert len((await bucket.list()).objects) == len(told)
        free()
        await bucket.put("room", "again")
        told["room"] = b"again"
        for key, value in told.items():
            assert await text(bucket, key) == value, key
    async with bunflare.open(place) as state:
        bucket = state.r2("bucket")
        for key, value in told.items():
            assert await text(bucket, key) == value, key
        looked = await bucket.check(digests=True)
        assert (looked.objects, looked.problems, looked.strangers) == (len(told), [], []), looked
        assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    assert left() == {f"r2/bucket/{key}": len(value) for key, value in told.items()}, left()
    print("fine", flush=True)

asyncio.run(main())
"""
)


def run(source: str, ballast_size: int, small_disk: Path | None, tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    ballast = (small_disk or tmp_path) / "ballast"
    ballast.write_bytes(bytes(ballast_size))
    place = (small_disk or tmp_path) / "state"
    mode = "limit" if small_disk is None else "disk"
    with child(source, place, mode, ballast, tmp_path / "source") as process:
        # Up to 2,000 objects, each of which is put on disk.
        assert process.line(120) == "fine"


def test_a_put_that_the_disk_cannot_hold_leaves_nothing(
    small_disk: Path | None, tmp_path: Path
) -> None:
    run(LARGE, 5 * 2**20, small_disk, tmp_path)


def test_what_was_acknowledged_before_the_disk_was_full_stays(
    small_disk: Path | None, tmp_path: Path
) -> None:
    # What waits for its file fits into what the ballast leaves, however much that is.
    run(SMALL, 13 * 2**19, small_disk, tmp_path)


def test_so_it_is_where_files_may_not_grow(tmp_path: Path) -> None:
    run(LARGE, 0, None, tmp_path)
    run(SMALL, 0, None, tmp_path / "other")
