"""All commands of the program, and words that each understands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from bunflare.cli import cli

Words = tuple[str, ...]


def leaves(group: click.Group = cli, words: Words = ()) -> Iterator[tuple[Words, click.Command]]:
    """All commands with their names, but for those that only say that they mean nothing here."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, (*words, name))
        elif not found.hidden:
            yield (*words, name), found


COMMANDS = dict(leaves())
#: Of these a state is no part.
ELSEWHERE = {("completion",), ("init",), ("dev",)}
#: It makes a file of SQL, and looks at no state.
NO_STATE = {("d1", "migrations", "create")}
ON_STATE = [words for words in COMMANDS if words not in ELSEWHERE | NO_STATE]


def takes(words: Words, option: str) -> bool:
    """Whether a command has an option of that name."""
    return any(option in parameter.opts for parameter in COMMANDS[words].params)


# What a command needs beside what is required of its arguments; X is a word, DIR a directory.
_MORE = {
    ("kv", "namespace", "delete"): ("X",),
    ("kv", "namespace", "rename"): ("X",),
    ("kv", "key", "put"): ("X",),
    ("r2", "object", "put"): ("--file", "X"),
    ("r2", "object", "sync"): ("DIR", "r2:X"),
    ("r2", "bulk", "get"): ("DIR",),
    ("r2", "bulk", "put"): ("DIR",),
    ("cache", "purge"): ("--everything",),
    ("d1", "execute"): ("--command", "SELECT 1"),
    ("d1", "time-travel", "restore"): ("--bookmark", "X"),
    ("do", "storage", "put"): ("1",),
    ("queues", "update"): ("--delivery-delay-secs", "1"),
    ("queues", "message", "send"): ("1",),
    ("workflows", "delete"): ("--yes",),
    ("state", "backup"): ("--force",),
    ("state", "watch"): ("--off",),  # which does not wait
}
_GIVEN_ABOVE: dict[Words, int] = {("r2", "object", "sync"): 2, ("r2", "bulk", "get"): 1}


def understood(words: Words, x: str = "x", directory: str = "migrations") -> list[str]:
    """A line that the command takes."""
    given = list(words)
    command = COMMANDS[words]
    required = [one for one in command.params if one.required]
    arguments = [one for one in required if isinstance(one, click.Argument)]
    for argument in arguments[: len(arguments) - _GIVEN_ABOVE.get(words, 0)]:
        if isinstance(argument.type, click.Choice):
            given.append(str(argument.type.choices[0]))
        elif isinstance(argument.type, click.Path) and not argument.type.file_okay:
            given.append("new")
        else:
            given.append(f"{x}/{x}" if argument.metavar == "BUCKET/KEY" else x)
    for option in required:
        if isinstance(option, click.Option):
            given += [option.opts[0], x]
    if words[0] == "kv" and words[1] in ("key", "bulk"):
        given += ["--namespace-id", x]
    more = _MORE.get(words, ())
    return given + [{"X": x, "DIR": directory, "r2:X": f"r2:{x}"}.get(one, one) for one in more]
