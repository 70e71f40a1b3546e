"""What binds something to a Worker: shown as a wrangler file has it, or added to one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import BunflareError
from .place import Place
from .tables import show_json


def binding_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command that makes something take how that is to be bound."""
    for option in (
        click.option("--use-remote", is_flag=True, hidden=True, expose_value=False),
        click.option("--update-config", is_flag=True, help="Add the binding to wrangler.toml."),
        click.option("--binding", help="The name of the binding to show."),
    ):
        function = option(function)
    return function


def show_table(place: Place, name: str, entry: Mapping[str, Any], as_json: bool = False) -> None:
    """Print one entry of ``name``, ``queues.producers`` say, in the form of the wrangler file."""
    path = place.config_path
    if not as_json and path is not None and path.suffix == ".toml":
        click.echo(_toml(place, name, entry))
        return
    show_json(nested(name, entry))


def nested(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ``name`` in the form of a wrangler file that is JSON."""
    value: Any = [dict(entry)]
    for part in reversed(name.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def add_table(place: Place, name: str, entry: Mapping[str, Any]) -> Callable[[], Path]:
    """What adds an entry to ``wrangler.toml``, once it is sure that this can be done."""
    import tomllib

    path = place.config_path
    if path is None or path.suffix != ".toml":
        raise click.UsageError("--update-config needs a wrangler.toml")
    text = f"{path.read_text(encoding='utf-8').rstrip()}\n\n{_toml(place, name, entry)}\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # What is there is written as one value, to which no table can be added.
        raise BunflareError(f"{path} cannot be added to ({error}); add it by hand") from error

    def add() -> Path:
        path.write_text(text, encoding="utf-8")
        return path

    return add


def _toml(place: Place, name: str, entry: Mapping[str, Any]) -> str:
    table = f"env.{place.environment}.{name}" if place.environment else name
    # Strings and numbers are spelled alike in JSON and TOML.
    return "\n".join([f"[[{table}]]", *(f"{key} = {json.dumps(entry[key])}" for key in entry)])
