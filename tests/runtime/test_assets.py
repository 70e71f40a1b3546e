"""Static assets, as the platform serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bunflare.config import AssetsConfig, Config
from bunflare.runtime.assets import Assets
from bunflare.runtime.assets_rules import (
    headers_for,
    parse_headers,
    parse_redirects,
    redirect_for,
)
from bunflare.runtime.worker import _navigation_first
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


CORNERS = {
    # Files, a path, and what each of the three modes makes of it, in their order.
    ("foo/index/index.html",): {
        "/foo/index": [(307, "/foo/index/"), (307, "/foo/index/"), (200, "foo/index/index.html")],
        "/foo/": [(404, ""), (404, ""), (404, "")],
    },
    ("foo.html/index.html",): {
        "/foo.html": [(307, "/foo.html/"), (307, "/foo.html/"), (200, "foo.html/index.html")],
    },
    ("foo.html", "foo/index.html"): {
        "/foo": [(200, "foo.html"), (307, "/foo/"), (200, "foo.html")],
        "/foo/": [(200, "foo/index.html"), (200, "foo/index.html"), (307, "/foo")],
        "/foo.html": [(307, "/foo"), (200, "foo.html"), (307, "/foo")],
        "/foo/index.html": [(307, "/foo/"), (307, "/foo/"), (200, "foo/index.html")],
        "/foo/index": [(307, "/foo/"), (307, "/foo/"), (307, "/foo")],
    },
    ("foo", "foo.html"): {
        "/foo": [(200, "foo"), (200, "foo"), (200, "foo")],
        "/foo.html": [(200, "foo.html"), (307, "/foo/"), (200, "foo.html")],
    },
    ("index.html",): {"/.html": [(404, ""), (404, ""), (404, "")]},
}


async def test_html_is_found_in_the_corners_too(tmp_path: Path) -> None:
    modes: list[Any] = ["auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash"]
    for number, (files, table) in enumerate(CORNERS.items()):
        root = tmp_path / str(number)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
        for at, mode in enumerate(modes):
            served = Assets(AssetsConfig(directory=".", html_handling=mode), root)
            found = {path: await get(served, path) for path in table}
            assert found == {path: answers[at] for path, answers in table.items()}, (files, mode)


async def test_an_asset_is_served_at_its_canonical_path(tmp_path: Path) -> None:
    (tmp_path / "a b@c").write_text("spaced")
    served = Assets(AssetsConfig(directory="."), tmp_path)
    assert await get(served, "/a%20b%40c") == (200, "spaced")
    assert await get(served, "/a%20b@c?q") == (307, "/a%20b%40c?q")
    assert await get(served, "//a%20b%40%63") == (307, "/a%20b%40c")
    kept = served.answer(Request("http://x/a%20b%40c", headers={"authorization": "x"}))
    assert kept.headers["cache-control"] is None


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


def test_placeholders_end_at_slashes_and_in_hosts_at_dots() -> None:
    rules, _ = parse_redirects("/v1.0/:file /:file\n/from/* /to//:splat\n/:a/:ab /:ab/:a")
    assert redirect_for(rules, "/v1.0/a.txt", "") == ("/a.txt", 302)
    assert redirect_for(rules, "/from//x", "") == ("/to/x", 302)
    assert redirect_for(rules, "/1/2", "") == ("/2/1", 302)
    hosts, _ = parse_headers("https://:sub.example/*\n  X-Sub: :sub\n")
    assert headers_for(hosts, "http://a.example:8787/x")[1] == [("x-sub", "a")]
    assert headers_for(hosts, "http://a.b.example/x")[1] == []


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


async def test_navigation_is_the_workers_before_the_platform_changed_that(tmp_path: Path) -> None:
    config = AssetsConfig(directory="public", not_found_handling="single-page-application")
    request = Request("http://x/nothing", headers={"sec-fetch-mode": "navigate"})
    page = await Assets(config, site(tmp_path)).before_worker(request, True)
    assert page is not None
    assert await page.text() == "home"
    old = Assets(config, tmp_path, navigation_first=False)
    assert await old.before_worker(request, True) is None
    for date, flags, first in (
        (None, (), True),
        ("2025-04-01", (), True),
        ("2025-03-31", (), False),
        ("2024-01-01", ("assets_navigation_prefers_asset_serving",), True),
        ("2026-01-01", ("assets_navigation_has_no_effect",), False),
    ):
        settings = Config(
            tmp_path, tmp_path, None, compatibility_date=date, compatibility_flags=flags
        )
        assert _navigation_first(settings) is first
