"""``bunflare kv bulk``: many keys at once, from and to JSON."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import click

from ..errors import BunflareError
from .kv_common import Chosen, metadata_of, namespace_options, whole
from .place import Place, confirm, on_state, read_file
from .progress import progress_bar
from .tables import ALWAYS_JSON, JSON, many, show_json, tell

_BULK_GET = 100


@click.group("bulk")
def bulk_group() -> None:
    """Many keys at once, from a JSON file."""


_FILE = click.argument("filename", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))


def _json_list(path: Path, what: str) -> list[Any]:
    try:
        found = json.loads(read_file(path))
    except ValueError as error:
        raise BunflareError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, list):
        raise BunflareError(f"{path} must hold a JSON array of {what}")
    return found


@on_state(bulk_group, "put")
@_FILE
@namespace_options
@click.option("--ttl", type=float, help="For entries that have no expiration of their own.")
@click.option("--expiration", type=float, help="For entries that have none of their own.")
@click.option("--metadata", help="JSON, for entries that have none of their own.")
@JSON
async def bulk_put(
    place: Place,
    filename: Path,
    ttl: float | None,
    expiration: float | None,
    metadata: str | None,
    as_json: bool,
    **which: Any,
) -> None:
    """Put the entries of a JSON array, all of them or, if one is wrong, none.

    Each is an object with key and value and, if wanted, expiration, expiration_ttl, metadata, and
    base64 (true: the value is base64).
    """
    chosen = Chosen(place, **which)
    found = _json_list(filename, "objects with key and value")
    defaults = {
        "expiration": whole(expiration),
        "expiration_ttl": whole(ttl),
        "metadata": metadata_of(metadata),
    }
    entries = []
    with progress_bar(f"{len(found)} keys", "items") as progress:
        for number, one in enumerate(found):
            entries.append(_entry(number, one, defaults))
            if number % 1000 == 999:
                progress(number + 1, len(found))
        await chosen.kv.put_many(entries)
        progress(len(found), len(found))
    sentence = f"{many(len(entries), 'key', 'was', 'were')} put."
    tell(as_json, sentence, namespace_id=chosen.name, keys=len(entries))


def _entry(number: int, one: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """An entry of the file as `KVNamespace.put_many` takes it."""
    if not isinstance(one, dict) or not isinstance(one.get("key"), str):
        raise BunflareError(f"entry {number} is no object with a key and a value")
    value = one.get("value")
    if not isinstance(value, str):
        raise BunflareError(f"entry {number} ({one['key']!r}): the value must be a string")
    if unknown := one.keys() - {"key", "value", "base64", *defaults}:
        raise BunflareError(f"entry {number} ({one['key']!r}) has unknown fields: {unknown}")
    data: str | bytes = value
    if one.get("base64"):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise BunflareError(f"entry {number} ({one['key']!r}) is not base64") from None
    entry = {name: one[name] for name in defaults if one.get(name) is not None}
    if not entry.keys() & {"expiration", "expiration_ttl"}:
        entry |= {name: defaults[name] for name in ("expiration", "expiration_ttl")}
    entry.setdefault("metadata", defaults["metadata"])
    return {"key": one["key"], "value": data, **entry}


@on_state(bulk_group, "get", reads=True)
@_FILE
@namespace_options
@ALWAYS_JSON
async def bulk_get(place: Place, filename: Path, **which: Any) -> None:
    """Print the values of the keys in a JSON array, as one JSON object; null for no value."""
    chosen = Chosen(place, **which)
    keys = _names(_json_list(filename, "keys"))
    found: dict[str, Any] = {}
    for start in range(0, len(keys), _BULK_GET):
        many = await chosen.kv.get_with_metadata(keys[start : start + _BULK_GET])
        for key, one in many.items():
            beside = {} if one.metadata is None else {"metadata": one.metadata}
            found[key] = {"value": one.value, **beside}
    show_json(found)


@on_state(bulk_group, "delete", reads=True)
@_FILE
@namespace_options
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
@JSON
async def bulk_delete(
    place: Place, filename: Path, force: bool, as_json: bool, **which: Any
) -> None:
    """Delete the keys in a JSON array, in one commit."""
    chosen = Chosen(place, **which)
    keys = _names(_json_list(filename, "keys"))
    confirm(f"Delete {many(len(keys), 'key')} of the namespace {chosen.name!r}?", force)
    await chosen.kv.delete_many(keys)
    sentence = f"{many(len(keys), 'key', 'was', 'were')} deleted."
    tell(as_json, sentence, namespace_id=chosen.name, keys=len(keys))


def _names(found: list[Any]) -> list[str]:
    """Keys, each a string or, as a listing has them, an object with a name."""
    names: list[str] = []
    for number, one in enumerate(found):
        name = one.get("name") if isinstance(one, dict) else one
        if not isinstance(name, str):
            raise BunflareError(f"entry {number} is no key")
        names.append(name)
    return names
