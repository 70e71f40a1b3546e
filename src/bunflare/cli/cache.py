"""``bunflare cache``: what the caches hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..errors import CacheValueError
from .names import completion
from .place import Place, confirm, did_you_mean, on_state
from .tables import JSON, many, show, tell

if TYPE_CHECKING:
    from ..bindings.cache_care import CacheCare

_PREFIX = click.option("--prefix", default="", help="Only addresses that begin with it.")


def _care(place: Place) -> CacheCare:
    from ..bindings.cache_care import CacheCare

    return CacheCare(place.state.database, place.state.clock)


_CACHE = click.option(
    "--cache",
    "name",
    help="Only this cache; the default one is `default`.",
    shell_complete=completion(None, lambda place: _care(place).names()),
)


@click.group("cache")
def command() -> None:
    """List and purge cached responses."""


def _chosen(care: CacheCare, name: str | None) -> list[str]:
    names = care.names()
    if name is None:
        return names
    if name not in names:
        raise CacheValueError(f"there is nothing in a cache {name!r}.{did_you_mean(name, names)}")
    return [name]


@on_state(command, "list", reads=True)
@_CACHE
@_PREFIX
@JSON
async def list_entries(place: Place, name: str | None, prefix: str, as_json: bool) -> None:
    """The responses that are kept, by cache and address. Of JSON, times are epoch milliseconds."""
    care = _care(place)
    rows = [
        {
            "cache": one.cache,
            "url": one.url,
            "status": one.status,
            "size": one.size,
            "stored": one.stored if as_json else _time(one.stored),
            "expires": one.expires if as_json else _time(one.expires),
        }
        for cache in _chosen(care, name)
        for one in care.entries(cache, prefix)
    ]
    show(rows, as_json)


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


@on_state(command, "purge", reads=True)
@click.argument("urls", metavar="[URL]...", nargs=-1)
@_CACHE
@_PREFIX
@click.option("--everything", is_flag=True, help="All that is kept.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@JSON
async def purge(
    place: Place,
    urls: tuple[str, ...],
    name: str | None,
    prefix: str,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove responses: those of URLs, of a prefix, of a cache, or everything."""
    if not (urls or prefix or name or everything):
        raise click.UsageError("give URLs, --prefix, --cache or --everything")
    if urls and (prefix or everything):
        raise click.UsageError("give either URLs or a --prefix, not both")
    care = _care(place)
    caches = _chosen(care, name)
    if not urls:
        what = f"that begins with {prefix!r}" if prefix else "that is kept"
        confirm(f"Remove everything {what} in {', '.join(caches) or 'no cache'}?", yes)
    gone = 0
    for cache in caches:
        gone += await (care.purge(cache, urls) if urls else care.purge_all(cache, prefix))
    tell(as_json, f"{many(gone, 'response', 'was', 'were')} removed.", caches=caches, removed=gone)
