"""WebSockets of Durable Objects: accepted, hibernated, answered by themselves, closed."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import bunflare
from bunflare import (
    DurableObject,
    DurableObjectError,
    DurableObjectTypeError,
    DurableObjectValueError,
    Response,
    WebSocketPair,
    WebSocketRequestResponsePair,
)
from tests.bindings.test_websocket import Heard
from tests.support import child, eventually

made: list[str] = []


class Room(DurableObject):
    def __init__(self, ctx: bunflare.DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        made.append("room")
        self.seen: list[Any] = []
        self.gate = asyncio.Event()

    async def fetch(self, request: bunflare.Request) -> Response:
        client, server = WebSocketPair()
        if "plain" in request.url:
            server.accept()
            server.add_event_listener("message", lambda event: server.send(f"plain {event.data}"))
            return Response(None, status=101, web_socket=client)
        tags = [tag for tag in request.url.partition("?")[2].split(",") if tag]
        self.ctx.accept_web_socket(server, tags)
        server.serialize_attachment({"tags": tags})
        return Response(None, status=101, web_socket=client)

    async def web_socket_message(self, ws: bunflare.WebSocket, message: Any) -> None:
        match message:
            case "who":
                ws.send(f"{ws.deserialize_attachment()} {self.ctx.get_tags(ws)}")
            case "store":
                value = (await self.ctx.storage.get("n") or 0) + 1
                await self.ctx.storage.put("n", value)
                ws.send(f"stored {value}")
            case "wait":
                await self.gate.wait()
                ws.send("waited")
            case "hang":
                ws.send("hanging")
                await asyncio.Event().wait()
            case "open":
                self.gate.set()
            case "fail":
                raise ValueError("on purpose")
            case "abort":
                self.ctx.abort("on purpose")
            case "bye":
                ws.close(4000, "bye")
            case _:
                for one in self.ctx.get_web_sockets():
                    one.send(message)

    async def web_socket_close(
        self, ws: bunflare.WebSocket, code: int, reason: str, clean: bool
    ) -> None:
        there = ws in self.ctx.get_web_sockets()
        await self.ctx.storage.put("closed", [code, reason, clean, ws.ready_state, there])

    async def closed(self) -> Any:
        return await self.ctx.storage.get("closed")

    async def count(self, tag: str | None = None) -> int:
        return len(self.ctx.get_web_sockets(tag))

    async def auto(self, request: str | None, response: str = "") -> Any:
        pair = None if request is None else WebSocketRequestResponsePair(request, response)
        self.ctx.set_web_socket_auto_response(pair)
        found = self.ctx.get_web_socket_auto_response()
        return None if found is None else [found.request, found.response]

    async def stamps(self) -> list[Any]:
        stamp = self.ctx.get_web_socket_auto_response_timestamp
        return [stamp(one) for one in self.ctx.get_web_sockets()]

    async def limit(self, milliseconds: int | None) -> int | None:
        self.ctx.set_hibernatable_web_socket_event_timeout(milliseconds)
        return self.ctx.get_hibernatable_web_socket_event_timeout()

    async def refused(self, tags: Any) -> None:
        pair = WebSocketPair()
        self.ctx.accept_web_socket(pair[0], tags)

    async def refused_kinds(self) -> list[str]:
        said = []
        accepted, other = WebSocketPair()
        accepted.accept()
        own, _ = WebSocketPair()
        for wrong in ("no socket", accepted, other):
            try:
                self.ctx.accept_web_socket(wrong, [])  # type: ignore[arg-type]
            except DurableObjectError as error:
                said.append(str(error))
        try:
            self.ctx.get_tags(own)
        except DurableObjectError as error:
            said.append(str(error))
        return said


@pytest.fixture
def rooms(state: bunflare.State) -> Any:
    made.clear()
    return state.durable_objects(Room, idle_seconds=10)


async def join(room: Any, query: str = "") -> tuple[bunflare.WebSocket, Heard]:
    response = await room.fetch(f"https://room/?{query}", headers={"Upgrade": "websocket"})
    assert response.status == 101
    socket: bunflare.WebSocket = response.web_socket
    heard = Heard(socket)
    socket.accept()
    return socket, heard


async def ask(socket: bunflare.WebSocket, heard: Heard, message: str) -> Any:
    before = len(heard.events)
    socket.send(message)
    await eventually(lambda: len(heard.events) > before)
    return heard.events[before]


async def fall_asleep(state: bunflare.State, clock: bunflare.ManualClock, rooms: Any) -> None:
    for _ in range(4):
        await clock.advance(seconds=5)
    assert not rooms._host.actors


async def test_messages_reach_the_handlers_and_all_sockets(rooms: Any) -> None:
    room = rooms.get_by_name("a")
    one, heard_one = await join(room)
    _, heard_other = await join(room)
    one.send("hello")
    one.send(b"bytes")
    await eventually(lambda: len(heard_other.events) == 2)
    assert heard_one.events == heard_other.events == ["hello", b"bytes"]


async def test_an_object_hibernates_and_wakes_with_tags_and_attachments(
    state: bunflare.State, clock: bunflare.ManualClock, rooms: Any
) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room, "red,blue,red")
    await fall_asleep(state, clock, rooms)
    assert await ask(socket, heard, "who") == ("{'tags': ['red', 'blue', 'red']} ['red', 'blue']")
    assert made == ["room", "room"]
    await fall_asleep(state, clock, rooms)
    assert [await room.count(tag) for tag in (None, "red", "blue", "green")] == [1, 1, 1, 0]
    socket.close(3001, "gone")
    await eventually(lambda: heard.events[1:] == [(3001, "gone", True)])
    await eventually(lambda: not rooms._host.sockets.of(room.id)._all)
    assert await room.closed() == [3001, "gone", True, 3, True]
    assert [await room.count(tag) for tag in (None, "red")] == [0, 0]


async def test_automatic_responses_do_not_wake_the_object(
    state: bunflare.State, clock: bunflare.ManualClock, rooms: Any
) -> None:
    room = rooms.get_by_name("a")
    assert await room.auto("ping", "pong") == ["ping", "pong"]
    socket, heard = await join(room)
    assert await room.stamps() == [None]
    await fall_asleep(state, clock, rooms)
    assert await ask(socket, heard, "ping") == "pong"
    assert not rooms._host.actors
    (stamp,) = await room.stamps()
    assert stamp.timestamp() * 1000 == clock.now()
    for request, response, words in (
        ("x" * 2049, "", r"^Request cannot be larger than 2048 bytes\. A request of size 2049 was"),
        ("", "ü" * 1025, r"^Response cannot be larger than 2048 bytes\. A response of size 2050 w"),
    ):
        with pytest.raises(DurableObjectValueError, match=words):
            await room.auto(request, response)
    assert await room.auto(None) is None
    assert await ask(socket, heard, "ping") == "ping"


async def test_messages_of_one_socket_come_one_after_the_other(rooms: Any) -> None:
    room = rooms.get_by_name("a")
    one, heard = await join(room)
    other, heard_other = await join(room)
    one.send("wait")
    one.send("after")
    other.send("meanwhile")
    await eventually(lambda: heard_other.events == ["meanwhile"])
    other.send("open")
    await eventually(lambda: heard.events == ["meanwhile", "waited", "after"])


async def test_what_was_written_is_on_disk_before_a_message_leaves(
    state: bunflare.State, rooms: Any
) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room)
    seen: list[object] = []
    stored = "SELECT count(*) FROM do_storage"
    before = state.database.view.one(stored)
    assert before is not None
    socket.add_event_listener("message", lambda _: seen.append(state.database.view.one(stored)))
    assert await ask(socket, heard, "store") == "stored 1"
    assert seen == [(before[0] + 1,)]


async def test_a_handler_that_fails_is_logged_and_the_socket_stays(
    rooms: Any, caplog: pytest.LogCaptureFixture
) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room)
    socket.send("fail")
    assert await ask(socket, heard, "still there") == "still there"
    assert "on purpose" in caplog.text


async def test_a_reset_disconnects_the_clients(rooms: Any) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room)
    socket.send("abort")
    await eventually(lambda: len(heard.events) == 1)
    assert heard.events[0][0] == 1006
    assert await room.count() == 0


async def test_closing_from_the_object(rooms: Any) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room)
    assert await ask(socket, heard, "bye") == (4000, "bye", True)
    await eventually(lambda: socket.ready_state == 3)
    await eventually(lambda: not rooms._host.sockets.of(room.id)._all)
    assert (await room.closed())[:3] == [4000, "bye", True]


async def test_handlers_can_be_given_a_time(
    clock: bunflare.ManualClock, rooms: Any, caplog: pytest.LogCaptureFixture
) -> None:
    room = rooms.get_by_name("a")
    assert await room.limit(1000) == 1000
    with pytest.raises(DurableObjectError, match=r"^Event timeout should not exceed 604800000 ms"):
        await room.limit(604_800_001)
    with pytest.raises(DurableObjectTypeError):
        await room.limit("soon")
    socket, heard = await join(room)
    assert await ask(socket, heard, "hang") == "hanging"
    await clock.advance(seconds=1)
    assert await ask(socket, heard, "next") == "next"
    assert "was cancelled" in caplog.text
    assert await room.limit(0) is None


async def test_limits_of_tags_and_of_sockets(rooms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room = rooms.get_by_name("a")
    await room.refused([str(number % 10) for number in range(10)])
    for tags, words in (
        ([str(n) for n in range(11)], r"^a Hibernatable WebSocket cannot have more than 10 tags"),
        (["x" * 257], r'x" is longer than the max tag length \(256 characters\)\.'),
        ("red", r"tags are a list"),
    ):
        with pytest.raises(DurableObjectError, match=words):
            await room.refused(tags)
    assert await room.refused_kinds() == [
        "acceptWebSocket() takes a WebSocket, not str",
        "Cannot call `acceptWebSocket()` if the WebSocket was already used in a Response or "
        "accepted with `accept()`",
        "Cannot call `acceptWebSocket()` on this WebSocket because its pair has already been "
        "accepted or used in a Response.",
        "you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket.",
    ]
    monkeypatch.setattr("bunflare.bindings.object_sockets.MAX_SOCKETS", 1)
    other = rooms.get_by_name("b")
    await join(other)
    with pytest.raises(DurableObjectError, match=r"^only 1 websockets can be accepted on a single"):
        await other.refused([])


async def test_a_socket_read_by_listeners_keeps_the_object_awake(
    clock: bunflare.ManualClock, rooms: Any
) -> None:
    room = rooms.get_by_name("a")
    socket, heard = await join(room, "plain")
    await clock.advance(seconds=60)
    assert await ask(socket, heard, "x") == "plain x"
    assert made == ["room"]
    socket.close()
    await eventually(lambda: len(heard.events) == 2)
    for _ in range(4):
        await clock.advance(seconds=5)
    assert not rooms._host.actors


async def test_the_next_version_of_a_class_gets_the_sockets(
    state: bunflare.State, rooms: Any
) -> None:
    class Newer(Room):
        async def web_socket_message(self, ws: bunflare.WebSocket, message: Any) -> None:
            ws.send(f"newer {message} {ws.deserialize_attachment()}")

    room = rooms.get_by_name("a")
    socket, heard = await join(room, "red")
    plain, heard_plain = await join(room, "plain")
    state.durable_objects(Newer, "Room", replace=True)
    assert await ask(socket, heard, "x") == "newer x {'tags': ['red']}"
    await eventually(lambda: heard_plain.events == [(1012, "Service Restart", True)])
    assert plain.ready_state == 3


async def test_a_constructor_that_fails_keeps_the_clients(
    state: bunflare.State, clock: bunflare.ManualClock, rooms: Any
) -> None:
    class Broken(Room):
        def __init__(self, ctx: bunflare.DurableObjectState, env: Any) -> None:
            raise ValueError("broken")

    room = rooms.get_by_name("a")
    socket, heard = await join(room, "red")
    state.durable_objects(Broken, "Room", replace=True)
    socket.send("lost")
    for _ in range(5):
        await asyncio.sleep(0)
    state.durable_objects(Room, "Room", replace=True)
    assert await ask(socket, heard, "x") == "x"


async def test_closing_the_state_closes_the_sockets(directory: Any) -> None:
    async with bunflare.open(directory, durability="normal") as state:
        room = state.durable_objects(Room).get_by_name("a")
        _, heard = await join(room)
        _, heard_plain = await join(room, "plain")
    await eventually(lambda: len(heard.events) == len(heard_plain.events) == 1)
    assert heard.events == heard_plain.events == [(1001, "Going Away", True)]


_OWNER = """
import asyncio, sys
import bunflare
from tests.bindings.test_object_sockets import Room

async def main():
    async with bunflare.open(sys.argv[1], durability="normal") as state:
        rooms = state.durable_objects(Room)
        print(await rooms.get_by_name("a").count(), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_sockets_of_an_object_in_another_process(directory: Any) -> None:
    with child(_OWNER, directory) as owner:
        assert owner.line() == "0"
        async with bunflare.open(directory, durability="normal") as state:
            rooms = state.durable_objects(Room)
            room = rooms.get_by_name("a")
            one, heard = await join(room, "red")
            _, heard_other = await join(room, "blue")
            assert not rooms._host.owner
            one.send("hello")
            one.send(b"\x00\xff" * 100_000)
            await eventually(lambda: len(heard_other.events) == 2)
            assert heard.events == heard_other.events == ["hello", b"\x00\xff" * 100_000]
            assert await ask(one, heard, "who") == "{'tags': ['red']} ['red']"
            one.close(3001, "gone")
            await eventually(lambda: heard.events[3:] == [(3001, "gone", True)])
            assert await room.count() == 1
            assert (await room.closed())[:3] == [3001, "gone", True]
            wrong = await room.fetch("https://room/", headers={"Upgrade": "websocket"})
            del wrong  # nobody takes its socket
            gc.collect()
            while await room.count() != 1:
                await asyncio.sleep(0.001)
            assert (await room.closed())[0] == 1006
            owner.kill()
            await eventually(lambda: len(heard_other.events) == 3)
            assert heard_other.events[2][0] == 1006
            assert await room.count() == 0
