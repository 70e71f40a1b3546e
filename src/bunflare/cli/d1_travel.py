"""``bunflare d1 time-travel``: earlier states of a database."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from .d1_common import DATABASE, database_of, must_exist, name_of
from .place import Place, on_state
from .tables import JSON, show_json, tell

_TIMESTAMP = click.option(
    "--timestamp", help="The state of that time: ISO 8601, or seconds since the epoch."
)


@click.group("time-travel")
def time_travel() -> None:
    """Go back to an earlier state."""


@on_state(time_travel, "info", reads=True)
@DATABASE
@_TIMESTAMP
@JSON
async def bookmark(place: Place, name: str, timestamp: str | None, as_json: bool) -> None:
    """The bookmark of the present state, or of a time's."""
    at = None if timestamp is None else _time(timestamp)
    must_exist(place, name)
    found = await database_of(place, name).bookmark(at)
    if as_json:
        show_json({"bookmark": found})
    else:
        click.echo(found)


@on_state(time_travel, "restore", reads=True)
@DATABASE
@click.option("--bookmark", "mark", help="What `time-travel info` has printed.")
@_TIMESTAMP
@JSON
async def restore(
    place: Place, name: str, mark: str | None, timestamp: str | None, as_json: bool
) -> None:
    """Go back to the state of a bookmark or a time."""
    if (mark is None) == (timestamp is None):
        raise click.UsageError("give either --bookmark or --timestamp")
    to = mark if timestamp is None else _time(timestamp)
    must_exist(place, name)
    database = database_of(place, name)
    before = await database.restore(to or "")
    if as_json:
        show_json({"bookmark": await database.bookmark(), "previous_bookmark": before})
    else:
        click.echo(f"Restored. To undo it: --bookmark {before}")


@on_state(time_travel, "keep", reads=True)
@DATABASE
@click.option("--days", default=30.0, show_default=True, help="0 keeps nothing.")
@click.option("--megabytes", default=1024.0, show_default=True, help="Of changes.")
@JSON
async def keep(place: Place, name: str, days: float, megabytes: float, as_json: bool) -> None:
    """Say for how long earlier states are kept, and how much of them at most."""
    must_exist(place, name)
    await database_of(place, name).keep_history(days, megabytes)
    known = name_of(place, name)
    sentence = f"{known}: {days:g} days, up to {megabytes:g} MB"
    tell(as_json, sentence, name=known, days=days, megabytes=megabytes)


def _time(text: str) -> datetime:
    """A time of the command line; one without a zone is UTC."""
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        when = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise click.UsageError(f"{text!r} is no time: {error}") from error
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
