"""R2 against bare files: what one would write by hand, as durable as ours."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import bunflare
from bunflare import R2Bucket, R2ObjectBody

from .floor import Floor
from .measure import compare, contender
from .report import Report, Row, tell

_MIB = 1024 * 1024
_AT_ONCE = 64
_LIST = 1000
#: What goes in and out for the memory's sake, in GiB. ``BUNFLARE_BENCH_GIB=5`` for the whole.
_GIB = float(os.environ.get("BUNFLARE_BENCH_GIB", "1"))


class Files:
    """Files that are written and read by hand."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self._numbers = itertools.count()

    def put(self, values: Sequence[bytes], *, digest: bool = False) -> int:
        for data in values:
            if digest:
                hashlib.md5(data, usedforsecurity=False).hexdigest()
            number = next(self._numbers)
            partial = self._directory / f".{number}"
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.rename(self._directory / str(number % 1000))
        return len(values)

    def store(self, names: Sequence[str], data: bytes) -> None:
        for name in names:
            (self._directory / name).write_bytes(data)

    def get(self, names: Sequence[str]) -> int:
        for name in names:
            with open(f"{self._directory}/{name}", "rb") as file:  # noqa: PTH123 - the quicker one
                file.read()
        return len(names)

    def stream(self, names: Sequence[str]) -> int:
        for name in names:
            with (self._directory / name).open("rb") as file:
                while file.read(_MIB):
                    pass
        return len(names)


async def measure(scratch: Path) -> Report:
    report = Report()
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(bunflare.open(scratch / "ours"))
        await _puts(report, state.r2("put"), scratch)
        await _gets(report, state, scratch, stack)
    await _lists(report, scratch)
    await _memory(report, scratch)
    return report


async def _puts(report: Report, bucket: R2Bucket, scratch: Path) -> None:
    numbers = itertools.count()

    async def put(values: Sequence[bytes]) -> int:
        for data in values:
            await bucket.put(f"key{next(numbers) % 1000}", data)
        return len(values)

    async def put_at_once(values: Sequence[bytes]) -> int:
        waiting = iter(values)

        async def work() -> None:
            for data in waiting:
                await bucket.put(f"key{next(numbers)}", data)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return len(values)

    files = Files(scratch / "put")
    await report.compare(
        f"R2 put, 1 KiB, durable, {_AT_ONCE} at once",
        3.0,
        fresh(1024, _AT_ONCE * 10),
        lambda values: files.put(values[:_AT_ONCE]),
        put_at_once,
        seconds=0.5,
    )
    await report.compare(
        "R2 put, 1 KiB, durable, one at a time", None, fresh(1024, 100), files.put, put
    )
    await report.compare(
        "R2 put, 1 MiB, durable",
        0.6,
        fresh(_MIB, 10),
        lambda values: files.put(values, digest=True),
        put,
        seconds=0.5,
    )
    await report.compare(
        "R2 put, 100 MiB, durable",
        0.8,
        fresh(100 * _MIB, 1),
        lambda values: files.put(values, digest=True),
        put,
        seconds=0.5,
    )


async def _gets(
    report: Report, state: bunflare.State, scratch: Path, stack: AsyncExitStack
) -> None:
    bucket = state.r2("get")
    files = Files(scratch / "get")
    small = [f"small{number}" for number in range(1000)]
    middle = [f"middle{number}" for number in range(20)]
    for names, size in ((small, 1024), (middle, _MIB), (["large"], 100 * _MIB)):
        data = os.urandom(size)
        await asyncio.gather(*(bucket.put(name, data) for name in names))
        files.store(names, data)
    # As they are some seconds after they were written.
    await bucket.repair()
    floor = Floor(scratch / "floor.sqlite")
    stack.callback(floor.close)
    floor.put([(name, b"x" * 200) for name in small])

    async def get(names: Sequence[str]) -> int:
        for name in names:
            found = await bucket.get(name)
            assert isinstance(found, R2ObjectBody)
            await found.bytes()
        return len(names)

    async def stream(names: Sequence[str]) -> int:
        for name in names:
            found = await bucket.get(name)
            assert isinstance(found, R2ObjectBody)
            async for _ in found.body:
                pass
        return len(names)

    async def head(names: Sequence[str]) -> int:
        for name in names:
            await bucket.head(name)
        return len(names)

    await report.compare("R2 get, 1 KiB", 0.3, lambda: small, files.get, get)
    await report.compare("R2 get, 1 MiB", 0.8, lambda: middle, files.get, get)
    await report.compare(
        "R2 get, 100 MiB, as a stream", 0.8, lambda: ["large"], files.stream, stream
    )
    await report.compare("R2 head, to a bare point read", 0.5, lambda: small, floor.get, head)


async def _lists(report: Report, scratch: Path) -> None:
    """A page of a large bucket costs what one of a small bucket does."""
    async with bunflare.open(scratch / "lists") as state:
        tell("1,000,000 objects are being loaded")
        async with state.database.transaction() as tx:
            tx.run(_BULK, ("small", 1, 1000))
            tx.run(_BULK, ("large", 1000, 1000))
        small, large = state.r2("small"), state.r2("large")

        async def pages(bucket: R2Bucket, prefixes: Sequence[str]) -> int:
            for prefix in prefixes:
                page = await bucket.list(prefix=prefix)
                assert len(page.objects) == _LIST
            return len(prefixes)

        async def prefixes(bucket: R2Bucket, times: int) -> int:
            """How many prefixes were told: each costs a step, however many keys have it."""
            told = 0
            for _ in range(times):
                page = await bucket.list(delimiter="/")
                assert len(page.delimited_prefixes) == (1 if bucket is small else 1000)
                told += len(page.delimited_prefixes)
            return told

        wanted = itertools.cycle(f"p{number:03}/" for number in range(0, 1000, 7))
        rates = await compare(
            {
                "floor": contender(lambda: ["p000/"] * 5, lambda some: pages(small, some)),
                "ours": contender(
                    lambda: [next(wanted) for _ in range(5)], lambda some: pages(large, some)
                ),
            }
        )
        report.at_least("R2 list of 1,000, of 1,000,000 objects to one of 1,000", 0.7, rates)
        rates = await compare(
            {
                "floor": contender(lambda: 200, lambda times: prefixes(small, times)),
                "ours": contender(lambda: 1, lambda times: prefixes(large, times)),
            }
        )
        report.at_least(
            "R2 list with a delimiter, each of 1,000 prefixes of 1,000 objects, to the only one",
            1.0,
            rates,
        )


_BULK = """
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?2 * ?3)
INSERT INTO r2_objects (bucket, key, size, etag, uploaded)
SELECT ?1, printf('p%03d/%05d', n / ?3, n % ?3), 1, hex(randomblob(16)), '2026-01-01T00:00:00.000Z'
FROM numbers
"""


async def _memory(report: Report, scratch: Path) -> None:
    """How far the process grows while gigabytes go in and out. In a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        str(scratch / "memory"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    grown = int(output)
    report.add(
        Row(
            f"memory that {_GIB:g} GiB in and out take",
            "–",
            f"{grown / _MIB:.0f} MiB",
            "–",
            "at most 64 MiB",
            grown <= 64 * _MIB,
        )
    )


async def _in_and_out(directory: Path) -> None:
    block = os.urandom(_MIB)
    part = 512 * _MIB

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(part // _MIB):
            yield block

    async with bunflare.open(directory) as state:
        bucket = state.r2("memory")
        await bucket.put("warm", b"warm")
        before = _peak()
        upload = await bucket.create_multipart_upload("large")
        count = max(1, round(_GIB * 1024 * _MIB / part))
        parts = [await upload.upload_part(number + 1, blocks()) for number in range(count)]
        await upload.complete(parts)
        found = await bucket.get("large")
        assert isinstance(found, R2ObjectBody)
        size = 0
        async for chunk in found.body:
            size += len(chunk)
        assert size == count * part
        await bucket.delete("large")
        after = _peak()
    print(after - before)


def _peak() -> int:
    """The most memory that this process has had, in bytes, without its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def fresh(size: int, count: int) -> Callable[[], list[bytes]]:
    """Values that were never written before."""
    body = os.urandom(size - 16)
    return lambda: [os.urandom(16) + body for _ in range(count)]


if __name__ == "__main__":
    asyncio.run(_in_and_out(Path(sys.argv[1])))
