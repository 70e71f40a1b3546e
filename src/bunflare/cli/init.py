"""``bunflare init``: make a project that runs and passes its test, or add what one lacks."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from .. import state as states
from ..config_source import NAMES, Source
from .tables import JSON, show_json

#: Says, on the way, what was done; and notes the file that was made or changed.
_Tell = Callable[[Path | None, str], None]

_IGNORED = (".bunflare/", ".dev.vars*", "__pycache__/", ".venv/")

_WORKER = '''\
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    """Counts its visits, for each path."""

    async def fetch(self, request):
        key = request.url
        count = int(await self.env.VISITS.get(key) or 0) + 1
        await self.env.VISITS.put(key, str(count))
        return Response(f"{count} visits\\n")
'''

_TEST = """\
import pytest


@pytest.mark.asyncio
async def test_visits_are_counted(worker, env):
    first = await worker.fetch("/")
    assert await first.text() == "1 visits\\n"
    second = await worker.fetch("/")
    assert await second.text() == "2 visits\\n"
    assert len((await env.VISITS.list())["keys"]) == 1
"""

_PYPROJECT = """\
[project]
name = {name}
version = "0.1.0"
requires-python = ">=3.11"

[dependency-groups]
dev = ["bunflare", "pytest", "pytest-asyncio"]
"""

_WRANGLER = """\
name = {name}
main = "src/entry.py"
compatibility_date = "{date}"
compatibility_flags = ["python_workers"]

# Where `bunflare dev` keeps it, a namespace needs no id; `wrangler kv namespace create` gives one.
[[kv_namespaces]]
binding = "VISITS"
"""


@click.command("init")
@click.argument("project", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--no-worker", is_flag=True, help="Only the data directory and .gitignore, for a program."
)
@JSON
def command(project: Path | None, no_worker: bool, as_json: bool) -> None:
    """Make a project in PROJECT, or add what the one there (by default the one here) lacks.

    That is a Worker, a wrangler file, a test, .gitignore and the data directory. What is there
    already stays as it is.
    """
    if project is not None and not project.exists():
        root = project.absolute()
        root.mkdir(parents=True)
    else:
        root = states.project_root(project)
    directory = root / ".bunflare"
    existed = (directory / "data.sqlite").exists()

    async def touch() -> None:
        async with states.open(directory):
            pass

    asyncio.run(touch())
    changed: list[str] = []

    def tell(path: Path | None, sentence: str) -> None:
        if path is not None:
            changed.append(str(path))
        click.echo(sentence, err=as_json)

    tell(
        None if existed else directory,
        f"{directory} {'is there already' if existed else 'was made'}",
    )
    if not no_worker:
        _worker(root, tell)
    _ignore(root / ".gitignore", tell)
    if as_json:
        show_json({"directory": str(directory), "changed": changed})
    elif not no_worker:
        where = "" if root == Path.cwd() else f"cd {shlex.quote(str(_relative(root)))} && "
        click.echo(f"\nNow: {where}bunflare dev")


def _relative(root: Path) -> Path:
    return root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root


def _worker(root: Path, tell: _Tell) -> None:
    """A wrangler file, the Worker that it names, and a test, as far as they are not there."""
    config = next((root / name for name in NAMES if (root / name).is_file()), None)
    name = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "worker"
    if config is None:
        text = _WRANGLER.format(name=json.dumps(name), date=f"{datetime.now(UTC):%Y-%m-%d}")
        main = root / "src/entry.py"
        ours = not main.exists()
        _write(root / "wrangler.toml", text, tell)
    else:
        found = Source(config).data.get("main")
        main = root / (found if isinstance(found, str) else "src/entry.py")
        # Another's Worker that is not there yet is not ours to make up.
        ours = False
        if not main.exists():
            click.echo(f"{main} is not there: {config.name} names it as the Worker", err=True)
    if not ours:
        return
    _write(main, _WORKER, tell)
    _write(root / "tests/test_worker.py", _TEST, tell)
    _write(root / "pyproject.toml", _PYPROJECT.format(name=json.dumps(name)), tell)


def _write(path: Path, text: str, tell: _Tell) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    tell(path, f"{path} was made")


def _ignore(path: Path, tell: _Tell) -> None:
    """Add the lines that are not there; in a file of somebody's only the first of them."""
    text = path.read_text() if path.exists() else ""
    lines = {line.strip().rstrip("/").lstrip("/") for line in text.splitlines()}
    wanted = _IGNORED if not text else _IGNORED[:1]
    missing = [line for line in wanted if line.rstrip("/") not in lines]
    if missing:
        separator = "" if not text or text.endswith("\n") else "\n"
        path.write_text(text + separator + "".join(f"{line}\n" for line in missing))
        tell(path, f"{', '.join(missing)} was added to {path}")
