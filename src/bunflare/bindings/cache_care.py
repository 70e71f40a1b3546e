"""Looking into the caches from outside: what they hold, and taking it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ..store import cache as store
from .text import after_prefix

if TYPE_CHECKING:
    from ..clock import Clock
    from ..store.database import Database
    from ..store.transaction import Transaction

_PAGE = 500


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """One entry that has not expired."""

    cache: str
    url: str
    status: int
    #: Bytes of its body.
    size: int
    #: Epoch milliseconds; None if another program stored it, or stored no such time.
    stored: int | None
    expires: int | None


class CacheCare:
    """The caches of a data directory, by the names that the table has for them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def names(self) -> list[str]:
        return store.caches(self._database.view)

    def entries(self, cache: str, prefix: str = "") -> Iterator[CachedResponse]:
        """The entries of a cache whose addresses begin so, in the order of these."""
        start = prefix
        end = after_prefix(prefix) if prefix else None
        bodies = self._database.directory.cache_bodies
        while rows := store.list_entries(self._database.view, cache, start, end, _PAGE):
            for url, status, size, expires, stored, file in rows:
                if expires is not None and expires <= self._clock.now():
                    continue
                if file is not None and not size:
                    path = bodies / file
                    size = path.stat().st_size if path.exists() else 0
                yield CachedResponse(cache, url, int(status), size, stored, expires)
            start = rows[-1][0] + "\0"

    async def purge(self, cache: str, urls: Iterable[str]) -> int:
        """Remove the entries of these addresses, in one commit; how many there were."""
        return await self._database.write(_purge, self, cache, list(urls))

    async def purge_all(self, cache: str, prefix: str = "") -> int:
        """Remove all entries whose addresses begin so; how many there were."""
        gone = 0
        while urls := [one.url for one in islice(self.entries(cache, prefix), _PAGE)]:
            gone += await self.purge(cache, urls)
        return gone


def _purge(tx: Transaction, care: CacheCare, cache: str, urls: list[str]) -> int:
    directory, now = care._database.directory.cache_bodies, care._clock.now()
    return sum(store.delete(tx, directory, cache, url, now) for url in urls)
