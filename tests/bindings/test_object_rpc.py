"""Calling Durable Objects: stubs, values, errors, and the life of an instance."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectReset,
    DurableObjectTypeError,
    DurableObjectValueError,
)


class Odd(Exception):
    pass


class Thing(DurableObject):
    made = 0

    def __init__(self, ctx: bunflare.DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        Thing.made += 1
        self.number = Thing.made
        self.order: list[int] = []
        self.private = "mine"

    async def echo(self, value: Any, **more: Any) -> Any:
        self.last = value
        return [value, more] if more else value

    async def keep(self, value: Any) -> None:
        self.last = value

    async def large(self, size: int) -> Any:
        return [b"x" * size]

    def plain(self) -> str:
        return "not async"

    @property
    def size(self) -> int:
        return 7

    async def note(self, number: int) -> None:
        await asyncio.sleep(0)
        self.order.append(number)

    async def noted(self) -> list[int]:
        return self.order

    async def instance(self) -> int:
        return self.number

    async def fail(self, kind: str) -> None:
        await self.ctx.storage.put("failed", kind)
        if kind == "odd":
            raise Odd("an odd one")
        raise ValueError("wrong value")

    async def stored(self, key: str) -> Any:
        return await self.ctx.storage.get(key)

    async def give_up(self, reason: str | None = None) -> None:
        await self.ctx.storage.put("before", 1)
        try:
            self.ctx.abort(reason)
        except Exception:
            await self.ctx.storage.put("after", 1)

    async def leave(self) -> None:
        raise SystemExit(3)

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def tuple(self) -> Any:
        return (1, 2)

    async def environment(self) -> Any:
        return self.env

    async def _hidden(self) -> None:
        pass

    async def alarm(self) -> None:
        pass

    async def fetch(self, request: bunflare.Request) -> bunflare.Response:
        async def body() -> Any:
            yield b"you sent "
            async for chunk in request.body or _nothing():
                yield chunk

        return bunflare.Response(body(), status=201, headers={"x-url": request.url})


async def _nothing() -> Any:
    return
    yield b""


@pytest.fixture
def things(state: bunflare.State) -> bunflare.DurableObjectNamespace:
    return state.durable_objects(Thing, env={"colour": "red"})


async def test_any_public_method_can_be_called(things: bunflare.DurableObjectNamespace) -> None:
    stub = things.get_by_name("a")
    assert await stub.echo("x") == "x"
    assert await stub.echo(1, a=2) == [1, {"a": 2}]
    assert await stub.plain() == "not async"
    assert await stub.size == 7
    assert await stub.environment() == {"colour": "red"}
    assert stub.name == "a"


async def test_values_arrive_as_copies_that_are_the_same(
    things: bunflare.DurableObjectNamespace,
) -> None:
    value = {
        "list": [1, None, True, 1.5, "é", b"\0\xff"],
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "set": {1, 2},
        "deep": {"a": [{"b": []}]},
    }
    stub = things.get_by_name("a")
    assert await stub.echo(value) == value
    circle: list[Any] = []
    circle.append(circle)
    back = await stub.echo(circle)
    assert back[0] is back
    assert back is not circle


@pytest.mark.parametrize(
    "value", [(1, 2), [(1,)], {"a": {"b": (1,)}}, bytearray(b"x"), object(), asyncio]
)
async def test_what_cannot_be_sent_is_refused_before_the_call(
    things: bunflare.DurableObjectNamespace, value: Any
) -> None:
    with pytest.raises(TypeError):
        await things.get_by_name("a").echo(value)


async def test_a_result_that_cannot_be_sent_is_refused(
    things: bunflare.DurableObjectNamespace,
) -> None:
    with pytest.raises(TypeError, match="tuple"):
        await things.get_by_name("a").tuple()


async def test_exceptions_come_back_with_type_and_message_and_the_object_lives_on(
    things: bunflare.DurableObjectNamespace,
) -> None:
    stub = things.get_by_name("a")
    number = await stub.instance()
    with pytest.raises(ValueError, match="^wrong value$"):
        await stub.fail("value")
    with pytest.raises(bunflare.StoredError, match="Odd: an odd one") as caught:
        await stub.fail("odd")
    assert isinstance(caught.value.__cause__, Odd)
    assert await stub.instance() == number
    assert await stub.stored("failed") == "odd"


@pytest.mark.parametrize("name", ["missing", "_hidden", "private", "order"])
async def test_what_is_not_a_public_method_of_the_class_is_not_there(
    things: bunflare.DurableObjectNamespace, name: str
) -> None:
    expected = f'The RPC receiver does not implement the method "{name}".'
    with pytest.raises(DurableObjectTypeError, match=expected):
        await getattr(things.get_by_name("a"), name)()


@pytest.mark.parametrize("name", ["alarm", "constructor", "web_socket_message"])
async def test_handlers_cannot_be_called(
    things: bunflare.DurableObjectNamespace, name: str
) -> None:
    with pytest.raises(DurableObjectTypeError, match=f"'{name}' is a reserved method"):
        await getattr(things.get_by_name("a"), name)()


async def test_calls_arrive_in_order_without_being_awaited(
    things: bunflare.DurableObjectNamespace,
) -> None:
    stub = things.get_by_name("a")
    calls = [stub.note(number) for number in range(100)]
    assert await stub.noted() is not None
    await asyncio.gather(*calls)
    assert await stub.noted() == list(range(100))


async def test_fetch_streams_both_ways(things: bunflare.DurableObjectNamespace) -> None:
    async def body() -> Any:
        yield b"one "
        yield b"two"

    request = bunflare.Request("https://object/path", method="POST", body=body())
    response = await things.get_by_name("a").fetch(request)
    assert response.status == 201
    assert response.headers["x-url"] == "https://object/path"
    assert await response.text() == "you sent one two"
    assert await (await things.get_by_name("a").fetch("https://x/", method="PUT")).bytes()


async def test_an_object_without_fetch_says_so(state: bunflare.State) -> None:
    class Mute(DurableObject):
        pass

    with pytest.raises(DurableObjectError, match=r"does not export a fetch\(\) function"):
        await state.durable_objects(Mute).get_by_name("a").fetch("https://x/")


async def test_abort_resets_the_object_whatever_its_code_catches(
    things: bunflare.DurableObjectNamespace,
) -> None:
    stub = things.get_by_name("a")
    number = await stub.instance()
    waiting = stub.wait()
    with pytest.raises(DurableObjectReset, match="^enough$"):
        await stub.give_up("enough")
    with pytest.raises(DurableObjectReset, match="^enough$"):
        await waiting
    assert await stub.instance() > number
    assert await stub.stored("after") is None
    with pytest.raises(DurableObjectReset, match="Application called abort"):
        await stub.give_up()


async def test_what_would_end_the_program_resets_the_object_alone(
    things: bunflare.DurableObjectNamespace,
) -> None:
    stub, other = things.get_by_name("a"), things.get_by_name("b")
    number, others = await stub.instance(), await other.instance()
    with pytest.raises(DurableObjectReset, match="SystemExit"):
        await stub.leave()
    assert await stub.instance() > number
    assert await other.instance() == others


async def test_a_failing_constructor_fails_the_call_and_is_tried_again(
    state: bunflare.State,
) -> None:
    tries = 0

    class Fragile(DurableObject):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            nonlocal tries
            tries += 1
            if tries == 1:
                raise RuntimeError("not yet")

        async def ok(self) -> int:
            return tries

    stub = state.durable_objects(Fragile).get_by_name("a")
    with pytest.raises(RuntimeError, match="not yet"):
        await stub.ok()
    assert await stub.ok() == 2


@pytest.mark.usefixtures("impatient")
async def test_an_idle_object_leaves_memory_and_a_busy_one_does_not(
    things: bunflare.DurableObjectNamespace, clock: bunflare.ManualClock
) -> None:
    idle, busy = things.get_by_name("idle"), things.get_by_name("busy")
    first, second = await idle.instance(), await busy.instance()
    waiting = asyncio.ensure_future(busy.wait())
    await clock.advance(seconds=5)
    assert await idle.instance() == first
    await clock.advance(seconds=16)
    assert await idle.instance() > first
    assert await busy.instance() == second
    waiting.cancel()


@pytest.mark.usefixtures("impatient")
async def test_a_caller_that_gives_up_does_not_stop_the_object(
    things: bunflare.DurableObjectNamespace,
) -> None:
    stub = things.get_by_name("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stub.wait(), 0.01)
    assert await stub.plain() == "not async"


async def test_objects_call_each_other(state: bunflare.State) -> None:
    class Chain(DurableObject):
        async def down(self, depth: int) -> list[int]:
            if depth == 0:
                return [0]
            following = self.env["chain"].get_by_name(str(depth - 1))
            return [depth, *(await following.down(depth - 1))]

    env: dict[str, Any] = {}
    env["chain"] = chain = state.durable_objects(Chain, env=env)
    assert await chain.get_by_name("9").down(9) == list(range(9, -1, -1))


async def test_functions_and_targets_are_passed_by_reference(state: bunflare.State) -> None:
    class Adder(bunflare.RpcTarget):
        total = 0

        async def add(self, number: int) -> int:
            self.total += number
            return self.total

    class Caller(DurableObject):
        async def use(self, adder: Any, call: Any) -> list[Any]:
            await adder.add(2)
            return [await adder.add(3), await call("x")]

    async def call(text: str) -> str:
        return text * 2

    stub = state.durable_objects(Caller).get_by_name("a")
    assert await stub.use(Adder(), call) == [5, "xx"]


async def test_what_is_not_there_says_so(state: bunflare.State) -> None:
    class Parent(DurableObject):
        async def child(self) -> None:
            self.ctx.facets.get("child")

    with pytest.raises(bunflare.DurableObjectError, match="facets are not supported"):
        await state.durable_objects(Parent).get_by_name("a").child()


async def test_of_very_many_objects_the_idle_ones_leave_memory_early(
    state: bunflare.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sleeper(DurableObject):
        made: ClassVar[Counter[str | None]] = Counter()

        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            Sleeper.made[ctx.id.name] += 1

        async def count(self) -> int:
            value = (await self.ctx.storage.get("n") or 0) + 1
            await self.ctx.storage.put("n", value)
            return int(value)

        async def wait(self) -> str:
            await freed.wait()
            return "done"

    freed = asyncio.Event()
    monkeypatch.setattr("bunflare.bindings.object_host.MOST_AWAKE", 100)
    sleepers = state.durable_objects(Sleeper)
    waiting = sleepers.get_by_name("busy").wait()
    for number in range(1000):
        assert await sleepers.get_by_name(str(number)).count() == 1
        await sleepers.get_by_name("often").count()
        assert len(state._objects["Sleeper"].actors) < 400
    assert await sleepers.get_by_name("0").count() == 2
    assert Sleeper.made["0"] == 2
    freed.set()
    assert await waiting == "done"
    # What is called in between stays.
    assert Sleeper.made["busy"] == Sleeper.made["often"] == 1


MOST = 32 * 1024 * 1024


@pytest.mark.parametrize(
    "make",
    [
        lambda size: "x" * size,
        lambda size: b"x" * size,
        lambda size: ["x" * (size - 10), b"x" * 10, 1],
        lambda size: {"key": "é" * (size - 3)},
        lambda size: {"a": [b"x" * (size - 1)]},
    ],
)
async def test_a_value_has_32_mebibytes_at_most(
    state: bunflare.State, make: Callable[[int], Any]
) -> None:
    thing = state.durable_objects(Thing).get_by_name("a")
    assert await thing.keep(make(MOST)) is None
    with pytest.raises(DurableObjectValueError, match="limited to 32MiB, but .* 33554433 b"):
        await thing.keep(make(MOST + 1))
    with pytest.raises(DurableObjectValueError, match="limited to 32MiB"):
        await thing.large(MOST + 1)
    assert await thing.plain() == "not async"
