"""A program that writes and reads as fast as it can beside others, and reports what it saw."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import bunflare


async def main(directory: str, me: int, others: int, seconds: float) -> None:
    async with bunflare.open(directory) as state:
        kv = state.kv("shared")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        waits: list[float] = []
        latest = [-1] * others
        increments = 0
        number = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            await kv.put(f"counter{me}", str(number))
            waits.append(time.monotonic() - started)
            assert await kv.get(f"counter{me}") == str(number)
            number += 1
            for other in range(others):
                value = await kv.get(f"counter{other}")
                if value is not None:
                    assert int(value) >= latest[other], "time ran backwards"
                    latest[other] = int(value)
            if number % 10 == 0:
                async with state.transaction() as tx:
                    total = await tx.kv("shared").get("total") or "0"
                    await tx.kv("shared").put("total", str(int(total) + 1))
                increments += 1
        waits.sort()
        report = {
            "writes": len(waits),
            "increments": increments,
            "median": waits[len(waits) // 2],
            "p99": waits[len(waits) * 99 // 100],
            "longest": waits[-1],
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
