"""What a shell proposes where a command takes a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from ..errors import BunflareError
from .place import Place, group_place

#: The names of something in a place.
Names = Callable[[Place], Iterable[str]]


def completion(
    declared: Names | None, stored: Names | None
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For an argument's ``shell_complete``: what begins like what is written already.

    ``declared`` tells what the wrangler file names, ``stored`` what the state has. Nothing is made,
    and whatever is wrong is for the command to say.
    """

    def propose(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        given = context.params
        place = group_place(context).but(
            given.get("config_file"), given.get("environment"), given.get("persist_to")
        )
        found: set[str] = set()
        try:
            if declared is not None:
                found.update(declared(place))
            if stored is not None:
                known = stored

                async def look() -> None:
                    found.update(known(place))

                place.run(look, reads=True)
        except (BunflareError, OSError, click.ClickException):
            pass  # what is known so far is better than nothing
        return sorted(name for name in found if name.startswith(begun))

    return propose
