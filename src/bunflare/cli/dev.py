"""``bunflare dev``: run a Worker on a local port."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from ..config import Config, find_config, load_config
from ..errors import BunflareError, ConfigError

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "log": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL,
}


# Options of `wrangler dev` that people's scripts pass, and that change nothing here.
_WITH_VALUE = (
    *("--alias", "--define", "--inspector-ip", "--inspector-port", "--jsx-factory"),
    *("--jsx-fragment", "--latest", "--local-protocol", "--local-upstream", "--route", "--routes"),
    *("--tsconfig", "--upstream-protocol"),
)
_FLAGS = (
    *("--bundle", "--inspector", "--inspect", "--local", "--minify", "--no-bundle"),
    *("--no-inspector", "--node-compat", "--show-interactive-dev-session"),
)


def _tolerant(command: click.Command) -> click.Command:
    """A command that takes wrangler's other options too."""
    for name in _WITH_VALUE:
        command.params.append(click.Option([name], multiple=True, hidden=True, expose_value=False))
    for name in _FLAGS:
        command.params.append(click.Option([name], is_flag=True, hidden=True, expose_value=False))
    return command


@_tolerant
@click.command("dev")
@click.argument("script", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--config",
    "-c",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The wrangler file; by default the nearest wrangler.json, .jsonc or .toml. Given several "
    "times, the first Worker answers requests, and the others are bound as services.",
)
@click.option("--env", "-e", "environment", help="The environment of the wrangler file.")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 8787; 0: any free one]")
@click.option("--host", "--ip", help="[default: 127.0.0.1]")
@click.option(
    "--persist-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory; by default BUNFLARE_DIR, or .bunflare beside the wrangler file.",
)
@click.option("--var", "variables", multiple=True, help="A variable, as NAME:VALUE.")
@click.option("--test-scheduled", is_flag=True, help="Run the scheduled handler at /__scheduled.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "log", "warn", "error", "none"]),
    help="From which level on something is shown.",
)
@click.option(
    "--live-reload/--no-live-reload", "reload", default=True, help="Follow changed files."
)
@click.option("--compatibility-date", help="Instead of the wrangler file's.", metavar="YYYY-MM-DD")
@click.option(
    "--compatibility-flags", "--compatibility-flag", "flags", multiple=True, help="One more."
)
@click.option(
    "--env-file",
    "env_files",
    multiple=True,
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="Secrets, instead of .dev.vars; each file lies over those before it.",
)
@click.option("--remote", is_flag=True, hidden=True)
def command(
    script: Path | None,
    configs: tuple[Path, ...],
    environment: str | None,
    port: int | None,
    host: str | None,
    persist_to: Path | None,
    variables: tuple[str, ...],
    test_scheduled: bool,
    log_level: str | None,
    reload: bool,
    compatibility_date: str | None,
    flags: tuple[str, ...],
    env_files: tuple[Path, ...],
    remote: bool,
) -> None:
    """Run a Worker on a local port, its state kept in .bunflare."""
    if remote:
        raise click.UsageError("bunflare runs Workers here: there is no --remote")
    paths: list[Path] = list(configs)
    if not paths:
        found = find_config(Path.cwd())
        if found is None:
            raise ConfigError(
                "there is no wrangler.json, wrangler.jsonc or wrangler.toml here or above; "
                "name one with --config"
            )
        paths.append(found)
    given = dict(_variable(text) for text in variables)
    secrets = env_files or None

    def source(path: Path, first: bool) -> Callable[[], Config]:
        def read() -> Config:
            settings = load_config(path, environment if first else None, secrets=secrets)
            if first:
                if compatibility_date is not None:
                    settings = replace(settings, compatibility_date=compatibility_date)
                if flags:
                    both = (*settings.compatibility_flags, *flags)
                    settings = replace(settings, compatibility_flags=both)
                settings = replace(settings, vars={**settings.vars, **given})
                if script is not None:
                    settings = replace(settings, main=script.absolute())
            return settings

        return read

    sources = [source(path, at == 0) for at, path in enumerate(paths)]
    settings = sources[0]()
    logging.getLogger("bunflare").setLevel(_LEVELS[log_level or "log"])
    logging.getLogger("bunflare.worker").setLevel(_LEVELS[log_level or "log"])
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)

    # Imported here so that --help and mistakes in the configuration are answered at once.
    import uvloop

    from ..runtime.departing import end_soon
    from ..runtime.looping import run
    from ..runtime.server import serve

    if port is None:
        port = settings.dev.port if settings.dev.port is not None else 8787
    try:
        run(
            serve(
                sources,
                host=host or settings.dev.ip or "127.0.0.1",
                port=port,
                directory=persist_to,
                test_scheduled=test_scheduled,
                reload=reload,
                log=log_level not in ("warn", "error", "none"),
                ready=click.echo,
            ),
            uvloop.new_event_loop,
        )
    except (BunflareError, OSError):
        raise
    except Exception:
        # It is the Worker's own, whose author has to see where.
        traceback.print_exc()
        end_soon(1)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        end_soon(1)
        raise
    end_soon(0)


def _variable(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is not NAME:VALUE", param_hint="--var")
    return name, value
