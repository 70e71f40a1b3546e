"""Static assets: the files of a directory, as the platform serves them.

https://developers.cloudflare.com/workers/static-assets/
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import mimetypes
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..config import AssetsConfig
from ..web import Headers, Request, Response
from .assets_rules import (
    HtmlHandling,
    headers_for,
    parse_headers,
    parse_redirects,
    pattern_of,
    places,
    redirect_for,
)
from .fetching import fetch

_log = logging.getLogger("bunflare")
_CHUNK = 256 * 1024
# Never served, whatever .assetsignore says.
_SPECIAL = (
    "_headers",
    "_redirects",
    ".assetsignore",
    "_worker.js",
    "wrangler.*",
    ".git",
    ".bunflare",
)
_TEXTS = ("text/", "application/javascript", "application/json")
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".md": "text/markdown",
    ".map": "application/json",
    ".woff2": "font/woff2",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


class Assets:
    """The assets of one Worker, and the binding ``ASSETS``."""

    def __init__(self, config: AssetsConfig, root: Path, *, navigation_first: bool = True) -> None:
        self._config = config
        # Whether a browser that goes to a page gets what there is for a missing asset, and the
        # Worker is not asked.
        self._navigation_first = navigation_first
        self._root = (root / (config.directory or "public")).resolve()
        first = config.run_worker_first
        patterns = first if isinstance(first, tuple) else ()
        self._first = [pattern_of(one) for one in patterns if not one.startswith("!")]
        self._not_first = [pattern_of(one[1:]) for one in patterns if one.startswith("!")]
        self._redirects, wrong = parse_redirects(self._text("_redirects"))
        self._headers, more = parse_headers(self._text("_headers"))
        for one in (*wrong, *more):
            _log.warning("%s", one)
        ignored = [line.strip() for line in self._text(".assetsignore").splitlines()]
        self._ignored = [line for line in ignored if line and not line.startswith("#")]

    def _text(self, name: str) -> str:
        path = self._root / name
        return path.read_text() if path.is_file() else ""

    async def fetch(self, resource: Any, options: Any = None, **other: Any) -> Response:
        """The asset for a request, or a 404: the binding's method."""

        async def answer(request: Request) -> Response:
            return self.answer(request)

        if isinstance(resource, str) and resource.startswith("/"):
            resource = f"http://assets.local{resource}"
        return await fetch(resource, {**(options or {}), **other, "fetcher": answer})

    async def before_worker(self, request: Request, answers: bool) -> Response | None:
        """What is answered without the Worker; None where it has to be asked."""
        path = urlsplit(request.url).path
        if answers and self._worker_first(path):
            return None
        found = self._match(request)
        if found is not None:
            return found
        if not answers:
            return self.answer(request)
        if self._config.not_found_handling == "none" or not self._navigation_first:
            return None
        if not _navigates(request):
            return None
        return self._not_found(request)

    def _worker_first(self, path: str) -> bool:
        if any(pattern.fullmatch(path) for pattern in self._not_first):
            return False
        if self._config.run_worker_first is True:
            return True
        return any(pattern.fullmatch(path) for pattern in self._first)

    def answer(self, request: Request) -> Response:
        """The asset, or what there is for one that is not there."""
        found = self._match(request)
        if found is not None:
            return found
        return self._not_found(request) or Response(None, status=404)

    def _match(self, request: Request) -> Response | None:
        url = urlsplit(request.url)
        redirect = redirect_for(self._redirects, url.path, url.query)
        given = url.path
        if redirect is not None:
            target, status = redirect
            if status != 200:
                return Response(None, status, headers={"location": target})
            given = urlsplit(target).path
        path = re.sub("/{2,}", "/", unquote(given))
        found = self._resolve(path)
        if found is None:
            return None
        file, location = found
        if request.method not in ("GET", "HEAD"):
            return Response(None, status=405, headers={"allow": "GET, HEAD"})
        # Assets are served at their canonical path, which is one percent-encoded in one way.
        canonical = quote(path if location is None else location, safe="/-_.!~*'()")
        if location is not None or (canonical != given and redirect is None):
            query = f"?{url.query}" if url.query else ""
            return Response(None, status=307, headers={"location": canonical + query})
        assert file is not None
        return self._file(file, request, 200)

    def _not_found(self, request: Request) -> Response | None:
        match self._config.not_found_handling:
            case "single-page-application":
                file = self._at("/index.html")
                return None if file is None else self._file(file, request, 200)
            case "404-page":
                directory = urlsplit(request.url).path
                while True:
                    directory = directory.rpartition("/")[0]
                    file = self._at(f"{unquote(directory)}/404.html")
                    if file is not None:
                        return self._file(file, request, 404)
                    if not directory:
                        return None
        return None

    # -- which file a path means --------------------------------------------------------------

    def _resolve(self, path: str) -> tuple[Path | None, str | None] | None:
        """The file of a path, or the path to go to instead."""
        mode = self._config.html_handling
        for name, location in places(mode, path):
            file = self._at(name)
            if file is None:
                continue
            if location is None:
                return file, None
            # To go somewhere only makes sense if the same file is found there.
            if self._at(location) is None and self._served(mode, location) == file:
                return None, location
        return None

    def _served(self, mode: HtmlHandling, path: str) -> Path | None:
        """The file that is served at a path itself."""
        for name, location in places(mode, path):
            if location is None and (file := self._at(name)) is not None:
                return file
        return None

    def _at(self, path: str) -> Path | None:
        """The file below the directory with that path; never one outside."""
        if "\0" in path or len(path) > 4096 or "//" in path or not path.startswith("/"):
            return None
        parts = [part for part in path.split("/") if part]
        if any(part in (".", "..") or os.sep in part for part in parts) or path.endswith("/"):
            return None
        relative = "/".join(parts)
        if not parts or self._is_ignored(relative):
            return None
        try:
            file = self._root.joinpath(*parts).resolve()
            return file if file.is_relative_to(self._root) and file.is_file() else None
        except OSError:
            return None

    def _is_ignored(self, path: str) -> bool:
        parts = path.split("/")
        if any(fnmatch.fnmatchcase(parts[0], special) for special in _SPECIAL):
            return True
        ignored = False
        for line in self._ignored:
            negated, pattern = line.startswith("!"), line.removeprefix("!")
            anchored = "/" in pattern.rstrip("/")
            pattern = pattern.strip("/")
            names = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if any(fnmatch.fnmatchcase(n, pattern) for n in (names if anchored else parts)):
                ignored = not negated
        return ignored

    # -- a file as a response -----------------------------------------------------------------

    def _file(self, file: Path, request: Request, status: int) -> Response:
        stat = file.stat()
        # The path is part of it: two files of one length may be written in one tick.
        digest = hashlib.md5(f"{file}\0{stat.st_mtime_ns}\0{stat.st_size}".encode())
        etag = f'"{digest.hexdigest()}"'
        headers = Headers({"etag": etag})
        if "authorization" not in request.headers and "range" not in request.headers:
            headers.set("cache-control", "public, max-age=0, must-revalidate")
        kind = _content_type(file)
        if kind is not None:
            headers.set("content-type", kind)
        removed, added = headers_for(self._headers, request.url)
        for name in removed:
            headers.delete(name)
        for name, value in added:
            headers.set(name, value)
        if status == 200 and _matches(request.headers.get("if-none-match"), etag):
            return Response(None, status=304, headers=headers)
        start, end = 0, stat.st_size
        wanted = request.headers.get("range")
        if wanted is not None and status == 200 and request.method == "GET":
            span = _range(wanted, stat.st_size)
            if span is None:
                return Response(None, 416, headers={"content-range": f"bytes */{stat.st_size}"})
            if span != (0, stat.st_size) or wanted.startswith("bytes="):
                start, end, status = *span, 206
                headers.set("content-range", f"bytes {start}-{end - 1}/{stat.st_size}")
        headers.set("content-length", str(end - start))
        if request.method == "HEAD":
            return Response(None, status, headers=headers)
        return Response(_chunks(file, start, end), status, headers=headers)


async def _chunks(file: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        opened.seek(start)
        while start < end and (chunk := opened.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _content_type(file: Path) -> str | None:
    kind = _TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0]
    if kind is not None and kind.startswith(_TEXTS):
        return f"{kind}; charset=utf-8"
    return kind


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    given = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag in given or "*" in given


def _range(header: str, size: int) -> tuple[int, int] | None:
    """The part of a file that one range means; all of it where it is no such range."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if found is None or found[0] == "bytes=-":
        return 0, size
    if not found[1]:
        length = int(found[2])
        return (max(0, size - length), size) if length and size else None
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    return (start, end) if start < end else None


def _navigates(request: Request) -> bool:
    """Whether a browser goes to a page, rather than that a program asks for something."""
    return request.headers.get("sec-fetch-mode") == "navigate"
