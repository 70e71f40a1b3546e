"""Pictures in R2, and a queue whose consumer makes a thumbnail of each (with Pillow).

What fails three times goes to a dead-letter queue; its consumer keeps it for the page to show.
"""

import io
import logging
from html import escape
from urllib.parse import quote, unquote, urlsplit

from PIL import Image
from workers import Response, WorkerEntrypoint

SIZE = (160, 160)

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Thumbnails</title>
<style>
  body {{ font: 1.1rem/1.5 system-ui; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
  input, button {{ font: inherit }}
  ul {{ display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0 }}
  .empty {{ display: grid; place-items: center; width: 160px; height: 120px; background: #eee }}
  .failed {{ background: #fdd }}
</style>
<h1>Thumbnails</h1>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="file" accept="image/*" multiple required> <button>Upload</button>
</form>
<ul>{pictures}</ul>
<h2>Failures</h2>
<ul>{failures}</ul>
<script>if (document.querySelector(".waiting")) setTimeout(() => location.reload(), 1000);</script>
"""

MADE = '<li><a href="/pictures/{link}"><img src="/thumbnails/{link}" alt="{key}"></a></li>'
WAITING = '<li><div class="empty waiting">{key} …</div></li>'
FAILED = """<li><form class="empty failed" method="post" action="/again/{link}">
  {key}: {reason} <button>Again</button></form></li>"""


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = unquote(urlsplit(request.url).path)
        kind, _, name = path[1:].partition("/")
        match request.method:
            case "GET" if path == "/":
                return await self.page()
            case "GET" if kind in ("pictures", "thumbnails") and name:
                return await self.picture(f"{kind}/{name}")
            case "PUT" if kind == "pictures" and name:
                await self.env.PICTURES.put(f"pictures/{name}", request.body)
                await self.env.JOBS.send({"name": name})
                return Response(None, status=201)
            case "POST" if path == "/":
                return await self.upload(request)
            case "POST" if kind == "again" and name:
                await self.env.FAILED.delete(name)
                await self.env.JOBS.send({"name": name})
                return Response(None, status=303, headers={"location": "/"})
        return Response("Not found", status=404)

    async def upload(self, request):
        files = [one for one in (await request.form_data()).get_all("file") if hasattr(one, "name")]
        for file in files:
            await self.env.PICTURES.put(f"pictures/{file.name}", file)
        if files:
            await self.env.JOBS.sendBatch([{"body": {"name": file.name}} for file in files])
        return Response(None, status=303, headers={"location": "/"})

    async def page(self):
        made = {one.key for one in (await self.env.PICTURES.list(prefix="thumbnails/")).objects}
        failed = {one.name: one.metadata for one in (await self.env.FAILED.list())["keys"]}
        pictures = []
        for one in (await self.env.PICTURES.list(prefix="pictures/")).objects:
            name = one.key.removeprefix("pictures/")
            if name not in failed:
                shown = MADE if f"thumbnails/{name}" in made else WAITING
                pictures.append(shown.format(link=quote(name), key=escape(name)))
        failures = [
            FAILED.format(link=quote(name), key=escape(name), reason=escape(metadata["reason"]))
            for name, metadata in failed.items()
        ]
        html = PAGE.format(pictures="\n".join(pictures), failures="\n".join(failures) or "None.")
        return Response(html, headers={"content-type": "text/html;charset=utf-8"})

    async def picture(self, key):
        found = await self.env.PICTURES.get(key)
        if found is None:
            return Response("Not found", status=404)
        kind = "image/png" if key.startswith("thumbnails/") else "application/octet-stream"
        return Response(found.body, headers={"content-type": kind})

    async def queue(self, batch):
        handle = self.give_up if batch.queue == "thumbnails-failed" else self.make
        for message in batch.messages:
            try:
                await handle(message.body["name"])
            except Exception as error:
                logging.warning("%s, attempt %d: %s", message.body["name"], message.attempts, error)
                # The others of the batch have nothing to do with it.
                message.retry()
            else:
                message.ack()

    async def make(self, name):
        found = await self.env.PICTURES.get(f"pictures/{name}")
        if found is None:
            return
        thumbnail = small(await found.bytes())
        await self.env.PICTURES.put(f"thumbnails/{name}", thumbnail)
        await self.env.FAILED.delete(name)

    async def give_up(self, name):
        metadata = {"reason": "no thumbnail could be made"}
        await self.env.FAILED.put(name, "", metadata=metadata)


def small(picture):
    with Image.open(io.BytesIO(bytes(picture))) as image:
        image.thumbnail(SIZE)
        out = io.BytesIO()
        image.convert("RGB").save(out, "PNG")
    return out.getvalue()
