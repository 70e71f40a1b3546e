"""The bindings for rate limits and for the version of a Worker."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from ..clock import Clock
from ..config import Config, RateLimitConfig
from ..errors import WorkerError
from ..web.objects import JsDict

# Keys that are counted at most; the oldest are forgotten first.
_MOST_KEYS = 10_000


class RateLimit:
    """``await env.LIMITER.limit({"key": …})`` → ``{"success": …}``, counted in this process."""

    def __init__(self, config: RateLimitConfig, clock: Clock) -> None:
        self._limit = config.simple.limit
        self._period = config.simple.period * 1000
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    async def limit(self, options: Any = None, *, key: str | None = None) -> JsDict:
        """Count one more of ``key``; success is False beyond the limit of its period."""
        key = (options or {}).get("key") if key is None else key
        if not isinstance(key, str):
            raise WorkerError("rate limiting needs a key, which must be a str")
        now = self._clock.now()
        begun, count = self._counts.pop(key, (now, 0))
        if now >= begun + self._period:
            begun, count = now, 0
        self._counts[key] = begun, count + 1
        if len(self._counts) > _MOST_KEYS:
            self._counts.popitem(last=False)
        return JsDict(success=count < self._limit)


def version_metadata(config: Config) -> JsDict:
    """``id``, ``tag`` and ``timestamp``: an id that changes with the Worker's main module."""
    source = b"" if config.main is None else config.main.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32])
    moment = 0.0 if config.main is None else config.main.stat().st_mtime
    from datetime import UTC, datetime

    timestamp = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    return JsDict(id="-".join(parts), tag="", timestamp=timestamp)
