"""Splitting a text into statements, and what the authorizer lets pass."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunflare.store.d1_connection import USER, Guard, keyword, statements

PIECES = st.sampled_from(
    [
        "SELECT 1",
        "SELECT ';' || \"a;b\" || [c;d]",
        "INSERT INTO t VALUES ('it''s; fine')",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 3; END",
        "SELECT /* ; */ 1 -- ; more\n, 2",
        "SELECT\r\n1",
    ]
)
GAPS = st.sampled_from([";", " ; ", ";\n", ";\r\n", ";;", "; -- a; comment\n", "; /* b; */ "])


@given(st.lists(st.tuples(PIECES, GAPS), max_size=6), PIECES)
def test_statements_come_out_as_they_went_in(parts: list[tuple[str, str]], last: str) -> None:
    text = "".join(piece + gap for piece, gap in parts) + last
    found = list(statements(text))
    assert [one.rstrip().removesuffix(";").rstrip() for _, one in found] == [
        piece for piece, _ in parts
    ] + [last]
    assert all(text.startswith(one, place) for place, one in found)


def test_a_trigger_behind_a_byte_order_mark_is_one_statement() -> None:
    trigger = "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT 1; /* ; */ END /* b */ ;"
    assert [one for _, one in statements(f"\ufeff{trigger}\nSELECT 2")] == [trigger, "SELECT 2"]


@given(st.text(alphabet="ab;'\"`[]-/*\n ", max_size=40))
def test_no_text_is_lost_whatever_it_is(text: str) -> None:
    end = 0
    for place, one in statements(text):
        assert place >= end
        end = place + len(one)
        assert text[place:end] == one
        assert one.strip(" \n;")


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select 1", "SELECT"),
        (" -- a\n/* b */ ;With x", "WITH"),
        ("", ""),
        ("-- only", ""),
        ("\ufeff \ufeffSELECT 1", "SELECT"),
    ],
)
def test_the_first_word_is_found_behind_blanks_and_comments(sql: str, word: str) -> None:
    assert keyword(sql) == word


def test_a_statement_of_ours_opens_no_door_for_the_users() -> None:
    connection = apsw.Connection(":memory:")
    guard = Guard(connection)
    for _ in range(2):
        connection.execute("BEGIN")
        connection.execute("COMMIT")
        guard.begin(float("inf"))
        with pytest.raises(apsw.AuthError) as caught:
            connection.execute("BEGIN", prepare_flags=USER)
        guard.end()
        assert "state.storage.transaction()" in str(guard.explain(caught.value))
    connection.close()


def test_a_trigger_of_another_program_cannot_reach_what_is_hidden() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE _cf_x (a); CREATE TABLE t (a)")
    connection.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM _cf_x; END")
    guard = Guard(connection)
    guard.begin(float("inf"))
    with pytest.raises(apsw.AuthError):
        connection.execute("INSERT INTO t VALUES (1)", prepare_flags=USER)
    guard.end()
    connection.close()
