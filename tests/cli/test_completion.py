"""What a shell proposes, of commands and of names."""

from __future__ import annotations

from pathlib import Path

import pytest

import bunflare
from bunflare import DurableObject, WorkflowEntrypoint
from tests.cli.process import run
from tests.support import files


class Room(DurableObject):
    async def fill(self) -> None:
        await self.ctx.storage.put("seat", "window")


class Order(WorkflowEntrypoint):
    pass


WRANGLER = """
name = "w"
main = "e.py"
[[kv_namespaces]]
binding = "VISITS"
[[r2_buckets]]
binding = "QUOTES"
bucket_name = "quotes"
[[d1_databases]]
binding = "DB"
database_name = "shop"
[[durable_objects.bindings]]
name = "ROOMS"
class_name = "Roof"
[[queues.producers]]
binding = "JOBS"
queue = "jobs"
[[workflows]]
binding = "ORDERS"
name = "orders"
class_name = "Order"
"""


@pytest.fixture
async def project(tmp_path: Path) -> Path:
    (tmp_path / "wrangler.toml").write_text(WRANGLER)
    return tmp_path


def proposed(directory: Path, line: str) -> list[str]:
    """What the shell gets where somebody has typed a line and presses tab."""
    out, told = run(
        directory,
        _BUNFLARE_COMPLETE="bash_complete",
        COMP_WORDS=line,
        COMP_CWORD=str(line.count(" ")),
    )
    assert told == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


def test_shells_are_told_how_to_complete(tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_BUNFLARE_COMPLETE" in run(tmp_path, "completion", shell)[0]
    run(tmp_path, "completion", "tcsh", code=2)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bunflare kv k", "key"),
        ("bunflare r2 object sy", "sync"),
        ("bunflare sta", "state"),
        ("bunflare kv key get --bin", "--binding"),
        # What the wrangler file names, before anything is stored.
        ("bunflare kv key list --binding V", "VISITS"),
        ("bunflare r2 bucket info q", "quotes"),
        ("bunflare r2 object get Q", "QUOTES/"),
        ("bunflare d1 execute s", "shop"),
        ("bunflare d1 migrations list D", "DB"),
        ("bunflare do list Ro", "Roof"),
        ("bunflare do list RO", "ROOMS"),
        ("bunflare queues message peek J", "JOBS"),
        ("bunflare workflows describe or", "orders"),
    ],
)
def test_commands_options_and_declared_names(project: Path, line: str, expected: str) -> None:
    assert proposed(project, line) == [expected]
    assert list(files(project)) == ["wrangler.toml"]


async def test_names_of_the_state(project: Path) -> None:
    async with bunflare.open(project / ".bunflare") as state:
        await state.kv("SETTINGS").put("a", "1")
        await state.r2("pictures").put("cats/tom.jpg", "1")
        await state.r2("pictures").put("dogs.jpg", "1")
        await state.d1("stock").exec("CREATE TABLE t (a)")
        await state.durable_objects(Room).get_by_name("blue").fill()
        await state.queue("letters").send(1)
        await state.workflow(Order, "parcels").create("p-1")
        await state.caches.default.put(
            "https://example.com/", bunflare.Response("x", headers={"cache-control": "max-age=60"})
        )
        await state.snapshot("before")
    for line, expected in (
        ("kv key list --namespace-id S", ["SETTINGS"]),
        ("kv namespace delete ", ["SETTINGS"]),
        ("r2 bucket info p", ["pictures"]),
        ("r2 object get pictures/c", ["pictures/cats/tom.jpg"]),
        ("r2 object copy pictures/", ["pictures/cats/tom.jpg", "pictures/dogs.jpg"]),
        ("d1 info s", ["shop", "stock"]),
        ("do storage list Roo", ["Roof", "Room"]),
        ("do storage list Room b", ["blue"]),
        ("queues info le", ["letters"]),
        ("workflows instances list p", ["parcels"]),
        ("workflows instances describe parcels p", ["p-1"]),
        ("cache list --cache d", ["default"]),
        ("state snapshot restore b", ["before"]),
        ("state diff ", ["before"]),
    ):
        assert proposed(project, f"bunflare {line}") == expected, line


def test_what_is_wrong_is_no_concern_of_completion(tmp_path: Path) -> None:
    (tmp_path / "wrangler.toml").write_text("name = ")
    (tmp_path / ".bunflare").mkdir()
    (tmp_path / ".bunflare/data.sqlite").write_text("not a database" * 50)
    assert proposed(tmp_path, "bunflare kv key list --binding V") == []
    assert proposed(tmp_path, "bunflare queues info j") == []
