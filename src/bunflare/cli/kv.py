"""``bunflare kv``: namespaces, keys and values, with wrangler's names, options and JSON."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import BunflareError, KVValueError
from .place import Place, confirm, did_you_mean, on_state
from .progress import progress_bar
from .tables import is_terminal, show, show_json

if TYPE_CHECKING:
    from ..bindings.kv import KVKey, KVNamespace
    from ..bindings.kv_care import KVCare

_BULK_GET = 100


@click.group("kv")
def command() -> None:
    """Namespaces, keys and values of Workers KV."""


@command.group("namespace")
def namespace_group() -> None:
    """List, create, rename and delete namespaces."""


@command.group("key")
def key_group() -> None:
    """One key: put, get, delete; or list them."""


@command.group("bulk")
def bulk_group() -> None:
    """Many keys at once, from a JSON file."""


# -- which namespace ---------------------------------------------------------------------------


def _namespace_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--preview/--no-preview",
            default=None,
            help="The binding's preview_id, or its id. [default: what `bunflare dev` takes]",
        ),
        click.option("--namespace-id", help="The name of the namespace itself."),
        click.option("--binding", help="The name of its binding in the wrangler file."),
    ):
        function = option(function)
    return function


class _Chosen:
    """A namespace that was named by options."""

    def __init__(
        self, place: Place, binding: str | None, namespace_id: str | None, preview: bool | None
    ) -> None:
        if (binding is None) == (namespace_id is None):
            raise click.UsageError("give either --binding or --namespace-id")
        self.place = place
        self.declared = True
        if namespace_id is not None:
            self.name = namespace_id
            self.declared = False
        else:
            self.name = self._bound(binding or "", preview)
        self.kv: KVNamespace = place.state.kv(self.name)

    def _bound(self, binding: str, preview: bool | None) -> str:
        config = self.place.config
        declared = {one.binding: one for one in config.kv_namespaces} if config else {}
        found = declared.get(binding)
        if found is None:
            names = {one.name for one in care(self.place).namespaces()}
            if config is None or binding in names:
                self.declared = False
                return binding
            raise BunflareError(
                f'A namespace with binding name "{binding}" was not found in the configured '
                f'"kv_namespaces".{did_you_mean(binding, {*declared, *names})}'
            )
        if preview is None:
            return found.namespace
        if preview and found.preview_id is None:
            raise BunflareError(f'the binding "{binding}" has no preview_id')
        return found.preview_id or "" if preview else found.id or found.binding

    def must_exist(self) -> None:
        """Fail if there is no such namespace: nothing in it, and nobody has declared it."""
        if self.declared:
            return
        names = {one.name for one in care(self.place).namespaces()}
        if self.name in names or self.name in {one["id"] for one in _declared(self.place)}:
            return
        _no_namespace(self.name, names)


def _no_namespace(name: str, names: set[str]) -> NoReturn:
    raise KVValueError(f"there is no namespace {name!r}.{did_you_mean(name, names)}")


def care(place: Place) -> KVCare:
    from ..bindings.kv_care import KVCare

    return KVCare(place.state.database, place.state.clock)


def _declared(place: Place) -> Iterator[dict[str, Any]]:
    for one in place.config.kv_namespaces if place.config else ():
        for name in dict.fromkeys((one.namespace, one.id or one.binding)):
            yield {"id": name, "binding": one.binding}


# -- namespaces --------------------------------------------------------------------------------


@on_state(namespace_group, "list", reads=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, also on a terminal.")
async def list_namespaces(place: Place, as_json: bool) -> None:
    """The namespaces that hold something, were created, or stand in the wrangler file."""
    bindings: dict[str, str | None] = {one.name: None for one in care(place).namespaces()}
    bindings.update({one["id"]: one["binding"] for one in _declared(place)})
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
async def create_namespace(
    place: Place, namespace: str, binding: str | None, preview: bool, update_config: bool
) -> None:
    """Make an empty namespace, and show what binds it to a Worker.

    Nothing needs this: a namespace is there once something is put into it.
    """
    path = place.config_path
    is_toml = path is not None and path.suffix == ".toml"
    if update_config and not is_toml:
        raise click.UsageError("--update-config needs a wrangler.toml")
    name = f"{namespace}_preview" if preview else namespace
    field = "preview_id" if preview else "id"
    entry = {"binding": binding or _identifier(namespace), field: name}
    table = f"env.{place.environment}.kv_namespaces" if place.environment else "kv_namespaces"
    text = "\n".join([f"[[{table}]]", *(f"{key} = {json.dumps(entry[key])}" for key in entry)])
    bound = _with(path, text) if update_config and path is not None else ""
    await care(place).create(name)
    click.echo(f"The namespace {name!r} was made.", err=True)
    if update_config and path is not None:
        path.write_text(bound, encoding="utf-8")
        click.echo(f"{path} binds it as {entry['binding']}.", err=True)
    elif is_toml:
        click.echo(text)
    else:
        show_json({"kv_namespaces": [entry]})


def _with(path: Path, table: str) -> str:
    """A wrangler file with one more table at its end."""
    import tomllib

    text = f"{path.read_text(encoding='utf-8').rstrip()}\n\n{table}\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its namespaces are written as one value, to which no table can be added.
        raise BunflareError(f"{path} cannot be added to ({error}); add it by hand") from error
    return text


def _identifier(name: str) -> str:
    text = "".join(one if one.isalnum() and one.isascii() else "_" for one in name)
    return f"_{text}" if text[:1].isdigit() else text


@on_state(namespace_group, "rename", reads=True)
@click.argument("old_name", required=False)
@click.option("--namespace-id", help="The present name.")
@click.option("--new-name", required=True)
async def rename_namespace(
    place: Place, old_name: str | None, namespace_id: str | None, new_name: str
) -> None:
    """Give a namespace another name. The wrangler file stays as it is."""
    if (old_name is None) == (namespace_id is None):
        raise click.UsageError("give either OLD_NAME or --namespace-id")
    old = old_name or namespace_id or ""
    _refuse_unknown(place, old)
    count = await care(place).rename(old, new_name)
    click.echo(f"{old!r} is called {new_name!r} now ({count} keys).", err=True)


@on_state(namespace_group, "delete", reads=True)
@click.argument("namespace", required=False)
@_namespace_options
@click.option("--skip-confirmation", "-y", "yes", is_flag=True)
async def delete_namespace(
    place: Place,
    namespace: str | None,
    binding: str | None,
    namespace_id: str | None,
    preview: bool | None,
    yes: bool,
) -> None:
    """Delete a namespace with all its keys, at once."""
    if sum(one is not None for one in (namespace, binding, namespace_id)) != 1:
        raise click.UsageError("give one of NAMESPACE, --binding and --namespace-id")
    name = namespace or _Chosen(place, binding, namespace_id, preview).name
    _refuse_unknown(place, name)
    confirm(f"Delete the namespace {name!r} with all its keys?", yes)
    count = await care(place).delete(name)
    click.echo(f"The namespace {name!r} was deleted ({count} keys).", err=True)


def _refuse_unknown(place: Place, name: str) -> None:
    names = {one.name for one in care(place).namespaces()}
    if name not in names:
        _no_namespace(name, names)


# -- one key -----------------------------------------------------------------------------------


@on_state(key_group, "put")
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Take the value from this file; - is standard input.",
)
@_namespace_options
@click.option("--ttl", type=float, help="Seconds until it expires, 60 at least.")
@click.option("--expiration", type=float, help="When it expires, in seconds since the epoch.")
@click.option("--metadata", help="JSON that is kept beside the value.")
async def put_key(
    place: Place,
    key: str,
    value: str | None,
    path: Path | None,
    ttl: float | None,
    expiration: float | None,
    metadata: str | None,
    **which: Any,
) -> None:
    """Set KEY to VALUE, or to what a file holds."""
    if (value is None) == (path is None):
        raise click.UsageError("give either VALUE or --path")
    if value is not None:
        data = value.encode("utf-8", "surrogateescape")
    else:
        data = _read(path or Path("-"))
    await _Chosen(place, **which).kv.put(
        key,
        data,
        expiration=_whole(expiration),
        expiration_ttl=_whole(ttl),
        metadata=_metadata(metadata),
    )
    click.echo(f"{key}: {len(data)} bytes", err=True)


def _whole(number: float | None) -> Any:
    # The binding says what is wrong with a fraction.
    return int(number) if number is not None and number.is_integer() else number


def _metadata(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint="--metadata") from error


def _read(path: Path) -> bytes:
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()


@on_state(key_group, "get", reads=True)
@click.argument("key")
@_namespace_options
@click.option("--text", is_flag=True, help="As text, with a line feed behind it.")
async def get_key(place: Place, key: str, text: bool, **which: Any) -> None:
    """Print the value of KEY, byte for byte."""
    chosen = _Chosen(place, **which)
    value = await chosen.kv.get(key, "bytes")
    if value is None:
        chosen.must_exist()
        raise BunflareError(f"{key!r}: Value not found")
    if text:
        click.echo(value.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(value)


@on_state(key_group, "list", reads=True)
@_namespace_options
@click.option("--prefix", help="Only keys that begin with it.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, also on a terminal.")
async def list_keys(place: Place, prefix: str | None, as_json: bool, **which: Any) -> None:
    """The keys in their order: JSON for a program, a table on a terminal."""
    chosen = _Chosen(place, **which)
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
@_namespace_options
async def delete_key(place: Place, key: str, **which: Any) -> None:
    """Delete KEY; nothing happens if there is none."""
    chosen = _Chosen(place, **which)
    chosen.must_exist()
    await chosen.kv.delete(key)


# -- many keys ---------------------------------------------------------------------------------

_FILE = click.argument("filename", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))


def _json_list(path: Path, what: str) -> list[Any]:
    try:
        found = json.loads(_read(path))
    except ValueError as error:
        raise BunflareError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, list):
        raise BunflareError(f"{path} must hold a JSON array of {what}")
    return found


@on_state(bulk_group, "put")
@_FILE
@_namespace_options
@click.option("--ttl", type=float, help="For entries that have no expiration of their own.")
@click.option("--expiration", type=float, help="For entries that have none of their own.")
@click.option("--metadata", help="JSON, for entries that have none of their own.")
async def bulk_put(
    place: Place,
    filename: Path,
    ttl: float | None,
    expiration: float | None,
    metadata: str | None,
    **which: Any,
) -> None:
    """Put the entries of a JSON array, all of them or, if one is wrong, none.

    Each is an object with key and value and, if wanted, expiration, expiration_ttl, metadata, and
    base64 (true: the value is base64).
    """
    chosen = _Chosen(place, **which)
    found = _json_list(filename, "objects with key and value")
    defaults = {
        "expiration": _whole(expiration),
        "expiration_ttl": _whole(ttl),
        "metadata": _metadata(metadata),
    }
    entries = []
    with progress_bar(f"{len(found)} keys", "items") as progress:
        for number, one in enumerate(found):
            entries.append(_entry(number, one, defaults))
            if number % 1000 == 999:
                progress(number + 1, len(found))
        await chosen.kv.put_many(entries)
        progress(len(found), len(found))
    click.echo(f"{len(entries)} keys were put.", err=True)


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
@_namespace_options
async def bulk_get(place: Place, filename: Path, **which: Any) -> None:
    """Print the values of the keys in a JSON array, as one JSON object; null for no value."""
    chosen = _Chosen(place, **which)
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
@_namespace_options
@click.option("--force", "-f", is_flag=True, help="Do not ask.")
async def bulk_delete(place: Place, filename: Path, force: bool, **which: Any) -> None:
    """Delete the keys in a JSON array, in one commit."""
    chosen = _Chosen(place, **which)
    keys = _names(_json_list(filename, "keys"))
    confirm(f"Delete {len(keys)} keys of the namespace {chosen.name!r}?", force)
    await chosen.kv.delete_many(keys)
    click.echo(f"{len(keys)} keys were deleted.", err=True)


def _names(found: list[Any]) -> list[str]:
    """Keys, each a string or, as a listing has them, an object with a name."""
    names: list[str] = []
    for number, one in enumerate(found):
        name = one.get("name") if isinstance(one, dict) else one
        if not isinstance(name, str):
            raise BunflareError(f"entry {number} is no key")
        names.append(name)
    return names
