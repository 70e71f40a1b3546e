"""From keys to paths: each to its own, none out of the bucket."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare.store import r2_paths as paths

KEYS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="aA./%\\ ~-0\x00:éÉ", max_size=12),
    st.text(alphabet="ab", min_size=200, max_size=600),
    st.text(alphabet="a/", min_size=50, max_size=300),
)
FOLDING = st.booleans()


def storable(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)


KEYS = KEYS.filter(storable)


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "photo.png",
        "a/b/c.txt",
        "with space",
        "über/naïve",
        "日本",
        "v1..v2",
        "-x",
        "a=b&c",
        "~",
    ],
)
def test_an_ordinary_key_is_its_own_path(key: str) -> None:
    assert "/".join(paths.first(key)) == key == "/".join(paths.verbatim(key) or ())


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("", "%-"),
        ("/", "%-/%-"),
        ("a//b", "a/%-/b"),
        ("dir/", "dir/%-"),
        (".", "%2E"),
        ("..", ".%2E"),
        ("../../etc/passwd", ".%2E/.%2E/etc/passwd"),
        ("a/./b", "a/%2E/b"),
        ("100%", "100%25"),
        ("a\0b", "a%00b"),
        ("a\nb", "a%0Ab"),
        ("a:b", "a%3Ab"),
        ("a\\b", "a%5Cb"),
        ("end.", "end%2E"),
        ("end ", "end%20"),
        ("con", "%63on"),
        ("Aux.txt", "%41ux.txt"),
        ("com1", "%63om1"),
        ("common", "common"),
    ],
)
def test_what_is_not_ordinary_is_escaped(key: str, path: str) -> None:
    assert "/".join(paths.first(key)) == path


@given(KEYS, KEYS, FOLDING)
def test_no_two_keys_share_a_path(one: str, other: str, folding: bool) -> None:
    if one == other:
        return
    places = [where(key, folding) for key in (one, other) for where in (paths.first, paths.second)]
    if folding:
        places = [tuple(name.lower() for name in path) for path in places]
    assert len(set(places)) == 4


@given(KEYS, FOLDING)
def test_every_path_stays_within_the_bucket_and_fits_its_names(key: str, folding: bool) -> None:
    for path in (paths.first(key, folding), paths.second(key, folding)):
        assert len(path) <= 61
        for name in path:
            assert name not in ("", ".", "..")
            assert 0 < len(name.encode()) <= 255
            assert not re.search(r'[\x00-\x1f\x7f<>:"|?*\\/]', name)
            assert name[-1] not in " ."


@given(KEYS, FOLDING)
def test_a_path_tells_its_key_unless_names_were_shortened(key: str, folding: bool) -> None:
    path = paths.first(key, folding)
    if not any("%~" in name for name in path):
        assert paths.key_of(path, folding) == key
    flat = paths.second(key, folding)
    if "%~" not in flat[0]:
        assert paths.key_of(flat, folding) == key


@given(KEYS)
def test_on_a_volume_that_folds_names_paths_differ_in_more_than_case(key: str) -> None:
    other = key.swapcase()
    if other != key:
        one = "/".join(paths.first(key, True)).lower()
        assert one != "/".join(paths.first(other, True)).lower()


def test_a_file_that_no_key_leads_to_stands_for_its_own_name() -> None:
    assert paths.key_of(("50% off.txt",)) == "50% off.txt"
    assert paths.key_of(("a", "b.txt")) == "a/b.txt"
    assert paths.key_of(("%-",)) == ""


def test_a_path_that_another_program_used_never_leaves_the_bucket() -> None:
    assert paths.verbatim("a/b%c") == ("a", "b%c")
    for key in ("", "/a", "a//b", "..", "a/../b", "a/.", "a\0"):
        assert paths.verbatim(key) is None
