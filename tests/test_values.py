"""Values survive storage exactly, and what JSON can say is plain JSON."""

from __future__ import annotations

import enum
import fractions
import json
import math
import re
import types
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bunflare
from bunflare import values
from bunflare.quick_json import TAG
from bunflare.values import dumps, loads

MOST = 2**53 - 1
PAIR = "\ud83d" + "\ude00"  # two lone surrogates; their escapes, side by side, are one character
BERLIN = ZoneInfo("Europe/Berlin")

TEXT = st.text(st.characters(exclude_categories=[])) | st.sampled_from([TAG, PAIR, PAIR * 2])
ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, minutes=30)), timezone(timedelta(seconds=1)), BERLIN]
)
PLAIN_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MOST, MOST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
HASHABLE = (
    PLAIN_SCALARS
    | st.integers()
    | st.sampled_from([MOST + 1, -MOST - 1, 10**700, math.inf, -math.inf, math.nan, -0.0, 1.0])
    | TEXT
    | st.binary(max_size=10)
    | st.dates()
    | st.times(timezones=st.none() | st.just(UTC))
    | st.timedeltas()
    | st.datetimes(timezones=ZONES)
)
SCALARS = (
    HASHABLE
    | st.binary(max_size=10).map(bytearray)
    | st.sampled_from([re.compile("a.b", re.IGNORECASE), re.compile(b"x"), re.compile(PAIR)])
    | st.builds(ValueError, HASHABLE)
    | st.builds(OSError, st.just(2), st.text(), st.text() | st.none())
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
        | st.builds(KeyError, inner)
    ),
    max_leaves=15,
)
PLAIN = st.recursive(
    PLAIN_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text().filter(lambda key: key != TAG), inner, max_size=4)
    ),
    max_leaves=15,
)
KINDS = re.findall("``([a-z]+)``", str(values.__doc__))  # of the table, and a few words more
TAGGED = st.recursive(  # like what we write, and mostly wrong
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "1", "nan", "YQ==", "2026-01-01", "list", "set", "ValueError", "a+"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([TAG, "a"]), inner, max_size=2)
        | st.tuples(st.sampled_from(KINDS), inner).map(lambda tag: {TAG: [*tag]})
        | st.tuples(st.sampled_from(KINDS), inner, inner).map(lambda tag: {TAG: [*tag]})
    ),
    max_leaves=10,
)


def same(a: Any, b: Any, met: dict[int, Any] | None = None) -> bool:
    """Equal, of the same types all through, and one thing where the other is one thing."""
    if type(a) is not type(b):
        return False
    met = {} if met is None else met
    if isinstance(a, list | dict | set | bytearray | Exception):
        if id(a) in met or id(b) in met:
            return met.get(id(a)) is b and met.get(id(b)) is a
        met[id(a)], met[id(b)] = b, a
    if isinstance(a, Exception):
        return same(a.__reduce__()[1], b.__reduce__()[1], met)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, met) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y, met) and same(v, w, met)
            for (x, v), (y, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, set | frozenset):
        rest = list(b)
        for x in a:
            found = next((index for index, y in enumerate(rest) if same(x, y, {**met})), None)
            if found is None:
                return False
            del rest[found]
        return not rest
    if isinstance(a, datetime):
        return bool(a == b) and a.utcoffset() == b.utcoffset() and a.fold == b.fold
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
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert same(json.loads(text), value)
    assert same(loads(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (MOST, "9007199254740991"),
        (MOST + 1, '{"$bunflare":["int","9007199254740992"]}'),
        (-MOST - 1, '{"$bunflare":["int","-9007199254740992"]}'),
        ("é\x00", '"é\\u0000"'),
        ("\ud800é", '"\\ud800\\u00e9"'),
        (PAIR, '{"$bunflare":["str",["\\ud83d","\\ude00"]]}'),
        (b"a", '{"$bunflare":["bytes","YQ=="]}'),
        ({1: 2}, '{"$bunflare":["map",[[1,2]]]}'),
        ({"a": (1,)}, '{"a":{"$bunflare":["tuple",[1]]}}'),
        ({"ü": "\n", "b": -1, "c": True, "d": None}, '{"ü":"\\n","b":-1,"c":true,"d":null}'),
        (
            {str(n): n for n in range(99)},
            json.dumps({str(n): n for n in range(99)}, separators=(",", ":")),
        ),
        ({"a": MOST + 1}, '{"a":{"$bunflare":["int","9007199254740992"]}}'),
        ({"a": "x", 1: "y"}, '{"$bunflare":["map",[["a","x"],[1,"y"]]]}'),
        ({"a": "\ud800"}, '{"a":"\\ud800"}'),
        ({"a": PAIR}, '{"a":{"$bunflare":["str",["\\ud83d","\\ude00"]]}}'),
        (
            datetime(2026, 7, 1, tzinfo=BERLIN),
            '{"$bunflare":["datetime","2026-07-01T00:00:00+02:00","Europe/Berlin",0]}',
        ),
    ],
)
def test_what_is_written(value: Any, text: str) -> None:
    assert dumps(value) == text
    assert same(loads(text), value)


@given(PLAIN)
def test_json_of_other_programs_is_read_as_it_is(value: Any) -> None:
    assert same(loads(json.dumps(value, indent=1)), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12345678901234567890", 12345678901234567890),
        ("1e400", math.inf),
        ("NaN", math.nan),
        ("-Infinity", -math.inf),
        ("1.0", 1.0),
        ("1", 1),
        (' { "a" : [ 1 ] } ', {"a": [1]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('"$bunflare"', TAG),
        ('["$bunflare"]', [TAG]),
        ('{"a": "$bunflare", "$bunflar": 1, "$Bunflare": ["int", "1"]}', None),
        ('"\\ud800"', "\ud800"),
        ('"\\ud83d\\ude00"', "😀"),
        (b'"\xc3\xa9"', "é"),
        (b"[1]", [1]),
    ],
)
def test_texts_of_other_programs(text: str | bytes, value: Any) -> None:
    assert same(loads(text), json.loads(text) if value is None else value)


@pytest.mark.parametrize(
    "value",
    [
        {TAG: 1},
        {TAG: ["int", "5"]},
        {TAG: ["ref", 0]},
        {TAG: ["map", []]},
        {TAG: {TAG: {TAG: []}}},
        {"a": {TAG: None, "b": 2}},
        {1: {TAG: ["int", "5"]}, TAG: {TAG: b""}},
        [{TAG: ["bytes", ""]}, b""],
        ({TAG: [{TAG: ["tuple", []]}]},),
    ],
)
def test_a_dict_that_looks_like_a_tag_is_itself(value: Any) -> None:
    assert same(loads(dumps(value)), value)
    assert same(loads(dumps(loads(dumps(value)))), value)


@given(TAGGED)
def test_a_text_of_ours_is_a_value_like_any_other(value: Any) -> None:
    assert same(loads(dumps(value)), value)
    assert loads(dumps(dumps(value))) == dumps(value)


def test_what_occurs_twice_is_one_thing_again() -> None:
    shared: list[Any] = [1]
    found = loads(dumps({"a": shared, "b": shared, "c": [shared]}))
    assert found == {"a": [1], "b": [1], "c": [[1]]}
    assert found["a"] is found["b"] is found["c"][0]
    error = ValueError(shared)
    things: list[Any] = [[], {}, {1: "a"}, set(), {1, 2}, bytearray(b"x"), (shared,), error]
    for thing in things:
        pair = loads(dumps([thing, {"k": thing}, thing]))
        assert same(pair[0], loads(dumps(thing)))
        assert pair[0] is pair[1]["k"] is pair[2]
    pair = loads(dumps([(shared,), (shared, 1)]))
    assert pair[0][0] is pair[1][0]
    pair = loads(dumps([error, shared]))
    assert pair[0].args[0] is pair[1]


def test_equal_scalars_are_not_taken_for_shared_containers() -> None:
    text, numbers = "the very same str", (1, 2)
    assert TAG not in dumps([text, text, {"a": text}])
    assert dumps([numbers, numbers, (), ()]).count('"tuple"') == 4


def test_sharing_does_not_multiply_the_text() -> None:
    value: Any = (1,)
    for _ in range(40):
        value = (value, value)
    assert len(dumps(value)) < 10_000
    within: list[Any] = []
    value = (within,)
    for _ in range(30):
        value = (value, value)
    within.append(value)
    text = dumps(value)
    assert len(text) < 20_000
    found = loads(text)
    assert found[0] is found[1]


def test_cycles_come_back() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    tree: dict[str, Any] = {"children": []}
    tree["children"].append({"parent": tree})
    keyed: dict[Any, Any] = {}
    keyed[1] = keyed
    holder: set[Any] = set()
    holder.add(ValueError(holder))
    inside: list[Any] = []
    inside.append((inside, frozenset([ValueError(inside)])))
    for value in (loop, tree, keyed, inside, [loop, tree, loop]):
        assert same(loads(dumps(value)), value)
    found = loads(dumps(holder))
    assert next(iter(found)).args[0] is found


def test_a_tuple_or_an_error_within_itself_is_copied_once() -> None:
    inner: list[Any] = []
    outer = (inner,)
    inner.append(outer)
    found = loads(dumps(outer))
    assert type(found) is type(found[0][0]) is tuple
    assert found[0][0][0] is found[0]
    pair = loads(dumps([outer, outer]))
    assert pair[0] is pair[1]
    error = ValueError(inner)
    inner.append(error)
    found = loads(dumps(error))
    assert type(found.args[0][1]) is ValueError
    assert found.args[0][1].args[0] is found.args[0]


def test_an_error_within_itself_and_nothing_else_is_refused() -> None:
    error = ValueError()
    error.args = (error,)
    with pytest.raises(bunflare.ValueNotSerializable, match="too deeply"):
        dumps(error)


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """Lists and dicts that hold each other in any way, also by way of tuples and errors."""
    nodes: list[Any] = draw(st.lists(st.sampled_from([list, dict]), min_size=1, max_size=5))
    nodes = [kind() for kind in nodes]
    wrap = st.sampled_from([lambda x: x, lambda x: (x, 1), lambda x: {"in": x}, ValueError])
    edges = st.tuples(st.sampled_from(nodes), st.sampled_from(nodes), wrap)
    for source, target, wrapped in draw(st.lists(edges, max_size=10)):
        if isinstance(source, list):
            source.append(wrapped(target))
        else:
            source[len(source) if len(source) % 2 else str(len(source))] = wrapped(target)
    return nodes


@given(graphs())
def test_any_graph_comes_back(value: Any) -> None:
    assert same(loads(dumps(value)), value)
    assert same(loads(dumps(value[0])), value[0])


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Bits(enum.IntFlag):
    A = 1


class Word(enum.StrEnum):
    A = "a"


class OldWord(str, enum.Enum):  # noqa: UP042 - its `__str__` is not its value
    A = "a"


class Real(float):
    def __repr__(self) -> str:
        return "real"


class Odd(list[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([9])


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ([Number.ONE, Bits.A, Word.A, OldWord.A, Real(2.5)], [1, 1, "a", "a", 2.5]),
        ({Word.A: 1, OldWord.A.value * 2: 2}, {"a": 1, "aa": 2}),
        ({Number.ONE: 1}, {1: 1}),
        (Point(1, 2), (1, 2)),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Odd([1, 2]), [1, 2]),
        (memoryview(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
    ],
)
def test_subclasses_are_stored_as_what_they_derive_from(value: Any, stored: Any) -> None:
    assert same(loads(dumps(value)), stored)


def test_str_keys_of_a_subclass_are_plain_json() -> None:
    assert dumps({Word.A: 1}) == '{"a":1}'


class MyError(Exception):
    pass


OtherValueError = type("ValueError", (Exception,), {})


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 5),
        KeyError("k"),
        OSError(2, "missing"),
        OSError(2, "missing", "a file"),
        OSError(17, "exists", "a", None, "b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
        ExceptionGroup("several", [ValueError(1), TypeError()]),
        StopIteration(5),
        Exception(),
        ValueError(b"\x00", (1, 2)),
    ],
)
def test_an_error_of_python_comes_back(error: Exception) -> None:
    found = loads(dumps({"error": error}))["error"]
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert repr(found) == repr(error)


@pytest.mark.parametrize("error", [MyError("what"), MyError("what", 5), OtherValueError("what")])
def test_any_other_error_comes_back_by_its_name(error: Exception) -> None:
    for _ in range(2):
        found = loads(dumps([error]))[0]
        assert type(found) is bunflare.StoredError
        name = error.name if isinstance(error, bunflare.StoredError) else type(error).__name__
        message = error.message if isinstance(error, bunflare.StoredError) else str(error)
        assert (found.name, found.message) == (name, message)
        error = found


def test_of_an_argument_that_cannot_be_stored_the_message_stays() -> None:
    shared: list[Any] = [1]
    error = RuntimeError(shared, Colour.RED)
    value = [error, shared, shared, error]
    found = loads(dumps(value))
    assert type(found[0]) is RuntimeError
    assert str(found[0]) == str(error)
    assert found[0] is found[3]
    assert found[1] == [1]
    assert found[1] is found[2]


def test_an_error_that_this_python_cannot_make_comes_back_by_its_name() -> None:
    for name in ("ErrorOfTomorrow", "SystemExit", "UnicodeDecodeError"):
        found = loads(json.dumps({TAG: ["exception", name, ["what", 5]]}))
        assert type(found) is bunflare.StoredError
        assert (found.name, found.message) == (name, "what, 5")
    unmakeable = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte")
    unmakeable.args = ()
    assert loads(dumps(unmakeable)).name == "UnicodeDecodeError"


def test_a_pattern_is_read_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    loud = re.compile("(?x) a b", re.DEBUG | re.IGNORECASE)
    capsys.readouterr()
    assert same(loads(dumps(loud)), re.compile("(?x) a b", re.IGNORECASE))
    assert capsys.readouterr().out == ""


def test_a_fold_of_time_comes_back() -> None:
    for zone in (None, BERLIN):
        moment = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone)
        assert same(loads(dumps(moment)), moment)
    assert loads(dumps(time(2, 30, fold=1))).fold == 1


class Plus5(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=5)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "plus five"


def test_a_zone_comes_back_by_its_name_or_its_offset() -> None:
    zoned = loads(dumps(datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))))
    assert zoned.tzinfo is ZoneInfo("Asia/Tokyo")
    own = datetime(2026, 1, 1, tzinfo=Plus5())
    assert loads(dumps(own)).isoformat() == "2026-01-01T00:00:00+05:00"


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("Mars/Olympus", "+02:00"), ("Europe", "+01:00"), ("Europe/Berlin", "+07:00")],
)
def test_a_zone_that_is_unknown_or_has_changed_leaves_the_moment(zone: str, offset: str) -> None:
    text = json.dumps({TAG: ["datetime", f"2026-01-01T00:00:00{offset}", zone, 0]})
    assert loads(text).isoformat() == f"2026-01-01T00:00:00{offset}"
    assert isinstance(loads(text).tzinfo, timezone)


async def coroutine() -> None:
    pass


running = coroutine()
running.close()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (lambda: None, "function"),
        (len, "builtin_function_or_method"),
        ("".join, "builtin_function_or_method"),
        (MyError().with_traceback, "builtin_function_or_method"),
        (running, "coroutine"),
        ((i for i in (1, 2)), "generator"),
        (iter([]), "list_iterator"),
        ({}.keys(), "dict_keys"),
        (object(), "object"),
        (types.SimpleNamespace(a=1), "SimpleNamespace"),
        (types.MappingProxyType({}), "mappingproxy"),
        (Mock(spec=dict), "Mock"),
        (json, "module"),
        (int, "type"),
        (MyError, "type"),
        (Colour.RED, "Colour"),
        (1j, "complex"),
        (Decimal(1), "Decimal"),
        (fractions.Fraction(1, 2), "Fraction"),
        (uuid.UUID(int=0), "UUID"),
        (range(3), "range"),
        (..., "ellipsis"),
        (NotImplemented, "NotImplementedType"),
        (UTC, "timezone"),
        (BERLIN, "ZoneInfo"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (time(1, tzinfo=BERLIN), "time with a time zone"),
    ],
)
def test_what_cannot_be_cloned_is_refused(value: Any, kind: str) -> None:
    for inside, where in (
        (value, ""),
        ({"a": [0, {"b": value}]}, ' (at value["a"][1]["b"])'),
        ({'"é': ({1: value},)}, ' (at value["\\"é"][0][1])'),
    ):
        with pytest.raises(TypeError) as caught:
            dumps(inside)
        assert isinstance(caught.value, bunflare.ValueNotSerializable)
        assert str(caught.value) == (
            f'Could not serialize object of type "{kind}". '
            f"This type does not support serialization.{where}"
        )


def test_a_key_that_cannot_be_cloned_is_refused() -> None:
    with pytest.raises(bunflare.ValueNotSerializable, match=re.escape("(at value[0][1j])")):
        dumps([{1j: 1}])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        "[1] 2",
        b"\xff",
        b"\xff\xfe1\x00",
        "1" * 5_000,
        '{"$bunflare": 5}',
        '{"$bunflare": "int"}',
        '{"$bunflare": []}',
        '{"$bunflare": ["unknown", 1]}',
        '{"$bunflare": [["int"], 1]}',
        '{"$bunflare": ["int", "x"]}',
        '{"$bunflare": ["int", 1.5]}',
        '{"$bunflare": ["int"]}',
        '{"$bunflare": ["int", "1", "2"]}',
        '{"$bunflare": ["int", "1"], "b": 2}',
        '{"$bunflare": ["float", "1.5"]}',
        '{"$bunflare": ["str", "ab"]}',
        '{"$bunflare": ["str", [1]]}',
        '{"$bunflare": ["bytes", "***"]}',
        '{"$bunflare": ["bytes", 5]}',
        '{"$bunflare": ["tuple", "ab"]}',
        '{"$bunflare": ["set", "ab"]}',
        '{"$bunflare": ["set", [[]]]}',
        '{"$bunflare": ["map", {"a": 1}]}',
        '{"$bunflare": ["map", [[[], 1]]]}',
        '{"$bunflare": ["map", [[1]]]}',
        '{"$bunflare": ["ref", 7]}',
        '{"$bunflare": ["ref", 7, "list"]}',
        '{"$bunflare": ["ref", 7, "tuple"]}',
        '{"$bunflare": ["def", 0, {"a": {"$bunflare": ["ref", 0, "list"]}}]}',
        '{"$bunflare": ["def", [], 1]}',
        '{"$bunflare": ["datetime", "yesterday", null, 0]}',
        '{"$bunflare": ["datetime", "2026-01-01T00:00:00+01:00", "../etc/passwd", 0]}',
        '{"$bunflare": ["datetime", "2026-01-01T00:00:00", null, 2]}',
        '{"$bunflare": ["date", 5]}',
        '{"$bunflare": ["timedelta"]}',
        '{"$bunflare": ["timedelta", 1e10, 0, 0]}',
        '{"$bunflare": ["exception", 5, []]}',
        '{"$bunflare": ["error", "A", 5]}',
        '{"$bunflare": ["regexp", "(", 0]}',
        '{"$bunflare": ["regexp", "a{99999999999}", 0]}',
        '{"$bunflare": ["regexp", "a", 128]}',
        '{"$bunflare": ["regexp", "a", "i"]}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '["$bunflare",' + "[" * 100_000,
    ],
)
def test_what_nobody_could_have_stored_is_refused(text: str | bytes) -> None:
    with pytest.raises(bunflare.ValueCorrupt, match="stored text"):
        loads(text)


@given(TAGGED)
def test_a_wrong_tag_is_refused_and_nothing_worse(value: Any) -> None:
    try:
        found = loads(json.dumps(value))
    except bunflare.ValueCorrupt:
        return
    assert TAG in json.dumps(value) or same(found, value)
    dumps(found)


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_any_other_text_is_refused_and_nothing_worse(text: str | bytes) -> None:
    try:
        loads(text)
    except bunflare.ValueCorrupt:
        return


def nested(kind: Any, levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = kind(value)
    return value


def from_a_deep_stack(text: str, frames: int) -> Any:
    return from_a_deep_stack(text, frames - 1) if frames else loads(text)


KINDS_OF_NESTING = [lambda x: [x], lambda x: {"a": x}, lambda x: (x,), lambda x: {1: x}]


@pytest.mark.parametrize("kind", KINDS_OF_NESTING)
def test_a_value_that_is_nested_too_deeply_is_refused(kind: Any) -> None:
    for value in (nested(kind, 100_000), (nested(kind, 100_000),)):
        with pytest.raises(bunflare.ValueNotSerializable, match="too deeply"):
            dumps(value)


@pytest.mark.parametrize("kind", KINDS_OF_NESTING)
def test_what_was_stored_can_be_read_from_a_deep_stack(kind: Any) -> None:
    deepest = ""
    for levels in range(0, 500, 3):
        try:
            deepest = dumps(nested(kind, levels))
        except bunflare.ValueNotSerializable:
            break
    else:
        pytest.fail("every depth was stored")
    assert levels > 100
    assert dumps(from_a_deep_stack(deepest, 400)) == deepest


def test_a_date_is_not_taken_for_a_moment() -> None:
    assert same(loads(dumps([date(2026, 1, 1), datetime(2026, 1, 1)]))[0], date(2026, 1, 1))
