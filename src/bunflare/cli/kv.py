"""``bunflare kv``: namespaces, keys and values, with wrangler's names, options and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError
from .kv_bulk import bulk_group
from .kv_common import (
    Chosen,
    care,
    declared,
    entry_of,
    metadata_of,
    namespace_options,
    no_namespace,
    stored,
    whole,
)
from .names import completion
from .place import Place, confirm, on_state, read_file
from .tables import JSON, PIPED_JSON, is_terminal, many, show, show_json, tell

if TYPE_CHECKING:
    from ..bindings.kv import KVKey

_STORED = completion(None, stored)


@click.group("kv")
def command() -> None:
    """Namespaces, keys and values of Workers KV."""


command.add_command(bulk_group)


@command.group("namespace")
def namespace_group() -> None:
    """List, create, rename and delete namespaces."""


@command.group("key")
def key_group() -> None:
    """One key: put, get, delete; or list them."""


# -- namespaces --------------------------------------------------------------------------------


@on_state(namespace_group, "list", reads=True)
@PIPED_JSON
async def list_namespaces(place: Place, as_json: bool) -> None:
    """The namespaces that hold something, were created, or stand in the wrangler file."""
    bindings: dict[str, str | None] = {one.name: None for one in care(place).namespaces()}
    bindings.update({one["id"]: one["binding"] for one in declared(place)})
    show(
        [
            {"id": name, "title": name, "supports_url_encoding": True, "binding": bindings[name]}
            if as_json or not is_terminal()
            else {"namespace": name, "binding": bindings[name] or ""}
            for name in sorted(bindings)
        ],
        as_json or not is_terminal(),
    )


@on_state(namespace_group, "create")
@click.argument("namespace")
@click.option("--binding", help="The name of the binding to show.")
@click.option("--preview", is_flag=True, help="Make one for previews: NAMESPACE_preview.")
@click.option("--update-config", is_flag=True, help="Add the binding to wrangler.toml.")
@click.option("--use-remote", is_flag=True, hidden=True, expose_value=False)
@JSON
async def create_namespace(
    place: Place,
    namespace: str,
    binding: str | None,
    preview: bool,
    update_config: bool,
    as_json: bool,
) -> None:
    """Make an empty namespace, and show what binds it to a Worker.

    Nothing needs this: a namespace is there once something is put into it.
    """
    from .wrangler_file import add_table, show_table

    name = f"{namespace}_preview" if preview else namespace
    field = "preview_id" if preview else "id"
    entry = {"binding": binding or _identifier(namespace), field: name}
    add = add_table(place, "kv_namespaces", entry) if update_config else None
    await care(place).create(name)
    click.echo(f"The namespace {name!r} was made.", err=True)
    if add is not None:
        click.echo(f"{add()} binds it as {entry['binding']}.", err=True)
    if add is None or as_json:
        show_table(place, "kv_namespaces", entry, as_json)


def _identifier(name: str) -> str:
    text = "".join(one if one.isalnum() and one.isascii() else "_" for one in name)
    return f"_{text}" if text[:1].isdigit() else text


@on_state(namespace_group, "rename", reads=True)
@click.argument("old_name", required=False, shell_complete=_STORED)
@click.option("--namespace-id", help="The present name.", shell_complete=_STORED)
@click.option("--new-name", required=True, help="What it is called from now on.")
@JSON
async def rename_namespace(
    place: Place, old_name: str | None, namespace_id: str | None, new_name: str, as_json: bool
) -> None:
    """Give a namespace another name. The wrangler file stays as it is."""
    if (old_name is None) == (namespace_id is None):
        raise click.UsageError("give either OLD_NAME or --namespace-id")
    old = old_name or namespace_id or ""
    _refuse_unknown(place, old)
    count = await care(place).rename(old, new_name)
    sentence = f"{old!r} is called {new_name!r} now ({many(count, 'key')})."
    tell(as_json, sentence, id=new_name, previous_id=old, keys=count)


@on_state(namespace_group, "delete", reads=True)
@click.argument("namespace", required=False, shell_complete=_STORED)
@namespace_options
@click.option("--skip-confirmation", "-y", "yes", is_flag=True, help="Do not ask.")
@JSON
async def delete_namespace(
    place: Place,
    namespace: str | None,
    binding: str | None,
    namespace_id: str | None,
    preview: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete a namespace with all its keys, at once."""
    if sum(one is not None for one in (namespace, binding, namespace_id)) != 1:
        raise click.UsageError("give one of NAMESPACE, --binding and --namespace-id")
    name = namespace or Chosen(place, binding, namespace_id, preview).name
    _refuse_unknown(place, name)
    confirm(f"Delete the namespace {name!r} with all its keys?", yes)
    count = await care(place).delete(name)
    sentence = f"The namespace {name!r} was deleted ({many(count, 'key')})."
    tell(as_json, sentence, id=name, deleted=True, keys=count)


def _refuse_unknown(place: Place, name: str) -> None:
    names = {one.name for one in care(place).namespaces()}
    if name not in names:
        no_namespace(name, names)


# -- one key -----------------------------------------------------------------------------------


@on_state(key_group, "put")
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Take the value from this file; - is standard input.",
)
@namespace_options
@click.option("--ttl", type=float, help="Seconds until it expires, 60 at least.")
@click.option("--expiration", type=float, help="When it expires, in seconds since the epoch.")
@click.option("--metadata", help="JSON that is kept beside the value.")
@JSON
async def put_key(
    place: Place,
    key: str,
    value: str | None,
    path: Path | None,
    ttl: float | None,
    expiration: float | None,
    metadata: str | None,
    as_json: bool,
    **which: Any,
) -> None:
    """Set KEY to VALUE, or to what a file holds."""
    if (value is None) == (path is None):
        raise click.UsageError("give either VALUE or --path")
    if value is not None:
        data = value.encode("utf-8", "surrogateescape")
    else:
        data = read_file(path or Path("-"))
    chosen = Chosen(place, **which)
    await chosen.kv.put(
        key,
        data,
        expiration=whole(expiration),
        expiration_ttl=whole(ttl),
        metadata=metadata_of(metadata),
    )
    sentence = f"{key}: {many(len(data), 'byte')}"
    tell(as_json, sentence, namespace_id=chosen.name, key=key, size=len(data))


@on_state(key_group, "get", reads=True)
@click.argument("key")
@namespace_options
@click.option("--text", is_flag=True, help="As text, with a line feed behind it.")
@JSON
async def get_key(place: Place, key: str, text: bool, as_json: bool, **which: Any) -> None:
    """Print the value of KEY, byte for byte; with --json as an entry that `kv bulk put` takes."""
    chosen = Chosen(place, **which)
    # What is beside the value may be damaged, which does not matter to all.
    found = await chosen.kv.get_with_metadata(key, "bytes") if as_json else None
    value = await chosen.kv.get(key, "bytes") if found is None else found.value
    if value is None:
        chosen.must_exist()
        raise BunflareError(f"{key!r}: Value not found")
    if found is not None:
        beside = {} if found.metadata is None else {"metadata": found.metadata}
        show_json({**entry_of(key, value), **beside})
    elif text:
        click.echo(value.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(value)


@on_state(key_group, "list", reads=True)
@namespace_options
@click.option("--prefix", help="Only keys that begin with it.")
@PIPED_JSON
async def list_keys(place: Place, prefix: str | None, as_json: bool, **which: Any) -> None:
    """The keys in their order: JSON for a program, a table on a terminal."""
    chosen = Chosen(place, **which)
    chosen.must_exist()
    if is_terminal() and not as_json:
        show([_row(one) async for one in chosen.kv.scan(prefix)], False)
        return
    await _print_keys(chosen.kv.scan(prefix))


async def _print_keys(keys: AsyncIterator[KVKey]) -> None:
    """A JSON list that is not held in memory as a whole."""
    lead = "[\n"
    async for key in keys:
        text = json.dumps(_listed(key), indent=2, ensure_ascii=False).replace("\n", "\n  ")
        click.echo(f"{lead}  {text}", nl=False)
        lead = ",\n"
    click.echo("[]" if lead == "[\n" else "\n]")


def _listed(key: KVKey) -> dict[str, Any]:
    found = {"name": key.name, "expiration": key.expiration, "metadata": key.metadata}
    return {name: value for name, value in found.items() if value is not None}


def _row(key: KVKey) -> dict[str, Any]:
    until = "" if key.expiration is None else datetime.fromtimestamp(key.expiration, UTC)
    beside = "" if key.metadata is None else json.dumps(key.metadata, ensure_ascii=False)
    return {"key": key.name, "expires": until, "metadata": beside}


@on_state(key_group, "delete", reads=True)
@click.argument("key")
@namespace_options
@JSON
async def delete_key(place: Place, key: str, as_json: bool, **which: Any) -> None:
    """Delete KEY; nothing happens if there is none."""
    chosen = Chosen(place, **which)
    chosen.must_exist()
    await chosen.kv.delete(key)
    tell(as_json, None, namespace_id=chosen.name, key=key)
