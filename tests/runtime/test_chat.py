"""The chat example over real HTTP, and through a SIGKILL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.runtime.test_dev import Server, dev
from tests.runtime.test_sockets import client
from tests.support import PATIENCE

__all__ = ["client"]

CHAT = Path(__file__).parents[2] / "examples" / "chat"


class Person:
    """Somebody in a room, and what they were told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.history: list[Any] = []
        self.seen: list[str] = []
        self.people: list[str] = []
        self._told = asyncio.Condition()
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for message in self.socket:
            async with self._told:
                self._take(message.data)
                self._told.notify_all()
        async with self._told:
            self._told.notify_all()

    def _take(self, data: str) -> None:
        if data == "pong":
            self.seen.append(data)
            return
        told = json.loads(data)
        self.history = told.get("history", self.history)
        self.people = told.get("people", self.people)
        if "message" in told:
            self.seen.append(_line(told["message"]))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._told:
            await self._told.wait_for(condition)

    async def saw(self, count: int) -> None:
        await self.until(lambda: len(self.seen) >= count or self.socket.closed)

    async def talk(self) -> None:
        """Say one thing after the other, four ahead of what was seen of it, to the end."""
        number = 0
        while not self.socket.closed:
            try:
                await self.socket.send_str(str(number))
            except ConnectionError:
                return
            number += 1
            await self.saw(number - 4)


def _line(message: Any) -> str:
    return f"{message['name']}: {message['text']}"


async def _enter(client: aiohttp.ClientSession, server: Server, name: str) -> Person:
    url = f"http://127.0.0.1:{server.port}/rooms/lobby/socket?name={name}"
    return Person(await client.ws_connect(url))


async def test_people_meet_leave_and_find_what_was_said(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    with dev(CHAT, "--persist-to", str(tmp_path / "state")) as server:
        assert "new WebSocket(" in server.text("/")
        ann, bob = await _enter(client, server, "ann"), await _enter(client, server, "bob")
        await ann.until(lambda: ann.people == ["ann", "bob"])
        await ann.socket.send_str("hello")
        await bob.until(lambda: bob.seen == ["ann: hello"])
        await ann.socket.send_str("   ")
        await ann.socket.send_bytes(b"nothing to be said in bytes")
        await ann.socket.send_str("ping")
        await ann.until(lambda: ann.seen == ["ann: hello", "pong"])
        await bob.socket.close()
        await ann.until(lambda: ann.people == ["ann"])
        cid = await _enter(client, server, "cid")
        await cid.until(lambda: [one["text"] for one in cid.history] == ["hello"])
        assert server.fetch("/rooms/lobby/socket")[0] == 426
        assert json.loads(server.text("/rooms/other/messages")) == []
        assert server.fetch("/rooms")[0] == 404


async def test_what_anybody_has_seen_is_there_after_sigkill(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    seen: set[str] = set()
    for turn in range(3):
        with dev(CHAT, "--persist-to", str(tmp_path / "state")) as server:
            said = json.loads(server.text("/rooms/lobby/messages"))
            assert seen <= {_line(one) for one in said}
            people = [await _enter(client, server, f"p{turn}{number}") for number in range(3)]
            talking = [asyncio.ensure_future(person.talk()) for person in people]
            await people[0].saw(40)
            server.process.kill()
            await asyncio.wait([*talking, *(person.task for person in people)], timeout=PATIENCE)
            # The room shows its last hundred messages.
            seen = set().union(*(person.seen[-30:] for person in people))
            assert len(seen) >= 30
