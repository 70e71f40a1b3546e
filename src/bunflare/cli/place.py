"""Which directory, which wrangler file and which names a command means, alike for all groups."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError, DirectoryError
from .booleans import Command

if TYPE_CHECKING:
    from ..config import Config
    from ..state import State

# What a data directory may hold before it has a `data.sqlite`.
_OURS = {
    *(".gitignore", "r2", "d1", "cache", "do-sql", "r2-staging", "writer.lock", "processes"),
    *("snapshots", "sockets"),
}


class Place:
    """Where a command works. Everything is looked up when it is asked for."""

    def __init__(
        self,
        config: Path | None = None,
        environment: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self._config = config
        self.environment = environment
        self._directory = directory
        self._state: State | None = None

    def but(self, config: Path | None, environment: str | None, directory: Path | None) -> Place:
        """The same with what is given."""
        return Place(
            config or self._config, environment or self.environment, directory or self._directory
        )

    @property
    def chosen(self) -> bool:
        """Whether the wrangler file was named."""
        return self._config is not None

    @cached_property
    def config_path(self) -> Path | None:
        """The wrangler file: the one that was named, or the nearest here or above."""
        if self._config is not None:
            return self._config
        from ..config_source import find_config

        return find_config(Path.cwd())

    @cached_property
    def config(self) -> Config | None:
        """What the wrangler file says, if there is one."""
        path = self.config_path
        if path is None:
            if self.environment is not None:
                raise click.UsageError("--env needs a wrangler file, and there is none here")
            return None
        from ..config import load_config

        return load_config(path, self.environment)

    @cached_property
    def root(self) -> Path:
        """The project's directory."""
        from ..state import project_root

        return project_root() if self.config_path is None else self.config_path.absolute().parent

    @cached_property
    def directory(self) -> Path:
        """The data directory, whether or not it is there."""
        from ..state import default_directory

        return self._directory or default_directory(self.root)

    @property
    def is_there(self) -> bool:
        """Whether there is a state."""
        return (self.directory / "data.sqlite").exists()

    @property
    def state(self) -> State:
        """The open state. Only within `run`."""
        assert self._state is not None
        return self._state

    def run(self, work: Callable[[], Coroutine[Any, Any, object]], reads: bool = False) -> None:
        """Open the state and do ``work``; ``reads`` says that it must be there already."""
        from .. import state as states

        check_directory(self.directory, reads)

        async def whole() -> None:
            async with states.open(self.directory) as state:
                self._state = state
                await work()

        asyncio.run(whole())


def check_directory(path: Path, reads: bool) -> None:
    """Refuse what is no data directory, before anything is made in it."""
    if (path / "data.sqlite").exists():
        return
    if path.is_dir():
        found = {entry.name for entry in path.iterdir()}
        if "v3" in found or path.name == "v3":
            raise DirectoryError(
                f"{path} is a state of wrangler; `bunflare state import {path}` takes it over"
            )
        if found - _OURS:
            raise DirectoryError(
                f"{path} holds other files and no state; name a data directory, or one that is "
                "empty or new"
            )
    else:
        above = next(one for one in (path, *path.absolute().parents) if one.exists())
        if not above.is_dir():
            raise DirectoryError(f"{above} is not a directory")
    if reads:
        raise DirectoryError(f"there is no state in {path}: nothing has been stored there yet")


_OPTIONS = (
    click.option(
        "--config",
        "-c",
        "config_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="The wrangler file; by default the nearest one here or above.",
    ),
    click.option("--env", "-e", "environment", help="The environment of the wrangler file."),
    click.option(
        "--persist-to",
        type=click.Path(path_type=Path, file_okay=False),
        help="The data directory; by default BUNFLARE_DIR, or .bunflare in the project's root.",
    ),
    click.option("--local", is_flag=True, hidden=True),
    click.option("--remote", is_flag=True, hidden=True),
)


def group_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a group take, before the command's name, the options that say which place is meant."""

    @wraps(function)
    def run(
        config_file: Path | None, environment: str | None, persist_to: Path | None, **options: Any
    ) -> Any:
        click.get_current_context().obj = Place(config_file, environment, persist_to)
        return function(**options)

    wrapped: Callable[..., Any] = run
    for option in reversed(_OPTIONS[:3]):
        wrapped = option(wrapped)
    return wrapped


def group_place(context: click.Context) -> Place:
    """The place that was said before the command's name."""
    return context.obj if isinstance(context.obj, Place) else Place()


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that takes a `Place` first the options that say which."""

    @wraps(function)
    def run(
        config_file: Path | None,
        environment: str | None,
        persist_to: Path | None,
        local: bool,
        remote: bool,
        **options: Any,
    ) -> Any:
        if remote:
            raise click.UsageError("there is no --remote: bunflare keeps its state here")
        before = group_place(click.get_current_context())
        return function(before.but(config_file, environment, persist_to), **options)

    wrapped: Callable[..., Any] = run
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def on_state(group: click.Group | None, name: str, reads: bool = False) -> Callable[..., Any]:
    """A command on a state: an asynchronous function that gets its `Place` first.

    ``reads`` says that it only looks at a state, which must be there.
    """

    def decorate(function: Callable[..., Coroutine[Any, Any, object]]) -> click.Command:
        @wraps(function)
        def run(place: Place, **options: Any) -> None:
            place.run(lambda: function(place, **options), reads)

        make = click.command if group is None else group.command
        return make(name, cls=Command)(place_options(run))

    return decorate


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A further sentence for a message, if a known name is like the one that is not."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else ""


def reason(error: OSError) -> str:
    """What the system refused, on one line."""
    told = error.strerror or str(error)
    return told if error.filename is None else f"{error.filename}: {told}"


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost; where nobody can answer, it was meant."""
    if not yes and sys.stdin.isatty() and not click.confirm(question, err=True):
        raise BunflareError("nothing was done")


def read_file(path: Path) -> bytes:
    """What a file holds; ``-`` is standard input."""
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
