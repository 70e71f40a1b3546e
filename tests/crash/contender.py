"""A program that writes and reads as fast as it can beside others, and reports what it saw.

It is told who it is, how many there are, and for how many seconds to go on. An error that reaches
it, a counter of another that runs backwards, or a write of its own that it does not read back ends
it with a traceback.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

import bunflare

#: One round in so many also adds a key that is never written again, and counts up what all share.
SELDOM = 10


class Kept(logging.Handler):
    """What bunflare had to say for itself: with nothing wrong, that is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


def spread(waits: list[float]) -> dict[str, float]:
    """The distribution of waits, in milliseconds."""
    waits = sorted(waits) or [0.0]
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "longest": 1.0}
    return {name: round(waits[int((len(waits) - 1) * part)] * 1000, 2) for name, part in at.items()}


async def main(directory: str, me: int, processes: int, seconds: float) -> None:
    kept = Kept()
    logging.getLogger("bunflare").addHandler(kept)
    async with bunflare.open(directory) as state:
        kv = state.kv("shared")
        waits: list[float] = []
        transactions: list[float] = []

        async def put(key: str, value: str) -> None:
            started = time.perf_counter()
            await kv.put(key, value)
            waits.append(time.perf_counter() - started)

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        latest = [-1] * processes
        number = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await put(f"counter{me}", str(number))
            for other in range(processes):
                value = int(await kv.get(f"counter{other}") or -1)
                assert value >= latest[other], f"{other} went from {latest[other]} to {value}"
                latest[other] = value
            assert latest[me] == number, f"read {latest[me]} after writing {number}"
            number += 1
            if number % SELDOM == 0:
                await put(f"own{me}.{number}", str(number))
                started = time.perf_counter()
                async with state.transaction() as tx:
                    shared = tx.kv("shared")
                    total = int(await shared.get("total") or 0)
                    await shared.put("total", str(total + 1))
                transactions.append(time.perf_counter() - started)
        report = {
            "rounds": number,
            "own": number // SELDOM,
            "writes": len(waits),
            "put": spread(waits),
            "transaction": spread(transactions),
            "logged": [len(kept.texts), *kept.texts[:3]],
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
