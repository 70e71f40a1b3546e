"""Ranges of R2: which part of an object a get gives."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import bunflare
from bunflare import Headers, R2Bucket, R2Object, R2Range
from tests.bindings.r2_tools import MIB, chunks, code_of, opened, read

LETTERS = b"abcdefghijklmnopqrstuvwxyz"

#: A range, and offset and length of what it gives of the alphabet.
RANGES: list[tuple[dict[str, Any], int, int]] = [
    ({}, 0, 26),
    ({"offset": 0}, 0, 26),
    ({"offset": 3}, 3, 23),
    ({"offset": 25}, 25, 1),
    ({"length": 3}, 0, 3),
    ({"length": 26}, 0, 26),
    ({"length": 42}, 0, 26),
    ({"offset": 1, "length": 3}, 1, 3),
    ({"offset": 20, "length": 6}, 20, 6),
    ({"offset": 20, "length": 100}, 20, 6),
    ({"offset": 0, "length": 2**40}, 0, 26),
    ({"suffix": 1}, 25, 1),
    ({"suffix": 3}, 23, 3),
    ({"suffix": 26}, 0, 26),
    ({"suffix": 42}, 0, 26),
]
NOT_SATISFIABLE: list[dict[str, Any]] = [
    {"offset": 26},
    {"offset": 27},
    {"offset": 42, "length": 1},
    {"offset": 2**40},
    {"length": 0},
    {"offset": 3, "length": 0},
    {"suffix": 0},
]
#: A Range header, and what it gives of the alphabet.
HEADERS: list[tuple[str | None, int, int]] = [
    (None, 0, 26),
    ("bytes=3-6", 3, 4),
    ("bytes=0-0", 0, 1),
    ("bytes=10-", 10, 16),
    ("bytes=-5", 21, 5),
    ("bytes=20-100", 20, 6),
    ("bytes=25-25", 25, 1),
    ("bytes=-26", 0, 26),
    ("bytes=-100", 0, 26),
    ("Bytes = 3 - 6", 3, 4),
    # Several ranges, and what is none, ask for the whole.
    ("bytes=5-6,10-11", 0, 26),
    ("bytes=6-5", 0, 26),
    ("bytes=", 0, 26),
    ("bytes=-", 0, 26),
    ("bytes=a-b", 0, 26),
    ("lines=1-2", 0, 26),
    ("nonsense", 0, 26),
]


@pytest.fixture
async def alphabet(bucket: R2Bucket) -> R2Bucket:
    await bucket.put("key", LETTERS)
    return bucket


async def test_a_range_gives_a_part_and_says_which(alphabet: R2Bucket) -> None:
    for given, offset, length in RANGES:
        for wanted in (given, R2Range(**given)):
            found = await opened(alphabet, "key", range=wanted)
            assert found.range == R2Range(offset=offset, length=length), wanted
            # The size stays that of the whole object.
            assert found.size == 26
            assert await found.bytes() == LETTERS[offset : offset + length], wanted


async def test_the_range_header_of_a_request_is_followed(alphabet: R2Bucket) -> None:
    for header, offset, length in HEADERS:
        headers = Headers({} if header is None else {"Range": header})
        found = await opened(alphabet, "key", range=headers)
        assert found.range == R2Range(offset=offset, length=length), header
        assert await found.bytes() == LETTERS[offset : offset + length], header


async def test_a_range_outside_of_the_object_is_an_error(alphabet: R2Bucket) -> None:
    for given in NOT_SATISFIABLE:
        for value in (given, R2Range(**given)):
            with pytest.raises(bunflare.R2Error, match="range is not satisfiable") as caught:
                await alphabet.get("key", range=value)
            assert code_of(caught.value) == 10039, given


async def test_an_empty_object_has_no_ranges(bucket: R2Bucket) -> None:
    await bucket.put("empty", b"")
    for given in ({"offset": 0}, {"length": 1}, {"suffix": 1}):
        with pytest.raises(bunflare.R2Error) as caught:
            await bucket.get("empty", range=given)
        assert code_of(caught.value) == 10039
    assert await read(bucket, "empty") == b""


NO_RANGES: list[tuple[Any, type[Exception], str]] = [
    ({"offset": -1}, ValueError, "Starting offset"),
    ({"length": -1}, ValueError, "Length"),
    ({"suffix": -1}, ValueError, "Suffix"),
    ({"offset": 1.5}, ValueError, "integer"),
    ({"length": 1.5}, ValueError, "integer"),
    ({"suffix": 1.5}, ValueError, "integer"),
    ({"suffix": 1, "offset": 1}, TypeError, "Suffix is incompatible with offset"),
    ({"suffix": 1, "length": 1}, TypeError, "Suffix is incompatible with length"),
    ({"offset": "1"}, TypeError, ""),
    ({"length": b"1"}, TypeError, ""),
    ({"suffix": [1]}, TypeError, ""),
    ("bytes=0-1", TypeError, ""),
    ((0, 1), TypeError, ""),
]


async def test_what_is_no_range_is_refused(alphabet: R2Bucket) -> None:
    for given, kind, message in NO_RANGES:
        with pytest.raises(kind) as caught:
            await alphabet.get("key", range=given)
        assert isinstance(caught.value, bunflare.R2Error), given
        assert message in str(caught.value), given


async def test_a_get_without_a_range_covers_the_whole(alphabet: R2Bucket) -> None:
    found = await opened(alphabet, "key")
    assert found.range == R2Range(offset=0, length=26)
    empty = await alphabet.put("empty", "")
    assert isinstance(empty, R2Object)
    assert empty.range is None
    assert (await opened(alphabet, "empty")).range == R2Range(offset=0, length=0)


async def test_a_range_of_a_missing_object_is_none(bucket: R2Bucket) -> None:
    assert await bucket.get("missing", range={"offset": 3}) is None


async def test_a_part_of_a_large_object_is_streamed(bucket: R2Bucket) -> None:
    value = bytes(range(256)) * (4 * 4096 + 1)
    assert len(value) > 4 * MIB
    await bucket.put("large", chunks(value[:1000], value[1000:]))
    for offset, length in ((0, 1), (4095, 4097), (MIB - 1, 2 * MIB), (len(value) - 1, 1)):
        found = await opened(bucket, "large", range=R2Range(offset, length))
        pieces = [piece async for piece in found.body]
        assert b"".join(pieces) == value[offset : offset + length]
    assert await read(bucket, "large", range={"suffix": 2 * MIB}) == value[-2 * MIB :]


numbers = st.none() | st.integers(0, 30)


@hypothesis.given(offset=numbers, length=numbers, size=st.integers(0, 26))
async def test_any_range_is_a_slice_or_an_error(
    offset: int | None, length: int | None, size: int
) -> None:
    async with bunflare.open(":memory:", durability="normal") as state:
        bucket = state.r2("bucket")
        await bucket.put("key", LETTERS[:size])
        begin = offset or 0
        end = size if length is None else begin + length
        wanted = LETTERS[:size][begin:end]
        if not wanted:
            with pytest.raises(bunflare.R2Error) as caught:
                await bucket.get("key", range=R2Range(offset, length))
            assert code_of(caught.value) == 10039
            return
        found = await opened(bucket, "key", range=R2Range(offset, length))
        assert await found.bytes() == wanted
        assert found.range == R2Range(begin, len(wanted))
