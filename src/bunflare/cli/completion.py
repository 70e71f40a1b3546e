"""``bunflare completion``: what a shell has to run to complete commands and options."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion of SHELL.

    For bash, put this into ~/.bashrc: eval "$(bunflare completion bash)". For zsh, the same into
    ~/.zshrc with zsh. For fish: bunflare completion fish > ~/.config/fish/completions/bunflare.fish
    """
    from click.shell_completion import get_completion_class

    from . import cli

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "bunflare", "_BUNFLARE_COMPLETE").source())
