"""``bunflare cache``, as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import Response
from tests.cli.process import run

LARGE = bytes(2 * 1024 * 1024)


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    async with bunflare.open(tmp_path / ".bunflare") as state:
        named = await state.caches.open("pages")
        for cache, url, body in (
            (state.caches.default, "https://example.com/a", b"hello"),
            (state.caches.default, "https://example.com/b", LARGE),
            (named, "https://example.com/a", b"page"),
            (named, "https://example.org/", b"page"),
        ):
            await cache.put(url, Response(body, headers={"cache-control": "max-age=600"}))
    return tmp_path


def listed(directory: Path, *words: str) -> list[tuple[Any, ...]]:
    found = json.loads(run(directory, "cache", "list", "--json", *words)[0])
    assert all(one["status"] == 200 and one["expires"] > one["stored"] for one in found)
    return [(one["cache"], one["url"], one["size"]) for one in found]


def test_what_is_kept_is_listed(filled: Path) -> None:
    assert listed(filled) == [
        ("default", "https://example.com/a", 5),
        ("default", "https://example.com/b", len(LARGE)),
        ("pages", "https://example.com/a", 4),
        ("pages", "https://example.org/", 4),
    ]
    assert listed(filled, "--cache", "pages", "--prefix", "https://example.o") == [
        ("pages", "https://example.org/", 4)
    ]
    assert "https://example.org/" in run(filled, "cache", "list")[0]
    assert "Did you mean 'pages'?" in run(filled, "cache", "list", "--cache", "page", code=1)[1]


def test_what_is_kept_is_purged(filled: Path) -> None:
    told = run(filled, "cache", "purge", "https://example.com/a", "--cache", "pages")[1]
    assert told == "1 response was removed.\n"
    run(filled, "cache", "purge", "--prefix", "https://example.org")
    assert len(listed(filled)) == 2
    run(filled, "cache", "purge", "--everything", "--yes")
    assert listed(filled) == []
    assert list((filled / ".bunflare/cache").iterdir()) == []


def test_wrong_arguments_end_with_2(filled: Path) -> None:
    run(filled, "cache", "purge", code=2)
    run(filled, "cache", "purge", "https://example.com/a", "--everything", code=2)
    run(filled, "cache", "purge", "--nonsense", code=2)
    assert len(listed(filled)) == 4
