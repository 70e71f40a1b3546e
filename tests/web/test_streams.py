"""Streams of bytes: what a body gives, read once, by one or by two."""

from __future__ import annotations

import array
import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare import Request, Response
from bunflare.web import streams

URL = "https://example.com/"


class Source:
    """A stream that tells how far it was read, and that gives only what it is let give."""

    def __init__(self, *chunks: Any, held: bool = False) -> None:
        self.chunks = list(chunks)
        self.given = 0
        self.closed = False
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await self.gate.wait()
        if self.given == len(self.chunks):
            raise StopAsyncIteration
        chunk = self.chunks[self.given]
        self.given += 1
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        self.closed = True


async def whole(stream: AsyncIterator[bytes] | None) -> bytes:
    assert stream is not None
    return b"".join([chunk async for chunk in stream])


# -- chunks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunk", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("B", b"abcd")]
)
async def test_chunks_of_any_buffer_come_out_as_bytes(chunk: Any) -> None:
    stream = Response(Source(chunk)).body
    assert stream is not None
    assert [type(piece) async for piece in stream] == [bytes]
    assert await Response(Source(chunk)).bytes() == b"abcd"


@pytest.mark.parametrize("chunk", ["text", None, 5, [98], object()])
async def test_another_chunk_is_an_error_when_it_is_read(chunk: Any) -> None:
    response = Response(Source(b"a", chunk))
    stream = response.body
    assert stream is not None
    assert await anext(stream) == b"a"
    with pytest.raises(bunflare.FetchTypeError, match=type(chunk).__name__):
        await anext(stream)
    taken = Response(Source(chunk)).take()
    assert not isinstance(taken, bytes)
    with pytest.raises(TypeError):
        await anext(taken)


async def test_a_failure_of_the_source_reaches_the_reader() -> None:
    with pytest.raises(OSError, match="broken"):
        await Response(Source(b"a", OSError("broken"))).bytes()


# -- the stream of a body ----------------------------------------------------------------------


async def test_looking_at_the_body_does_not_use_it() -> None:
    for body in (b"abc", Source(b"abc")):
        response = Response(body)
        assert response.body is response.body
        assert not response.body_used
        assert await response.text() == "abc"
        assert response.body_used
        stream = response.body
        assert stream is not None
        with pytest.raises(bunflare.BodyUsedError):
            await anext(stream)


async def test_who_stops_reading_may_go_on() -> None:
    response = Response(Source(b"a", b"b", b"c"))
    stream = response.body
    assert stream is not None
    async for chunk in stream:
        assert chunk == b"a"
        break
    assert response.body_used
    with pytest.raises(bunflare.BodyUsedError):
        await response.text()
    assert await whole(response.body) == b"bc"


async def test_closing_a_stream_closes_its_source() -> None:
    for read in (False, True):
        source = Source(b"a", b"b")
        response = Response(source)
        stream = response.body
        assert stream is not None
        if read:
            await anext(stream)
        await stream.aclose()
        assert source.closed
        assert response.body_used
    bare = Response(b"x").body
    assert bare is not None
    await bare.aclose()
    assert await whole(bare) == b""


async def test_a_body_can_be_that_of_another_message() -> None:
    first = Response("abc")
    second = Response(first.body, headers={"a": "b"})
    # Known bytes stay known on the way.
    assert second.take() == b"abc"
    assert first.body_used
    with pytest.raises(bunflare.BodyUsedError):
        Response(first.body)
    request = Request(URL, method="POST", body=Response(Source(b"a", b"b")).body)
    assert await request.text() == "ab"


async def test_a_stream_can_be_read_by_two() -> None:
    for body in (b"abc", Source(b"a", b"bc")):
        response = Response(body)
        stream = response.body
        assert stream is not None
        left, right = stream.tee()
        assert response.body_used
        assert [await whole(left), await whole(right)] == [b"abc", b"abc"]


# -- tee ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=3), max_size=6), st.lists(st.booleans(), max_size=12))
async def test_in_whatever_order_two_read_both_get_all(
    chunks: list[bytes], order: list[bool]
) -> None:
    branches = streams.tee(streams.Checked(Source(*chunks)))
    got: tuple[list[bytes], list[bytes]] = ([], [])
    for turn in order:
        try:
            got[turn].append(await anext(branches[turn]))
        except StopAsyncIteration:
            assert got[turn] == chunks
    for branch, read in zip(branches, got, strict=True):
        read += [chunk async for chunk in branch]
        assert read == chunks


async def test_nothing_is_read_before_somebody_asks() -> None:
    source = Source(b"a", b"b", b"c")
    left, right = streams.tee(source)
    assert source.given == 0
    await anext(left)
    await anext(right)
    assert source.given == 1


async def test_two_who_wait_at_once_get_the_same_chunk() -> None:
    source = Source(b"a", b"b", held=True)
    both = asyncio.gather(*map(whole, streams.tee(source)))
    await asyncio.sleep(0)
    source.gate.set()
    assert await both == [b"ab", b"ab"]


async def test_a_reader_that_is_cancelled_takes_nothing_from_the_other() -> None:
    source = Source(b"a", b"b", held=True)
    left, right = streams.tee(source)
    reading = asyncio.create_task(whole(left))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    source.gate.set()
    assert [await whole(right), await whole(left)] == [b"ab", b"ab"]


async def test_a_failure_reaches_both() -> None:
    for branch in streams.tee(Source(b"a", OSError("broken"))):
        assert await anext(branch) == b"a"
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                await anext(branch)


async def test_the_source_is_closed_with_its_last_reader() -> None:
    source = Source(b"a", held=True)
    left, right = (branch for branch in streams.tee(source))
    reading = asyncio.create_task(whole(right))
    await asyncio.sleep(0)
    await streams.close(left)
    assert not source.closed
    assert await whole(left) == b""
    await streams.close(right)
    await streams.close(right)
    assert source.closed
    # For who was reading it, that was the end.
    assert await reading == b""


async def test_nothing_is_held_for_a_reader_that_is_gone() -> None:
    response = Response(Source(*[b"x"] * 10))
    clone = response.clone()
    stream = clone.take()
    waiting = response.take()
    assert isinstance(waiting, streams._Branch)
    assert isinstance(stream, streams._Branch)
    shared = stream._shared
    assert len(shared.branches) == 2
    del response, waiting
    gc.collect()
    assert list(shared.branches) == [stream]
    assert await whole(stream) == b"x" * 10


async def test_a_clone_of_known_bytes_shares_them() -> None:
    response = Response(b"x" * 100)
    taken = response.clone().take()
    assert taken is response.take()
    with pytest.raises(bunflare.BodyUsedError, match="Use tee\\(\\) first"):
        response.clone()


async def test_a_clone_of_a_clone_reads_all() -> None:
    request = Request(URL, method="POST", body=Source(b"a", b"b"))
    looked_at = request.body
    second = request.clone()
    third = second.clone()
    assert [await one.text() for one in (third, request, second)] == ["ab"] * 3
    assert looked_at is request.body
