"""A program that writes without end and tells what it does, until it is killed.

What is written is one of `KINDS`: whoever adds a system to bunflare adds its kinds here, and the
kills and the checks of this directory cover it from then on.

The program imports everything once and then forks a writer for each line it is given, so that a
kill meets the store and not Python's start. A writer never ends by itself, so that its number is
its own until it was killed; it only does when whoever was to kill it is gone. What they print:

    born <pid>                          the writer, which opens the directory now
    begun <kind> <name> <number>        a write is being asked for
    done <kind> <name> <number>         its await has returned
    closing                             the writer has made its writes, and closes
    failed                              it was hit by an error, which is on standard error
    dead <status>                       it is gone, and so is all that it had to say
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import bunflare
from bunflare import Response, State
from bunflare.store import checkpoint

WRITERS = 4
GROUP = 5
KEEP = {"cache-control": "max-age=1000000000"}


def _same(number: int) -> int | None:
    return number


def _never(number: int) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """A way of writing whose result can be told from outside.

    Each write has a number and a name (a key, say) that only one task writes to.
    """

    #: Write that number under that name.
    write: Callable[[State, str, int], Awaitable[None]]
    #: What is there: the number that was written last, or None. Fails if it is half of anything.
    read: Callable[[State, str], Awaitable[int | None]]
    #: What `read` gives after that number was written.
    leaves: Callable[[int], int | None] = _same
    #: Whether a write of that number is given up on purpose and must leave nothing.
    gives_up: Callable[[int], bool] = _never


def one_number(values: list[str | None]) -> int | None:
    """What several keys say that were only ever written together."""
    assert len(set(values)) == 1, f"half of a write: {values}"
    return None if values[0] is None else int(values[0])


# -- one key -----------------------------------------------------------------------------------


def padded(number: int) -> str:
    """A value of a size that depends on its number; one in seven is written on a thread."""
    size = (0, 10, 1_000, 5_000, 20, 300_000, 3)[number % 7]
    return f"{number} {str(number) * (size // len(str(number)))}"


async def put(state: State, name: str, number: int) -> None:
    await state.kv("single").put(name, padded(number), metadata={"number": number})


async def get(state: State, name: str) -> int | None:
    found = await state.kv("single").get_with_metadata(name)
    if found.value is None:
        return None
    number = int(found.value.split()[0])
    assert found.value == padded(number), "half of a value"
    assert found.metadata == {"number": number}
    return number


async def put_or_delete(state: State, name: str, number: int) -> None:
    kv = state.kv("removed")
    await (kv.delete(name) if number % 2 else kv.put(name, str(number)))


async def get_removed(state: State, name: str) -> int | None:
    value = await state.kv("removed").get(name)
    return None if value is None else int(value)


def _unless_odd(number: int) -> int | None:
    return None if number % 2 else number


# -- several keys in one call ------------------------------------------------------------------


def members(name: str) -> list[str]:
    return [f"{name}.{i}" for i in range(GROUP)]


async def put_many(state: State, name: str, number: int) -> None:
    kv = state.kv("group")
    if number % 4 == 0:
        await kv.delete_many(members(name))
    else:
        await kv.put_many({"key": key, "value": str(number)} for key in members(name))


async def get_many(state: State, name: str) -> int | None:
    return one_number(list((await state.kv("group").get(members(name))).values()))


def _unless_fourth(number: int) -> int | None:
    return None if number % 4 == 0 else number


# -- transactions ------------------------------------------------------------------------------


class GivenUp(Exception):
    pass


def _third(number: int) -> bool:
    return number % 3 == 0


async def transact(state: State, name: str, number: int) -> None:
    """The same number in two namespaces, key after key, while others wait to write."""
    try:
        async with state.transaction() as tx:
            for key in members(name):
                await tx.kv("left").put(key, str(number))
                await asyncio.sleep(0)
                await tx.kv("right").put(key, str(number))
            if _third(number):
                raise GivenUp
    except GivenUp:
        return


async def get_both(state: State, name: str) -> int | None:
    found: list[str | None] = []
    for namespace in ("left", "right"):
        found += (await state.kv(namespace).get(members(name))).values()
    return one_number(found)


# -- cached responses --------------------------------------------------------------------------

WORDS = 300_000


def body(number: int) -> bytes:
    """Small enough for a row, or so large that it lies in a file of its own."""
    return f"{number} ".encode() * (WORDS if number % 2 else 10)


async def cache(state: State, name: str, number: int) -> None:
    async def stream() -> AsyncIterator[bytes]:
        data = body(number)
        for start in range(0, len(data), 256 * 1024):
            yield data[start : start + 256 * 1024]

    response = Response(stream(), headers={**KEEP, "x-number": str(number)})
    await state.caches.default.put(f"http://host/{name}", response)


async def match(state: State, name: str) -> int | None:
    response = await state.caches.default.match(f"http://host/{name}")
    if response is None:
        return None
    number = int(response.headers["x-number"])
    assert await response.bytes() == body(number), "half of a body"
    return number


# -- one commit across systems -----------------------------------------------------------------


async def post(state: State, name: str, number: int) -> None:
    """The same number as a key, as the only message of a queue, and as a cached response."""
    try:
        async with state.transaction() as tx:
            await tx.queue(name).purge()
            await tx.queue(name).send({"number": number})
            await tx.kv("posted").put(name, str(number))
            await asyncio.sleep(0)
            response = Response(body(number), headers={**KEEP, "x-number": str(number)})
            await tx.caches.default.put(f"http://posted/{name}", response)
            if _third(number):
                raise GivenUp
    except GivenUp:
        return


async def get_posted(state: State, name: str) -> int | None:
    messages = await state.queue(name).peek()
    assert len(messages) < 2, "a message was not deleted"
    assert (await state.queue(name).metrics()).backlog_count == len(messages), "counted wrongly"
    response = await state.caches.default.match(f"http://posted/{name}")
    if response is not None:
        assert await response.bytes() == body(int(response.headers["x-number"])), "half of a body"
    return one_number(
        [
            await state.kv("posted").get(name),
            str(messages[0].body["number"]) if messages else None,
            None if response is None else response.headers["x-number"],
        ]
    )


KINDS = {
    "put": Kind(put, get),
    "delete": Kind(put_or_delete, get_removed, leaves=_unless_odd),
    "put_many": Kind(put_many, get_many, leaves=_unless_fourth),
    "transaction": Kind(transact, get_both, gives_up=_third),
    "cache": Kind(cache, match),
    "post": Kind(post, get_posted, gives_up=_third),
}

# -- the program -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What one writer is to do."""

    directory: str
    #: The first number to write; all that was written before is below it.
    start: int
    durability: Any
    seed: int
    #: Writes of each task before the writer closes.
    writes: int = 1_000_000
    #: Kill itself when so many lines of bunflare have been run; 0 waits to be killed.
    lines: int = 0


def tell(*words: object) -> None:
    """One write, so that a line is whole or absent; the pipe survives this process."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def work(order: Order) -> None:
    rng = random.Random(order.seed)
    # Ordinary limits would leave most writers dead before their first checkpoint.
    checkpoint._WORTH_IT, checkpoint._TOO_LONG = rng.choice([(1000, 16000), (20, 16000), (20, 60)])
    async with bunflare.open(order.directory, durability=order.durability) as state:
        kinds = list(KINDS.items())

        async def write(writer: int) -> None:
            for number in range(order.start, order.start + order.writes):
                kind, how = kinds[(writer + number) % len(kinds)]
                if how.gives_up(number):
                    await how.write(state, str(writer), number)
                else:
                    tell("begun", kind, writer, number)
                    await how.write(state, str(writer), number)
                    tell("done", kind, writer, number)

        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        tell("closing")


def die_after(lines: int) -> None:
    """SIGKILL between two lines of bunflare, on whatever thread they are."""
    left = lines
    package = str(Path(bunflare.__file__).parent)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if event == "call" and not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    threading.settrace(trace)


def live(order: Order) -> None:
    try:
        tell("born", os.getpid())
        if order.lines:
            die_after(order.lines)
        asyncio.run(work(order))
    except BaseException:
        traceback.print_exc()
        tell("failed")


def main() -> None:
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            try:
                live(order)
                os.read(0, 1)  # nothing, once the test is gone
            finally:
                os._exit(1)
        tell("dead", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
