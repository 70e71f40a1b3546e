"""What the commands of ``bunflare kv`` share: which namespace is meant."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import BunflareError, KVValueError
from .names import completion
from .place import Place, did_you_mean

if TYPE_CHECKING:
    from ..bindings.kv import KVNamespace
    from ..bindings.kv_care import KVCare


def bindings(place: Place) -> Iterator[str]:
    """The bindings of the wrangler file."""
    for one in place.config.kv_namespaces if place.config else ():
        yield one.binding


def stored(place: Place) -> Iterator[str]:
    """The namespaces of the state."""
    for one in care(place).namespaces():
        yield one.name


def namespace_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take the options that say which namespace: for `Chosen`."""
    for option in (
        click.option(
            "--preview/--no-preview",
            default=None,
            help="The binding's preview_id, or its id. [default: what `bunflare dev` takes]",
        ),
        click.option(
            "--namespace-id",
            help="The name of the namespace itself.",
            shell_complete=completion(None, stored),
        ),
        click.option(
            "--binding",
            help="The name of its binding in the wrangler file.",
            shell_complete=completion(bindings, stored),
        ),
    ):
        function = option(function)
    return function


class Chosen:
    """A namespace that was named by options."""

    def __init__(
        self, place: Place, binding: str | None, namespace_id: str | None, preview: bool | None
    ) -> None:
        if (binding is None) == (namespace_id is None):
            raise click.UsageError("give either --binding or --namespace-id")
        self.place = place
        self.is_declared = True
        if namespace_id is not None:
            self.name = namespace_id
            self.is_declared = False
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
                self.is_declared = False
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
        if self.is_declared:
            return
        names = {one.name for one in care(self.place).namespaces()}
        if self.name in names or self.name in {one["id"] for one in declared(self.place)}:
            return
        no_namespace(self.name, names)


def no_namespace(name: str, names: set[str]) -> NoReturn:
    raise KVValueError(f"there is no namespace {name!r}.{did_you_mean(name, names)}")


def care(place: Place) -> KVCare:
    from ..bindings.kv_care import KVCare

    return KVCare(place.state.database, place.state.clock)


def declared(place: Place) -> Iterator[dict[str, Any]]:
    for one in place.config.kv_namespaces if place.config else ():
        for name in dict.fromkeys((one.namespace, one.id or one.binding)):
            yield {"id": name, "binding": one.binding}


def whole(number: float | None) -> Any:
    """A number of the command line; the binding says what is wrong with a fraction."""
    return int(number) if number is not None and number.is_integer() else number


def metadata_of(text: str | None) -> Any:
    """Metadata that is given as JSON."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint="--metadata") from error


def entry_of(key: str, value: bytes) -> dict[str, Any]:
    """A key and its value as `kv bulk put` takes them."""
    try:
        return {"key": key, "value": value.decode()}
    except UnicodeDecodeError:
        return {"key": key, "value": b64encode(value).decode(), "base64": True}
