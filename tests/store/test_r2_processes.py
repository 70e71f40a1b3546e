"""Several processes on one bucket: each reader sees whole versions, and no write is lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import R2ObjectBody
from bunflare.store.r2_files import R2Files
from tests.bindings.r2_tools import beside, objects_on_disk
from tests.support import PATIENCE, child

SECONDS = 1.0

COMMON = """
import asyncio, hashlib, json, os, random, select, sys, time, bunflare
from pathlib import Path

directory, me, size, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
word = f"{me}:{{:08}} "

def value(number):
    text = word.format(number).encode()
    return text * (size // len(text) + 1)

def number_of(body):
    '''Which version a body is; fails if it is not one and whole.'''
    text = body[: body.index(b" ") + 1]
    assert body == text * (len(body) // len(text)) and len(body) >= size, body[:50]
    return text.decode().strip()

async def pieces(body):
    for place in range(0, len(body), 30_000):
        yield body[place : place + 30_000]

def say(line):
    print(json.dumps(line), flush=True)

def ended():
    '''Whether the test has said so.'''
    return bool(select.select([sys.stdin], [], [], 0)[0])

async def main():
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        say("ready")
        sys.stdin.readline()
        await work(state, bucket, time.monotonic() + seconds)
"""

WRITER = (
    COMMON
    + """
async def work(state, bucket, end):
    number, last = 0, None
    while number <= 10 or not ended():
        number += 1
        body = value(number)
        if number % 7 == 0:
            await bucket.delete("dir/key")
        elif number % 3 == 0:
            upload = await bucket.create_multipart_upload("dir/key")
            part = await upload.upload_part(1, pieces(body))
            last = await upload.complete([part])
        else:
            last = await bucket.put("dir/key", pieces(body) if number % 2 else body)
        if number % 7:
            assert last.size == len(body)
    # The last word is a put, so that there is something to be found.
    last = await bucket.put("dir/key", value(number + 1))
    say({"version": last.version, "writes": number})
asyncio.run(main())
"""
)

READER = (
    COMMON
    + """
async def work(state, bucket, end):
    reads = missing = 0
    seen = set()
    file = Path(directory) / "r2" / "bucket" / "dir" / "key"
    while time.monotonic() < end or reads <= 10 or len(seen) <= 3:
        await asyncio.sleep(0)
        found = await bucket.get("dir/key")
        if found is None:
            missing += 1
        else:
            # A while goes by before it is read, or between its pieces.
            await asyncio.sleep(random.choice([0, 0.001]))
            body = b""
            async for piece in found.body:
                body += piece
                if random.random() < 0.1:
                    await asyncio.sleep(0.0005)
            assert len(body) == found.size
            if "-" not in found.etag:
                assert hashlib.md5(body).hexdigest() == found.etag
            else:
                whole = hashlib.md5(hashlib.md5(body).digest()).hexdigest()
                assert found.etag == f"{whole}-1"
            seen.add(number_of(body))
            reads += 1
            # A part of it, of whatever it is by now.
            found = await bucket.get("dir/key", range={"offset": 0, "length": 11})
            if found is not None:
                assert len(await found.bytes()) == 11
        # Whoever only knows the file sees whole versions as well.
        try:
            number_of(file.read_bytes())
        except FileNotFoundError:
            pass
        page = await bucket.list()
        assert [item.key for item in page.objects] in ([], ["dir/key"])
    say({"reads": reads, "missing": missing, "versions": len(seen)})
asyncio.run(main())
"""
)

COUNTER = (
    COMMON
    + """
async def work(state, bucket, end):
    for _ in range(size):
        while True:
            found = await bucket.get("counter")
            number = str(int(await found.text()) + 1)
            if await bucket.put("counter", number, only_if={"etag_matches": found.etag}):
                break
    say("counted")
asyncio.run(main())
"""
)


@pytest.mark.parametrize("size", [1000, 300_000])
async def test_readers_and_writers_of_one_key_see_whole_versions(
    directory: Path, size: int
) -> None:
    async with bunflare.open(directory) as state:
        await state.r2("bucket").put("other", "value")
        await state.r2("bucket").delete("other")
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context(
                child(WRITER if name.startswith("w") else READER, directory, name, size, SECONDS)
            )
            for name in ("w1", "w2", "r1", "r2")
        }
        for program in programs.values():
            assert json.loads(program.line()) == "ready"
        for program in programs.values():
            program.tell("go")
        # Writers go on until readers have seen enough, however long that takes here.
        reports = {
            name: json.loads(programs[name].line(SECONDS + PATIENCE)) for name in ("r1", "r2")
        }
        for name in ("w1", "w2"):
            programs[name].tell("end")
            reports[name] = json.loads(programs[name].line())
        for program in programs.values():
            assert await asyncio.to_thread(program.process.wait, 30) == 0
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        found = await bucket.get("dir/key")
        assert isinstance(found, R2ObjectBody)
        # One of the two was the last to write.
        assert found.version in {reports[name]["version"] for name in ("w1", "w2")}
        body = await found.bytes()
        assert hashlib.md5(body).hexdigest() == found.etag
        looked = await bucket.check(digests=True)
        assert (looked.objects, looked.problems, looked.strangers) == (1, [], [])
    assert objects_on_disk(directory) == {"dir/key": body}
    assert beside(directory) == {}


async def test_no_increment_of_two_processes_is_lost(directory: Path) -> None:
    each = 60
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        await bucket.put("counter", "0")
        with ExitStack() as stack:
            programs = [
                stack.enter_context(child(COUNTER, directory, name, each, 0)) for name in "ab"
            ]
            for program in programs:
                assert json.loads(program.line()) == "ready"
            for program in programs:
                program.tell("go")
            for program in programs:
                assert json.loads(program.line()) == "counted"
        found = await bucket.get("counter")
        assert isinstance(found, R2ObjectBody)
        assert await found.text() == str(2 * each)


async def test_a_put_is_seen_by_other_processes_at_once(directory: Path) -> None:
    source = """
    import asyncio, sys, bunflare
    async def main():
        async with bunflare.open(sys.argv[1]) as state:
            bucket = state.r2("bucket")
            for line in sys.stdin:
                found = await bucket.get(line.strip())
                print("none" if found is None else await found.text(), flush=True)
    asyncio.run(main())
    """
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        with child(source, directory) as other:
            for number in range(20):
                key = f"key{number % 3}"
                await bucket.put(key, f"value {number}")
                other.tell(key)
                assert other.line() == f"value {number}"
                await bucket.delete(key)
                other.tell(key)
                assert other.line() == "none"


OVERWRITER = """
import asyncio, sys, bunflare
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        for line in sys.stdin:
            await state.r2("bucket").put("key", line.strip() * 30_000)
            print("done", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("misses", ["01", "10", "011", "101", "0110", "1111"])
async def test_a_reader_that_is_overtaken_looks_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch, misses: str
) -> None:
    """Between row and file, each look may be overtaken: by a file that is just being moved to its
    place (0), or by another version (1)."""
    look = R2Files.open
    plan = list(misses)
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        await bucket.put("key", "first" * 30_000)
        with child(OVERWRITER, directory) as other:

            def overtaken(self: R2Files, *arguments: Any) -> int | None:
                if not plan:
                    return look(self, *arguments)
                if plan.pop(0) == "0":
                    return None
                other.tell(f"new{len(plan)}")
                assert other.line() == "done"
                return look(self, *arguments)

            monkeypatch.setattr(R2Files, "open", overtaken)
            found = await bucket.get("key")
            assert isinstance(found, R2ObjectBody)
            body = await found.bytes()
            assert hashlib.md5(body).hexdigest() == found.etag
            last = len(misses) - 1 - misses.rindex("1")
            assert body == f"new{last}".encode() * 30_000
