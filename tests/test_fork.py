"""A process that forks: each side goes on with files of its own, or is told why it cannot."""

from __future__ import annotations

from pathlib import Path

from tests.support import child

IDLE = """
import asyncio, os, sys, bunflare

state = bunflare.open(sys.argv[1])

async def use(name, number):
    kv = state.kv("A")
    for i in range(number):
        await kv.put(f"{name}{i}", name)
        assert await kv.get(f"{name}{i}") == name

asyncio.run(use("before", 10))
child = os.fork()
if child == 0:
    asyncio.run(use("child", 200))
    os._exit(0)
asyncio.run(use("parent", 200))
_, status = os.waitpid(child, 0)
assert status == 0, status

async def check():
    kv = state.kv("A")
    assert [name async for name in kv.scan("child")].__len__() == 200
    assert [name async for name in kv.scan("parent")].__len__() == 200
    assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    await state.close()

asyncio.run(check())
print("fine", flush=True)
"""

BUSY = """
import asyncio, os, sys, bunflare

async def main():
    state = bunflare.open(sys.argv[1])
    kv = state.kv("A")
    await kv.put("key", "before")
    async with state.transaction() as tx:
        await tx.kv("A").put("key", "parent")
        child = os.fork()
        if child == 0:
            try:
                state.database.view.one("SELECT 1")
            except bunflare.StateError as error:
                assert "forked" in str(error), error
            else:
                os._exit(1)
            try:
                bunflare.open(sys.argv[1]).kv("A")
                state.database.view
            except bunflare.StateError as error:
                os._exit(0)
            os._exit(2)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
    assert await kv.get("key") == "parent"
    assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    await state.close()

asyncio.run(main())
print("fine", flush=True)
"""

MEMORY = """
import asyncio, os, bunflare

async def main():
    async with bunflare.open(":memory:") as state:
        await state.kv("A").put("key", "value")
    return state

state = bunflare.open(":memory:")
child = os.fork()
if child == 0:
    asyncio.run(state.close())
    os._exit(0)
os.waitpid(child, 0)
assert state.directory.is_dir()
asyncio.run(state.kv("A").put("key", "value"))
asyncio.run(state.close())
assert not state.directory.exists()
print("fine", flush=True)
"""


def test_an_idle_state_goes_on_in_both_processes(tmp_path: Path) -> None:
    with child(IDLE, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_a_state_that_is_in_use_cannot_be_used_by_the_child(tmp_path: Path) -> None:
    with child(BUSY, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_a_child_does_not_remove_the_throw_away_state_of_its_parent() -> None:
    with child(MEMORY) as process:
        assert process.line() == "fine"
