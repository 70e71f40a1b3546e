"""``bunflare kv``, as a process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import bunflare
from tests.cli.process import run

WRANGLER = """
name = "w"
main = "entry.py"
[[kv_namespaces]]
binding = "GREETINGS"
id = "abc"
preview_id = "seen"
[[kv_namespaces]]
binding = "PLAIN"
[env.other]
kv_namespaces = [{binding = "GREETINGS", id = "theirs"}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    return tmp_path


async def stored(project: Path, namespace: str) -> dict[str, Any]:
    async with bunflare.open(project / ".bunflare") as state:
        kv = state.kv(namespace)
        return {key.name: await kv.get(key.name) async for key in kv.scan()}


def test_a_key_goes_in_and_comes_out(project: Path) -> None:
    run(project, "kv", "key", "put", "hello", "wörld", "--binding", "PLAIN")
    assert run(project, "kv", "key", "get", "hello", "--binding", "PLAIN")[0] == "wörld"
    assert run(project, "kv", "key", "get", "hello", "--binding", "PLAIN", "--text")[0] == "wörld\n"
    (project / "file").write_bytes(b"from a file")
    run(project, "kv", "key", "put", "file", "--path", "file", "--namespace-id", "PLAIN")
    run(project, "kv", "key", "put", "in", "--path", "-", "--binding", "PLAIN", input=b"piped")
    assert asyncio.run(stored(project, "PLAIN")) == {
        "hello": "wörld",
        "file": "from a file",
        "in": "piped",
    }
    run(project, "kv", "key", "delete", "hello", "--binding", "PLAIN")
    _, told = run(project, "kv", "key", "get", "hello", "--binding", "PLAIN", code=1)
    assert told == "error: 'hello': Value not found\n"


def test_a_binding_means_the_namespace_that_a_worker_gets(project: Path) -> None:
    run(project, "kv", "key", "put", "a", "1", "--binding", "GREETINGS")
    run(project, "kv", "key", "put", "b", "2", "--binding", "GREETINGS", "--no-preview")
    run(project, "kv", "key", "put", "c", "3", "--binding", "GREETINGS", "--env", "other")
    assert asyncio.run(stored(project, "seen")) == {"a": "1"}
    assert asyncio.run(stored(project, "abc")) == {"b": "2"}
    assert asyncio.run(stored(project, "theirs")) == {"c": "3"}
    assert run(project, "kv", "key", "get", "a", "--namespace-id", "seen")[0] == "1"
    assert run(project, "kv", "key", "get", "a", "--binding", "seen")[0] == "1"
    _, told = run(project, "kv", "key", "get", "a", "--binding", "PLAIN", "--preview", code=1)
    assert "preview_id" in told


def test_a_listing_is_wranglers_json(project: Path) -> None:
    put = ("kv", "key", "put")
    run(
        *(project, *put, "a/1", "x", "--binding", "PLAIN"),
        *("--metadata", '{"n": 1}', "--expiration", "9000000000"),
    )
    run(project, *put, "b", "x", "--binding", "PLAIN", "--ttl", "60")
    text = run(project, "kv", "key", "list", "--binding", "PLAIN", "--prefix", "a/")[0]
    assert (
        text
        == json.dumps(
            [{"name": "a/1", "expiration": 9_000_000_000, "metadata": {"n": 1}}], indent=2
        )
        + "\n"
    )
    listed = json.loads(run(project, "kv", "key", "list", "--binding", "PLAIN")[0])
    assert [one["name"] for one in listed] == ["a/1", "b"]
    assert run(project, "kv", "key", "list", "--binding", "GREETINGS")[0] == "[]\n"


def test_bulk(project: Path) -> None:
    (project / "put.json").write_text(
        json.dumps(
            [
                {"key": "a", "value": "1", "metadata": {"n": 1}},
                {"key": "b", "value": "Mg==", "base64": True, "expiration_ttl": 600},
                {"key": "c", "value": "3"},
            ]
        )
    )
    run(project, "kv", "bulk", "put", "put.json", "--binding", "PLAIN")
    keys = json.dumps(["a", {"name": "b"}, "none"]).encode()
    found = json.loads(run(project, "kv", "bulk", "get", "-", "--binding", "PLAIN", input=keys)[0])
    assert found == {
        "a": {"value": "1", "metadata": {"n": 1}},
        "b": {"value": "2"},
        "none": {"value": None},
    }
    run(project, "kv", "bulk", "delete", "-", "--binding", "PLAIN", "--force", input=keys)
    assert asyncio.run(stored(project, "PLAIN")) == {"c": "3"}


WRONG = {
    "{}": "JSON array",
    "[": "not JSON",
    '[{"key": "a"}]': "must be a string",
    '[{"key": "ok", "value": "1"}, {"key": "", "value": "1"}]': "cannot be empty",
    '[{"key": "a", "value": "!", "base64": true}]': "not base64",
    '[{"key": "a", "value": "1", "ttl": 60}]': "unknown fields",
    '[{"key": "a", "value": "1", "expiration_ttl": 5}]': "at least 60",
    "[1]": "no object",
}


def test_a_bulk_put_with_something_wrong_writes_nothing(project: Path) -> None:
    put = ("kv", "bulk", "put", "-", "--binding", "PLAIN")
    for text, told in WRONG.items():
        assert told in run(project, *put, code=1, input=text.encode())[1]
    assert asyncio.run(stored(project, "PLAIN")) == {}


def test_namespaces(project: Path) -> None:
    assert 'id = "visits"' in run(project, "kv", "namespace", "create", "visits")[0]
    run(project, "kv", "key", "put", "a", "1", "--namespace-id", "visits")
    assert "already" in run(project, "kv", "namespace", "create", "visits", code=1)[1]
    run(project, "kv", "namespace", "rename", "visits", "--new-name", "calls")
    listed = json.loads(run(project, "kv", "namespace", "list")[0])
    assert {one["id"]: one["binding"] for one in listed} == {
        "PLAIN": "PLAIN",
        "abc": "GREETINGS",
        "calls": None,
        "seen": "GREETINGS",
    }
    assert all(one["title"] and one["supports_url_encoding"] for one in listed)
    assert asyncio.run(stored(project, "calls")) == {"a": "1"}
    run(project, "kv", "namespace", "create", "more", "--binding", "MORE", "--update-config")
    run(project, "kv", "key", "put", "a", "1", "--binding", "MORE")
    assert asyncio.run(stored(project, "more")) == {"a": "1"}
    told = run(project, "kv", "namespace", "delete", "call", "-y", code=1)[1]
    assert "Did you mean 'calls'?" in told
    run(project, "kv", "namespace", "delete", "calls", "-y")
    assert asyncio.run(stored(project, "calls")) == {}
    told = run(project, "kv", "key", "list", "--namespace-id", "calls", code=1)[1]
    assert "no namespace 'calls'" in told


def test_names_that_are_nearly_right_are_said(project: Path) -> None:
    run(project, "kv", "key", "put", "a", "1", "--namespace-id", "visits")
    for words, name in (
        (("get", "a", "--binding", "GREETING"), "GREETINGS"),
        (("get", "a", "--namespace-id", "visit"), "visits"),
        (("list", "--namespace-id", "visit"), "visits"),
        (("delete", "a", "--namespace-id", "visit"), "visits"),
    ):
        told = run(project, "kv", "key", *words, code=1)[1]
        assert f"Did you mean {name!r}?" in told
        assert told.count("\n") == 1


USED_WRONGLY = [
    ("key", "put", "a", "1"),
    ("key", "put", "a", "1", "--binding", "PLAIN", "--namespace-id", "x"),
    ("key", "put", "a", "--binding", "PLAIN"),
    ("key", "put", "a", "1", "--path", "x", "--binding", "PLAIN"),
    ("key", "put", "a", "1", "--binding", "PLAIN", "--metadata", "{"),
    ("key", "put", "a", "1", "--binding", "PLAIN", "--ttl", "soon"),
    ("key", "put", "a", "1", "--binding", "PLAIN", "--remote"),
    ("namespace", "rename", "--new-name", "x"),
    ("namespace", "delete"),
    ("bulk",),
]


def test_wrong_arguments_end_with_2(project: Path) -> None:
    run(project, "kv", "key", "put", "b", "1", "--binding", "PLAIN")
    for words in USED_WRONGLY:
        run(project, "kv", *words, code=2)


async def test_all_of_it_beside_a_running_program(project: Path) -> None:
    async with bunflare.open(project / ".bunflare") as state:
        kv = state.kv("PLAIN")
        await kv.put("a", "1")
        assert await kv.get("a") == "1"
        await asyncio.to_thread(run, project, "kv", "key", "put", "a", "2", "--binding", "PLAIN")
        assert await kv.get("a") == "2"
        await asyncio.to_thread(
            run, project, "kv", "namespace", "rename", "PLAIN", "--new-name", "other"
        )
        assert await kv.get("a") is None
        assert await state.kv("other").get("a") == "2"
