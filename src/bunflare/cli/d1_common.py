"""What the commands of ``bunflare d1`` share: which database is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from ..errors import D1Error
from .names import completion
from .place import Place, did_you_mean

if TYPE_CHECKING:
    from ..bindings.d1 import D1Database
    from ..bindings.d1_care import D1Care
    from ..config import D1DatabaseConfig


class Bound(NamedTuple):
    """A database of the wrangler file."""

    #: That of its file, and of `State.d1`.
    name: str
    binding: str
    config: D1DatabaseConfig


def bound(place: Place) -> Iterator[Bound]:
    """The databases of the wrangler file."""
    for one in place.config.d1_databases if place.config else ():
        yield Bound(one.database_name or one.database_id or one.binding, one.binding, one)


def _declared(place: Place) -> Iterator[str]:
    for one in bound(place):
        yield from (one.name, one.binding)


def _stored(place: Place) -> Iterator[str]:
    yield from care(place).sizes()


DATABASE = click.argument("name", shell_complete=completion(_declared, _stored))


def care(place: Place) -> D1Care:
    from ..bindings.d1_care import D1Care

    return D1Care(place.state.directory)


def config_of(place: Place, name: str) -> D1DatabaseConfig:
    """What the wrangler file says of the database of that name or binding; else the defaults."""
    from ..config import D1DatabaseConfig

    for one in bound(place):
        if name in (one.config.database_name, one.binding, one.config.database_id):
            return one.config
    return D1DatabaseConfig(binding=name, database_name=name)


def name_of(place: Place, name: str) -> str:
    """The name of the database's file."""
    found = config_of(place, name)
    return found.database_name or found.database_id or found.binding


def database_of(place: Place, name: str) -> D1Database:
    return place.state.d1(name_of(place, name))


def must_exist(place: Place, name: str) -> None:
    """Fail if nobody has declared or made a database."""
    known = {*_declared(place), *_stored(place)}
    if name_of(place, name) not in known:
        raise D1Error(f"there is no database {name!r}.{did_you_mean(name, known)}")


def mention_new(place: Place, name: str) -> None:
    """Say that a database is made now, where another was perhaps meant."""
    known = {*_declared(place), *_stored(place)}
    close = did_you_mean(name, known, cutoff=0.75)
    if close and name_of(place, name) not in known:
        click.echo(f"{name!r} is a new database.{close}", err=True)
