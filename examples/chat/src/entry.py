"""A chat: each room is a Durable Object that sleeps while nobody speaks, its clients connected."""

import json
import time
from urllib.parse import parse_qs, unquote, urlsplit

from js import WebSocketPair, WebSocketRequestResponsePair
from workers import DurableObject, Response, WorkerEntrypoint

REMEMBERED = 100
LONGEST_NAME = 40
LONGEST_TEXT = 2_000


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.ctx.storage.sql.exec(
            "CREATE TABLE IF NOT EXISTS messages"
            " (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, name TEXT, text TEXT)"
        )
        # Pages ask now and then whether somebody is there. That wakes nobody.
        self.ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair.new("ping", "pong"))

    async def fetch(self, request):
        name = parse_qs(urlsplit(request.url).query).get("name", ["somebody"])[0]
        client, server = WebSocketPair.new().object_values()
        self.ctx.acceptWebSocket(server, [name[:LONGEST_NAME]])
        # What the object knew of a client in its attributes would be gone after a sleep.
        server.serializeAttachment({"name": name[:LONGEST_NAME]})
        server.send(json.dumps({"history": await self.history(), "people": self.people()}))
        self.tell({"people": self.people()}, but=server)
        return Response(None, status=101, web_socket=client)

    async def history(self):
        rows = self.ctx.storage.sql.exec(
            "SELECT id, at, name, text FROM messages ORDER BY id DESC LIMIT ?", REMEMBERED
        )
        return [dict(row) for row in rows][::-1]

    async def webSocketMessage(self, ws, message):
        text = message[:LONGEST_TEXT] if isinstance(message, str) else ""
        if not text.strip():
            return
        row = self.ctx.storage.sql.exec(
            "INSERT INTO messages (at, name, text) VALUES (?, ?, ?) RETURNING id, at, name, text",
            int(time.time() * 1000),
            ws.deserializeAttachment()["name"],
            text,
        ).one()
        # Nobody sees it, not even its author, before it is on disk.
        self.tell({"message": dict(row)})

    async def webSocketClose(self, ws, code, reason, wasClean):
        self.tell({"people": self.people(but=ws)}, but=ws)

    def people(self, but=None):
        sockets = [ws for ws in self.ctx.getWebSockets() if ws is not but]
        return sorted(ws.deserializeAttachment()["name"] for ws in sockets)

    def tell(self, what, but=None):
        text = json.dumps(what)
        for ws in self.ctx.getWebSockets():
            if ws is not but and ws.readyState == ws.OPEN:
                ws.send(text)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        parts = urlsplit(request.url).path.strip("/").split("/")
        if len(parts) != 3 or parts[0] != "rooms":
            return Response("not found", status=404)
        room = self.env.ROOM.getByName(unquote(parts[1]))
        if parts[2] == "messages":
            return Response.json(await room.history())
        if (request.headers.get("upgrade") or "").lower() != "websocket":
            return Response("expected a WebSocket", status=426)
        return await room.fetch(request)
