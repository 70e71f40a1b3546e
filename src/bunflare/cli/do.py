"""``bunflare do``: Durable Objects from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..bindings.object_past import DAYS, MEGABYTES
from ..errors import DurableObjectError
from ..values import dumps
from .names import completion
from .place import Place, did_you_mean, group_options, on_state, read_file
from .tables import ALWAYS_JSON, JSON, flat, show, tell

if TYPE_CHECKING:
    from ..bindings.object_care import ObjectCare

_MOST_OBJECTS = 1000


def _care(place: Place) -> ObjectCare:
    from ..bindings.object_care import ObjectCare
    from ..bindings.object_limits import key_value_classes

    small = set()
    if place.config is not None:
        small = key_value_classes(place.config.migrations, place.config.exports)
    return ObjectCare(place.state.database, place.state.clock, small)


def _declared(place: Place) -> Iterator[str]:
    for one in place.config.durable_objects.bindings if place.config else ():
        yield from (one.name, one.class_name)


def _named(place: Place, namespace: str) -> str:
    """The class that a word means."""
    for one in place.config.durable_objects.bindings if place.config else ():
        if one.name == namespace:
            return one.class_name
    return namespace


def _objects(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Of the namespace that stands before: objects by their names, or else their digits."""

    def names(place: Place) -> list[str]:
        namespace = _named(place, context.params["namespace"])
        some = islice(_care(place).objects(namespace), _MOST_OBJECTS)
        return [one.name or one.id for one in some]

    return completion(None, names)(context, parameter, begun)


_complete_namespace = completion(_declared, lambda place: _care(place).namespaces())
_NAMESPACE = click.argument("namespace", shell_complete=_complete_namespace)
_ANY_NAMESPACE = click.argument("namespace", required=False, shell_complete=_complete_namespace)
_OBJECT = click.argument("object", shell_complete=_objects)


def _known(place: Place, namespace: str) -> tuple[ObjectCare, str]:
    """The objects, and the class that a word means, of which there must be some."""
    care = _care(place)
    names = care.namespaces()
    found = _named(place, namespace)
    if found not in names:
        known = {*names, *_declared(place)}
        close = "" if namespace in known else did_you_mean(namespace, known)
        raise DurableObjectError(f"there is no object of {namespace!r}.{close}")
    return care, found


@click.group("do")
@group_options
def command() -> None:
    """Look into Durable Objects: storage, SQL and alarms.

    A NAMESPACE is the name of a class, or of its binding in the wrangler file; an OBJECT is given
    by its name or its 64 digits.
    """


@on_state(command, "list", reads=True)
@_ANY_NAMESPACE
@JSON
async def list_objects(place: Place, namespace: str | None, as_json: bool) -> None:
    """The namespaces, or the objects of one."""
    if namespace is None:
        care = _care(place)
        counts = [{"namespace": one, "objects": care.count(one)} for one in care.namespaces()]
        show(counts, as_json)
    else:
        care, namespace = _known(place, namespace)
        show([flat(one) for one in care.objects(namespace)], as_json)


@command.group("storage")
def storage() -> None:
    """Keys and values of one object."""


@on_state(storage, "list", reads=True)
@_NAMESPACE
@_OBJECT
@click.option("--prefix", help="Only keys that begin with it.")
@JSON
async def storage_list(
    place: Place, namespace: str, object: str, prefix: str | None, as_json: bool
) -> None:
    """Its keys with their values."""
    care, namespace = _known(place, namespace)
    entries = care.entries(namespace, care.find(namespace, object), prefix)
    # What JSON cannot say, a circle or bytes, is shown as it is stored.
    show([{"key": key, "value": json.loads(dumps(value))} for key, value in entries], as_json)


@on_state(storage, "get", reads=True)
@_NAMESPACE
@_OBJECT
@click.argument("key")
@ALWAYS_JSON
async def storage_get(place: Place, namespace: str, object: str, key: str) -> None:
    """The value of a key, as it is stored: JSON."""
    care, namespace = _known(place, namespace)
    text = care.get(namespace, care.find(namespace, object), key)
    if text is None:
        raise DurableObjectError(f'the object has no key "{key}"')
    click.echo(text)


@on_state(storage, "put", reads=True)
@_NAMESPACE
@_OBJECT
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Take the value from this file; - is standard input.",
)
@JSON
async def storage_put(
    place: Place,
    namespace: str,
    object: str,
    key: str,
    value: str | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Store a VALUE, which is JSON, under a key.

    Its class's limits count: they are smaller for those of `new_classes` in the wrangler file.
    """
    if (value is None) == (path is None):
        raise click.UsageError("give either VALUE or --path")
    try:
        decoded = json.loads(read_file(path) if path is not None else value or "")
    except ValueError as error:
        hint = "VALUE" if path is None else "--path"
        raise click.BadParameter(f"not JSON ({error})", param_hint=hint) from error
    care, namespace = _known(place, namespace)
    digits = care.find(namespace, object)
    await care.put(namespace, digits, key, decoded)
    tell(as_json, None, namespace=namespace, id=digits, key=key)


@on_state(storage, "delete", reads=True)
@_NAMESPACE
@_OBJECT
@click.argument("key")
@JSON
async def storage_delete(
    place: Place, namespace: str, object: str, key: str, as_json: bool
) -> None:
    """Delete a key."""
    care, namespace = _known(place, namespace)
    digits = care.find(namespace, object)
    found = care.get(namespace, digits, key) is not None
    await care.delete(namespace, digits, key)
    tell(as_json, None, namespace=namespace, id=digits, key=key, deleted=found)


@on_state(command, "sql", reads=True)
@_NAMESPACE
@_OBJECT
@click.argument("query")
@JSON
async def sql(place: Place, namespace: str, object: str, query: str, as_json: bool) -> None:
    """Run statements on an object's tables, as one transaction."""
    care, namespace = _known(place, namespace)
    names, rows = care.sql(namespace, care.find(namespace, object), query)
    if names or as_json:
        show([dict(zip(names, row, strict=True)) for row in rows], as_json)
    else:
        click.echo("done", err=True)


@on_state(command, "history", reads=True)
@_NAMESPACE
@click.option("--days", type=click.FloatRange(0), help="0 keeps nothing, and forgets all.")
@click.option("--megabytes", type=click.FloatRange(0), help="Of all keys, and of each one's SQL.")
@JSON
async def history(
    place: Place, namespace: str, days: float | None, megabytes: float | None, as_json: bool
) -> None:
    """For how long each state of the objects is kept, to go back to; or say so.

    It holds from when the objects run the next time: start the Worker anew.
    """
    care, namespace = _care(place), _named(place, namespace)
    if days is not None or megabytes is not None:
        days = DAYS if days is None else days
        await care.keep_history(namespace, days, MEGABYTES if megabytes is None else megabytes)
    days, megabytes = care.history(namespace)
    show([{"namespace": namespace, "days": days, "megabytes": megabytes}], as_json)


@command.group("alarms")
def alarms() -> None:
    """Alarms that are set."""


@on_state(alarms, "list", reads=True)
@_ANY_NAMESPACE
@JSON
async def alarms_list(place: Place, namespace: str | None, as_json: bool) -> None:
    """The alarms, the next first. Times are epoch milliseconds."""
    care = _care(place)
    if namespace is not None:
        care, namespace = _known(place, namespace)
    show([flat(one) for one in care.alarms(namespace)], as_json)


@on_state(alarms, "fire", reads=True)
@_NAMESPACE
@_OBJECT
@JSON
async def alarms_fire(place: Place, namespace: str, object: str, as_json: bool) -> None:
    """Have the running Worker call the handler of an object's alarm now."""
    care, namespace = _known(place, namespace)
    digits = care.find(namespace, object)
    await care.fire(namespace, digits)
    tell(as_json, None, namespace=namespace, id=digits, fired=True)
