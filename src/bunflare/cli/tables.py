"""Rows for people and for programs: a plain table, or JSON."""

from __future__ import annotations

import json
from typing import Any

import click

_WIDEST = 60


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows of equal columns."""
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=plain))
        return
    if not rows:
        click.echo("nothing")
        return
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for number, line in enumerate(cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
        if number == 0:
            click.echo("  ".join("-" * width for width in widths))


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    text = f"x'{value.hex()}'" if isinstance(value, bytes) else str(value)
    text = "".join(one if one.isprintable() else "·" for one in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def plain(value: object) -> object:
    # What JSON has no word for: bytes as D1's own API shows them, the rest as it is spelled.
    return list(value) if isinstance(value, bytes) else str(value)
