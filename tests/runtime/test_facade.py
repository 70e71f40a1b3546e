"""The Worker's edge: both spellings, options in every form, results as the SDK gives them."""

from __future__ import annotations

import gc
import weakref
from datetime import datetime
from typing import Any

import pytest

import bunflare
from bunflare import ManualClock
from bunflare.runtime.facade import D1, KV, R2, BindingFacade, camel, snake
from bunflare.runtime.js_values import to_js
from bunflare.web.objects import JsDict, jsnull


@pytest.fixture
def edge(kv: bunflare.KVNamespace) -> BindingFacade:
    return BindingFacade(kv, KV)


async def test_options_are_keywords_or_one_trailing_dict_or_none(
    edge: BindingFacade, clock: ManualClock
) -> None:
    now = clock.now() // 1000
    await edge.put("a", "1", {"expirationTtl": 60, "metadata": {"m": 1}})
    await edge.put("b", "2", expirationTtl=60, metadata={"m": 2})
    await edge.put("c", "3", expiration_ttl=60)
    await edge.put("d", "4", None)
    listed = await edge.list({"prefix": "", "limit": 10})
    assert listed["keys"] == [
        {"name": "a", "expiration": now + 60, "metadata": {"m": 1}},
        {"name": "b", "expiration": now + 60, "metadata": {"m": 2}},
        {"name": "c", "expiration": now + 60},
        {"name": "d"},
    ]
    assert await edge.get("a", "json") == 1
    assert await edge.get("a", {"type": "json", "cacheTtl": 60}) == 1
    assert await edge.get("a", type="json") == 1
    assert await edge.get("a", None) == "1"


async def test_a_value_is_not_taken_for_options(edge: BindingFacade) -> None:
    with pytest.raises(TypeError, match="KV put"):
        await edge.put("a", {"an": "object"})


async def test_results_are_dicts_whose_keys_are_attributes(edge: BindingFacade) -> None:
    await edge.put("a", "1", {"metadata": {"deep": [{"x": 1}]}})
    found = await edge.getWithMetadata("a")
    assert found == {"value": "1", "metadata": {"deep": [{"x": 1}]}, "cacheStatus": None}
    assert found.metadata.deep[0].x == 1
    assert found.cacheStatus is None
    missing = await edge.get_with_metadata("missing")
    assert (missing.value, missing.metadata) == (None, None)
    page = await edge.list(limit=1)
    assert page.list_complete is True
    assert "cursor" not in page
    assert page.to_py() is page
    assert page["keys"].to_py() == page["keys"]
    assert page["keys"].length == 1
    await edge.put("b", "2")
    assert isinstance((await edge.list(limit=1)).cursor, str)
    many = await edge.get(["a", "missing"])
    assert many == {"a": "1", "missing": None}


async def test_array_buffers_are_memoryviews_and_streams_stay_streams(edge: BindingFacade) -> None:
    await edge.put("a", b"\x00\xff")
    buffer = await edge.get("a", "arrayBuffer")
    assert isinstance(buffer, memoryview)
    assert bytes(buffer) == b"\x00\xff"
    stream = await edge.get("a", "stream")
    assert [bytes(piece) async for piece in stream] == [b"\x00\xff"]
    reader = (await edge.get("a", "stream")).getReader()
    assert (await reader.read()).value.to_bytes() == b"\x00\xff"
    one, other = (await edge.get("a", "stream")).tee()
    assert [bytes(p) async for p in one] == [bytes(p) async for p in other] == [b"\x00\xff"]


async def test_dates_are_local_and_naive_and_know_javascripts_methods(
    state: bunflare.State,
) -> None:
    bucket: Any = BindingFacade(state.r2("bucket"), R2)
    await bucket.put("a", "1")
    [listed] = (await bucket.list()).objects
    moment = listed.uploaded
    assert moment.tzinfo is None
    now = state.clock.now()
    assert moment == datetime.fromtimestamp(now / 1000)
    assert moment.getTime() == now
    assert datetime.fromisoformat(moment.toISOString()).timestamp() * 1000 == now


async def test_what_a_binding_does_not_have_it_does_not_have(edge: BindingFacade) -> None:
    for name in ("nonsense", "_session", "__len__x"):
        with pytest.raises(AttributeError):
            getattr(edge, name)
    assert repr(edge) == "<KVNamespace binding>"


def test_names_have_two_spellings() -> None:
    for one, other in (
        ("getWithMetadata", "get_with_metadata"),
        ("get", "get"),
        ("cacheTtl", "cache_ttl"),
    ):
        assert snake(one) == snake(other) == other
        assert camel(other) == one


def test_a_missing_key_is_a_missing_attribute() -> None:
    value = JsDict(a=1)
    value.b = 2
    assert (value["b"], value.a) == (2, 1)
    with pytest.raises(AttributeError, match="c"):
        _ = value.c


async def test_null_of_javascript_is_none_for_every_binding(state: bunflare.State) -> None:
    database: Any = BindingFacade(state.d1("db"), D1)
    await database.exec("CREATE TABLE t (a, b)")
    insert = database.prepare("INSERT INTO t VALUES (?, ?)")
    # A list that was made for JavaScript has statements in it too.
    await database.batch(to_js([insert.bind(jsnull, 1), insert.bind(2, jsnull)]))
    rows = (await database.prepare("SELECT * FROM t").all()).results
    assert rows == [{"a": None, "b": 1}, {"a": 2, "b": None}]
    edge = BindingFacade(state.kv("ns"), KV)
    await edge.put("key", "value", {"metadata": {"deep": [jsnull, 1]}, "expirationTtl": jsnull})
    assert (await edge.getWithMetadata("key", jsnull)).metadata == {"deep": [None, 1]}


async def test_a_result_ends_with_its_last_use(state: bunflare.State) -> None:
    database: Any = BindingFacade(state.d1("db"), D1)
    statement = database.prepare("SELECT 1 AS one")
    assert (await statement.first()).one == 1
    gone = weakref.ref(statement)
    gc.disable()
    try:
        del statement
        assert gone() is None
    finally:
        gc.enable()
