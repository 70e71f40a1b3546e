"""WebSockets by themselves: pairs, listeners, what is refused and in which words."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import bunflare
from bunflare import FetchRangeError, FetchSyntaxError, FetchTypeError, Response, WebSocketPair


class Heard:
    """What the listeners of one end were told."""

    def __init__(self, socket: bunflare.WebSocket) -> None:
        self.events: list[Any] = []
        for kind in ("message", "close", "error"):
            socket.add_event_listener(kind, self.hear)

    def hear(self, event: Any) -> None:
        if event.type == "message":
            self.events.append(event.data)
        elif event.type == "close":
            self.events.append((event.code, event.reason, event.was_clean))
        else:
            self.events.append(event.message)


def ends() -> tuple[bunflare.WebSocket, bunflare.WebSocket]:
    first, second = WebSocketPair()
    first.accept()
    second.accept()
    return first, second


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_one_end_sends_the_other_hears_in_order() -> None:
    first, second = ends()
    heard = Heard(second)
    for message in ("a", b"b", bytearray(b"c"), memoryview(b"d"), "\ud800", ""):
        first.send(message)
    assert heard.events == []
    await turns()
    assert heard.events == ["a", b"b", b"c", b"d", "\ufffd", ""]


async def test_messages_wait_for_accept() -> None:
    first, second = WebSocketPair()
    first.accept()
    heard = Heard(second)
    first.send("early")
    first.close(3000, "bye")
    await turns()
    assert heard.events == []
    second.accept()
    await turns()
    assert heard.events == ["early", (3000, "bye", True)]


async def test_closing_is_answered_and_both_ends_are_closed() -> None:
    first, second = ends()
    one, other = Heard(first), Heard(second)
    assert (first.ready_state, first.readyState) == (1, 1)
    first.close(1000, "done")
    assert first.ready_state == 2
    await turns()
    assert other.events == [(1000, "done", True)]
    assert one.events == [(1000, "done", True)]
    assert (first.ready_state, second.ready_state) == (3, 3)
    first.close()
    second.close(1000)
    with pytest.raises(FetchTypeError, match=r"^Can't call WebSocket send\(\) after close\(\)\.$"):
        second.send("x")


async def test_half_open_ends_close_by_themselves() -> None:
    first, second = WebSocketPair()
    first.accept()
    second.accept({"allowHalfOpen": True})
    heard = Heard(first)
    first.close()
    await turns()
    assert second.ready_state == 2
    second.send("last words")
    second.close(1001)
    await turns()
    assert heard.events == ["last words", (1001, "", True)]


async def test_what_is_refused() -> None:
    first, second = WebSocketPair()
    unaccepted = r"^You must call one of accept\(\) or state\.acceptWebSocket\(\) on this WebSocket"
    with pytest.raises(FetchTypeError, match=unaccepted):
        first.send("x")
    with pytest.raises(FetchTypeError, match=unaccepted):
        first.close()
    first.accept()
    first.accept()
    for code in (999, 1004, 1005, 1006, 1015, 5000):
        with pytest.raises(FetchTypeError, match=rf"^Invalid WebSocket close code: {code}\.$"):
            first.close(code)
    with pytest.raises(FetchTypeError, match=r"^If you specify a WebSocket close reason, you must"):
        first.close(reason="why")
    with pytest.raises(FetchSyntaxError, match=r"must not be longer than 123 bytes"):
        first.close(1000, "ü" * 62)
    with pytest.raises(FetchTypeError, match=r"not dict"):
        first.send({})  # type: ignore[arg-type]
    first.close(1000, "ü" * 61)
    with pytest.raises(
        FetchTypeError, match=r"^Can't return WebSocket in a Response after calling a"
    ):
        first.check_coupling()
    second.accept()


async def test_responses_with_a_socket_have_status_101() -> None:
    client, _server = WebSocketPair()
    response = Response(None, status=101, web_socket=client)
    assert (response.status, response.web_socket, response.webSocket) == (101, client, client)
    with pytest.raises(FetchRangeError, match=r"^Responses with a WebSocket must have status code"):
        Response(None, status=200, web_socket=client)
    with pytest.raises(FetchRangeError, match=r"not 101\.$"):
        Response(None, status=101)


async def test_attachments_are_copies_and_have_a_limit() -> None:
    socket, _ = WebSocketPair()
    assert socket.deserialize_attachment() is None
    value = {"at": [1, 2], "who": {"x"}}
    socket.serialize_attachment(value)
    value["at"].append(3)  # type: ignore[attr-defined]
    assert socket.deserializeAttachment() == {"at": [1, 2], "who": {"x"}}
    assert socket.deserialize_attachment() is not socket.deserialize_attachment()
    too_large = r"^A WebSocket 'attachment' cannot be larger than 16384 bytes\."
    with pytest.raises(bunflare.FetchError, match=too_large):
        socket.serialize_attachment("x" * 16_384)
    socket.serialize_attachment("x" * 16_000)
    with pytest.raises(bunflare.ValueNotSerializable):
        socket.serialize_attachment(print)
    assert len(socket.deserialize_attachment()) == 16_000


async def test_listeners_may_be_coroutines_fail_be_removed_and_be_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = ends()
    heard: list[str] = []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        heard.append(f"later {event.data}")

    def fails(event: Any) -> None:
        raise ValueError(event.data)

    def once(event: Any) -> None:
        heard.append(f"once {event.data}")

    second.addEventListener("message", later)
    second.addEventListener("message", fails)
    second.addEventListener("message", once, {"once": True})
    second.onmessage = lambda event: heard.append(f"on {event.data}")
    first.send("1")
    await turns()
    assert heard == ["once 1", "on 1", "later 1"]
    assert 'a listener of "message" failed' in caplog.text
    second.removeEventListener("message", later)
    first.send("2")
    await turns()
    assert heard[3:] == ["on 2"]


async def test_an_end_that_nobody_can_read_any_more_cuts_the_other() -> None:
    first, second = WebSocketPair()
    first.accept()
    heard = Heard(first)
    del second
    gc.collect()
    await turns()
    reason = "WebSocket disconnected without sending Close frame."
    assert heard.events == [(1006, reason, False)]
    assert first.ready_state == 3
    first.send("ignored")


async def test_pairs_unpack_as_on_the_platform() -> None:
    pair = WebSocketPair()
    first, second = pair
    assert pair.object_values() == [first, second] == [pair[0], pair["1"]]
