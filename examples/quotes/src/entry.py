"""Quotes in D1: ``GET /`` gives one, ``GET /?q=word`` searches, ``POST /`` adds one (JSON)."""

from urllib.parse import parse_qs, urlsplit

from workers import Response, WorkerEntrypoint

RANDOM = "SELECT author, text FROM quotes ORDER BY random() LIMIT 1"
SEARCH = "SELECT author, text FROM search(?) ORDER BY rank LIMIT 10"
ADD = "INSERT INTO quotes (author, text) VALUES (?, ?) ON CONFLICT (text) DO NOTHING"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.method == "POST":
            quote = await request.json()
            result = await self.env.DB.prepare(ADD).bind(quote["author"], quote["text"]).run()
            return Response.json({"added": result.meta.changes})
        words = parse_qs(urlsplit(request.url).query).get("q")
        if words:
            # In double quotes, so that no sign means anything to the search.
            phrase = '"' + words[0].replace('"', '""') + '"'
            found = await self.env.DB.prepare(SEARCH).bind(phrase).all()
            return Response.json(found.results)
        return Response.json(await self.env.DB.prepare(RANDOM).first())
