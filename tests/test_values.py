"""Values survive storage exactly, and what JSON can say is plain JSON."""

from __future__ import annotations

import enum
import json
import math
import re
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare.values import TAG, dumps, loads

TEXT = st.text(st.characters(exclude_categories=[])) | st.just(TAG)  # lone surrogates included
ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, minutes=30)), ZoneInfo("Europe/Berlin")]
)
PLAIN_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
HASHABLE = (
    PLAIN_SCALARS
    | st.integers()
    | st.sampled_from([math.inf, -math.inf, -0.0])
    | TEXT
    | st.binary(max_size=10)
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.datetimes(timezones=ZONES)
)
SCALARS = (
    HASHABLE
    | st.just(math.nan)
    | st.binary(max_size=10).map(bytearray)
    | st.sampled_from([re.compile("a.b", re.IGNORECASE), re.compile(b"x")])
)
KEYS = st.recursive(
    HASHABLE,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(KEYS, max_size=3)
        | st.frozensets(KEYS, max_size=3)
    ),
    max_leaves=15,
)
PLAIN = st.recursive(
    PLAIN_SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def same(a: Any, b: Any) -> Any:
    """Equal, of the same types all through."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) and same(v, w) for (x, v), (y, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, set | frozenset):
        return a == b and {(type(x), x) for x in a} == {(type(x), x) for x in b}
    if isinstance(a, datetime):
        return a == b and a.utcoffset() == b.utcoffset() and a.fold == b.fold
    return bool(a == b)


@given(VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    text = dumps(value)
    text.encode()  # SQLite stores UTF-8
    assert same(loads(text), value)
    assert same(loads(text.encode()), value)


@given(PLAIN)
def test_what_json_can_say_is_plain_json(value: Any) -> None:
    text = dumps(value)
    assert TAG not in text
    assert same(json.loads(text), value)
    assert same(loads(text), value)


@given(PLAIN)
def test_json_of_other_programs_is_read_as_it_is(value: Any) -> None:
    assert same(loads(json.dumps(value)), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12345678901234567890", 12345678901234567890),
        ("1e400", math.inf),
        ("1.0", 1.0),
        (' { "a" : [ 1 ] } ', {"a": [1]}),
        ('"$bunflare"', TAG),
        ('["$bunflare"]', [TAG]),
        ('"\\ud800"', "\ud800"),
        (b'"\xc3\xa9"', "é"),
    ],
)
def test_texts_of_other_programs(text: str | bytes, value: Any) -> None:
    assert same(loads(text), value)


@pytest.mark.parametrize(
    "value",
    [
        {TAG: 1},
        {TAG: ["int", "5"]},
        {TAG: ["ref", 0]},
        {TAG: {TAG: {TAG: []}}},
        {"a": {TAG: None, "b": 2}},
        [{TAG: ["bytes", ""]}, b""],
    ],
)
def test_a_dict_that_looks_like_a_tag_is_itself(value: Any) -> None:
    assert same(loads(dumps(value)), value)
    assert same(loads(dumps(loads(dumps(value)))), value)


def test_what_occurs_twice_is_one_thing_again() -> None:
    shared: list[Any] = [1]
    found = loads(dumps({"a": shared, "b": shared, "c": [shared]}))
    assert found == {"a": [1], "b": [1], "c": [[1]]}
    assert found["a"] is found["b"] is found["c"][0]
    data = bytearray(b"x")
    pair = loads(dumps([data, data]))
    assert pair[0] is pair[1]
    numbers = {1, 2}
    pair = loads(dumps((numbers, {"k": numbers})))
    assert pair[0] is pair[1]["k"]
    mapping = {1: "a"}
    pair = loads(dumps([mapping, mapping]))
    assert pair == [{1: "a"}, {1: "a"}]
    assert pair[0] is pair[1]


def test_equal_scalars_are_not_taken_for_shared_containers() -> None:
    text = "the very same str"
    assert dumps([text, text, (), ()]) == dumps([text, text]).rstrip("]") + (
        ',{"$bunflare":["tuple",[]]},{"$bunflare":["tuple",[]]}]'
    )


def test_cycles_come_back() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    found = loads(dumps(loop))
    assert found[0] == 1
    assert found[1] is found
    tree: dict[str, Any] = {"children": []}
    tree["children"].append({"parent": tree})
    found = loads(dumps(tree))
    assert found["children"][0]["parent"] is found
    keyed: dict[Any, Any] = {}
    keyed[1] = keyed
    found = loads(dumps(keyed))
    assert found[1] is found
    inside: list[Any] = []
    inside.append((inside,))
    found = loads(dumps(inside))
    assert found[0][0] is found


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


Point = namedtuple("Point", "x y")


class MyError(Exception):
    pass


def test_subclasses_are_stored_as_what_they_derive_from() -> None:
    assert same(loads(dumps([Number.ONE, Word.A, Point(1, 2)])), [1, "a", (1, 2)])
    assert same(loads(dumps(OrderedDict(b=1, a=2))), {"b": 1, "a": 2})
    assert same(loads(dumps(memoryview(b"ab"))), b"ab")


def test_exceptions_come_back() -> None:
    for error in (ValueError("bad", 5), KeyError("k"), OSError(2, "missing"), Exception()):
        found = loads(dumps({"error": error}))["error"]
        assert type(found) is type(error)
        assert found.args == error.args
    found = loads(dumps(MyError("what")))
    assert isinstance(found, bunflare.StoredError)
    assert (found.name, found.message, str(found)) == ("MyError", "what", "MyError: what")
    again = loads(dumps(found))
    assert (again.name, again.message) == ("MyError", "what")


def test_a_fold_of_time_comes_back() -> None:
    for zone in (None, ZoneInfo("Europe/Berlin")):
        moment = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone)
        assert same(loads(dumps(moment)), moment)
    assert loads(dumps(time(2, 30, fold=1))).fold == 1
    zoned = loads(dumps(datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))))
    assert zoned.tzinfo.key == "Asia/Tokyo"


async def coroutine() -> None:
    pass


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: None, "function"),
        (object(), "object"),
        (json, "module"),
        (int, "type"),
        ((i for i in (1, 2)), "generator"),
        (Colour.RED, "Colour"),
        (1j, "complex"),
        (range(3), "range"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_what_cannot_be_cloned_is_refused(value: Any, kind: str) -> None:
    for inside, where in (
        (value, ""),
        ({"a": [0, {"b": value}]}, " (at value['a'][1]['b'])"),
        ((value,), " (at value[0])"),
    ):
        with pytest.raises(TypeError) as caught:
            dumps(inside)
        assert isinstance(caught.value, bunflare.ValueNotSerializable)
        assert str(caught.value) == (
            f'Could not serialize object of type "{kind}". '
            f"This type does not support serialization.{where}"
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        b"\xff",
        '{"$bunflare": 5}',
        '{"$bunflare": []}',
        '{"$bunflare": ["unknown", 1]}',
        '{"$bunflare": ["int", "x"]}',
        '{"$bunflare": ["int"]}',
        '{"$bunflare": ["int", "1"], "b": 2}',
        '{"$bunflare": ["float", "1.5"]}',
        '{"$bunflare": ["bytes", "***"]}',
        '{"$bunflare": ["ref", 7]}',
        '{"$bunflare": ["datetime", "yesterday", null, 0]}',
        '{"$bunflare": ["datetime", "2026-01-01T00:00:00", "No/Where", 0]}',
        '{"$bunflare": ["map", [[[], 1]]]}',
        '{"$bunflare": ["set", [[]]]}',
        '{"$bunflare": ["regexp", "(", 0]}',
        "[" * 100_000,
    ],
)
def test_what_nobody_could_have_stored_is_refused(text: str | bytes) -> None:
    with pytest.raises(bunflare.ValueCorrupt):
        loads(text)


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(bunflare.ValueNotSerializable, match="too deeply"):
        dumps(deep)
    with pytest.raises(bunflare.ValueNotSerializable, match="too deeply"):
        dumps((deep,))
    while deep:  # taken apart by hand: freeing it whole would recurse as deeply
        deep = deep[0]
    assert date.today() <= date.max
