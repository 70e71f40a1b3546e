"""Static assets, as the platform serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bunflare.config import AssetsConfig
from bunflare.runtime.assets import Assets
from bunflare.runtime.assets_rules import parse_headers, parse_redirects
from bunflare.web import Request

from .test_dev import dev, project


def site(path: Path, **files: str) -> Path:
    names = {
        "index.html": "home",
        "about.html": "about",
        "blog/index.html": "blog",
        "blog/404.html": "no such post",
        "404.html": "nothing here",
        "style.css": "css",
        "data.json": "{}",
        "secret/key.txt": "key",
        ".assetsignore": "secret\n",
        "_redirects": "/old /new\n/posts/* /blog/:splat 301\n/u/:name https://x.example/:name 308\n"
        "/inside /about 200\nwrong\n",
        "_headers": "/*\n  X-All: 1\n/style.css\n  ! X-All\n  X-Style: yes\n",
    }
    for name, text in names.items():
        file = path / "public" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def assets(path: Path, **options: Any) -> Assets:
    return Assets(AssetsConfig(directory="public", **options), site(path))


async def get(assets: Assets, path: str, **headers: str) -> tuple[int, str]:
    """The status, and the body or where to go."""
    response = assets.answer(Request(f"http://x.example{path}", headers=headers))
    return response.status, response.headers.get("location") or await response.text()


AUTO = {
    "/": (200, "home"),
    "/index": (307, "/"),
    "/index.html": (307, "/"),
    "/about": (200, "about"),
    "/about/": (307, "/about"),
    "/about.html?q=1": (307, "/about?q=1"),
    "/about/index": (307, "/about"),
    "/blog": (307, "/blog/"),
    "/blog/": (200, "blog"),
    "/blog/index.html": (307, "/blog/"),
}
FORCE = {
    "/about": (307, "/about/"),
    "/about/": (200, "about"),
    "/about.html": (307, "/about/"),
    "/blog": (307, "/blog/"),
    "/blog/": (200, "blog"),
}
DROP = {
    "/": (200, "home"),
    "/about": (200, "about"),
    "/about/": (307, "/about"),
    "/blog": (200, "blog"),
    "/blog/": (307, "/blog"),
    "/blog/index.html": (307, "/blog"),
}
NONE = {
    "/": (404, ""),
    "/index.html": (200, "home"),
    "/about": (404, ""),
    "/about.html": (200, "about"),
}


@pytest.mark.parametrize(
    ("mode", "table"),
    [
        ("auto-trailing-slash", AUTO),
        ("force-trailing-slash", FORCE),
        ("drop-trailing-slash", DROP),
        ("none", NONE),
    ],
)
async def test_html_is_found_as_each_mode_says(tmp_path: Path, mode: Any, table: Any) -> None:
    served = assets(tmp_path, html_handling=mode)
    assert {path: await get(served, path) for path in table} == table


@pytest.mark.parametrize(
    "path",
    [
        "/../wrangler.toml",
        "/%2e%2e/wrangler.toml",
        "/..%2fwrangler.toml",
        "/a/..%2f..%2fwrangler.toml",
        "/%2fetc/passwd",
        "/link.txt",
        "/secret/key.txt",
        "/_headers",
        "/_redirects",
        "/.assetsignore",
        "/style.css%00",
        "/" + "x" * 5000,
    ],
)
async def test_nothing_outside_or_ignored_is_served(tmp_path: Path, path: str) -> None:
    served = assets(tmp_path)
    (tmp_path / "wrangler.toml").write_text("outside")
    (tmp_path / "public" / "link.txt").symlink_to(tmp_path / "wrangler.toml")
    assert await get(served, path) == (404, "")


async def test_what_is_not_found_is_a_page_or_the_application(tmp_path: Path) -> None:
    pages = assets(tmp_path, not_found_handling="404-page")
    assert await get(pages, "/blog/x/y") == (404, "no such post")
    assert await get(pages, "/x") == (404, "nothing here")
    application = assets(tmp_path, not_found_handling="single-page-application")
    assert await get(application, "/deep/link") == (200, "home")


async def test_redirects_have_splats_placeholders_and_statuses(tmp_path: Path) -> None:
    served = assets(tmp_path)
    assert await get(served, "/old?q=1") == (302, "/new?q=1")
    assert await get(served, "/posts/a/b") == (301, "/blog/a/b")
    assert await get(served, "/u/ann") == (308, "https://x.example/ann")
    assert await get(served, "/inside") == (200, "about")
    _, wrong = parse_redirects("/a /b 404\n/a/*/* /b\nb /a\n/c ftp://x\n/d /e\n/d /f\n")
    assert [line.split(":")[1] for line in wrong] == ["1", "2", "3", "4", "6"]
    rules, wrong = parse_redirects("\n".join(f"/{n}/* /x" for n in range(101)))
    assert (len(rules), len(wrong)) == (100, 1)


async def test_headers_are_set_and_removed_by_rules(tmp_path: Path) -> None:
    served = assets(tmp_path)
    page = served.answer(Request("http://x.example/"))
    assert page.headers["x-all"] == "1"
    style = served.answer(Request("http://x.example/style.css"))
    assert (style.headers.get("x-all"), style.headers["x-style"]) == (None, "yes")
    _, wrong = parse_headers("X: 1\n/a\n  wrong\n")
    assert len(wrong) == 2


async def test_a_file_has_a_type_a_tag_and_ranges(tmp_path: Path) -> None:
    served = assets(tmp_path)
    response = served.answer(Request("http://x.example/data.json"))
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["cache-control"] == "public, max-age=0, must-revalidate"
    etag = response.headers["etag"]
    assert (await get(served, "/data.json", **{"if-none-match": etag}))[0] == 304
    assert await get(served, "/about", range="bytes=1-2") == (206, "bo")
    assert await get(served, "/about", range="bytes=-2") == (206, "ut")
    assert (await get(served, "/about", range="bytes=9-"))[0] == 416
    posted = served.answer(Request("http://x.example/about", method="POST"))
    assert posted.status == 405


WORKER = """
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.headers["x-asset"] if "x-asset" in request.headers else None:
            return await self.env.ASSETS.fetch("http://any.host/about")
        return Response("worker")
"""


def test_a_worker_stands_behind_its_assets_or_before_them(tmp_path: Path) -> None:
    wrangler = (
        'name = "t"\nmain = "src/entry.py"\n[assets]\ndirectory = "public"\nbinding = "ASSETS"\n'
        'not_found_handling = "single-page-application"\nrun_worker_first = ["/blog/*", "!/blog/"]'
    )
    with dev(project(site(tmp_path), WORKER, wrangler)) as server:
        assert server.text("/about") == "about"
        assert server.text("/nothing") == "worker"
        assert server.text("/nothing", headers={"sec-fetch-mode": "navigate"}) == "home"
        assert server.text("/blog/index.html") == "worker"
        assert server.text("/blog/") == "blog"
        assert server.text("/nothing", headers={"x-asset": "1"}) == "about"
        status, headers, body = server.fetch("/about", "HEAD")
        assert (status, headers["content-length"], body) == (200, "5", b"")
