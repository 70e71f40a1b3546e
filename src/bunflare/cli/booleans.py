"""Options that are said or not, as wrangler's parser takes them: ``--preview false`` as well."""

from __future__ import annotations

import click

_WORDS = ("true", "false")


class Command(click.Command):
    """A command whose flags may be followed by true or false."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._plain(args))

    def _plain(self, args: list[str]) -> list[str]:
        flags = {
            name: option
            for option in self.params
            if isinstance(option, click.Option) and option.is_flag
            for name in option.opts
        }
        found: list[str] = []
        waiting = iter(enumerate(args))
        for at, word in waiting:
            if word == "--":
                return found + args[at:]
            name, _, value = word.partition("=")
            option = flags.get(name)
            if option is not None and not value and args[at + 1 : at + 2] in [[w] for w in _WORDS]:
                value = next(waiting)[1]
            if option is None or value not in _WORDS:
                found.append(word)
            elif value == "true":
                found.append(name)
            else:
                # What is not said is false, but where it has a word of its own.
                found += option.secondary_opts[:1]
        return found
