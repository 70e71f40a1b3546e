"""Rows for people and for programs: a table, coloured on a terminal, or JSON."""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from typing import Any
from unicodedata import category, combining, east_asian_width

import click

#: Every command takes it that prints no bytes, script or log.
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
#: Of a command that prints JSON into a pipe in any case, as wrangler's does.
PIPED_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON on a terminal, too; into a pipe it always is.",
)
#: Of a command that prints JSON in any case.
ALWAYS_JSON = click.option(
    "--json", is_flag=True, expose_value=False, help="It is JSON without this, too."
)

# Only a terminal has an edge: what goes into a pipe is not shortened.
_WIDEST = 60
# How many rows are written together.
_AT_ONCE = 1000
# And how many pieces of JSON: values, brackets, commas.
_PIECES = 50_000


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows of equal columns."""
    if as_json:
        show_json(rows)
        return
    if not rows:
        click.echo("nothing")
        return
    widest = _WIDEST if is_terminal() else None
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column], widest) for column in columns] for row in rows)]
    widths = [max(_width(line[index]) for line in cells) for index in range(len(columns))]
    lines = iter(cells)
    click.echo(styled(_line(next(lines), widths), bold=True))
    click.echo(styled("  ".join("-" * width for width in widths), dim=True))
    while some := list(islice(lines, _AT_ONCE)):
        click.echo("\n".join([_line(one, widths) for one in some]))


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join(
        [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    )


def _width(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_places(one) for one in text)


def _places(character: str) -> int:
    if combining(character) or category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def flat(info: Any) -> dict[str, Any]:
    """A row of what a dataclass with slots says, whose values are no dataclasses."""
    return {name: getattr(info, name) for name in info.__slots__}


def show_json(value: Any) -> None:
    """Print a value as JSON of two spaces to the level, as wrangler does."""
    pieces = json.JSONEncoder(indent=2, default=plain, ensure_ascii=False).iterencode(value)
    while some := "".join(islice(pieces, _PIECES)):
        click.echo(some, nl=False)
    click.echo()


def tell(as_json: bool, sentence: str | None, **facts: Any) -> None:
    """Say what was done: in a sentence on standard error, and to a program as a JSON object."""
    if sentence is not None:
        click.echo(sentence, err=True)
    if as_json:
        show_json(facts)


def many(count: int, noun: str, *verbs: str) -> str:
    """``1 key was put``, ``2 keys were put``, of the noun and of the verb in both numbers."""
    one = count == 1
    words = [str(count), noun if one else f"{noun}s"]
    return " ".join([*words, verbs[not one]] if verbs else words)


def is_terminal() -> bool:
    """Whether a person sees the output."""
    return sys.stdout.isatty()


def styled(text: str, **style: Any) -> str:
    """Coloured, unless the user has said NO_COLOR. Click leaves colours out of pipes."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def _cell(value: object, widest: int | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        text = f"x'{value.hex()}'"
    elif isinstance(value, dict | list):
        text = json.dumps(value, default=plain, ensure_ascii=False)
    else:
        text = str(value)
    if not text.isprintable():
        text = "".join(one if one.isprintable() else "·" for one in text)
    if widest is None or _width(text) <= widest:
        return text
    while _width(text) >= widest:
        text = text[: -max(1, (_width(text) - widest) // 2)]
    return text + "…"


def plain(value: object) -> object:
    # What JSON has no word for: bytes as D1's own API shows them, the rest as it is spelled.
    return list(value) if isinstance(value, bytes) else str(value)
