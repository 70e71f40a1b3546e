"""The Cache API as a library, on asyncio's own event loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import bunflare
from bunflare import Response

from .floor import NAMESPACE, Floor
from .peers import miniflare
from .report import Report

_BODY = b"x" * 1024
_HEADERS = {"cache-control": "max-age=3600", "content-type": "text/html;charset=utf-8"}


async def measure(scratch: Path) -> Report:
    report = Report()
    urls = [f"https://example.com/page/{number}" for number in range(1000)]
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(bunflare.open(scratch / "ours"))
        cache = await state.caches.open(NAMESPACE)
        floor = Floor(scratch / "floor.sqlite")
        stack.callback(floor.close)
        mini = miniflare.start(scratch / "miniflare", stack)

        for url in urls:
            await cache.put(url, Response(_BODY, headers=_HEADERS))
        floor.store(urls, json.dumps(list(_HEADERS.items())), _BODY)
        if mini is not None:
            mini.store(urls)

        async def match(urls: Sequence[str]) -> int:
            for url in urls:
                response = await cache.match(url)
                assert response is not None
                await response.bytes()
            return len(urls)

        await report.compare(
            "Cache match, 1 KiB body, read",
            0.5,
            lambda: urls,
            floor.match,
            match,
            {miniflare.NAME: mini.match if mini else None},
        )
    return report
