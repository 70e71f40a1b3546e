"""``bunflare dev``: run a Worker on a local port."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from ..config import find_config, load_config
from ..errors import ConfigError


@click.command("dev")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The wrangler file; by default the nearest wrangler.json, .jsonc or .toml.",
)
@click.option("--env", "-e", "environment", help="The environment of the wrangler file.")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 8787; 0: any free one]")
@click.option("--host", "--ip", help="[default: 127.0.0.1]")
@click.option(
    "--persist-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data directory; by default BUNFLARE_DIR, or .bunflare beside the wrangler file.",
)
def command(
    config: Path | None,
    environment: str | None,
    port: int | None,
    host: str | None,
    persist_to: Path | None,
) -> None:
    """Run a Worker on a local port, its state kept in .bunflare."""
    path = config or find_config(Path.cwd())
    if path is None:
        raise ConfigError(
            "there is no wrangler.json, wrangler.jsonc or wrangler.toml here or above; "
            "name one with --config"
        )
    settings = load_config(path, environment)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)

    # Imported here so that --help and mistakes in the configuration are answered at once.
    import uvloop

    from ..runtime.server import serve

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            serve(
                settings,
                host=host or "127.0.0.1",
                port=8787 if port is None else port,
                directory=persist_to,
                ready=lambda address: click.echo(f"Ready on {address}"),
            )
        )
