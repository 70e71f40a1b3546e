"""Objects of another process: what is passed by reference goes there and back."""

from __future__ import annotations

import asyncio
import gc
import resource
import weakref
from collections.abc import AsyncIterator, Iterator
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectReset,
    DurableObjectTypeError,
    RpcTarget,
)
from bunflare.web.streams import Counted, Sized
from tests.support import Child, child, eventually

_CHUNK = 100_000


class Adder(RpcTarget):
    def __init__(self) -> None:
        self.total = 0
        self.calls: list[Any] = []

    async def add(self, number: int) -> int:
        self.total += number
        return self.total

    def at_once(self, **given: Any) -> dict[str, Any]:
        return given

    def fails(self) -> None:
        raise ZeroDivisionError("by the target")

    @property
    def sum(self) -> int:
        return self.total

    def _private(self) -> None: ...


class Far(DurableObject):
    """An object that another process calls."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.kept: dict[str, Any] = {}
        self.given: weakref.WeakSet[Adder] = weakref.WeakSet()
        self.events: list[str] = []

    # -- functions and targets

    async def use(self, adder: Any, call: Any) -> list[Any]:
        await adder.add(2)
        return [await adder.add(3), await adder.sum, await call("x"), await adder.at_once(a=[1])]

    async def call(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    async def keep(self, name: str, value: Any) -> None:
        self.kept[name] = value

    async def back(self, name: str) -> Any:
        return self.kept[name]

    async def call_kept(self, name: str, *args: Any) -> Any:
        result = self.kept[name](*args)
        # What has come home is what it was, and that need not be a coroutine.
        return await result if isawaitable(result) else result

    async def drop(self, name: str) -> None:
        del self.kept[name]

    async def adder(self) -> Any:
        adder = Adder()
        self.given.add(adder)
        return {"adder": adder, "double": lambda number: number * 2, "list": [1, adder]}

    async def left(self) -> int:
        gc.collect()
        return len(self.given)

    async def writer(self) -> Any:
        async def write(value: Any) -> Any:
            self.events.append(f"write {value}")
            await self.ctx.storage.put("value", value)
            return await self.ctx.storage.get("value")

        return write

    async def stand_still(self, function: Any) -> None:
        async def section() -> None:
            await function()
            self.events.append("stood")

        await self.ctx.block_concurrency_while(section)

    async def noted(self) -> list[str]:
        return self.events

    async def leave(self) -> None:
        self.ctx.abort("enough")

    async def try_function(self, function: Any) -> None:
        try:
            await function()
        except Exception as error:
            await self.ctx.storage.put("heard", f"{type(error).__name__}: {error}")
            raise

    async def heard(self) -> Any:
        return await self.ctx.storage.get("heard")

    # -- streams

    async def measure(self, stream: Any) -> list[int]:
        before = _peak()
        size = 0
        async for chunk in stream:
            size += len(chunk)
        return [size, _peak() - before]

    async def first(self, stream: Any) -> Any:
        return await anext(stream)

    async def numbers(self, count: int) -> Any:
        async def give() -> AsyncIterator[bytes]:
            try:
                for number in range(count):
                    self.kept["given"] = number
                    yield number.to_bytes(4, "big") * (_CHUNK // 4)
                if count == 3:
                    raise ValueError("no more")
            finally:
                self.kept["ended"] = True

        return give()

    async def mixed(self) -> Any:
        async def give() -> AsyncIterator[Any]:
            yield "text"
            yield {"a": 1}

        return {"stream": give(), "after": 1}

    async def answer(self, request: Any) -> Any:
        async def echo() -> AsyncIterator[bytes]:
            yield f"{request.method} {request.url} {request.headers['x-one']} ".encode()
            async for chunk in request.body:
                yield chunk.upper()

        return [bunflare.Response(echo(), status=201, headers={"x-two": "2"})]

    async def mirror(self, given: Any) -> Any:
        return [bunflare.Response(given.body) if isinstance(given, bunflare.Request) else given]

    async def fetch(self, request: Any) -> Any:
        if request.method == "PUT":
            before = _peak()
            size = 0
            async for chunk in request.body:
                size += len(chunk)
            return bunflare.Response(f"{size} {_peak() - before}")

        async def give() -> AsyncIterator[bytes]:
            for number in range(int(request.headers["x-count"])):
                self.kept["given"] = number
                yield bytes(_CHUNK)

        return bunflare.Response(give())

    async def socket(self) -> Any:
        _, server = bunflare.WebSocketPair()
        self.ctx.accept_web_socket(server)
        client, _ = bunflare.WebSocketPair()
        return [bunflare.Response(None, status=101, web_socket=client)]


def _peak() -> int:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_OWNER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import bunflare
from tests.bindings.test_object_link import Far
async def main():
    clock = bunflare.ManualClock()
    async with bunflare.open(sys.argv[1], clock=clock) as state:
        await state.durable_objects(Far).get_by_name("first").noted()
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            await clock.advance(minutes=1)
            print("a minute later", flush=True)
asyncio.run(main())
"""
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Child]:
    """The process in which the objects run."""
    with child(_OWNER, tmp_path / "state", _ROOT) as owner:
        assert owner.line() == "ready"
        yield owner


@pytest.fixture
async def far(owner: Child, tmp_path: Path) -> AsyncIterator[Any]:
    """A stub of an object there."""
    async with bunflare.open(tmp_path / "state") as state:
        yield state.durable_objects(Far).get_by_name("far")
        assert owner.process.poll() is not None or not state._objects["Far"].owner


async def call(text: str) -> str:
    return text * 2


async def a_minute(owner: Child) -> None:
    """Let time pass in the owner: objects to which nothing happens leave its memory."""
    owner.tell("on")
    assert await asyncio.to_thread(owner.line) == "a minute later"


async def turns(far: Any) -> None:
    """Let the owner do what it has to do: calls arrive after all that was said before."""
    for _ in range(20):
        await far.noted()


# -- functions and targets ---------------------------------------------------------------------


async def test_functions_and_targets_are_called_back(far: Any) -> None:
    adder = Adder()
    assert await far.use(adder, call) == [5, 5, "xx", {"a": [1]}]
    assert adder.total == 5
    assert await far.call(lambda a, b: [a, {"b": b}], 1, b"2") == [1, {"b": b"2"}]


async def test_targets_and_functions_come_as_results(far: Any) -> None:
    found = await far.adder()
    assert await found["adder"].add(4) == 4
    assert await found["list"][1].add(5) == 9
    assert await found["adder"].sum == 9
    assert await found["double"](21) == 42
    assert found["list"][0] == 1
    # Calls of one stub arrive in their order.
    calls = [found["adder"].add(1) for _ in range(50)]
    assert await asyncio.gather(*calls) == list(range(10, 60))


async def test_errors_go_through(far: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="by the target"):
        await far.call(Adder().fails)
    adder = (await far.adder())["adder"]
    with pytest.raises(ZeroDivisionError, match="by the target"):
        await adder.fails()
    for missing in ("missing", "_private", "total"):
        with pytest.raises(DurableObjectTypeError, match="does not implement the method"):
            await getattr(adder, missing)()
    with pytest.raises(DurableObjectTypeError, match="type tuple cannot be sent"):
        await adder.add((1, 2))
    with pytest.raises(bunflare.ValueNotSerializable):
        await adder.add(object())

    async def gives_what_cannot_be_sent() -> Any:
        return (1, 2)

    with pytest.raises(DurableObjectTypeError, match="type tuple cannot be sent"):
        await far.call(gives_what_cannot_be_sent)
    assert await adder.add(1) == 1


async def test_what_comes_home_is_what_it_was(far: Any) -> None:
    adder = Adder()
    await far.keep("mine", [adder])
    assert (await far.back("mine"))[0] is adder
    theirs = await far.adder()
    await far.keep("theirs", theirs["double"])
    assert await far.call_kept("theirs", 4) == 8
    # Theirs is given to a function of ours that they call: there and back.
    assert await far.call(_calls, theirs["double"]) == 14


async def _calls(function: Any) -> Any:
    return await function(7)


async def test_calls_go_back_and_forth_within_each_other(far: Any) -> None:
    async def down(depth: int) -> list[int]:
        if depth == 0:
            return [0]
        return [depth, *(await far.call(down, depth - 1))]

    assert await far.call(down, 6) == [6, 5, 4, 3, 2, 1, 0]


async def test_what_nobody_has_any_more_is_let_go_of(far: Any) -> None:
    found = await far.adder()
    assert await far.left() == 1
    adder, other = found.pop("adder"), found.pop("list")[1]
    other.dispose()
    with adder as same:
        twin = adder.dup()
        assert await same.add(1) == 1
    with pytest.raises(DurableObjectError, match="RPC stub used after being disposed"):
        adder.add(1)
    with pytest.raises(DurableObjectError, match="RPC stub used after being disposed"):
        await far.call(adder)
    assert await twin.add(1) == 2
    assert await far.left() == 1
    # What is collected is let go of too.
    del twin, found
    gc.collect()
    while await far.left():
        await asyncio.sleep(0.001)


async def test_what_was_given_away_is_let_go_of_there(far: Any) -> None:
    adder = Adder()
    weak = weakref.ref(adder)
    await far.keep("mine", adder)
    del adder
    gc.collect()
    assert weak() is not None
    await far.drop("mine")
    await eventually(lambda: gc.collect() >= 0 and weak() is None)


async def test_what_an_object_has_given_is_called_as_its_event(owner: Child, far: Any) -> None:
    write = await far.writer()
    assert await write(1) == 1
    # The object's instance stays in memory for it, though nothing happens.
    await a_minute(owner)
    begun, enough = asyncio.Event(), asyncio.Event()

    async def function() -> None:
        begun.set()
        await enough.wait()

    standing = far.stand_still(function)
    await begun.wait()
    written = write(2)
    enough.set()
    await asyncio.gather(standing, written)
    assert await far.noted() == ["write 1", "stood", "write 2"]
    with pytest.raises(DurableObjectReset, match="enough"):
        await far.leave()
    with pytest.raises(DurableObjectReset, match="enough"):
        await write(3)
    # What follows is another instance, which leaves when nobody has anything of it.
    await far.keep("key", 1)
    assert await far.back("key") == 1
    await a_minute(owner)
    with pytest.raises(KeyError):
        await far.back("key")


async def test_objects_of_two_processes_give_each_other_their_methods(
    far: Any, tmp_path: Path
) -> None:
    class Near(DurableObject):
        async def value(self, more: int) -> int:
            await self.ctx.storage.put("more", more)
            return more + int(await self.ctx.storage.get("own"))

        async def ask(self) -> Any:
            # What was written before is on disk when the call leaves.
            await self.ctx.storage.put("own", 5)
            return await far.call(self.value, 10)

    async with bunflare.open(tmp_path / "state") as state:
        near: Any = state.durable_objects(Near).get_by_name("near")
        assert await near.ask() == 15


async def test_a_killed_owner_breaks_what_it_has_given(owner: Child, far: Any) -> None:
    found = await far.adder()
    stream = await far.numbers(1000)
    await anext(stream)
    hanging: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    called = asyncio.Event()

    async def hang() -> None:
        called.set()
        await hanging

    call = far.call(hang)
    await called.wait()
    owner.kill()
    with pytest.raises(DurableObjectReset, match="Network connection lost"):
        await call
    with pytest.raises(DurableObjectReset, match="Network connection lost"):
        await found["adder"].add(1)
    with pytest.raises(DurableObjectReset, match="Network connection lost"):
        async for _ in stream:
            pass
    # The objects run here from now on, without what they had in memory.
    assert await far.noted() == []
    assert await far.call(call_here, 1) == 1


async def call_here(value: int) -> int:
    return value


_CALLER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import bunflare
from tests.bindings.test_object_link import Far
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        far = state.durable_objects(Far).get_by_name("far")
        async def body():
            yield b"some"
            print("reading", flush=True)
            await asyncio.Event().wait()
        async def hang():
            print("called", flush=True)
            await asyncio.Event().wait()
        await far.keep("function", hang)
        await asyncio.gather(far.try_function(hang), far.measure(body()))
asyncio.run(main())
"""


async def test_an_object_hears_that_its_caller_was_killed(tmp_path: Path) -> None:
    async with bunflare.open(tmp_path / "state") as state:
        far: Any = state.durable_objects(Far).get_by_name("far")
        await far.noted()
        with child(_CALLER, tmp_path / "state", _ROOT) as caller:
            told = [await asyncio.to_thread(caller.line) for _ in range(2)]
            assert sorted(told) == ["called", "reading"]
            caller.kill()
        host = state._objects["Far"]
        await eventually(lambda: not any(actor.running for actor in host.actors.values()))
        assert await far.heard() == "DurableObjectReset: Network connection lost."
        with pytest.raises(DurableObjectReset, match="Network connection lost"):
            await far.call_kept("function")


# -- streams -----------------------------------------------------------------------------------


async def test_a_stream_goes_to_an_object_in_flat_memory(far: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield bytes(_CHUNK)

    async def few() -> AsyncIterator[bytes]:
        yield bytes(3_000_000)
        yield b""
        yield bytes(5)

    assert (await far.measure(few()))[0] == 3_000_005
    before = _peak()
    size, grown = await far.measure(chunks())
    assert size == 600 * _CHUNK
    # 60 MB have passed.
    assert grown < 20_000
    assert _peak() - before < 20_000


async def test_a_stream_comes_from_an_object_as_it_is_read(owner: Child, far: Any) -> None:
    stream = await far.numbers(600)
    # Before anybody reads, nothing is made.
    with pytest.raises(KeyError):
        await far.back("given")
    before = _peak()
    for number in range(5):
        assert (await anext(stream))[:4] == number.to_bytes(4, "big")
    await turns(far)
    assert await far.back("given") <= 5 + 4
    # The object stays in memory for it.
    await a_minute(owner)
    async for chunk in stream:
        number += 1
        assert chunk[:4] == number.to_bytes(4, "big")
    assert number == 599
    assert await far.back("ended")
    assert _peak() - before < 20_000
    assert [one async for one in stream] == []


async def test_a_stream_that_fails_or_is_left_ends_at_its_source(far: Any) -> None:
    got = []
    with pytest.raises(ValueError, match="no more"):
        async for chunk in await far.numbers(3):
            got.append(len(chunk))
    assert got == [_CHUNK] * 3

    for leave in ("close", "drop"):
        await far.keep("ended", False)
        stream = await far.numbers(1000)
        await anext(stream)
        if leave == "close":
            await stream.aclose()
            assert [one async for one in stream] == []
        del stream
        while not await far.back("ended"):
            await asyncio.sleep(0.001)

    ended = asyncio.Event()

    async def ours() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.set()

    assert await far.first(ours()) == b"x"
    await asyncio.wait_for(ended.wait(), 30)


async def test_streams_of_other_things_and_within_values(far: Any) -> None:
    found = await far.mixed()
    assert found["after"] == 1
    assert [one async for one in found["stream"]] == ["text", {"a": 1}]
    # A stream of theirs goes back to them.
    assert await far.first((await far.mixed())["stream"]) == "text"


async def test_requests_and_responses_are_arguments_and_results(far: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    for given in (body(), b"one two"):
        request = bunflare.Request(
            "https://x/path", method="POST", headers={"x-one": "1"}, body=given
        )
        (response,) = await far.answer(request)
        assert (response.status, response.headers["x-two"]) == (201, "2")
        assert await response.text() == "POST https://x/path 1 ONE TWO"
    with pytest.raises(DurableObjectTypeError, match="a response with a WebSocket"):
        await far.socket()


async def test_bodies_pass_in_flat_memory_and_as_they_are_read(far: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield bytes(_CHUNK)

    sent = await far.fetch("https://x/", method="PUT", body=chunks())
    size, grown = map(int, (await sent.text()).split())
    assert size == 600 * _CHUNK
    assert grown < 20_000
    whole = await far.fetch("https://x/", method="PUT", body=bytes(5_000_000))
    assert (await whole.text()).startswith("5000000 ")
    response = await far.fetch("https://x/", headers={"x-count": "600"})
    parts = aiter(response.body)
    before = _peak()
    await anext(parts)
    await turns(far)
    assert await far.back("given") <= 5
    assert sum([len(part) async for part in parts]) == 599 * _CHUNK
    assert _peak() - before < 20_000


async def test_how_long_a_stream_is_passes_with_it(far: Any) -> None:
    size = 2 * _CHUNK

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield bytes(_CHUNK)

    async def mirrored(body: Any) -> Any:
        (response,) = await far.mirror(bunflare.Request("https://x/", method="POST", body=body))
        return response.take()

    for body, left in ((Counted(chunks(), size), size), (bytes(5_000_000), 5_000_000)):
        stream = await mirrored(body)
        assert stream.left == left
        assert sum([len(chunk) async for chunk in stream]) == left
    assert not isinstance(await mirrored(chunks()), Sized)
    (stream,) = await far.mirror(Counted(chunks(), size))
    await anext(stream)
    assert stream.left == _CHUNK


# -- more than two, and ends at any time -------------------------------------------------------

_RELAYED = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import bunflare
from tests.bindings.test_object_link import Adder, Relay
async def main():
    async with bunflare.open(sys.argv[1]) as state:
        relay = state.durable_objects(Relay).get_by_name("relay")
        adder = Adder()
        async def body():
            for _ in range(30):
                yield bytes(100_000)
        async def call(text):
            return text * 2
        print(await relay.use(adder, call), adder.total, await relay.size(body()), flush=True)
asyncio.run(main())
"""


class Relay(DurableObject):
    """Passes on what it is given to an object of a third process."""

    async def use(self, adder: Any, function: Any) -> Any:
        return await self.env["far"].use(adder, function)

    async def size(self, stream: Any) -> Any:
        return (await self.env["far"].measure(stream))[0]


async def test_what_is_passed_on_is_called_through_three_processes(
    far: Any, tmp_path: Path
) -> None:
    async with bunflare.open(tmp_path / "state") as state:
        relays: Any = state.durable_objects(Relay, env={"far": far})
        with pytest.raises(TypeError):
            await relays.get_by_name("relay").use()
        with child(_RELAYED, tmp_path / "state", _ROOT) as caller:
            told = await asyncio.to_thread(caller.line)
    assert told == "[5, 5, 'xx', {'a': [1]}] 5 3000000"


async def test_whatever_is_under_way_when_the_owner_is_killed_ends(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)
            await asyncio.sleep(0)

    async def nested(far: Any, depth: int) -> int:
        async def down(left: int) -> int:
            return 0 if left == 0 else 1 + await far.call(down, left - 1)

        return await down(depth)

    async def read(far: Any) -> int:
        return len([chunk async for chunk in await far.numbers(10_000)])

    async def standing() -> None:
        await asyncio.sleep(0)

    ends: list[str] = []
    for moment in range(4):
        with child(_OWNER, tmp_path / "state", _ROOT) as owner:
            assert owner.line() == "ready"
            async with bunflare.open(tmp_path / "state") as state:
                far: Any = state.durable_objects(Far).get_by_name("far")
                await far.noted()
                work = [
                    asyncio.ensure_future(one)
                    for _ in range(5)
                    for one in (
                        nested(far, 200),
                        read(far),
                        far.measure(endless()),
                        far.stand_still(standing),
                        far.fetch("https://x/", method="PUT", body=endless()),
                    )
                ]
                for _ in range(moment):
                    await state.durable_objects(Far).get_by_name("other").noted()
                owner.kill()
                ended = asyncio.gather(*work, return_exceptions=True)
                found = await asyncio.wait_for(ended, timeout=30)
                ends += [type(one).__name__ for one in found if isinstance(one, Exception)]
                # The objects run here from now on.
                assert await far.call(call_here, moment) == moment
                assert state._objects["Far"].owner
    assert set(ends) == {"DurableObjectReset"}
