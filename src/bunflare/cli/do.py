"""``bunflare do``: Durable Objects from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import find_config
from ..values import dumps
from .tables import show

if TYPE_CHECKING:
    from ..bindings.object_care import ObjectCare

T = TypeVar("T")

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


class _Target:
    """Which directory a command means."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def run(self, work: Callable[[ObjectCare], Awaitable[T]]) -> T:
        from .. import state as states
        from ..bindings.object_care import ObjectCare

        async def whole() -> T:
            found = find_config(Path.cwd())
            root = Path.cwd() if found is None else found.parent
            async with states.open(self._directory or states.default_directory(root)) as state:
                return await work(ObjectCare(state.database, state.clock))

        return asyncio.run(whole())


@click.group("do")
@click.option(
    "--persist-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory; by default BUNFLARE_DIR, or .bunflare beside the wrangler file.",
)
@click.pass_context
def command(context: click.Context, persist_to: Path | None) -> None:
    """Look into Durable Objects: storage, SQL and alarms.

    A NAMESPACE is the name of a class; an OBJECT is given by its name or its 64 digits.
    """
    context.obj = _Target(persist_to)


@command.command("list")
@click.argument("namespace", required=False)
@_json
@click.pass_obj
def list_objects(target: _Target, namespace: str | None, as_json: bool) -> None:
    """The namespaces, or the objects of one."""

    async def work(care: ObjectCare) -> list[dict[str, Any]]:
        if namespace is None:
            return [
                {"namespace": one, "objects": sum(1 for _ in care.objects(one))}
                for one in care.namespaces()
            ]
        return [asdict(one) for one in care.objects(namespace)]

    show(target.run(work), as_json)


@command.group("storage")
def storage() -> None:
    """Keys and values of one object."""


@storage.command("list")
@click.argument("namespace")
@click.argument("object")
@click.option("--prefix", help="Only keys that begin with it.")
@_json
@click.pass_obj
def storage_list(
    target: _Target, namespace: str, object: str, prefix: str | None, as_json: bool
) -> None:
    """Its keys with their values."""

    async def work(care: ObjectCare) -> list[dict[str, Any]]:
        entries = care.entries(namespace, care.find(namespace, object), prefix)
        # What JSON cannot say, a circle or bytes, is shown as it is stored.
        return [{"key": key, "value": json.loads(dumps(value))} for key, value in entries]

    show(target.run(work), as_json)


@storage.command("get")
@click.argument("namespace")
@click.argument("object")
@click.argument("key")
@click.pass_obj
def storage_get(target: _Target, namespace: str, object: str, key: str) -> None:
    """The value of a key, as it is stored: JSON."""

    async def work(care: ObjectCare) -> str | None:
        return care.get(namespace, care.find(namespace, object), key)

    text = target.run(work)
    if text is None:
        raise click.ClickException(f'the object has no key "{key}"')
    click.echo(text)


@storage.command("put")
@click.argument("namespace")
@click.argument("object")
@click.argument("key")
@click.argument("value")
@click.pass_obj
def storage_put(target: _Target, namespace: str, object: str, key: str, value: str) -> None:
    """Store a VALUE, which is JSON, under a key."""
    try:
        decoded = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint="VALUE") from error

    async def work(care: ObjectCare) -> None:
        await care.put(namespace, care.find(namespace, object), key, decoded)

    target.run(work)


@storage.command("delete")
@click.argument("namespace")
@click.argument("object")
@click.argument("key")
@click.pass_obj
def storage_delete(target: _Target, namespace: str, object: str, key: str) -> None:
    """Delete a key."""

    async def work(care: ObjectCare) -> None:
        await care.delete(namespace, care.find(namespace, object), key)

    target.run(work)


@command.command("sql")
@click.argument("namespace")
@click.argument("object")
@click.argument("query")
@_json
@click.pass_obj
def sql(target: _Target, namespace: str, object: str, query: str, as_json: bool) -> None:
    """Run statements on an object's tables, as one transaction."""

    async def work(care: ObjectCare) -> list[dict[str, Any]]:
        names, rows = care.sql(namespace, care.find(namespace, object), query)
        return [dict(zip(names, row, strict=True)) for row in rows]

    show(target.run(work), as_json)


@command.group("alarms")
def alarms() -> None:
    """Alarms that are set."""


@alarms.command("list")
@click.argument("namespace", required=False)
@_json
@click.pass_obj
def alarms_list(target: _Target, namespace: str | None, as_json: bool) -> None:
    """The alarms, the next first. Times are epoch milliseconds."""

    async def work(care: ObjectCare) -> list[dict[str, Any]]:
        return [asdict(one) for one in care.alarms(namespace)]

    show(target.run(work), as_json)


@alarms.command("fire")
@click.argument("namespace")
@click.argument("object")
@click.pass_obj
def alarms_fire(target: _Target, namespace: str, object: str) -> None:
    """Have the running Worker call the handler of an object's alarm now."""

    async def work(care: ObjectCare) -> None:
        await care.fire(namespace, care.find(namespace, object))

    target.run(work)
