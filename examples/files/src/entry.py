"""Files in R2: a page to upload them, and each at its own address, with ranges and conditions."""

from html import escape
from urllib.parse import quote, unquote, urlsplit

from workers import Headers, Response, WorkerEntrypoint

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Files</title>
<style>
  body {{ font: 1.1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }}
  input, button {{ font: inherit }}
  li {{ margin: .3rem 0 }}
  small {{ color: #666 }}
</style>
<h1>Files</h1>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="file" required> <button>Upload</button> <output></output>
</form>
<ul>{files}</ul>
<script>
  // With a script the file is streamed as it is, however large; the form alone does for small ones.
  document.querySelector("form").onsubmit = async (event) => {{
    event.preventDefault();
    const file = document.querySelector("input").files[0];
    document.querySelector("output").value = "…";
    await fetch("/" + encodeURIComponent(file.name), {{ method: "PUT", body: file }});
    location.reload();
  }};
</script>
"""

FILE = '<li><a href="/{link}">{key}</a> <small>{size:,} bytes</small></li>'


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        key = unquote(urlsplit(request.url).path[1:])
        match request.method:
            case "GET" | "HEAD" if key:
                return await self.download(request, key)
            case "GET":
                return await self.page()
            case "PUT" if key:
                stored = await self.env.FILES.put(
                    key, request.body, {"httpMetadata": request.headers, "onlyIf": request.headers}
                )
                if stored is None:
                    return Response("The file is not the one you know.", status=412)
                return Response(None, status=201, headers={"etag": stored.httpEtag})
            case "POST" if not key:
                return await self.upload(request)
            case "DELETE" if key:
                await self.env.FILES.delete(key)
                return Response(None, status=204)
        return Response("Method not allowed", status=405)

    async def page(self):
        files = []
        cursor = None
        while len(files) < 10_000:
            found = await self.env.FILES.list(cursor=cursor)
            files += [
                FILE.format(link=quote(one.key), key=escape(one.key), size=one.size)
                for one in found.objects
            ]
            if not found.truncated:
                break
            cursor = found.cursor
        html = PAGE.format(files="\n".join(files))
        return Response(html, headers={"content-type": "text/html;charset=utf-8"})

    async def upload(self, request):
        file = (await request.form_data()).get("file")
        if file is None or isinstance(file, str) or not file.name:
            return Response("A file is needed.", status=400)
        await self.env.FILES.put(
            file.name, file, {"httpMetadata": {"contentType": file.content_type}}
        )
        return Response(None, status=303, headers={"location": "/"})

    async def download(self, request, key, whole=False):
        headers = Headers({"accept-ranges": "bytes"})
        options = {"onlyIf": request.headers}
        if request.method == "GET" and not whole:
            options["range"] = request.headers
        refused = False
        try:
            found = await self.env.FILES.get(key, options)
        except Exception as error:
            if "(10039)" not in str(error):
                raise
            refused = True
            found = await self.env.FILES.head(key)
        if found is None:
            return Response("There is no such file.", status=404)
        # A download that goes on wants the rest of the very file it began with, or a whole one.
        if "range" in options and request.headers.get("if-range", found.httpEtag) != found.httpEtag:
            return await self.download(request, key, whole=True)
        if refused:
            headers.set("content-range", f"bytes */{found.size}")
            return Response(None, status=416, headers=headers)
        found.writeHttpMetadata(headers)
        headers.set("etag", found.httpEtag)
        if not hasattr(found, "body"):
            # What the client has must be the file first, and only then may it be news or not.
            wanted = request.headers.get("if-match", "*")
            changed = wanted != "*" and found.httpEtag not in wanted
            known = "if-none-match" in request.headers or "if-modified-since" in request.headers
            return Response(None, status=304 if known and not changed else 412, headers=headers)
        start, length = found.range.offset, found.range.length
        headers.set("content-length", str(length))
        if length < found.size:
            headers.set("content-range", f"bytes {start}-{start + length - 1}/{found.size}")
        body = None if request.method == "HEAD" else found.body
        return Response(body, status=206 if length < found.size else 200, headers=headers)
