"""Large objects pass through: memory stays flat, and the event loop goes on."""

from __future__ import annotations

from pathlib import Path

from tests.support import child

PROGRAM = """
import asyncio, sys, bunflare
from pathlib import Path

MIB, directory, size = 2**20, Path(sys.argv[1]), int(sys.argv[2])
KEY = bytes(32)

def resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024

async def source():
    for number in range(size):
        yield number.to_bytes(2, "big") * (MIB // 2)

async def drained(body):
    number = 0
    rest = b""
    async for piece in body:
        rest += piece
        while len(rest) >= MIB:
            assert rest[:2] == number.to_bytes(2, "big")
            rest = rest[MIB:]
            number += 1
    assert (number, rest) == (size, b"")

async def main():
    async with bunflare.open(directory, durability="normal") as state:
        bucket = state.r2("bucket")
        # What is loaded when it is first used is none of an object's.
        await bucket.put("small", b"x" * 4 * MIB, ssec_key=KEY)
        await (await bucket.get("small", ssec_key=KEY)).bytes()
        await bucket.download_file("small", directory / "small", ssec_key=KEY)
        before = resident()
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await bucket.put("object", source())
        await drained((await bucket.get("object")).body)
        await bucket.put("again", (await bucket.get("object")).body)
        await bucket.put("secret", source(), ssec_key=KEY)
        await drained((await bucket.get("secret", ssec_key=KEY)).body)
        await bucket.copy("object", "copy")
        await bucket.download_file("copy", directory / "file")
        await bucket.upload_file("uploaded", directory / "file")
        upload = await bucket.create_multipart_upload("parts")
        part = await upload.upload_part(1, source())
        await upload.complete([part])
        for key in ("again", "uploaded", "parts"):
            await drained((await bucket.get(key)).body)
        ticking.cancel()
        print(round(resident() - before), ticks, flush=True)

asyncio.run(main())
"""


def test_memory_stays_flat_however_large_an_object_is(tmp_path: Path) -> None:
    size = 48
    with child(PROGRAM, tmp_path / ".bunflare", size) as process:
        growth, ticks = map(int, process.line(30).split())
    # Less than any one object, let alone the seven that went in and the six that came out.
    assert growth < size / 2
    assert ticks > 50
