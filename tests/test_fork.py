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
    # What is written on a thread.
    await state.r2("files").put(name, bytes(2**20))
    assert (await (await state.r2("files").get(name)).bytes()) == bytes(2**20)

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


WRITING = """
import asyncio, gc, os, sys, threading, bunflare

LARGE = b"x" * 200_000

def child(state, tx):
    try:
        for use in (lambda: state.database.view, lambda: tx.kv("A")._session.view.one("SELECT 1")):
            try:
                use()
            except bunflare.StateError as error:
                assert "forked" in str(error), error
            else:
                os._exit(1)
        del tx, state
        gc.collect()
        # Another directory is nobody else's.
        other = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        other.start()
        other.join()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(2)

async def elsewhere():
    async with bunflare.open(sys.argv[1] + "-child") as state:
        await state.kv("A").put("key", "child")
        assert await state.kv("A").get("key") == "child"

async def main():
    state = bunflare.open(sys.argv[1])
    kv = state.kv("A")
    await kv.put("key", "before")
    async with state.transaction() as tx:
        tx.kv("A")._session._transaction.run("PRAGMA cache_size=10")
        for number in range(100):
            await tx.kv("A").put(f"large{number}", LARGE)
        pid = os.fork()
        if pid == 0:
            child(state, tx)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        await tx.kv("A").put("key", "parent")
    assert await kv.get("key") == "parent"
    for number in range(100):
        assert await kv.get(f"large{number}", "bytes") == LARGE
    await kv.put("key", "after")
    assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    await state.close()

asyncio.run(main())
print("fine", flush=True)
"""

THREADS = """
import asyncio, os, sys, threading, time, bunflare

ended = threading.Event()
statuses = []

def fork_again_and_again(state):
    for _ in range(30):
        time.sleep(0.005)
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(use(state))
            except bunflare.StateError as error:
                os._exit(0 if "forked" in str(error) else 1)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(2)
            os._exit(0)
        statuses.append(os.waitpid(pid, 0)[1])
    ended.set()

async def use(state):
    await state.kv("A").put("child", "child")
    assert await state.kv("A").get("child") == "child"

async def main():
    state = bunflare.open(sys.argv[1])
    kv = state.kv("A")
    await kv.put("key", "before")
    threading.Thread(target=fork_again_and_again, args=(state,)).start()
    number = 0
    while not ended.is_set():
        number += 1
        await asyncio.gather(
            kv.put("large", b"x" * 1_000_000),
            *(kv.put(f"key{i}", str(number)) for i in range(50)),
        )
    assert set(statuses) == {0}, statuses
    assert await kv.get("key49") == str(number)
    assert state.database.view.one("PRAGMA integrity_check") == ("ok",)
    await state.close()

asyncio.run(main())
print("fine", flush=True)
"""


def test_an_idle_state_goes_on_in_both_processes(tmp_path: Path) -> None:
    with child(IDLE, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_a_state_that_is_in_use_cannot_be_used_by_the_child(tmp_path: Path) -> None:
    with child(BUSY, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_a_child_cannot_disturb_a_parent_that_is_in_the_middle_of_writing(tmp_path: Path) -> None:
    # So much that pages of the open transaction are in the log already.
    with child(WRITING, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_another_thread_may_fork_at_any_time(tmp_path: Path) -> None:
    with child(THREADS, tmp_path / "state") as process:
        assert process.line() == "fine"


def test_a_child_does_not_remove_the_throw_away_state_of_its_parent() -> None:
    with child(MEMORY) as process:
        assert process.line() == "fine"
