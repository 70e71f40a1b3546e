"""The Cache API, line by line of what the platform does."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import Cache, ManualClock, Request, Response, State
from bunflare.bindings import cache as module
from bunflare.store import blobs
from tests.support import eventually

URL = "https://example.com/page"
MIB = 1024 * 1024
KEEP = {"cache-control": "max-age=60"}


@pytest.fixture
def cache(state: State) -> Cache:
    return state.caches.default


async def text(response: Response | None) -> str | None:
    return None if response is None else await response.text()


def rows(state: State) -> list[tuple[Any, ...]]:
    return state.database.view.all("SELECT cache_name, url, length(body) FROM cache_entries")


async def large(size: int = 3 * MIB, chunk: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, size, chunk):
        yield bytes([start // chunk % 256]) * min(chunk, size - start)


async def collected(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


# -- put and match -----------------------------------------------------------------------------


async def test_what_was_put_is_matched(cache: Cache) -> None:
    await cache.put(URL, Response("héllo", status=404, headers={**KEEP, "x-a": "1"}))
    response = await cache.match(URL)
    assert response is not None
    assert response.status == 404
    assert response.url == URL
    assert response.headers["x-a"] == "1"
    assert response.headers["content-type"] == "text/plain;charset=UTF-8"
    assert response.headers["cf-cache-status"] == "HIT"
    assert await response.text() == "héllo"
    assert await text(await cache.match(Request(URL))) == "héllo"


async def test_a_miss_is_none(cache: Cache) -> None:
    assert await cache.match(URL) is None


async def test_repeated_headers_stay_apart(cache: Cache) -> None:
    headers = [*KEEP.items(), ("link", "<a>"), ("link", "<b>")]
    await cache.put(URL, Response("x", headers=headers))
    response = await cache.match(URL)
    assert response is not None
    assert response.headers.get_all("link") == ["<a>", "<b>"]


async def test_urls_are_compared_in_their_normal_form(cache: Cache) -> None:
    await cache.put("HTTPS://Example.COM:443/page", Response("x", headers=KEEP))
    assert await text(await cache.match(URL)) == "x"
    assert await cache.match(URL + "?query") is None


async def test_a_cache_key_of_the_worker_takes_the_place_of_the_url(cache: Cache) -> None:
    await cache.put(Request(URL, cf={"cacheKey": "mine"}), Response("x", headers=KEEP))
    assert await cache.match(URL) is None
    other = Request("https://example.com/other", cf={"cacheKey": "mine"})
    assert await text(await cache.match(other)) == "x"


async def test_the_age_of_a_response_grows(cache: Cache, clock: ManualClock) -> None:
    await cache.put(URL, Response("x", headers={**KEEP, "age": "5"}))
    await clock.advance(seconds=10)
    response = await cache.match(URL)
    assert response is not None
    assert response.headers["age"] == "15"


async def test_an_entry_that_expired_is_a_miss_and_is_swept(
    state: State, cache: Cache, clock: ManualClock
) -> None:
    await cache.put(URL, Response("x", headers=KEEP))
    await cache.put(URL + "2", Response(large(), headers=KEEP))
    clock.set(clock.now() + 59_999)
    assert await text(await cache.match(URL)) == "x"
    clock.set(clock.now() + 1)
    assert await cache.match(URL) is None
    assert await cache.match(URL + "2") is None
    await clock.advance(seconds=1)
    assert rows(state) == []
    assert list(state.database.directory.cache_bodies.iterdir()) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache-control": "private, max-age=60"},
        {"cache-control": "no-store"},
        {"cache-control": "max-age=60", "set-cookie": "a=b"},
        {"etag": '"a"'},
    ],
)
async def test_what_may_not_be_kept_is_dropped_without_an_error(
    state: State, cache: Cache, headers: dict[str, str]
) -> None:
    for body in ("small", large()):
        response = Response(body, headers=headers)
        await cache.put(URL, response)
        assert response.body_used
    assert await cache.match(URL) is None
    assert rows(state) == []


async def test_a_cookie_that_is_private_is_left_out(cache: Cache) -> None:
    headers = {"cache-control": "private=Set-Cookie, max-age=60", "set-cookie": "a=b"}
    await cache.put(URL, Response("x", headers=headers))
    response = await cache.match(URL)
    assert response is not None
    assert "set-cookie" not in response.headers


async def test_vary_has_no_effect_on_matching(cache: Cache) -> None:
    await cache.put(URL, Response("x", headers={**KEEP, "vary": "accept"}))
    assert await text(await cache.match(Request(URL, headers={"accept": "a/b"}))) == "x"


async def test_a_304_is_dropped(state: State, cache: Cache) -> None:
    await cache.put(URL, Response(None, status=304, headers=KEEP))
    assert rows(state) == []


@pytest.mark.parametrize(
    ("request_", "response", "message"),
    [
        (Request(URL, method="POST"), {}, "Cannot cache response to non-GET request."),
        (Request(URL, method="HEAD"), {}, "Cannot cache response to non-GET request."),
        (URL, {"status": 206}, "Cannot cache response to a range request (206 Partial Content)."),
        (URL, {"headers": {"vary": "*"}}, "Cannot cache response with 'Vary: *' header."),
        (URL, {"headers": {"vary": "accept, *"}}, "Cannot cache response with 'Vary: *' header."),
        (URL, {"web_socket": object(), "status": 101}, "Cannot cache WebSocket upgrade response."),
        ("/relative", {}, "Invalid URL. Cache API keys must be fully-qualified, valid URLs."),
        ("", {}, "Invalid URL. Cache API keys must be fully-qualified, valid URLs."),
    ],
)
async def test_a_bad_put_is_refused_before_anything_is_written(
    state: State, cache: Cache, request_: Any, response: dict[str, Any], message: str
) -> None:
    options = {**response, "headers": {**KEEP, **response.get("headers", {})}}
    with pytest.raises(TypeError) as caught:
        body = None if options.get("status") == 101 else "x"
        await cache.put(request_, Response(body, **options))
    assert isinstance(caught.value, bunflare.CacheError)
    assert str(caught.value) == message
    assert rows(state) == []


async def test_only_a_response_can_be_put(cache: Cache) -> None:
    with pytest.raises(bunflare.CacheTypeError, match="error response"):
        await cache.put(URL, Response.error())
    with pytest.raises(bunflare.CacheTypeError, match="Response"):
        await cache.put(URL, "text")  # type: ignore[arg-type]
    used = Response("x", headers=KEEP)
    await used.text()
    with pytest.raises(bunflare.BodyUsedError):
        await cache.put(URL, used)


async def test_only_get_requests_match_unless_the_method_is_ignored(cache: Cache) -> None:
    await cache.put(URL, Response("x", headers=KEEP))
    for method in ("HEAD", "POST"):
        assert await cache.match(Request(URL, method=method)) is None
        found = await cache.match(Request(URL, method=method), ignore_method=True)
        assert await text(found) == "x"


async def test_delete_says_whether_there_was_something(cache: Cache, clock: ManualClock) -> None:
    assert await cache.delete(URL) is False
    await cache.put(URL, Response("x", headers=KEEP))
    assert await cache.delete(Request(URL, method="POST")) is False
    assert await cache.delete(Request(URL, method="POST"), ignore_method=True) is True
    assert await cache.delete(URL) is False
    await cache.put(URL, Response("x", headers=KEEP))
    clock.set(clock.now() + 60_000)
    assert await cache.delete(URL) is False


# -- names -------------------------------------------------------------------------------------


async def test_caches_do_not_see_each_other(state: State) -> None:
    names = ["default", "named:default", "custom:cache", "x" * 1023]
    caches = [state.caches.default, *[await state.caches.open(name) for name in names]]
    for number, cache in enumerate(caches):
        await cache.put(URL, Response(str(number), headers=KEEP))
    for number, cache in enumerate(caches):
        assert await text(await cache.match(URL)) == str(number)


async def test_a_name_is_shorter_than_1024_bytes(state: State) -> None:
    for name in ("x" * 1024, "é" * 512):
        with pytest.raises(TypeError, match="Cache name is too long."):
            await state.caches.open(name)
    with pytest.raises(TypeError):
        await state.caches.open(5)  # type: ignore[arg-type]


# -- conditions and ranges ---------------------------------------------------------------------


async def test_a_copy_that_is_current_is_answered_with_304(cache: Cache) -> None:
    await cache.put(URL, Response("x", headers={**KEEP, "etag": '"a"'}))
    response = await cache.match(Request(URL, headers={"if-none-match": 'W/"a"'}))
    assert response is not None
    assert (response.status, response.body) == (304, None)
    assert response.headers["etag"] == '"a"'
    assert await text(await cache.match(Request(URL, headers={"if-none-match": '"b"'}))) == "x"


@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_range_is_answered_with_206(cache: Cache, in_a_file: bool) -> None:
    body = await collected(large()) if in_a_file else b"0123456789"
    size = len(body)
    await cache.put(URL, Response(body, headers={**KEEP, "content-type": "a/b"}))
    for spec, start, end in (
        ("2-4", 2, 5),
        (f"{size - 3}-", size - 3, size),
        ("-2", size - 2, size),
    ):
        response = await cache.match(Request(URL, headers={"range": f"bytes={spec}"}))
        assert response is not None
        assert response.status == 206
        assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert response.headers["content-length"] == str(end - start)
        assert await response.bytes() == body[start:end]
    response = await cache.match(Request(URL, headers={"range": f"bytes={size}-"}))
    assert response is not None
    assert (response.status, response.headers["content-range"]) == (416, f"bytes */{size}")
    response = await cache.match(Request(URL, headers={"range": "bytes=0-1,5-6"}))
    assert response is not None
    assert response.status == 206
    boundary = response.headers["content-type"].removeprefix("multipart/byteranges; boundary=")
    parts = (await response.bytes()).split(f"--{boundary}".encode())
    assert parts[0] == b""
    assert parts[1].startswith(f"\r\nContent-Type: a/b\r\nContent-Range: bytes 0-1/{size}".encode())
    assert parts[1].endswith(b"\r\n\r\n" + body[0:2] + b"\r\n")
    assert parts[2].endswith(b"\r\n\r\n" + body[5:7] + b"\r\n")
    assert parts[3] == b"--\r\n"


async def test_a_range_of_what_is_not_a_200_is_ignored(cache: Cache) -> None:
    await cache.put(URL, Response("0123", status=404, headers=KEEP))
    response = await cache.match(Request(URL, headers={"range": "bytes=0-1"}))
    assert response is not None
    assert (response.status, await response.text()) == (404, "0123")


# -- large bodies ------------------------------------------------------------------------------


async def test_a_large_body_lives_in_a_file(state: State, cache: Cache) -> None:
    await cache.put(URL, Response(large(), headers=KEEP))
    assert rows(state) == [("default", URL, 0)]
    [file] = state.database.directory.cache_bodies.iterdir()
    assert file.stat().st_size == 3 * MIB
    response = await cache.match(URL)
    assert response is not None
    assert await response.bytes() == await collected(large())


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB])
async def test_every_size_comes_back(cache: Cache, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for sent in (body, large_from(body)):
        await cache.put(URL, Response(sent, headers=KEEP))
        response = await cache.match(URL)
        assert response is not None
        assert await response.bytes() == body


async def large_from(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 99_999):
        yield body[start : start + 99_999]


async def test_a_body_that_is_being_read_survives_its_replacement(
    state: State, cache: Cache
) -> None:
    await cache.put(URL, Response(large(), headers=KEEP))
    old = await cache.match(URL)
    assert old is not None
    await cache.put(URL, Response(b"\xff" * 2 * MIB, headers=KEEP))
    new = await cache.match(URL)
    await cache.delete(URL)
    assert list(state.database.directory.cache_bodies.iterdir()) == []
    assert await old.bytes() == await collected(large())
    assert new is not None
    assert await new.bytes() == b"\xff" * 2 * MIB


async def test_a_stream_that_fails_leaves_the_old_entry_and_no_file(
    state: State, cache: Cache
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        raise OSError("gone")

    await cache.put(URL, Response("old", headers=KEEP))
    with pytest.raises(OSError, match="gone"):
        await cache.put(URL, Response(failing(), headers=KEEP))
    assert await text(await cache.match(URL)) == "old"
    assert list(state.database.directory.cache_bodies.iterdir()) == []


async def test_a_body_beyond_the_limit_is_dropped(
    state: State, cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "BODY_SIZE", 2 * MIB)
    await cache.put(URL, Response(large(2 * MIB), headers=KEEP))
    assert await cache.match(URL) is not None
    await cache.put(URL + "2", Response(large(2 * MIB + 1), headers=KEEP))
    assert await cache.match(URL + "2") is None
    assert "larger than 512 MB" in caplog.text
    assert len(list(state.database.directory.cache_bodies.iterdir())) == 1


async def test_a_file_that_is_gone_is_a_miss(state: State, cache: Cache) -> None:
    await cache.put(URL, Response(large(), headers=KEEP))
    [file] = state.database.directory.cache_bodies.iterdir()
    file.unlink()
    assert await cache.match(URL) is None
    await cache.put(URL, Response("new", headers=KEEP))
    assert await text(await cache.match(URL)) == "new"


async def test_files_that_a_crash_left_are_swept_after_opening(
    directory: Path, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.caches.default.put(URL, Response(large(), headers=KEEP))
        bodies = state.database.directory.cache_bodies
        [kept] = bodies.iterdir()
    (bodies / "0123456789abcdef").write_bytes(b"left over")
    being_written = blobs.Draft(bodies)
    async with bunflare.open(directory, clock=clock) as state:
        await clock.advance(milliseconds=1)
        await eventually(lambda: not (bodies / "0123456789abcdef").exists())
        assert {path.name for path in bodies.iterdir()} == {kept.name, being_written.name}
        assert await state.caches.default.match(URL) is not None
    being_written.close()


async def test_memory_stays_flat_for_a_large_body(cache: Cache) -> None:
    async def stream() -> AsyncIterator[bytes]:
        chunk = bytes(MIB)
        for _ in range(200):
            yield chunk

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await cache.put(URL, Response(stream(), headers=KEEP))
    response = await cache.match(URL)
    assert response is not None
    assert response.body is not None
    size = 0
    async for piece in response.body:
        size += len(piece)
    assert size == 200 * MIB
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40 * 1024  # KiB
