"""What may be kept, for how long, and what a request gets: as functions of values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare.bindings import cache_rules as rules

NOW = 1_767_225_600_000  # Thu, 01 Jan 2026 00:00:00 GMT
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def lifetime(*headers: tuple[str, str], status: int = 200, request: Any = ()) -> int | None:
    """Seconds of freshness that are left; None if the response may not be kept."""
    fresh = rules.freshness(list(request), status, list(headers), NOW)
    return None if fresh is None else (fresh.expires - NOW) // 1000


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("max-age=60", 60),
        ("MAX-AGE=60", 60),
        ("public, max-age=60", 60),
        ('max-age="60"', 60),
        ("s-maxage=10, max-age=60", 10),
        ("max-age=60, s-maxage=10", 10),
        ("max-age=60, stale-while-revalidate=600", 60),
        ("max-age=60, must-revalidate", 60),
        ("max-age=0", None),
        ("s-maxage=0, max-age=60", None),
        ("max-age=abc", None),
        ("max-age=-5", None),
        ("max-age", None),
        ("no-store, max-age=60", None),
        ("no-cache, max-age=60", None),
        ("private, max-age=60", None),
        ("proxy-revalidate, max-age=60", None),
        ("public", None),
        ("", None),
    ],
)
def test_cache_control_decides(control: str, expected: int | None) -> None:
    assert lifetime(("cache-control", control)) == expected


def test_without_a_word_on_freshness_nothing_is_kept() -> None:
    assert lifetime() is None
    assert lifetime(("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"), ("etag", '"a"')) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("expires", "Thu, 01 Jan 2026 00:01:00 GMT")], 60),
        ([("expires", "Thu, 01 Jan 2026 00:01:00 GMT"), ("date", DATE)], 60),
        # The server's clock is an hour ahead: only the difference counts.
        (
            [
                ("expires", "Thu, 01 Jan 2026 01:01:00 GMT"),
                ("date", "Thu, 01 Jan 2026 01:00:00 GMT"),
            ],
            60,
        ),
        ([("expires", DATE)], None),
        ([("expires", "0")], None),
        ([("expires", "Wed, 31 Dec 2025 00:00:00 GMT")], None),
        ([("expires", "Thu, 01 Jan 2026 00:01:00 GMT"), ("cache-control", "max-age=5")], 5),
        ([("expires", "Thu, 01 Jan 2026 00:01:00 GMT"), ("pragma", "no-cache")], None),
        ([("cache-control", "max-age=60"), ("pragma", "no-cache")], 60),
        ([("cache-control", "max-age=60"), ("age", "20")], 40),
        ([("cache-control", "max-age=60"), ("age", "60")], None),
    ],
)
def test_expires_date_and_age_count(headers: list[tuple[str, str]], expected: int | None) -> None:
    assert lifetime(*headers) == expected


def test_a_cookie_keeps_a_response_out_unless_it_is_private_itself() -> None:
    keep, cookie = ("cache-control", "max-age=60"), ("set-cookie", "a=b")
    assert lifetime(keep, cookie) is None
    for control in ("private=Set-Cookie, max-age=60", 'max-age=60, private="set-cookie"'):
        fresh = rules.freshness([], 200, [("cache-control", control), cookie], NOW)
        assert fresh is not None
        assert "set-cookie" not in dict(fresh.headers)
    assert lifetime(("cache-control", "private=x-other, max-age=60")) is None


@pytest.mark.parametrize(
    "status", [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501]
)
def test_a_status_that_caches_understand_is_kept(status: int) -> None:
    assert lifetime(("cache-control", "max-age=60"), status=status) == 60


@pytest.mark.parametrize("status", [206, 304, 400, 401, 403, 418, 429, 500, 502, 503, 504])
def test_another_status_is_not_kept(status: int) -> None:
    assert lifetime(("cache-control", "max-age=60"), status=status) is None


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("max-age=60", None),
        ("max-age=60, public", 60),
        ("s-maxage=60", 60),
        ("max-age=60, must-revalidate", 60),
    ],
)
def test_an_answer_to_an_authorized_request_must_say_that_it_is_for_all(
    control: str, expected: int | None
) -> None:
    request = [("authorization", "Bearer x")]
    assert lifetime(("cache-control", control), request=request) == expected


def test_what_is_of_one_connection_only_is_not_kept() -> None:
    fresh = rules.freshness(
        [],
        200,
        [
            ("cache-control", "max-age=60"),
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-hop", "1"),
            ("age", "3"),
            ("x-kept", "1"),
        ],
        NOW,
    )
    assert fresh is not None
    assert fresh.headers == [("cache-control", "max-age=60"), ("x-kept", "1"), ("date", DATE)]
    assert fresh.born == NOW - 3000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([("Cache-Control", "max-age=60"), ("Date", DATE)], NOW + 60_000),
        ([("Cache-Control", "max-age=60")], None),
        ([("Expires", DATE)], NOW),
        ([("Expires", DATE), ("Date", DATE)], NOW),
    ],
)
def test_an_entry_of_another_program_lives_as_long_as_its_headers_tell(
    headers: list[tuple[str, str]], expected: int | None
) -> None:
    assert rules.foreign_expiry(headers) == expected


@given(st.integers(0, 4_000_000_000))
def test_dates_survive_being_written_and_read(seconds: int) -> None:
    assert rules.http_date(rules.format_date(seconds * 1000)) == seconds * 1000


@pytest.mark.parametrize(
    "text", [None, "", "0", "-1", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT"]
)
def test_what_is_not_a_date_is_none(text: str | None) -> None:
    assert rules.http_date(text) is None


# -- conditions --------------------------------------------------------------------------------

STORED = {"etag": '"abc"', "last-modified": DATE}
LATER, EARLIER = "Thu, 01 Jan 2026 00:00:01 GMT", "Wed, 31 Dec 2025 23:59:59 GMT"


@pytest.mark.parametrize(
    ("request_", "stored", "expected"),
    [
        ({"if-none-match": '"abc"'}, STORED, True),
        ({"if-none-match": 'W/"abc"'}, STORED, True),
        ({"if-none-match": '"x", "abc"'}, STORED, True),
        ({"if-none-match": "*"}, STORED, True),
        ({"if-none-match": '"x"'}, STORED, False),
        ({"if-none-match": '"abc"'}, {}, False),
        ({"if-none-match": '"ab,c"'}, {"etag": '"ab,c"'}, True),
        ({"if-modified-since": DATE}, STORED, True),
        ({"if-modified-since": LATER}, STORED, True),
        ({"if-modified-since": EARLIER}, STORED, False),
        ({"if-modified-since": DATE}, {}, False),
        ({"if-modified-since": "nonsense"}, STORED, False),
        # An entity tag decides alone where there is one.
        ({"if-none-match": '"x"', "if-modified-since": LATER}, STORED, False),
        ({}, STORED, False),
    ],
)
def test_conditions(request_: dict[str, str], stored: dict[str, str], expected: bool) -> None:
    assert rules.not_modified(request_, stored) is expected


# -- ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=2-4", [(2, 3)]),
        ("bytes=5-", [(5, 5)]),
        ("bytes=-3", [(7, 3)]),
        ("bytes=-30", [(0, 10)]),
        ("bytes=8-100", [(8, 2)]),
        ("bytes=0-1, 4-5 ,-1", [(0, 2), (4, 2), (9, 1)]),
        ("BYTES=0-1", [(0, 2)]),
        ("bytes=10-", []),
        ("bytes=-0", []),
        ("bytes=20-30, 40-", []),
        ("bytes=20-30, 1-1", [(1, 1)]),
        ("bytes=4-2", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("bytes=1", None),
        ("lines=0-1", None),
        ("bytes=" + ",".join(["0-0"] * 51), None),
    ],
)
def test_ranges(header: str, expected: list[tuple[int, int]] | None) -> None:
    assert rules.ranges({"range": header}, {}, 10) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('"abc"', True),
        ('"x"', False),
        ('W/"abc"', False),
        (DATE, True),
        (EARLIER, False),
        ("x", False),
    ],
)
def test_a_range_of_another_version_is_not_given(condition: str, expected: bool) -> None:
    found = rules.ranges({"range": "bytes=0-1", "if-range": condition}, STORED, 10)
    assert (found is not None) is expected
