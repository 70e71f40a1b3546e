"""Workers KV, line by line of what the platform does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import bunflare
from bunflare import KVKey, KVList, KVNamespace, KVValue, ManualClock, State
from bunflare.bindings.kv import KVLimits
from bunflare.store import kv as store

MIB = 1024 * 1024


async def chunks(*parts: Any) -> AsyncIterator[Any]:
    for part in parts:
        yield part


async def rows(state: State) -> list[tuple[Any, ...]]:
    return state.database.view.all("SELECT namespace, key, value, metadata, expiration FROM kv")


# -- get ---------------------------------------------------------------------------------------


async def test_a_missing_key_is_none_in_every_type(kv: KVNamespace) -> None:
    for kind in ("text", "json", "bytes", "arrayBuffer", "stream", "nonsense"):
        assert await kv.get("missing", kind) is None  # type: ignore[arg-type]
    assert await kv.get_with_metadata("missing") == KVValue(None, None, None)


@pytest.mark.parametrize(
    ("stored", "kind", "expected"),
    [
        ("héllo", "text", "héllo"),
        (b"\xff\xfe", "text", "\ufffd\ufffd"),
        ("\ufeffmark", "text", "\ufeffmark"),
        ('{"a":[1,null]}', "json", {"a": [1, None]}),
        ("héllo", "bytes", "héllo".encode()),
        (b"\x00\xff", "arrayBuffer", b"\x00\xff"),
        ("", "text", ""),
        (b"", "bytes", b""),
        (bytearray(b"ab"), "bytes", b"ab"),
        (memoryview(b"ab"), "bytes", b"ab"),
        (12, "text", "12"),
        (1.5, "text", "1.5"),
        (True, "text", "true"),
    ],
)
async def test_a_value_is_read_as_the_type_asked_for(
    kv: KVNamespace, stored: Any, kind: Any, expected: Any
) -> None:
    await kv.put("key", stored)
    assert await kv.get("key", kind) == expected
    assert (await kv.get_with_metadata("key", kind)).value == expected


async def test_text_is_the_default_type(kv: KVNamespace) -> None:
    await kv.put("key", b"text")
    assert await kv.get("key") == "text"


async def test_a_stream_gives_the_value_in_pieces(kv: KVNamespace) -> None:
    value = bytes(range(256)) * 1000
    await kv.put("key", value)
    pieces = [piece async for piece in await kv.get("key", "stream")]
    assert len(pieces) > 1
    assert b"".join(pieces) == value


async def test_an_unknown_type_is_refused_where_a_value_exists(kv: KVNamespace) -> None:
    await kv.put("key", "value")
    with pytest.raises(TypeError, match='"text", "arrayBuffer", "json", and "stream"') as caught:
        await kv.get("key", "blob")  # type: ignore[arg-type]
    assert isinstance(caught.value, bunflare.KVError)


async def test_a_value_that_is_not_json_cannot_be_read_as_json(kv: KVNamespace) -> None:
    await kv.put("key", "{not json")
    with pytest.raises(ValueError):
        await kv.get("key", "json")


async def test_a_cache_ttl_is_at_least_30_seconds(kv: KVNamespace) -> None:
    await kv.put("key", "value")
    assert await kv.get("key", cache_ttl=30) == "value"
    for call in (kv.get, kv.get_with_metadata):
        with pytest.raises(ValueError, match="400 Invalid cache_ttl of 29. Cache TTL must be at"):
            await call("key", cache_ttl=29)
    with pytest.raises(TypeError):
        await kv.get("key", cache_ttl="60")  # type: ignore[arg-type]


# -- keys --------------------------------------------------------------------------------------

BAD_KEYS: list[tuple[Any, type[Exception], str]] = [
    ("", TypeError, "Key name cannot be empty."),
    (".", TypeError, '"." is not allowed as a key name.'),
    ("..", TypeError, '".." is not allowed as a key name.'),
    (
        "k" * 513,
        ValueError,
        "KV {verb} failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    (
        "é" * 257,
        ValueError,
        "KV {verb} failed: 414 UTF-8 encoded length of 514 exceeds key length limit of 512.",
    ),
    (None, TypeError, "str"),
    (12, TypeError, "str"),
    (b"bytes", TypeError, "str"),
]
KEY_CALLS: list[tuple[str, Callable[[KVNamespace, Any], Any]]] = [
    ("GET", lambda kv, key: kv.get(key)),
    ("GET", lambda kv, key: kv.get_with_metadata(key)),
    ("GET_BULK", lambda kv, key: kv.get([key])),
    ("PUT", lambda kv, key: kv.put(key, "value")),
    ("PUT", lambda kv, key: kv.put_many([{"key": "good", "value": ""}, {"key": key, "value": ""}])),
    ("DELETE", lambda kv, key: kv.delete(key)),
    ("DELETE", lambda kv, key: kv.delete_many(["good", key])),
]


@pytest.mark.parametrize(("key", "kind", "message"), BAD_KEYS)
@pytest.mark.parametrize(("verb", "call"), KEY_CALLS)
async def test_a_bad_key_is_refused_before_anything_is_written(
    state: State,
    kv: KVNamespace,
    key: Any,
    kind: type[Exception],
    message: str,
    verb: str,
    call: Callable[[KVNamespace, Any], Any],
) -> None:
    await kv.put("good", "kept")
    before = await rows(state)
    with pytest.raises(kind) as caught:
        await call(kv, key)
    assert isinstance(caught.value, bunflare.KVError)
    assert message.format(verb=verb) in str(caught.value)
    assert await rows(state) == before


@pytest.mark.parametrize("key", ["k" * 512, "é" * 256, "...", "a\0b", "\0", "/", "a/../b", "🙂"])
async def test_any_other_key_is_stored(kv: KVNamespace, key: str) -> None:
    await kv.put(key, "value")
    assert await kv.get(key) == "value"
    assert [one.name for one in (await kv.list()).keys] == [key]
    await kv.delete(key)
    assert await kv.get(key) is None


async def test_a_lone_surrogate_becomes_a_replacement_character(kv: KVNamespace) -> None:
    await kv.put("a\ud800b", "\udfff")
    assert await kv.get("a\ufffdb") == "\ufffd"
    assert await kv.get("a\ud800b") == "\ufffd"


async def test_namespaces_do_not_see_each_other(state: State) -> None:
    await state.kv("A").put("key", "a")
    await state.kv("B").put("key", "b")
    await state.kv("A").delete("key")
    assert await state.kv("B").get("key") == "b"
    with pytest.raises(TypeError):
        state.kv("")


# -- put ---------------------------------------------------------------------------------------

NOW = 1767225600  # where a ManualClock stands

BAD_PUTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"value": {"an": "object"}}, TypeError, "KV put() accepts only strings, ArrayBuffers,"),
    ({"value": None}, TypeError, "KV put() accepts only strings"),
    ({"value": ["list"]}, TypeError, "KV put() accepts only strings"),
    (
        {"value": bytes(25 * MIB + 1)},
        ValueError,
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
    ),
    (
        {"metadata": "x" * 1023},
        ValueError,
        "KV PUT failed: 413 Metadata length of 1025 exceeds limit of 1024.",
    ),
    ({"metadata": {"a": object()}}, TypeError, "metadata"),
    ({"metadata": float("nan")}, TypeError, "metadata"),
    (
        {"expiration_ttl": 0},
        ValueError,
        "400 Invalid expiration_ttl of 0. Please specify integer greater than 0.",
    ),
    (
        {"expiration_ttl": -5},
        ValueError,
        "400 Invalid expiration_ttl of -5. Please specify integer greater than 0.",
    ),
    (
        {"expiration_ttl": 59},
        ValueError,
        "400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
    ),
    ({"expiration_ttl": 60.5}, ValueError, "400 Invalid expiration_ttl of 60.5."),
    ({"expiration_ttl": float("nan")}, ValueError, "400 Invalid expiration_ttl of nan."),
    ({"expiration_ttl": "60"}, TypeError, "expiration_ttl"),
    ({"expiration_ttl": True}, TypeError, "expiration_ttl"),
    (
        {"expiration": NOW},
        ValueError,
        f"400 Invalid expiration of {NOW}. Please specify integer greater than the current number "
        "of seconds since the UNIX epoch.",
    ),
    (
        {"expiration": NOW + 59},
        ValueError,
        f"400 Invalid expiration of {NOW + 59}. Expiration times must be at least 60 seconds in "
        "the future.",
    ),
    ({"expiration": NOW + 100.25}, ValueError, "400 Invalid expiration of"),
    # The time to live is looked at first, as it is the one that counts.
    ({"expiration": NOW + 3600, "expiration_ttl": 1}, ValueError, "expiration_ttl of 1"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD_PUTS)
async def test_a_bad_put_is_refused_before_anything_is_written(
    state: State, kv: KVNamespace, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    await kv.put("key", "kept", metadata="kept")
    before = await rows(state)
    options = {"value": "new", **options}
    with pytest.raises(kind) as caught:
        await kv.put("key", **options)
    assert isinstance(caught.value, bunflare.KVError)
    assert message in str(caught.value)
    with pytest.raises(kind):
        await kv.put_many([{"key": "other", "value": "x"}, {"key": "key", **options}])
    assert await rows(state) == before


async def test_a_refusal_carries_the_status_of_the_platform(kv: KVNamespace) -> None:
    with pytest.raises(bunflare.KVError) as caught:
        await kv.get("k" * 513)
    assert caught.value.status == 414


async def test_a_value_may_have_25_mib_also_as_a_stream(kv: KVNamespace) -> None:
    await kv.put("key", chunks(*[bytes(MIB)] * 25))
    assert len(await kv.get("key", "bytes")) == 25 * MIB


async def test_a_stream_that_is_too_long_is_not_read_to_its_end(kv: KVNamespace) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(MIB)

    await kv.put("key", "kept")
    with pytest.raises(ValueError, match="413 Value length of"):
        await kv.put("key", endless())
    assert read == 26
    assert await kv.get("key") == "kept"


async def test_a_stream_that_fails_leaves_the_old_value(kv: KVNamespace) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("gone")

    await kv.put("key", "kept")
    with pytest.raises(OSError, match="gone"):
        await kv.put("key", failing())
    with pytest.raises(TypeError, match="str"):
        await kv.put("key", chunks("text"))
    assert await kv.get("key") == "kept"


@pytest.mark.parametrize("metadata", [{"a": [1, None, "é"]}, "text", 1, 0, False, [], "x" * 1022])
async def test_metadata_comes_back(kv: KVNamespace, metadata: Any) -> None:
    await kv.put("key", "value", metadata=metadata)
    assert await kv.get_with_metadata("key") == KVValue("value", metadata, None)
    assert (await kv.list()).keys == [KVKey("key", None, metadata)]


async def test_a_put_replaces_metadata_and_expiration_too(kv: KVNamespace) -> None:
    await kv.put("key", "old", metadata={"a": 1}, expiration_ttl=60)
    await kv.put("key", "new")
    assert await kv.get_with_metadata("key") == KVValue("new", None)
    assert (await kv.list()).keys == [KVKey("key", None, None)]


async def test_many_keys_are_put_and_deleted_together(kv: KVNamespace) -> None:
    await kv.put_many({"key": f"k{i}", "value": str(i), "metadata": i} for i in range(10))
    assert await kv.get([f"k{i}" for i in range(10)]) == {f"k{i}": str(i) for i in range(10)}
    await kv.delete_many([f"k{i}" for i in range(9)])
    assert (await kv.list()).keys == [KVKey("k9", None, 9)]
    with pytest.raises(TypeError, match="key, value"):
        await kv.put_many([{"key": "a", "value": "b", "ttl": 60}])
    with pytest.raises(TypeError, match="several"):
        await kv.delete_many("k9")


# -- bulk get ----------------------------------------------------------------------------------


async def test_several_keys_are_read_in_the_order_asked_for(kv: KVNamespace) -> None:
    await kv.put("b", '{"x":1}', metadata="m")
    await kv.put("a", "2")
    found = await kv.get(["b", "missing", "a"], "json")
    assert list(found.items()) == [("b", {"x": 1}), ("missing", None), ("a", 2)]
    assert await kv.get_with_metadata(["b", "missing"]) == {
        "b": KVValue('{"x":1}', "m", None),
        "missing": KVValue(None, None, None),
    }


@pytest.mark.parametrize(
    ("keys", "kind", "message"),
    [
        ([], "text", "KV GET_BULK failed: 400 You must request a minimum of 1 key"),
        (["k"] * 101, "text", "KV GET_BULK failed: 400 You can request a maximum of 100 keys"),
        (["k"], "arrayBuffer", '400 "arrayBuffer" is not a valid type. Use "json" or "text"'),
        (["k"], "stream", '400 "stream" is not a valid type. Use "json" or "text"'),
        (["k"], "json", "400 At least one of the requested keys corresponds to a non-json value"),
    ],
)
async def test_a_bad_bulk_get_is_refused(
    kv: KVNamespace, keys: list[str], kind: Any, message: str
) -> None:
    await kv.put("k", "not json")
    for call in (kv.get, kv.get_with_metadata):
        with pytest.raises(ValueError) as caught:
            await call(keys, kind)
        assert message in str(caught.value)


async def test_a_bulk_get_may_have_100_keys_and_25_mib(kv: KVNamespace) -> None:
    assert len(await kv.get([f"k{i}" for i in range(100)])) == 100
    await kv.put("a", bytes(13 * MIB))
    await kv.put("b", bytes(12 * MIB))
    assert len((await kv.get(["a", "b"]))["a"]) == 13 * MIB
    await kv.put("c", "x")
    with pytest.raises(ValueError, match="413 Total size of request exceeds the limit of 25MB"):
        await kv.get(["a", "b", "c"])


# -- expiry ------------------------------------------------------------------------------------


async def test_a_key_is_gone_in_the_very_second_of_its_expiration(
    kv: KVNamespace, clock: ManualClock
) -> None:
    await kv.put("ttl", "1", expiration_ttl=60)
    await kv.put("until", "2", expiration=NOW + 60)
    assert [key.expiration for key in (await kv.list()).keys] == [NOW + 60, NOW + 60]
    clock.set((NOW + 60) * 1000 - 1)
    assert await kv.get("ttl") == "1"
    clock.set((NOW + 60) * 1000)
    for key in ("ttl", "until"):
        assert await kv.get(key) is None
        assert await kv.get_with_metadata(key) == KVValue(None, None)
    assert await kv.get(["ttl", "until"]) == {"ttl": None, "until": None}
    assert await kv.list() == KVList([], True, None)


async def test_the_time_to_live_wins_over_the_expiration(kv: KVNamespace) -> None:
    await kv.put("key", "value", expiration=NOW + 7200, expiration_ttl=100)
    assert (await kv.list()).keys[0].expiration == NOW + 100


async def test_expired_keys_are_removed_in_the_background(
    state: State, kv: KVNamespace, clock: ManualClock
) -> None:
    await kv.put_many({"key": f"k{i}", "value": "", "expiration_ttl": 60} for i in range(1200))
    await kv.put("later", "", expiration_ttl=120)
    await kv.put("forever", "")
    await clock.advance(seconds=61)
    assert sorted(row[1] for row in await rows(state)) == ["forever", "later"]
    await clock.advance(seconds=60)
    assert [row[1] for row in await rows(state)] == ["forever"]


async def test_keys_that_expired_while_nobody_was_there_are_removed_after_opening(
    directory: Any, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
    clock.set(clock.now() + 3_600_000)
    async with bunflare.open(directory, clock=clock) as state:
        await clock.advance(milliseconds=1)
        assert await rows(state) == []


@pytest.mark.parametrize(
    "sql",
    [store._NEXT_EXPIRATION, store._REMOVE_EXPIRED.replace("LIMIT ?", "LIMIT 5")],
)
def test_no_key_that_does_not_expire_is_looked_at_for_it(tmp_path: Any, sql: str) -> None:
    database = bunflare.get_database(tmp_path / "plan")
    plan = database.view.all(f"EXPLAIN QUERY PLAN {sql}", (0,) if "?" in sql else ())
    text = " ".join(str(row[3]) for row in plan)
    assert "bunflare_kv_expiring" in text
    assert "SCAN kv USING INDEX sqlite_autoindex" not in text


# -- list --------------------------------------------------------------------------------------


async def names(kv: KVNamespace, **options: Any) -> list[str]:
    return [key.name for key in (await kv.list(**options)).keys]


async def test_keys_are_listed_in_the_order_of_their_bytes(kv: KVNamespace) -> None:
    keys = ["a", "B", "é", "\uffff", "🙂", "a\0", "aa", "\ud7ff", "\ue000", "\U0010ffff", "~", "%"]
    for key in keys:
        await kv.put(key, "")
    assert await names(kv) == sorted(keys, key=str.encode)


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("a%", ["a%", "a%b"], ["ab", "a", "axx"]),
        ("a_", ["a_", "a_b"], ["ab", "axb"]),
        ("Ab", ["Ab", "Abc"], ["ab", "AB", "abc"]),
        ("\uffff", ["\uffff", "\uffffx"], ["\ufffe", "\U00010000"]),
        ("\ud7ff", ["\ud7ff", "\ud7ffx"], ["\ue000"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffff\U0010ffff"], ["\U0010fffe"]),
        ("a\U0010ffff", ["a\U0010ffff", "a\U0010ffffz"], ["b", "a"]),
        ("🙂", ["🙂", "🙂x"], ["🙃", "🙁"]),
        ("a\0", ["a\0", "a\0b"], ["a", "a\x01"]),
        (".", [".x", "..."], ["/"]),
    ],
)
async def test_a_prefix_is_taken_literally(
    kv: KVNamespace, prefix: str, inside: list[str], outside: list[str]
) -> None:
    for key in inside + outside:
        await kv.put(key, "")
    assert await names(kv, prefix=prefix) == sorted(inside, key=str.encode)


async def test_a_page_says_whether_it_is_the_last(kv: KVNamespace) -> None:
    await kv.put_many({"key": f"k{i:04}", "value": ""} for i in range(1001))
    page = await kv.list()
    assert (len(page.keys), page.list_complete, page.cache_status) == (1000, False, None)
    rest = await kv.list(cursor=page.cursor)
    assert ([key.name for key in rest.keys], rest.list_complete) == (["k1000"], True)
    assert rest.cursor is None
    exact = await kv.list(prefix="k00", limit=100)
    assert (len(exact.keys), exact.list_complete, exact.cursor) == (100, True, None)
    assert [key.name async for key in kv.scan()] == [f"k{i:04}" for i in range(1001)]
    assert [key.name async for key in kv.scan("k100")] == ["k1000"]


@pytest.mark.parametrize("limit", [0, -1, None])
async def test_a_limit_that_is_not_positive_is_the_default(kv: KVNamespace, limit: Any) -> None:
    await kv.put_many({"key": f"k{i}", "value": ""} for i in range(3))
    assert len(await names(kv, limit=limit)) == 3


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"limit": 1001}, ValueError, "400 Invalid key_count_limit of 1001. Please specify an"),
        ({"limit": "5"}, TypeError, "limit"),
        ({"prefix": "k" * 513}, ValueError, "414 UTF-8 encoded length of 513"),
        ({"prefix": 5}, TypeError, "prefix"),
        ({"cursor": "not a cursor!"}, ValueError, "400 Invalid cursor"),
        ({"cursor": "_w"}, ValueError, "400 Invalid cursor"),
        ({"cursor": 5}, TypeError, "cursor"),
    ],
)
async def test_a_bad_listing_is_refused(
    kv: KVNamespace, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        await kv.list(**options)


async def test_pages_stay_right_while_keys_come_and_go(kv: KVNamespace) -> None:
    await kv.put_many({"key": f"k{i}", "value": ""} for i in range(10))
    page = await kv.list(limit=5)
    assert page.cursor is not None
    assert "k4" not in page.cursor
    await kv.delete("k4")  # the very key where the page ended
    await kv.delete("k6")
    await kv.put("k3a", "")  # before the end: not seen any more
    await kv.put("k4a", "")  # behind it: seen
    rest = await names(kv, cursor=page.cursor)
    assert rest == ["k4a", "k5", "k7", "k8", "k9"]
    assert await names(kv, cursor=page.cursor, prefix="k7") == ["k7"]
    assert await names(kv, cursor="") == await names(kv)


async def test_listing_does_not_walk_through_large_values(state: State, kv: KVNamespace) -> None:
    await kv.put("large", bytes(3 * MIB), metadata={"size": "large"}, expiration_ttl=60)
    await kv.put("small", "x", metadata={"size": "small"})
    page = await kv.list()
    assert page.keys == [
        KVKey("large", NOW + 60, {"size": "large"}),
        KVKey("small", None, {"size": "small"}),
    ]
    parameters = ("TEST", "", b"", NOW, 1001)
    plan = state.database.view.all(f"EXPLAIN QUERY PLAN {store._LIST_WITH_LARGE}", parameters)
    text = [str(row[3]) for row in plan]
    assert any("MERGE" in line for line in text)
    assert any(
        "COVERING INDEX bunflare_kv_large" in line or "bunflare_kv_large" in line for line in text
    )
    assert not any("TEMP B-TREE" in line for line in text)


async def test_limits_are_parameters(state: State) -> None:
    kv = KVNamespace(state.database, "SMALL", limits=KVLimits(value_size=3))
    await kv.put("key", "abc")
    with pytest.raises(ValueError, match="limit of 3"):
        await kv.put("key", "abcd")


# -- transactions ------------------------------------------------------------------------------


async def test_writes_of_a_transaction_become_visible_together(state: State) -> None:
    async with state.transaction() as tx:
        await tx.kv("A").put("key", "new", metadata=1, expiration_ttl=60)
        await tx.kv("B").put("key", "new")
        assert await tx.kv("A").get("key") == "new"
        assert [key.name for key in (await tx.kv("B").list()).keys] == ["key"]
        assert await state.kv("A").get("key") is None
    assert await state.kv("A").get_with_metadata("key") == KVValue("new", 1)
    assert await state.kv("B").get("key") == "new"


async def test_an_exception_undoes_a_transaction(state: State) -> None:
    await state.kv("A").put("key", "old")
    assert await state.kv("A").get("key") == "old"
    with pytest.raises(ZeroDivisionError):
        async with state.transaction() as tx:
            await tx.kv("A").put("key", "new")
            await tx.kv("A").put("other", "new")
            raise ZeroDivisionError
    assert await state.kv("A").get("key") == "old"
    assert await state.kv("A").get("other") is None


async def test_a_refused_write_leaves_the_transaction_going(state: State) -> None:
    async with state.transaction() as tx:
        await tx.kv("A").put("key", "1")
        with pytest.raises(ValueError):
            await tx.kv("A").put("k" * 600, "2")
    assert await state.kv("A").get("key") == "1"
