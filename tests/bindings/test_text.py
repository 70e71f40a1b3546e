"""Text at the platform's border: scalar values, lengths in UTF-8, and the ends of prefixes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bunflare.bindings.text import after_prefix, scalar, utf8_length

# Everything that a str can hold, with the characters at the borders often.
BORDERS = "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff"
ANY = st.text(
    alphabet=st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from(BORDERS)),
    max_size=6,
)
SCALARS = st.text(alphabet=st.one_of(st.characters(), st.sampled_from(BORDERS)), max_size=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("🙂", "🙂"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff", "\ufffd"),
        ("\ude42\ud83d", "\ufffd\ufffd"),  # halves in the wrong order
        ("\ud83d\ude42", "🙂"),  # two halves are one character, as in JavaScript
        ("\ud83d\ud83d\ude42", "\ufffd🙂"),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(text: str, expected: str) -> None:
    assert scalar(text) == expected


@given(ANY)
def test_what_is_scalar_can_be_encoded_and_stays_what_it_is(text: str) -> None:
    once = scalar(text)
    once.encode()
    assert scalar(once) == once
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert once == text


@given(SCALARS)
def test_a_length_is_that_of_the_bytes(text: str) -> None:
    assert utf8_length(text) == len(text.encode())


def test_a_lone_surrogate_is_as_long_as_what_replaces_it() -> None:
    assert utf8_length("\ud800") == len("\ufffd".encode()) == 3


@given(SCALARS, SCALARS)
@example("\ud7ff", "\ue000")
@example("\uffff", "\U00010000")
def test_the_order_of_texts_is_that_of_their_bytes(one: str, two: str) -> None:
    assert (one < two) == (one.encode() < two.encode())


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("az", "a{"),
        ("a\0", "a\x01"),
        ("\x7f", "\x80"),
        ("\ud7ff", "\ue000"),
        ("\uffff", "\U00010000"),
        ("a\U0010ffff", "b"),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\U0010ffff", None),
        ("\U0010ffff\U0010ffff", None),
        ("", None),
    ],
)
def test_the_end_of_a_prefix_is_the_next_text_without_it(prefix: str, end: str | None) -> None:
    assert after_prefix(prefix) == end


@given(SCALARS, SCALARS)
@example("\ud7ff", "\ue000")
@example("a\U0010ffff", "b")
@example("\uffff", "\U00010000")
def test_a_text_has_a_prefix_exactly_if_it_lies_between_the_two(prefix: str, text: str) -> None:
    end = after_prefix(prefix)
    for candidate in (text, prefix + text):
        between = prefix <= candidate and (end is None or candidate < end)
        assert candidate.startswith(prefix) == between
    if end is not None:
        end.encode()  # no surrogate, which nothing could be compared with
        assert not end.startswith(prefix)
