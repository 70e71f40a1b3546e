"""A guestbook: entries live in Workers KV, pictures in R2, the rendered page in the Cache."""

import time
import uuid
from html import escape
from urllib.parse import quote, unquote, urljoin, urlsplit

from js import caches
from workers import File, Headers, Response, WorkerEntrypoint

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 1.1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }}
  form {{ display: grid; gap: .5rem }}
  input, textarea, button {{ font: inherit; padding: .4rem }}
  article {{ border-top: 1px solid #ccc; margin-top: 1rem; padding-top: 1rem }}
  article p {{ white-space: pre-wrap; margin: 0 }}
  img {{ max-width: 100%; max-height: 20rem }}
</style>
<h1>{title}</h1>
<form method="post" enctype="multipart/form-data">
  <input name="name" placeholder="Your name" required maxlength="100">
  <textarea name="message" placeholder="Your message" required maxlength="2000"></textarea>
  <input type="file" name="picture" accept="image/*">
  <button>Sign the guestbook</button>
</form>
{entries}
"""

PICTURE = '<img src="/picture/{key}" alt="A picture by {name}">'
ENTRY = "<article><strong>{name}</strong> <time>{time}</time><p>{message}</p>{picture}</article>"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.method == "POST":
            return await self.sign(request)
        if request.method != "GET":
            return Response("Method not allowed", status=405, headers={"allow": "GET, POST"})
        path = urlsplit(request.url).path
        if path.startswith("/picture/"):
            return await self.picture(unquote(path.removeprefix("/picture/")))
        # Each signing changes the version, so a page that was rendered before it is never found.
        version = await self.env.ENTRIES.get("version")
        page = urljoin(request.url, f"/?version={version}")
        cached = await caches.default.match(page)
        if cached is not None:
            return cached
        html = PAGE.format(title=escape(self.env.TITLE), entries=await self.entries())
        headers = {"content-type": "text/html;charset=utf-8", "cache-control": "s-maxage=3600"}
        response = Response(html, headers=headers)
        await caches.default.put(page, response.clone().js_object)
        return response

    async def sign(self, request):
        form = await request.form_data()
        name, message = (str(form.get(field, "")).strip() for field in ("name", "message"))
        if not name or not message:
            return Response("Both a name and a message are needed.", status=400)
        # Keys are listed in order, so counting time down puts the newest entry first.
        key = f"entry:{10**13 - round(time.time() * 1000):013}:{uuid.uuid4()}"
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        metadata = {"name": name[:100], "time": when}
        picture = form.get("picture")
        # Whatever else is sent would be shown to others as it came.
        if isinstance(picture, File) and picture.content_type in (
            "image/png",
            "image/jpeg",
            "image/webp",
        ):
            stored = {"httpMetadata": {"contentType": picture.content_type}}
            metadata["picture"] = (await self.env.PICTURES.put(key, picture, stored)).etag
        await self.env.ENTRIES.put(key, message[:2000], metadata=metadata)
        await self.env.ENTRIES.put("version", key)
        return Response(None, status=303, headers={"location": urljoin(request.url, "/")})

    async def picture(self, key):
        found = await self.env.PICTURES.get(key)
        if found is None:
            return Response("There is no such picture.", status=404)
        headers = Headers({"cache-control": "max-age=31536000, immutable"})
        found.writeHttpMetadata(headers)
        return Response(found.body, headers=headers)

    async def entries(self):
        keys = (await self.env.ENTRIES.list(prefix="entry:", limit=100))["keys"]
        if not keys:
            return "<p>Nobody has signed yet.</p>"
        messages = await self.env.ENTRIES.get([key["name"] for key in keys])
        return "\n".join(
            ENTRY.format(
                name=escape(key["metadata"]["name"]),
                time=escape(key["metadata"]["time"]),
                message=escape(messages[key["name"]] or ""),
                picture=PICTURE.format(key=quote(key["name"]), name=escape(key["metadata"]["name"]))
                if "picture" in key["metadata"]
                else "",
            )
            for key in keys
        )
