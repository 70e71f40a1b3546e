"""The documents as a site, and the terminal session in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.generate import DOCS

ROOT = DOCS.parent
SYSTEMS = ("kv", "r2", "d1", "durable-objects", "queues", "workflows", "cache")
BIN = Path(sys.executable).parent


def test_the_site_is_built_and_no_link_is_dead(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in DOCS.glob("*.md"):
        name = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        text = (tmp_path / "site" / name).read_text()
        # A page needs nothing of other servers.
        assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="(?:https?:)?//', text), name


def test_each_system_has_a_page_that_tells_what_one_asks() -> None:
    for page in (DOCS / f"{name}.md" for name in SYSTEMS):
        headings = " ".join(re.findall("^## (.*)", page.read_text(), re.M)).lower()
        for wanted in ("stored", "limits", "differs"):
            assert wanted in headings, f"{page.name} has no heading with {wanted!r}"


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"\]\(([a-z0-9-]+)\.md\)", (DOCS / "index.md").read_text()))
    assert {page.stem for page in DOCS.glob("*.md")} - listed == {"index"}


def sessions() -> list[tuple[str, str]]:
    return [
        (page.name, block)
        for page in sorted(DOCS.glob("*.md"))
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.S | re.M)
    ]


@pytest.mark.parametrize("session", [pytest.param(block, id=name) for name, block in sessions()])
def test_a_recorded_session_is_true(session: str, tmp_path: Path) -> None:
    """Each command is run in one shell, and prints what the page says; … is anything."""
    told: list[tuple[str, str]] = []
    for line in session.splitlines(keepends=True):
        if line.startswith("$ "):
            told.append((line[2:].rstrip("\n"), ""))
        else:
            command, output = told[-1]
            told[-1] = (command, output + line)
    mark = "=-=-=-="
    # The mark says what the command before it ended with, and hands that on.
    script = "".join(
        f"{command}\ncode=$?; printf '%s\\n' '{mark}'; (exit $code)\n" for command, _ in told
    )
    environment = {name: value for name, value in os.environ.items() if name != "BUNFLARE_DIR"}
    done = subprocess.run(
        ["sh"],
        input=script,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    printed = done.stdout.split(f"{mark}\n")
    assert len(printed) == len(told) + 1, done.stdout
    for (command, expected), found in zip(told, printed, strict=False):
        pattern = ".*".join(map(re.escape, expected.split("…")))
        # Tables have blanks at the ends of their lines, which a page cannot show.
        plain = re.sub(" +$", "", found, flags=re.M)
        assert re.fullmatch(pattern, plain), f"$ {command}\n{found}"
