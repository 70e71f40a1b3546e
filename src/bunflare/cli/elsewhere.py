"""Commands of wrangler that mean nothing where everything is a directory: they say why."""

from __future__ import annotations

from typing import NoReturn

import click

from ..errors import BunflareError


def only_there(group: click.Group, reasons: dict[str, str]) -> None:
    """Have a group answer further names, whatever follows them, with a sentence."""
    for name, reason in reasons.items():
        _add(group, name, reason)


def _add(group: click.Group, name: str, reason: str) -> None:
    @group.command(name, hidden=True, add_help_option=False)
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def refuse(context: click.Context, rest: tuple[str, ...]) -> NoReturn:
        raise BunflareError(f"`{context.command_path}` means nothing here: {reason}")

    refuse.ignore_unknown_options = True
