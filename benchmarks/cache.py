"""The Cache API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import bunflare
from bunflare.store.kv import PUT

from . import floor
from .measure import Rates, Result, scratch


def run() -> Iterator[Result]:
    with asyncio.Runner() as runner, scratch() as directory:

        async def opened() -> bunflare.State:
            return bunflare.open(directory / "ours")

        state = runner.run(opened())
        cache = state.caches.default
        bare = floor.kv_table(directory / "floor.sqlite")
        execute = bare.cursor().execute
        urls = [f"https://example.com/{number}" for number in range(1000)]

        async def fill() -> None:
            for url in urls:
                headers = {"cache-control": "max-age=3600", "content-type": "text/html"}
                await cache.put(url, bunflare.Response(b"x" * 1024, headers=headers))
                execute(PUT, ("default", url, b"x" * 1024, None, None))

        runner.run(fill())
        some = urls[:100] * 100

        def floor_get() -> int:
            for url in some:
                execute(floor.GET, ("default", url)).fetchall()
            return len(some)

        async def ours() -> None:
            for url in some:
                assert await cache.match(url) is not None

        def our_match() -> int:
            runner.run(ours())
            return len(some)

        yield Rates(floor_get, our_match).result("Cache match, 1 KiB body", 0.5)
        runner.run(state.close())
        bare.close()
