"""Counters, one a page: each is a Durable Object that counts, remembers, and falls asleep."""

import time
from datetime import UTC, datetime
from html import escape
from urllib.parse import unquote, urlsplit

from workers import DurableObject, Response, WorkerEntrypoint

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{name}: {value}</title>
<style>body {{ font: 1.2rem system-ui; margin: 4rem auto; max-width: 30rem }}</style>
<h1>{name}: {value}</h1>
<form method="post"><button name="by" value="1">+ 1</button></form>
<p>Last changes:</p>
<ol>{changes}</ol>
"""

FORGET_AFTER = 24 * 3600 * 1000


class Counter(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.ctx.storage.sql.exec(
            "CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, at TEXT, value INTEGER)"
        )

    async def increment(self, by, now):
        # No other event comes in between, and the reply waits until both are on disk.
        value = (await self.ctx.storage.get("value") or 0) + by
        await self.ctx.storage.put("value", value)
        self.ctx.storage.sql.exec("INSERT INTO changes (at, value) VALUES (?, ?)", now, value)
        await self.ctx.storage.setAlarm(time.time() * 1000 + FORGET_AFTER)
        return value

    async def look(self):
        rows = self.ctx.storage.sql.exec("SELECT at, value FROM changes ORDER BY id DESC LIMIT 10")
        changes = [{"at": row.at, "value": row.value} for row in rows]
        return {"value": await self.ctx.storage.get("value") or 0, "changes": changes}

    async def alarm(self):
        """A day after the last change its history goes; the value stays."""
        self.ctx.storage.sql.exec("DELETE FROM changes")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = unquote(urlsplit(request.url).path).strip("/") or "visitors"
        counter = self.env.COUNTER.getByName(name)
        if request.method == "POST":
            form = await request.form_data()
            try:
                by = int(form.get("by") or 1)
            except ValueError:
                return Response("by must be a whole number", status=400)
            await counter.increment(by, datetime.now(UTC).isoformat(timespec="seconds"))
            return Response(None, status=303, headers={"location": request.url})
        found = await counter.look()
        if "application/json" in (request.headers.get("accept") or ""):
            return Response.json(found)
        changes = "".join(
            f"<li>{escape(one['at'])}: {one['value']}</li>" for one in found["changes"]
        )
        html = PAGE.format(name=escape(name), value=found["value"], changes=changes)
        return Response(html, headers={"content-type": "text/html;charset=utf-8"})
