"""Values that V8 has serialized, as Python's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import v8serialize
from v8serialize.jstypes import JSMap, JSObject, JSSet, JSUndefined

from bunflare.errors import StoredError, ValueCorrupt
from bunflare.v8 import reader
from bunflare.values import dumps, loads


def read(value: Any) -> Any:
    return reader()(bytes(v8serialize.dumps(value)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (JSUndefined, None),
        (2**60, 2**60),
        (-0.5, -0.5),
        ("grüße 🎉", "grüße 🎉"),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (JSObject(a=JSObject(b=1)), {"a": {"b": 1}}),
        (JSObject({"0": "a", "x": "b"}), {"0": "a", "x": "b"}),
        (JSMap([(1, "one"), ("k", JSSet([1, 2]))]), {1: "one", "k": {1, 2}}),
    ],
)
def test_values_come_over_and_can_be_stored(value: object, expected: object) -> None:
    found = read(value)
    assert found == expected
    assert loads(dumps(found)) == expected


def test_an_error_keeps_its_name() -> None:
    found = read(ValueError("wrong"))
    assert isinstance(found, StoredError)
    assert (found.name, found.message) == ("Error", "ValueError: wrong")


@pytest.mark.parametrize(
    "value",
    [JSMap([(JSObject(a=1), "value")]), JSSet([JSObject(a=1)])],
    ids=["a key of a Map", "an item of a Set"],
)
def test_what_python_has_nothing_for_is_refused(value: object) -> None:
    with pytest.raises(ValueCorrupt, match="an object as the key"):
        read(value)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\x0f", b"\xff\x0fo\x22", b"nonsense" * 9])
def test_what_is_no_such_value_is_refused(data: bytes) -> None:
    with pytest.raises(ValueCorrupt, match="cannot be read"):
        reader()(data)
