"""Workers KV, line by line of what the platform does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import apsw
import pytest

import bunflare
from bunflare import KVKey, KVList, KVNamespace, KVValue, ManualClock, State
from bunflare.bindings.kv import KVLimits
from bunflare.store import kv as store
from bunflare.store.reader import Reader
from bunflare.store.transaction import Transaction
from tests.support import chores_done

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


@pytest.mark.parametrize("text", ["{not json", "", "NaN", "[Infinity]", "{'a': 1}", "[" * 100_000])
async def test_what_the_platform_cannot_parse_is_refused(kv: KVNamespace, text: str) -> None:
    await kv.put("key", text)
    for call in (kv.get, kv.get_with_metadata):
        with pytest.raises(ValueError):
            await call("key", "json")
    with pytest.raises(bunflare.KVError, match="400 At least one of the requested keys"):
        await kv.get(["key"], "json")
    assert await kv.get("key") == text


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


async def test_an_unknown_type_of_several_keys_is_refused_in_any_case(kv: KVNamespace) -> None:
    with pytest.raises(ValueError, match="is not a valid type"):
        await kv.get(["missing"], "blob")  # type: ignore[arg-type]


async def test_a_value_of_another_program_is_read_whatever_its_column_holds(
    state: State, kv: KVNamespace
) -> None:
    def write(tx: Transaction) -> None:
        tx.run("INSERT INTO kv VALUES ('TEST', 'text', '[1]', '\"m\"', NULL)")
        tx.run("INSERT INTO kv VALUES ('TEST', 'blob', x'5b315d', NULL, NULL)")

    await state.database.write(write)
    for key in ("text", "blob"):
        assert await kv.get(key) == "[1]"
        assert await kv.get(key, "json") == [1]
        assert await kv.get(key, "bytes") == b"[1]"
        assert b"".join([piece async for piece in await kv.get(key, "stream")]) == b"[1]"
    assert await kv.get(["text", "blob"], "json") == {"text": [1], "blob": [1]}


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
    (
        {"metadata": "é" * 512},
        ValueError,
        "KV PUT failed: 413 Metadata length of 1026 exceeds limit of 1024.",
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
    ({"expiration": float("nan")}, ValueError, "400 Invalid expiration of nan."),
    ({"expiration": 10**30}, ValueError, "400 Invalid expiration of 1000000"),
    ({"expiration": "2030-01-01"}, TypeError, "expiration"),
    ({"expiration_ttl": float("inf")}, ValueError, "400 Invalid expiration_ttl of inf."),
    ({"expiration_ttl": 1e300}, ValueError, "400 Invalid expiration_ttl of 1e+300."),
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


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda kv: kv.get("k" * 513), 414),
        (lambda kv: kv.get("key", cache_ttl=1), 400),
        (lambda kv: kv.get([]), 400),
        (lambda kv: kv.put("key", "v", expiration_ttl=1), 400),
        (lambda kv: kv.put("key", "v", metadata="m" * 2000), 413),
        (lambda kv: kv.list(limit=1001), 400),
        (lambda kv: kv.get(""), None),
    ],
)
async def test_a_refusal_carries_the_status_of_the_platform(
    kv: KVNamespace, call: Callable[[KVNamespace], Any], status: int | None
) -> None:
    with pytest.raises(bunflare.KVError) as caught:
        await call(kv)
    assert getattr(caught.value, "status", None) == status


async def test_the_error_of_a_bad_put_is_the_first_in_the_platforms_order(kv: KVNamespace) -> None:
    """Key, expirations, metadata, value: a stream is not even begun when the rest is wrong."""
    begun = False

    async def stream() -> AsyncIterator[bytes]:
        nonlocal begun
        begun = True
        yield b""

    with pytest.raises(TypeError, match="Key name cannot be empty"):
        await kv.put("", stream(), expiration_ttl=1, metadata="m" * 2000)
    with pytest.raises(ValueError, match="expiration_ttl"):
        await kv.put("key", stream(), expiration_ttl=1, metadata="m" * 2000)
    with pytest.raises(ValueError, match="Metadata"):
        await kv.put("key", stream(), metadata="m" * 2000)
    assert not begun


async def test_a_value_may_have_25_mib_also_as_a_stream(kv: KVNamespace) -> None:
    await kv.put("key", chunks(*[bytes(MIB)] * 25))
    assert len(await kv.get("key", "bytes")) == 25 * MIB
    await kv.put("key", bytes(25 * MIB))
    size = 0
    async for piece in await kv.get("key", "stream"):
        size += len(piece)
    assert size == 25 * MIB


async def test_one_byte_more_is_too_much_for_a_stream(kv: KVNamespace) -> None:
    after = False

    async def stream() -> AsyncIterator[bytes]:
        nonlocal after
        for _ in range(25):
            yield bytes(MIB)
        yield b"x"
        after = True

    with pytest.raises(ValueError) as caught:
        await kv.put("key", stream())
    assert str(caught.value) == (
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400."
    )
    assert not after
    assert await kv.get("key") is None


async def test_a_stream_may_give_any_kind_of_bytes_in_pieces_of_any_size(kv: KVNamespace) -> None:
    await kv.put("key", chunks(b"", b"a", bytearray(b"b"), memoryview(b"c"), b"", b"d" * 3))
    assert await kv.get("key") == "abcddd"
    await kv.put("key", chunks())
    assert await kv.get("key") == ""


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


@pytest.mark.parametrize(
    "metadata",
    [{"a": [1, None, "é"]}, "text", 1, 0, False, [], {}, "", "x" * 1022, "é" * 511, "\ud800"],
)
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
    await kv.put_many([])
    await kv.delete_many([])
    await kv.put_many([{"key": "k9", "value": "first"}, {"key": "k9", "value": "last"}])
    assert await kv.get("k9") == "last"


async def test_what_does_not_exist_can_be_deleted(kv: KVNamespace) -> None:
    await kv.delete("missing")
    await kv.put("key", "value")
    await kv.delete("key")
    await kv.delete("key")
    assert await kv.list() == KVList([], True, None)


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


@pytest.mark.parametrize("keys", [5, b"key", None, ["key", 5], ["key", None]])
async def test_what_is_neither_a_key_nor_several_is_refused(kv: KVNamespace, keys: Any) -> None:
    for call in (kv.get, kv.get_with_metadata):
        with pytest.raises(TypeError, match="str"):
            await call(keys)


async def test_a_bulk_get_may_name_a_key_twice_and_take_any_iterable(kv: KVNamespace) -> None:
    await kv.put("a", "1")
    found: Any = await kv.get(key for key in ("a", "b", "a"))  # type: ignore[arg-type]
    assert list(found.items()) == [("a", "1"), ("b", None)]


async def test_a_bulk_get_checks_its_cache_ttl(kv: KVNamespace) -> None:
    with pytest.raises(ValueError, match="KV GET_BULK failed: 400 Invalid cache_ttl of 29"):
        await kv.get(["key"], cache_ttl=29)
    assert await kv.get(["key"], cache_ttl=30) == {"key": None}


async def test_a_bulk_get_may_have_100_keys_and_25_mib(kv: KVNamespace) -> None:
    assert len(await kv.get([f"k{i}" for i in range(100)])) == 100
    await kv.put("a", bytes(13 * MIB))
    await kv.put("b", bytes(12 * MIB))
    assert len((await kv.get(["a", "b"]))["a"]) == 13 * MIB
    await kv.put("c", "x")
    for call in (kv.get, kv.get_with_metadata):
        with pytest.raises(ValueError, match="413 Total size of request exceeds the limit of 25MB"):
            await call(["a", "b", "c"])


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


async def test_a_whole_number_of_seconds_may_be_a_float(kv: KVNamespace) -> None:
    await kv.put("ttl", "", expiration_ttl=60.0)  # type: ignore[arg-type]
    await kv.put("until", "", expiration=NOW + 61.0)  # type: ignore[arg-type]
    listed = [key.expiration for key in (await kv.list()).keys]
    assert listed == [NOW + 60, NOW + 61]
    assert [type(expiration) for expiration in listed] == [int, int]


async def test_a_part_of_a_second_is_not_lost_to_whoever_puts_late_in_it(
    kv: KVNamespace, clock: ManualClock
) -> None:
    clock.set(NOW * 1000 + 999)
    await kv.put("key", "value", expiration_ttl=60)
    assert (await kv.list()).keys[0].expiration == NOW + 60
    await kv.put("key", "value", expiration=NOW + 60)


async def test_an_expired_key_can_be_put_anew_and_deleted(
    kv: KVNamespace, clock: ManualClock
) -> None:
    for key in ("put", "deleted"):
        await kv.put(key, "old", metadata="old", expiration_ttl=60)
    clock.set((NOW + 60) * 1000)
    await kv.delete("deleted")
    await kv.put("put", "new")
    assert await kv.get_with_metadata(["put", "deleted"]) == {
        "put": KVValue("new", None),
        "deleted": KVValue(None, None),
    }


async def test_a_page_is_not_short_of_keys_that_have_expired(
    kv: KVNamespace, clock: ManualClock
) -> None:
    await kv.put_many(
        {"key": f"k{i}", "value": "", "expiration_ttl": 60 if i % 2 else 600} for i in range(10)
    )
    clock.set((NOW + 60) * 1000)
    page = await kv.list(limit=3)
    assert [key.name for key in page.keys] == ["k0", "k2", "k4"]
    rest = await kv.list(limit=2, cursor=page.cursor)
    # Only an expired key is left behind this page, so it is the last one.
    assert [key.name for key in rest.keys] == ["k6", "k8"]
    assert (rest.list_complete, rest.cursor) == (True, None)


async def test_expired_keys_are_removed_in_the_background(
    state: State, kv: KVNamespace, clock: ManualClock
) -> None:
    await kv.put_many({"key": f"k{i}", "value": "", "expiration_ttl": 60} for i in range(1200))
    await kv.put("later", "", expiration_ttl=120)
    await kv.put("forever", "")
    await clock.advance(seconds=61)
    await chores_done(state)
    assert sorted(row[1] for row in await rows(state)) == ["forever", "later"]
    await clock.advance(seconds=60)
    await chores_done(state)
    assert [row[1] for row in await rows(state)] == ["forever"]


async def test_a_key_that_is_put_with_an_earlier_expiration_is_removed_in_time(
    state: State, kv: KVNamespace, clock: ManualClock
) -> None:
    await kv.put("later", "", expiration_ttl=3600)
    async with state.transaction() as tx:
        await tx.kv("TEST").put("earlier", "", expiration_ttl=60)
    await clock.advance(seconds=61)
    await chores_done(state)
    assert [row[1] for row in await rows(state)] == ["later"]


async def test_keys_that_expired_while_nobody_was_there_are_removed_after_opening(
    directory: Any, clock: ManualClock
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.kv("A").put("key", "value", expiration_ttl=60)
    clock.set(clock.now() + 3_600_000)
    async with bunflare.open(directory, clock=clock) as state:
        await clock.advance(milliseconds=1)
        await chores_done(state)
        assert await rows(state) == []


@pytest.mark.parametrize("expiration", ["9e999", "-9e999", "1e300", "'soon'", "-1", "x'00'"])
async def test_strange_expirations_of_other_programs_harm_nobody(
    directory: Any, clock: ManualClock, expiration: str
) -> None:
    async with bunflare.open(directory, clock=clock) as state:
        await state.database.write(
            lambda tx: tx.run(f"INSERT INTO kv VALUES ('A', 'theirs', 'v', NULL, {expiration})")
        )
        await state.kv("A").put("ours", "v", expiration_ttl=60)
    async with bunflare.open(directory, clock=clock) as state:
        kv = state.kv("A")
        past = expiration.startswith("-")
        assert await kv.get("theirs") == (None if past else "v")
        listed = [key.name for key in (await kv.list()).keys]
        assert listed == (["ours"] if past else ["ours", "theirs"])
        # They do not keep others from being removed.
        await clock.advance(seconds=61)
        await chores_done(state)
        left = {row[1] for row in await rows(state)}
        assert left == (set() if past else {"theirs"})


async def plan(state: State, sql: str, *parameters: Any) -> list[str]:
    found = state.database.view.all(f"EXPLAIN QUERY PLAN {sql}", parameters)
    return [str(row[3]) for row in found]


async def test_no_key_that_does_not_expire_is_looked_at_for_it(state: State) -> None:
    assert await plan(state, store._NEXT_EXPIRATION) == [
        "SEARCH kv USING COVERING INDEX bunflare_kv_expiring (expiration>?)"
    ]
    removing = await plan(state, store._REMOVE_EXPIRED, NOW, 500)
    assert not [step for step in removing if step.startswith("SCAN")]
    assert "SEARCH kv USING INDEX bunflare_kv_expiring (expiration>? AND expiration<?)" in removing


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


async def test_a_cursor_is_opaque_text_for_any_key(kv: KVNamespace) -> None:
    keys = sorted(["a", "é\0", "\uffff", "\U0010ffff" * 128, "k" * 512, "\0"], key=str.encode)
    await kv.put_many({"key": key, "value": ""} for key in keys)
    seen: list[str] = []
    cursor: str | None = None
    for _ in keys:
        page = await kv.list(limit=1, cursor=cursor)
        seen += [key.name for key in page.keys]
        cursor = page.cursor
        assert cursor is None or (cursor.isascii() and cursor not in keys)
    assert (seen, cursor) == (keys, None)


async def test_every_prefix_of_a_key_finds_it(kv: KVNamespace) -> None:
    key = "A%_\0\ud7ff\ue000\uffff🙂\U0010ffffb"
    await kv.put(key, "")
    for end in range(len(key) + 1):
        assert await names(kv, prefix=key[:end]) == [key]
        assert await names(kv, prefix=key[:end] + "\x01") == []
    assert await names(kv, prefix=key.lower()) == []
    assert await names(kv, prefix="k" * 512) == []


async def test_listing_does_not_walk_through_large_values(state: State, kv: KVNamespace) -> None:
    await kv.put("large", bytes(3 * MIB), metadata={"size": "large"}, expiration_ttl=60)
    await kv.put("small", "x", metadata={"size": "small"})
    page = await kv.list()
    assert page.keys == [
        KVKey("large", NOW + 60, {"size": "large"}),
        KVKey("small", None, {"size": "small"}),
    ]
    range_ = ("TEST", "", b"")
    steps = await plan(state, store._LIST, *range_, NOW, 1001)
    # Both from indexes that hold all that is asked for, so that no row is read.
    assert len(steps) == 2
    assert "kv USING COVERING INDEX sqlite_autoindex_kv_1 (namespace=? AND key>?" in steps[0]
    assert "described USING COVERING INDEX bunflare_kv_described" in steps[1]


@pytest.mark.parametrize("neighbours", [0, 200])
async def test_listing_reads_few_pages_however_large_the_values_are(
    directory: Any, clock: ManualClock, neighbours: int
) -> None:
    """30 values of 3 MB are 22,000 pages, which a listing must not touch."""
    async with bunflare.open(directory, durability="normal", clock=clock) as state:
        kv = state.kv("A")
        for number in range(30):
            await kv.put(f"large {number:02}", bytes(3 * MIB), metadata=number)
        await kv.put_many({"key": f"small {i:03}", "value": "v"} for i in range(neighbours))
    async with bunflare.open(directory, clock=clock) as state:
        view = state.database.view
        assert isinstance(view, Reader)
        view._connection.execute("PRAGMA mmap_size=0").fetchall()
        before = view._connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]
        page = await state.kv("A").list()
        read = view._connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0] - before
        assert [key.metadata for key in page.keys[:30]] == list(range(30))
        assert len(page.keys) == 30 + neighbours
        assert read < 150


async def test_limits_are_parameters(state: State) -> None:
    limits = KVLimits(
        key_size=10,
        value_size=3,
        metadata_size=5,
        bulk_keys=2,
        bulk_size=4,
        list_keys=2,
        expiration_ttl=5,
        cache_ttl=7,
    )
    kv = KVNamespace(state.database, "SMALL", limits=limits)
    await kv.put("key", "abc", metadata="123", expiration_ttl=5)
    await kv.put("two", "abc")
    for call, message in (
        (lambda: kv.put("key", "abcd"), "limit of 3"),
        (lambda: kv.put("key", "", metadata="1234"), "limit of 5"),
        (lambda: kv.put("key", "", expiration_ttl=4), "at least 5"),
        (lambda: kv.put("k" * 11, ""), "limit of 10"),
        (lambda: kv.get("k" * 11), "limit of 10"),
        (lambda: kv.get("key", cache_ttl=6), "at least 7"),
        (lambda: kv.get(["a", "b", "c"]), "maximum of 2 keys"),
        (lambda: kv.get(["key", "two"]), "exceeds the limit"),
        (lambda: kv.list(limit=3), "limit of 3"),
    ):
        with pytest.raises(ValueError, match=message):
            await call()
    await kv.put("third", "")
    assert len(await names(kv, limit=None)) == 2
    assert [key.name async for key in kv.scan()] == ["key", "third", "two"]


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
