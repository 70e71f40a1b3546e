"""Conditions of R2: which hold for which object, and that put decides them with the write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import bunflare
from bunflare import Headers, ManualClock, R2Bucket, R2Conditional, R2Object, R2ObjectBody
from tests.bindings.r2_tools import beside, chunks, objects_on_disk, opened, read, written

UPLOADED = datetime(2026, 2, 24, 0, 9, 0, 500_000, tzinfo=UTC)
PAST = UPLOADED - timedelta(seconds=30)
FUTURE = UPLOADED + timedelta(seconds=30)
JUST_BEFORE = UPLOADED - timedelta(milliseconds=250)
JUST_AFTER = UPLOADED + timedelta(milliseconds=250)
#: md5 of "value", and of nothing that is stored here.
ETAG = "2063c1608d6e0baf80249c42e2be5804"
OTHER = "0" * 32

#: What a condition says of the object "value" that was uploaded at UPLOADED.
OF_AN_OBJECT: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"etag_matches": ETAG}, True),
    ({"etag_matches": OTHER}, False),
    ({"etag_matches": ETAG.upper()}, False),
    ({"etag_matches": "*"}, True),
    ({"etag_does_not_match": OTHER}, True),
    ({"etag_does_not_match": ETAG}, False),
    ({"etag_does_not_match": "*"}, False),
    ({"uploaded_before": FUTURE}, True),
    ({"uploaded_before": PAST}, False),
    ({"uploaded_before": UPLOADED}, False),
    ({"uploaded_after": PAST}, True),
    ({"uploaded_after": FUTURE}, False),
    ({"uploaded_after": UPLOADED}, False),
    # Milliseconds count, unless they are asked not to.
    ({"uploaded_after": JUST_BEFORE}, True),
    ({"uploaded_after": JUST_BEFORE, "seconds_granularity": True}, False),
    ({"uploaded_after": JUST_BEFORE, "seconds_granularity": False}, True),
    ({"uploaded_before": JUST_AFTER}, True),
    ({"uploaded_before": JUST_AFTER, "seconds_granularity": True}, False),
    ({"uploaded_before": FUTURE, "seconds_granularity": True}, True),
    ({"uploaded_after": PAST, "seconds_granularity": True}, True),
    # All must hold …
    ({"etag_matches": ETAG, "etag_does_not_match": OTHER}, True),
    ({"etag_matches": ETAG, "etag_does_not_match": ETAG}, False),
    ({"etag_matches": OTHER, "etag_does_not_match": OTHER}, False),
    ({"uploaded_after": PAST, "uploaded_before": FUTURE}, True),
    ({"uploaded_after": FUTURE, "uploaded_before": FUTURE}, False),
    ({"etag_matches": ETAG, "uploaded_after": FUTURE}, False),
    ({"etag_does_not_match": OTHER, "uploaded_before": PAST}, False),
    # … but an etag outweighs the date that it is paired with.
    ({"etag_matches": ETAG, "uploaded_before": PAST}, True),
    ({"etag_does_not_match": OTHER, "uploaded_after": FUTURE}, True),
    ({"etag_matches": ETAG, "uploaded_after": FUTURE, "uploaded_before": PAST}, False),
    ({"etag_does_not_match": OTHER, "uploaded_after": FUTURE, "uploaded_before": PAST}, False),
    ({"etag_matches": ETAG, "uploaded_before": PAST, "uploaded_after": PAST}, True),
    (
        {"etag_does_not_match": OTHER, "uploaded_after": FUTURE, "uploaded_before": FUTURE},
        True,
    ),
    (
        {
            "etag_matches": ETAG,
            "uploaded_before": PAST,
            "etag_does_not_match": OTHER,
            "uploaded_after": FUTURE,
        },
        True,
    ),
    (
        {
            "etag_matches": OTHER,
            "etag_does_not_match": OTHER,
            "uploaded_after": PAST,
            "uploaded_before": FUTURE,
        },
        False,
    ),
]

#: What a condition says where there is no object.
OF_NOTHING: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"etag_matches": ETAG}, False),
    ({"etag_matches": "*"}, False),
    ({"uploaded_after": PAST}, False),
    ({"etag_does_not_match": ETAG}, True),
    ({"etag_does_not_match": "*"}, True),
    ({"uploaded_before": PAST}, True),
    ({"etag_matches": ETAG, "uploaded_after": PAST}, False),
    ({"etag_does_not_match": ETAG, "uploaded_before": PAST}, True),
    ({"etag_matches": ETAG, "uploaded_before": PAST}, False),
    ({"etag_does_not_match": ETAG, "uploaded_after": PAST}, False),
]

#: The same as headers, of which the dates know no parts of a second.
BY_HEADERS: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"x-other": "1"}, True),
    ({"if-match": f'"{ETAG}"'}, True),
    ({"if-match": f'"{OTHER}"'}, False),
    ({"if-match": "*"}, True),
    ({"if-match": f'"{OTHER}", "{ETAG}"'}, True),
    ({"if-match": f'"{OTHER}","{OTHER}"'}, False),
    ({"if-match": f'"{OTHER}", , "{ETAG}"'}, True),
    ({"if-match": f'"with, comma", "{ETAG}"'}, True),
    # If-Match wants a strong etag; a weak one is never that.
    ({"if-match": f'W/"{ETAG}"'}, False),
    ({"if-match": f'W/"{ETAG}", "{ETAG}"'}, True),
    ({"if-none-match": f'"{ETAG}"'}, False),
    ({"if-none-match": f'W/"{ETAG}"'}, False),
    ({"if-none-match": f'"{OTHER}"'}, True),
    ({"if-none-match": f'W/"{OTHER}"'}, True),
    ({"if-none-match": f'"{OTHER}", W/"{ETAG}"'}, False),
    ({"if-none-match": "*"}, False),
    ({"if-modified-since": "Tue, 24 Feb 2026 00:08:30 GMT"}, True),
    ({"if-modified-since": "Tue, 24 Feb 2026 00:09:00 GMT"}, False),
    ({"if-modified-since": "Tue, 24 Feb 2026 00:09:30 GMT"}, False),
    ({"if-unmodified-since": "Tue, 24 Feb 2026 00:09:30 GMT"}, True),
    ({"if-unmodified-since": "Tue, 24 Feb 2026 00:09:00 GMT"}, False),
    ({"if-unmodified-since": "Tue, 24 Feb 2026 00:08:30 GMT"}, False),
    ({"if-match": f'"{ETAG}"', "if-unmodified-since": "Tue, 24 Feb 2026 00:08:30 GMT"}, True),
    ({"if-none-match": f'"{OTHER}"', "if-modified-since": "Tue, 24 Feb 2026 00:09:30 GMT"}, True),
]


def camel(conditions: dict[str, Any]) -> dict[str, Any]:
    def name(snake: str) -> str:
        first, *rest = snake.split("_")
        return first + "".join(word.title() for word in rest)

    return {name(key): value for key, value in conditions.items()}


#: A condition as what get and put take.
FORMS: list[Any] = [lambda conditions: R2Conditional(**conditions), dict, camel]


@pytest.fixture
async def stored(bucket: R2Bucket, clock: ManualClock) -> R2Object:
    clock.set(round(UPLOADED.timestamp() * 1000))
    return await written(bucket, "key", "value")


# -- get ---------------------------------------------------------------------------------------


async def test_get_gives_a_body_only_where_the_condition_holds(
    bucket: R2Bucket, stored: R2Object
) -> None:
    assert (stored.etag, stored.uploaded) == (ETAG, UPLOADED)
    for form in FORMS:
        for conditions, holds in OF_AN_OBJECT:
            found = await bucket.get("key", only_if=form(conditions))
            assert isinstance(found, R2Object)
            assert isinstance(found, R2ObjectBody) == holds, (form, conditions)
            if isinstance(found, R2ObjectBody):
                assert await found.text() == "value"
            else:
                # All that a 304 needs, and no body to send by mistake.
                assert (found.key, found.size, found.etag) == ("key", 5, ETAG)
                assert found.version == stored.version
                assert getattr(found, "body", None) is None


async def test_get_takes_the_conditions_of_a_request(bucket: R2Bucket, stored: R2Object) -> None:
    for headers, holds in BY_HEADERS:
        found = await bucket.get("key", only_if=Headers(headers))
        assert isinstance(found, R2ObjectBody) == holds, headers


async def test_a_wildcard_in_a_list_stands_for_all(bucket: R2Bucket, stored: R2Object) -> None:
    found = await bucket.get("key", only_if=Headers({"if-match": f'"{OTHER}", *'}))
    assert isinstance(found, R2ObjectBody)


async def test_get_of_a_missing_object_is_none_whatever_the_condition(bucket: R2Bucket) -> None:
    for conditions, _ in OF_NOTHING:
        assert await bucket.get("missing", only_if=conditions) is None


async def test_a_failed_condition_outweighs_a_range(bucket: R2Bucket, stored: R2Object) -> None:
    found = await bucket.get("key", only_if={"etag_matches": OTHER}, range={"offset": 42})
    assert not isinstance(found, R2ObjectBody)


# -- put ---------------------------------------------------------------------------------------


async def test_put_replaces_only_where_the_condition_holds(
    bucket: R2Bucket, stored: R2Object
) -> None:
    for form in FORMS:
        for conditions, holds in OF_AN_OBJECT:
            before = await written(bucket, "key", "value")
            answer = await bucket.put("key", "new", only_if=form(conditions))
            assert (answer is not None) == holds, (form, conditions)
            assert await read(bucket, "key") == (b"new" if holds else b"value"), conditions
            assert await bucket.head("key") == (answer if holds else before)


async def test_put_of_a_new_key_looks_at_the_condition_too(
    bucket: R2Bucket, directory: Path
) -> None:
    for number, (conditions, holds) in enumerate(OF_NOTHING):
        key = f"new{number}"
        answer = await bucket.put(key, "new", only_if=R2Conditional(**conditions))
        assert (answer is not None) == holds, conditions
        assert await read(bucket, key) == (b"new" if holds else None), conditions
        assert (directory / "r2" / "bucket" / key).exists() == holds, conditions


async def test_put_takes_the_conditions_of_a_request(bucket: R2Bucket, stored: R2Object) -> None:
    for headers, holds in BY_HEADERS:
        await bucket.put("key", "value")
        answer = await bucket.put("key", "new", only_if=Headers(headers))
        assert (answer is not None) == holds, headers
        assert await read(bucket, "key") == (b"new" if holds else b"value"), headers


async def test_a_stream_that_is_not_wanted_is_not_stored(
    bucket: R2Bucket, stored: R2Object
) -> None:
    condition = R2Conditional(etag_does_not_match="*")
    assert await bucket.put("key", chunks(b"n", b"ew"), only_if=condition) is None
    assert await read(bucket, "key") == b"value"


@pytest.mark.parametrize("size", [10, 300_000])
async def test_of_many_that_create_at_once_one_wins(bucket: R2Bucket, size: int) -> None:
    absent = R2Conditional(etag_does_not_match="*")
    answers = await asyncio.gather(
        *(bucket.put("key", bytes([number]) * size, only_if=absent) for number in range(20))
    )
    winners = [number for number, answer in enumerate(answers) if answer is not None]
    assert len(winners) == 1
    assert await read(bucket, "key") == bytes(winners) * size


async def test_no_increment_is_lost_to_a_race(bucket: R2Bucket) -> None:
    await bucket.put("counter", "0")

    async def increment() -> None:
        while True:
            found = await opened(bucket, "counter")
            number = int(await found.text()) + 1
            # Some take the way of streams, which are written in advance.
            value = str(number) if number % 2 else chunks(str(number).encode())
            if await bucket.put("counter", value, only_if={"etag_matches": found.etag}):
                return

    await asyncio.gather(*(increment() for _ in range(20)))
    assert await read(bucket, "counter") == b"20"


async def test_a_condition_is_decided_when_the_value_is_there(bucket: R2Bucket) -> None:
    """The object that the condition meets is the one that would be replaced."""
    first = await written(bucket, "key", "first")
    second: list[R2Object] = []

    async def value() -> Any:
        yield b"third"
        second.append(await written(bucket, "key", "second"))

    assert await bucket.put("key", value(), only_if={"etag_matches": first.etag}) is None
    assert await read(bucket, "key") == b"second"
    assert await bucket.head("key") == second[0]


# -- what is no condition ----------------------------------------------------------------------

QUOTED = "Conditional ETag should not be wrapped in quotes"
WRONG: list[tuple[Any, type[Exception], str]] = [
    ({"etag_matches": f'"{ETAG}"'}, TypeError, QUOTED),
    ({"etag_does_not_match": f'"{ETAG}"'}, TypeError, QUOTED),
    (R2Conditional(etag_matches=f'"{ETAG}"'), TypeError, QUOTED),
    ({"etag_matches": 12}, TypeError, ""),
    ({"etag_does_not_match": b"bytes"}, TypeError, ""),
    ({"uploaded_before": "2026-01-01"}, TypeError, ""),
    ({"uploaded_after": object()}, TypeError, ""),
    ("etag", TypeError, ""),
    (["etag"], TypeError, ""),
    (Headers({"if-match": '"open'}), bunflare.R2Error, "Unclosed double quote"),
    (Headers({"if-none-match": '"one" "two"'}), bunflare.R2Error, "Comma was expected"),
    (Headers({"if-match": '"one" *'}), bunflare.R2Error, "Comma was expected"),
    (Headers({"if-none-match": 'Wx"one"'}), bunflare.R2Error, "Weak etags must start with W/"),
]


async def test_what_is_no_condition_is_refused_and_nothing_written(bucket: R2Bucket) -> None:
    await bucket.put("key", "value")
    for condition, kind, message in WRONG:
        for work in (
            bucket.get("key", only_if=condition),
            bucket.put("key", "new", only_if=condition),
        ):
            with pytest.raises(kind) as caught:
                await work
            assert isinstance(caught.value, bunflare.R2Error), condition
            assert message in str(caught.value), condition
    assert await read(bucket, "key") == b"value"


async def test_a_failed_condition_leaves_no_file(bucket: R2Bucket, directory: Path) -> None:
    await bucket.put("a", "value")
    for key in ("a", "b"):
        for value in ("small", bytes(300_000), chunks(b"x" * 300_000)):
            assert await bucket.put(key, value, only_if={"etag_matches": OTHER}) is None
    assert objects_on_disk(directory) == {"a": b"value"}
    assert beside(directory) == {}
