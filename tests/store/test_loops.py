"""What an event loop was given to do is done, also where the loop ends first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

from bunflare.store.loops import Once, call_soon
from tests.support import child

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("make", LOOPS)
def test_a_running_event_loop_calls_it_in_its_own_thread(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    called: list[int] = []
    loop = make()
    call_soon(loop, lambda: called.append(threading.get_ident()))
    assert called == []
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.sleep(0)))
    thread.start()
    thread.join()
    assert called == [thread.ident]
    loop.close()
    assert len(called) == 1


@pytest.mark.parametrize("make", LOOPS)
def test_an_event_loop_that_ends_first_calls_it_at_its_end(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    called: list[str] = []
    loop = make()
    call_soon(loop, lambda: called.append("soon"))

    async def later() -> None:
        asyncio.get_running_loop().call_later(3600, Once(lambda: called.append("later")))

    loop.run_until_complete(later())
    assert called == ["soon"]
    call_soon(loop, lambda: called.append("at the end"))
    loop.close()
    assert sorted(called) == ["at the end", "later", "soon"]
    call_soon(loop, lambda: called.append("when it had ended"))
    assert called[-1] == "when it had ended"


def test_once_is_once() -> None:
    called: list[int] = []
    once = Once(lambda: called.append(1))
    once()
    once()
    del once
    assert called == [1]


FORK = """
import os
from bunflare.store.loops import Once

once = Once(lambda: print("called", flush=True))
child = os.fork()
if child == 0:
    once()
    os._exit(0)
os.waitpid(child, 0)
print("the parent goes on", flush=True)
once()
"""


def test_the_child_of_a_fork_does_not_finish_what_its_parent_had_begun() -> None:
    with child(FORK) as process:
        assert process.line() == "the parent goes on"
        assert process.line() == "called"
