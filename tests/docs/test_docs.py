"""What the documents say is true."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import bunflare
from bunflare.cli import cli
from tests.cli.tree import COMMANDS
from tests.docs.generate import DOCS, pages

ROOT = DOCS.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


async def test_generated_pages_are_up_to_date() -> None:
    for name, text in (await pages()).items():
        assert (DOCS / name).read_text() == text, f"run `make docs`: {name} is old"


def examples() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for number, code in enumerate(
            re.findall(r"^```python\n(.*?)^```", document.read_text(), re.S | re.M)
        ):
            found.append((f"{document.name}-{number}", code))
    return found


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in examples()])
def test_every_example_runs(code: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    if "worker.fetch(" in code or "pytest_bunflare" in code:
        _run_tests(code, tmp_path)
        return
    if "from workers import" in code:
        # A Worker: it is started and asked once.
        from tests.runtime.test_dev import dev, project

        wrangler = 'main = "src/entry.py"\n[[kv_namespaces]]\nbinding = "GREETINGS"\n'
        with dev(project(tmp_path, code, wrangler)) as server:
            assert server.fetch()[0] == 200
        return
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    expected = re.findall(r"print\(.*?\)\s*#\s*(.*)", code)
    assert result.stdout.splitlines() == expected


VISITS = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        count = int(await self.env.VISITS.get("count") or 0) + 1
        await self.env.VISITS.put("count", str(count), expirationTtl=86_400)
        return Response(str(count))
"""


def _run_tests(code: str, path: Path) -> None:
    """What the page about tests shows: a module of tests, or a ``conftest.py``."""
    (path / "wrangler.toml").write_text(
        'main = "entry.py"\nkv_namespaces = [{ binding = "VISITS" }]\n'
        'd1_databases = [{ binding = "DB", database_name = "db" }]\n'
    )
    (path / "entry.py").write_text(VISITS)
    (path / "migrations").mkdir()
    (path / "migrations" / "0001_users.sql").write_text("CREATE TABLE users(name);")
    test = code
    if "pytest_bunflare" in code:
        (path / "conftest.py").write_text(code)
        test = (
            "async def test_it(env):\n"
            "    assert (await env.DB.prepare('SELECT name FROM users').first()).name == 'ada'\n"
        )
    (path / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "--asyncio-mode=auto", "-q"]
    result = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_what_the_library_offers_has_a_docstring() -> None:
    for name in bunflare.__all__:
        assert getattr(bunflare, name).__doc__, name


def test_commands_of_the_makefile_are_told() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    for target in targets:
        assert f"make {target}" in text, target


def commands() -> list[list[str]]:
    """The command lines of ours in the documents, each with its words."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.S | re.M):
            for line in re.findall(r"^(?:.*\| )?(bunflare [^|\n]*)", block, re.M):
                found.append(shlex.split(line, comments=True)[1:])
    return found


def test_command_lines_of_the_documents_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat.jpg", "pictures/a.jpg", "seed.sql"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = commands()
    assert len(told) > 10
    for words in told:
        command: click.Command = cli
        context = click.Context(cli)
        rest = words
        while isinstance(command, click.Group):
            called, found, rest = command.resolve_command(context, rest)
            assert found is not None, words
            command, context = found, click.Context(found, context, info_name=called)
        # Refuses what the command does not take; nothing is run.
        command.make_context(words[-1], rest)


def test_every_command_is_told() -> None:
    told = {tuple(words[:length]) for words in commands() for length in (1, 2, 3, 4)}
    # One is wrangler's other name for another.
    assert set(COMMANDS) - told == {("queues", "consumer", "add"), ("queues", "consumer", "remove")}


def test_the_changelog_knows_the_version() -> None:
    assert f"## {bunflare.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert asyncio.run(pages())
