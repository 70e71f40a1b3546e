"""Lists of R2: order, prefixes, delimiters, pages, and that pages stay right while keys change."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import bunflare
from bunflare import Headers, R2Bucket, R2HTTPMetadata, R2Objects
from tests.bindings.r2_tools import code_of, names, pages, written


async def filled(bucket: R2Bucket, *keys: str) -> R2Bucket:
    for key in keys:
        await bucket.put(key, key.encode("utf-8", "replace"))
    return bucket


def expected_entries(
    keys: list[str], prefix: str = "", delimiter: str | None = None, start_after: str | None = None
) -> list[tuple[str, str]]:
    """Objects and delimited prefixes as the platform lists them, each with its kind."""
    entries: list[tuple[str, str]] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        if start_after is not None and key.encode() <= start_after.encode():
            continue
        place = key.find(delimiter, len(prefix)) if delimiter else -1
        if place < 0:
            entries.append(("object", key))
            continue
        entry = ("prefix", key[: place + len(delimiter or "")])
        if entry not in entries:
            entries.append(entry)
    return entries


def entries_of(page: R2Objects) -> list[tuple[str, str]]:
    """What a page holds; objects and prefixes each in their own order."""
    return [("object", item.key) for item in page.objects] + [
        ("prefix", prefix) for prefix in page.delimited_prefixes
    ]


# -- order and prefix --------------------------------------------------------------------------


async def test_a_new_bucket_is_empty(bucket: R2Bucket) -> None:
    page = await bucket.list()
    assert isinstance(page, R2Objects)
    assert list(page.objects) == []
    assert page.truncated is False
    assert page.cursor is None
    assert list(page.delimited_prefixes) == []


async def test_keys_come_in_the_order_of_their_bytes(bucket: R2Bucket) -> None:
    keys = ["\U0001f642", "\uffff", "é", "b", "a/b", "a", "a ", "B", "a0", "!", ", ", "e\u0301"]
    await filled(bucket, *keys)
    assert await names(bucket) == sorted(keys, key=str.encode)
    # Not in that of UTF-16, where the emoji came first.
    assert (await names(bucket))[-2:] == ["\uffff", "\U0001f642"]


async def test_a_prefix_is_taken_literally(bucket: R2Bucket) -> None:
    keys = ["a%b", "a_b", "aXb", "A_b", "a*b", "a[b", "a\\b", "é", "e\u0301", "a", "ab\x00c"]
    await filled(bucket, *keys)
    for prefix in (*keys, "", "a_", "a%", "A", "a*", "a[", "a\\", "ab\x00", "none", "e"):
        assert await names(bucket, prefix=prefix) == sorted(
            (key for key in keys if key.startswith(prefix)), key=str.encode
        ), prefix


async def test_a_prefix_may_end_with_the_last_character(bucket: R2Bucket) -> None:
    await filled(bucket, "a\U0010ffff", "a\U0010ffffb", "b", "\U0010ffff", "\U0010ffff\U0010ffff")
    assert await names(bucket, prefix="a\U0010ffff") == ["a\U0010ffff", "a\U0010ffffb"]
    assert await names(bucket, prefix="\U0010ffff") == ["\U0010ffff", "\U0010ffff\U0010ffff"]


async def test_start_after_is_exclusive(bucket: R2Bucket) -> None:
    await filled(bucket, "key1", "key2", "key3", "key4", "other")
    assert await names(bucket, start_after="key2") == ["key3", "key4", "other"]
    assert await names(bucket, start_after="key2", prefix="key") == ["key3", "key4"]
    assert await names(bucket, start_after="key", limit=2) == ["key1", "key2"]
    assert await names(bucket, start_after="a", prefix="key4") == ["key4"]
    assert await names(bucket, start_after="key2x") == ["key3", "key4", "other"]
    assert await names(bucket, start_after="z") == []
    assert await names(bucket, start_after="z", prefix="key") == []


# -- pages -------------------------------------------------------------------------------------


async def test_pages_hold_what_was_asked_for(bucket: R2Bucket) -> None:
    await filled(bucket, *(f"key{number}" for number in range(5)))
    found = [page async for page in pages(bucket, limit=2)]
    assert [[item.key for item in page.objects] for page in found] == [
        ["key0", "key1"],
        ["key2", "key3"],
        ["key4"],
    ]
    assert [page.truncated for page in found] == [True, True, False]
    # A full last page is not followed by an empty one.
    found = [page async for page in pages(bucket, limit=5)]
    assert [page.truncated for page in found] == [False]


async def test_a_page_may_have_another_size_than_the_last(bucket: R2Bucket) -> None:
    await filled(bucket, *(f"key{number}" for number in range(5)))
    first = await bucket.list(limit=1)
    assert await names(bucket, cursor=first.cursor, limit=3) == ["key1", "key2", "key3"]
    assert await names(bucket, cursor=first.cursor) == ["key1", "key2", "key3", "key4"]


async def test_pages_stay_right_while_keys_come_and_go(bucket: R2Bucket) -> None:
    await filled(bucket, "key1", "key3", "key5", "key7")
    first = await bucket.list(limit=2)
    assert [item.key for item in first.objects] == ["key1", "key3"]
    # Before the cursor: not seen any more. Behind it: seen. And its own key may go.
    await filled(bucket, "key0", "key2", "key4", "key8")
    await bucket.delete(["key3", "key5"])
    second = await bucket.list(limit=2, cursor=first.cursor)
    assert [item.key for item in second.objects] == ["key4", "key7"]
    await bucket.delete([item.key for item in (await bucket.list()).objects])
    last = await bucket.list(limit=2, cursor=second.cursor)
    assert (list(last.objects), last.truncated) == ([], False)


async def test_a_cursor_outlives_the_state(directory: Any, clock: bunflare.ManualClock) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        bucket = await filled(state.r2("bucket"), "a", "b", "c")
        cursor = (await bucket.list(limit=1)).cursor
    async with bunflare.open(directory, clock=clock) as state:
        assert await names(state.r2("bucket"), cursor=cursor) == ["b", "c"]


async def test_of_cursor_and_start_after_the_later_one_counts(bucket: R2Bucket) -> None:
    await filled(bucket, "a", "b", "c", "d", "e")
    cursor = (await bucket.list(limit=2)).cursor
    assert await names(bucket, cursor=cursor, start_after="a") == ["c", "d", "e"]
    assert await names(bucket, cursor=cursor, start_after="d") == ["e"]


async def test_pages_of_start_after_go_on(bucket: R2Bucket) -> None:
    await filled(bucket, *"abcdef")
    found = [
        [item.key for item in page.objects]
        async for page in pages(bucket, start_after="b", limit=3)
    ]
    assert found == [["c", "d", "e"], ["f"]]


# -- delimiters --------------------------------------------------------------------------------

TREE = [
    "dir0/file0",
    "dir0/file1",
    "dir0/sub0/file2",
    "dir0/sub0/file3",
    "dir0/sub1/file4",
    "dir1/file6",
    "dir1/file7",
    "file8",
    "file9",
]


async def test_a_delimiter_folds_what_is_below(bucket: R2Bucket) -> None:
    await filled(bucket, *TREE)
    cases: list[tuple[dict[str, Any], list[str], list[str]]] = [
        ({}, TREE, []),
        ({"delimiter": ""}, TREE, []),
        ({"delimiter": "/"}, ["file8", "file9"], ["dir0/", "dir1/"]),
        (
            {"delimiter": "/", "prefix": "dir0/"},
            ["dir0/file0", "dir0/file1"],
            ["dir0/sub0/", "dir0/sub1/"],
        ),
        ({"delimiter": "/", "prefix": "dir0"}, [], ["dir0/"]),
        ({"delimiter": "/", "prefix": "dir"}, [], ["dir0/", "dir1/"]),
        ({"delimiter": "/", "prefix": "none"}, [], []),
        ({"delimiter": "file8"}, [key for key in TREE if key != "file8"], ["file8"]),
        ({"delimiter": "file6", "prefix": "dir1/"}, ["dir1/file7"], ["dir1/file6"]),
        (
            {"delimiter": "/file"},
            ["file8", "file9"],
            ["dir0/file", "dir0/sub0/file", "dir0/sub1/file", "dir1/file"],
        ),
        ({"delimiter": "/", "start_after": "dir0/sub1/file4"}, ["file8", "file9"], ["dir1/"]),
        ({"delimiter": "/", "start_after": "dir0/file0"}, ["file8", "file9"], ["dir0/", "dir1/"]),
        ({"delimiter": "/", "start_after": "dir1/z"}, ["file8", "file9"], []),
    ]
    for options, keys, prefixes in cases:
        page = await bucket.list(**options)
        assert [item.key for item in page.objects] == keys, options
        assert list(page.delimited_prefixes) == prefixes, options
        assert page.truncated is False


async def test_a_delimited_prefix_counts_once_and_comes_once(bucket: R2Bucket) -> None:
    await filled(bucket, "a", *(f"dir/{number}" for number in range(5)), "dis/1", "dis/2", "z")
    found = [entries_of(page) async for page in pages(bucket, delimiter="/", limit=2)]
    assert found == [
        [("object", "a"), ("prefix", "dir/")],
        [("object", "z"), ("prefix", "dis/")],
    ]
    found = [entries_of(page) async for page in pages(bucket, delimiter="/", limit=1)]
    assert found == [
        [("object", "a")],
        [("prefix", "dir/")],
        [("prefix", "dis/")],
        [("object", "z")],
    ]


async def test_a_prefix_does_not_come_again_when_keys_are_added_below(bucket: R2Bucket) -> None:
    await filled(bucket, "dir/1", "z")
    first = await bucket.list(delimiter="/", limit=1)
    assert list(first.delimited_prefixes) == ["dir/"]
    await filled(bucket, "dir/0", "dir/2", "dir/\U0010ffff", "dir0")
    second = await bucket.list(delimiter="/", cursor=first.cursor)
    assert entries_of(second) == [("object", "dir0"), ("object", "z")]


# -- metadata ----------------------------------------------------------------------------------


async def test_a_list_has_metadata_only_where_it_was_asked_for(bucket: R2Bucket) -> None:
    http, custom = R2HTTPMetadata(content_type="a/b"), {"a": "b"}
    stored = await written(
        bucket,
        "key",
        "value",
        http_metadata=http,
        custom_metadata=custom,
        sha1="f32b67c7e26342af42efabc674d441dca0a281c5",
    )
    await bucket.put("other", "value")
    cases: list[tuple[Any, Any, Any]] = [
        (None, None, None),
        ([], None, None),
        (["httpMetadata"], http, None),
        (["customMetadata"], None, custom),
        (["httpMetadata", "customMetadata"], http, custom),
    ]
    for include, expected_http, expected_custom in cases:
        page = await bucket.list(include=include)
        found, other = page.objects
        assert found.http_metadata == expected_http, include
        assert found.custom_metadata == expected_custom, include
        assert other.http_metadata == (None if expected_http is None else R2HTTPMetadata())
        assert other.custom_metadata == (None if expected_custom is None else {})
        for field in ("key", "version", "size", "etag", "http_etag", "uploaded", "checksums"):
            assert getattr(found, field) == getattr(stored, field), field
        assert found.range is None
        if expected_http is None:
            with pytest.raises(TypeError, match="HTTP metadata unknown for key"):
                found.write_http_metadata(Headers())
        else:
            headers = Headers()
            found.write_http_metadata(headers)
            assert headers.get("content-type") == "a/b"


async def test_include_takes_our_names_too(bucket: R2Bucket) -> None:
    await bucket.put("key", "value", custom_metadata={"a": "b"})
    page = await bucket.list(include=["custom_metadata"])
    assert page.objects[0].custom_metadata == {"a": "b"}


async def test_pages_with_metadata_are_whole(bucket: R2Bucket) -> None:
    """The platform may make them shorter, but truncated says so and nothing is left out."""
    await filled(bucket, *(f"{number:03}" for number in range(120)))
    include = ["httpMetadata", "customMetadata"]
    found = [item.key async for page in pages(bucket, include=include) for item in page.objects]
    assert found == [f"{number:03}" for number in range(120)]


# -- what is refused ---------------------------------------------------------------------------


async def test_a_limit_is_between_1_and_1000(bucket: R2Bucket) -> None:
    await bucket.put("key", "value")
    for limit in (0, -1, 1001, 10**9):
        with pytest.raises(bunflare.R2Error, match="positive integer <= 1000") as caught:
            await bucket.list(limit=limit)
        assert code_of(caught.value) == 10022
        assert isinstance(caught.value, ValueError)
    for limit in (1, 1000):
        assert await names(bucket, limit=limit) == ["key"]


@pytest.mark.parametrize(
    "options",
    [
        {"limit": "10"},
        {"prefix": 1},
        {"prefix": b"a"},
        {"delimiter": 1},
        {"start_after": 1},
        {"cursor": 1},
        {"include": 1},
    ],
)
async def test_wrong_types_are_refused(bucket: R2Bucket, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as caught:
        await bucket.list(**options)
    assert isinstance(caught.value, bunflare.R2Error)


async def test_only_metadata_can_be_included(bucket: R2Bucket) -> None:
    with pytest.raises(ValueError, match="Unsupported include value") as caught:
        await bucket.list(include=["body"])
    assert isinstance(caught.value, bunflare.R2Error)


async def test_a_list_of_a_thousand_is_the_most(bucket: R2Bucket) -> None:
    async with bunflare.open(":memory:", durability="normal") as state:
        bucket = state.r2("bucket")
        keys = [f"{number:04}" for number in range(1001)]
        for key in keys:
            await bucket.put(key, b"")
        page = await bucket.list()
        assert [item.key for item in page.objects] == keys[:1000]
        assert page.truncated
        assert await names(bucket, cursor=page.cursor) == keys[1000:]
        # Nor can more be deleted at once.
        with pytest.raises(bunflare.R2Error):
            await bucket.delete(keys)
        assert (await bucket.list()).truncated
        await bucket.delete(keys[:1000])
        assert await names(bucket) == keys[1000:]


# -- everything at once ------------------------------------------------------------------------

KEYS = st.lists(st.text("ab/\x00%é\U0010ffff", min_size=1, max_size=5), max_size=12, unique=True)
PARTS = st.text("ab/\x00%é\U0010ffff", max_size=2)


@hypothesis.given(
    keys=KEYS,
    prefix=PARTS,
    delimiter=st.none() | PARTS,
    start_after=st.none() | PARTS,
    limit=st.integers(1, 5),
)
async def test_any_list_is_what_a_sorted_dict_would_give(
    keys: list[str], prefix: str, delimiter: str | None, start_after: str | None, limit: int
) -> None:
    async with bunflare.open(":memory:", durability="normal") as state:
        bucket = await filled(state.r2("bucket"), *keys)
        wanted = expected_entries(keys, prefix, delimiter, start_after)
        found = [
            entries_of(page)
            async for page in pages(
                bucket, prefix=prefix, delimiter=delimiter, start_after=start_after, limit=limit
            )
        ]
        slices = [wanted[i : i + limit] for i in range(0, len(wanted), limit)] or [[]]
        # Within a page objects and prefixes are two lists.
        assert found == [sorted(page, key=lambda entry: entry[0]) for page in slices]
