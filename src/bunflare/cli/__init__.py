"""The command line: ``bunflare``. One module a command; nothing is imported before it is needed."""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

from ..errors import BunflareError
from .place import reason
from .tables import styled

_COMMANDS = {
    "cache": "List and purge cached responses.",
    "completion": "Print the completion of bash, zsh or fish.",
    "d1": "Query, migrate, export and restore D1 databases.",
    "dev": "Run a Worker on a local port, its state kept in .bunflare.",
    "do": "Look into Durable Objects: storage, SQL and alarms.",
    "init": "Make a project, or add what one lacks.",
    "kv": "Namespaces, keys and values of Workers KV.",
    "queues": "Queues: their messages, consumers and dead letters.",
    "r2": "Put, get and list objects, and look after their files.",
    "state": "Count, check, back up, restore, compare and follow a whole state.",
    "workflows": "Trigger workflows, look into them, pause and restart them.",
}


class _Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(name, possibilities=_COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bunflare", prog_name="bunflare")
def cli() -> None:
    """Cloudflare's stateful platform for Python, in one directory."""


class _Sentences(logging.Formatter):
    """What the library logs, on a line each: its tracebacks are for programs that ask for them."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        why = "" if error is None else f": {error}"
        return f"{record.levelname.lower()}: {record.getMessage()}{why}"


def main() -> None:
    """The console script. Errors are one sentence and exit code 1, never a traceback (but with
    ``BUNFLARE_TRACEBACK``); wrong arguments are exit code 2."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Sentences())
    try:
        cli()
    except SystemExit as end:
        _end(end.code)
    except BunflareError as error:
        _fail(str(error))
    except OSError as error:
        _fail(reason(error))
    except Exception as error:
        if os.environ.get("BUNFLARE_TRACEBACK"):
            raise
        _fail(_unforeseen(error))


def _unforeseen(error: BaseException) -> str:
    """Of what no command expects: damaged rows of other programs, or a fault of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    told = str(error).partition("\n")[0]
    return (
        f"{type(error).__name__}: {told}. `bunflare state check` tells whether something that is "
        "stored is damaged; with BUNFLARE_TRACEBACK=1 this tells where it happened"
    )


def _fail(message: str) -> None:
    try:
        click.echo(f"{styled('error', fg='red')}: {message}", err=True)
    finally:
        _end(1)


def _end(code: object) -> None:
    """Leave, once what was printed is out: a full disk behind it is told, too."""
    try:
        if not sys.stdout.closed:  # by a Worker
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"error: {reason(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else int(code is not None))
