"""``TextDecoder`` and ``TextEncoder`` of JavaScript: the standard's encodings and their labels."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from bunflare.errors import JsError
from bunflare.runtime.context import Background
from bunflare.runtime.env import Env
from bunflare.runtime.sdk import make_modules


@pytest.fixture
def js() -> ModuleType:
    return make_modules(Env({}), None, Background())["js"]


@pytest.mark.parametrize(
    ("label", "encoding", "data", "text"),
    [
        # To browsers, and so to the platform, Latin-1 is what Windows has made of it.
        ("latin1", "windows-1252", b"\x80 \xe9 \x81", "\u20ac \xe9 \x81"),
        (" ISO-8859-1\n", "windows-1252", b"\x93", "\u201c"),
        ("ascii", "windows-1252", b"\xe9", "\xe9"),
        ("windows-1253", "windows-1253", b"\x81\xaa", "\x81\ufffd"),
        ("utf8", "utf-8", b"\xef\xbb\xbf\xc3\xa9\xff", "\xe9\ufffd"),
        ("unicode", "utf-16le", b"\xff\xfeA\x00", "A"),
        ("utf-16be", "utf-16be", b"\x00A\xd8\x00", "A\ufffd"),
        ("l2", "iso-8859-2", b"\xb1", "\u0105"),
        ("logical", "iso-8859-8-i", b"\xe0", "\u05d0"),
        ("sjis", "shift_jis", b"\x82\xa0", "\u3042"),
        ("csISO2022JP", "iso-2022-jp", b"\x1b$B$\x22\x1b(B", "\u3042"),
        ("gb2312", "gbk", b"\xc4\xe3", "\u4f60"),
        ("korean", "euc-kr", b"\xb0\xa1", "\uac00"),
        ("866", "ibm866", b"\x80", "\u0410"),
        ("mac", "macintosh", b"\x80", "\xc4"),
        ("x-user-defined", "x-user-defined", b"a\x80\xff", "a\uf780\uf7ff"),
        ("gbk", "gbk", b"\x80", "\u20ac"),
        ("gbk", "gbk", b"\x800\x80\xc4\xe3", "\u20ac0\u20ac\u4f60"),
        # The edition of 2022, but for two characters that browsers have otherwise.
        ("gb18030", "gb18030", b"\xa6\xd9\xfe\xa0\xa8\xbc", "\ufe10\u9fbb\u1e3f"),
        ("gb18030", "gb18030", b"\xa3\xa0\x815\xf47\x841\x826", "\u3000\ue7c7\ufe10"),
        ("euc-jp", "euc-jp", b"\xa1\xc1\xa1\xdd\x8f\xb0\xa1", "\uff5e\uff0d\u4e02"),
        # What Windows has added.
        ("euc-jp", "euc-jp", b"\xad\xa1\xad\xe2\xfc\xfe", "\u2460\u2116\uff02"),
        ("shift_jis", "shift_jis", b"\x87\x40\x80\xb1", "\u2460\x80\uff71"),
    ],
)
def test_bytes_are_read_as_the_standard_has_it(
    js: Any, label: str, encoding: str, data: bytes, text: str
) -> None:
    decoder = js.TextDecoder.new(label)
    assert (decoder.encoding, decoder.decode(js.Uint8Array.new(data))) == (encoding, text)


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        # Of a byte of ASCII, that and what is before it are apart; of others, both are one.
        ("big5", b"\xad\x9ax\xad\x00\xff1", "\ufffdx\ufffd\x00\ufffd1"),
        ("euc-kr", b"\xc9\xa1 \x81", "\ufffd \ufffd"),
        ("shift_jis", b"\xa0\xfd\x81 \x81\xff", "\ufffd\ufffd\ufffd \ufffd"),
        ("euc-jp", b"\x8e1\x8f1\x8f\xa11\x8f\xa1\xa1\xff", "\ufffd1\ufffd1\ufffd1\ufffd\ufffd"),
        ("euc-jp", b"\x8f\xa1", "\ufffd"),
        ("gb18030", b"\x81\x7f\x81\xff\xff0", "\ufffd\x7f\ufffd\ufffd0"),
        ("gb18030", b"\x810\x81A", "\ufffd0\u4e04"),
        ("gb18030", b"\xfe9\xfe9\x810", "\ufffd\ufffd"),
    ],
)
def test_what_is_no_character_is_replaced_as_the_standard_has_it(
    js: Any, label: str, data: bytes, text: str
) -> None:
    assert js.TextDecoder.new(label).decode(data) == text
    decoder = js.TextDecoder.new(label)
    pieces = [decoder.decode(data[at : at + 1], stream=True) for at in range(len(data))]
    assert "".join([*pieces, decoder.decode()]) == text
    with pytest.raises(JsError, match="Failed to decode"):
        js.TextDecoder.new(label, fatal=True).decode(data)


def test_a_fatal_decoder_takes_what_only_the_standard_has(js: Any) -> None:
    assert js.TextDecoder.new("gbk", fatal=True).decode(b"\x800") == "\u20ac0"
    assert js.TextDecoder.new("gb18030", fatal=True).decode(b"\x841\xa47") == "\ufffd"
    assert js.TextDecoder.new("euc-jp", fatal=True).decode(b"\xad\xa1") == "\u2460"
    for label in ("shift_jis", "euc-jp", "gbk"):
        with pytest.raises(JsError, match="Failed to decode"):
            js.TextDecoder.new(label, fatal=True).decode(b"a\xff")


@pytest.mark.parametrize("label", ["", "latin-1", "utf_8", "cp037", "rot13", "replacement"])
def test_what_is_no_label_is_a_range_error(js: Any, label: str) -> None:
    for made in (js.TextDecoder, js.TextDecoderStream):
        with pytest.raises(JsError, match=f'^RangeError: "{label}" is not a valid encoding.$'):
            made.new(label)


def test_a_fatal_decoder_refuses_what_is_no_text(js: Any) -> None:
    decoder = js.TextDecoder.new("utf-8", {"fatal": True, "ignoreBOM": True})
    assert (decoder.fatal, decoder.ignoreBOM) == (True, True)
    with pytest.raises(JsError, match=r"^TypeError: Failed to decode input\.$"):
        decoder.decode(b"a\xff")
    assert decoder.decode(b"\xef\xbb\xbfa") == "\ufeffa"
    greek = js.TextDecoder.new("windows-1253", fatal=True)
    assert greek.decode(b"\x81") == "\x81"
    with pytest.raises(JsError, match="Failed to decode"):
        greek.decode(b"\xaa")


def test_text_may_come_in_pieces(js: Any) -> None:
    decoder = js.TextDecoder.new()
    assert decoder.decode(b"\xef\xbb\xbf\xc3", {"stream": True}) == ""
    assert decoder.decode(b"\xa9\xc3", stream=True) == "\xe9"
    assert decoder.decode() == "\ufffd"
    assert decoder.decode(b"\xef\xbb\xbfanew") == "anew"


async def test_a_stream_of_bytes_is_read_as_text(js: Any) -> None:
    stream = js.TextDecoderStream.new("shift-jis")
    assert stream.encoding == "shift_jis"
    writer, reader = stream.writable.getWriter(), stream.readable.getReader()
    await writer.write(b"a\x82")
    assert (await reader.read()).value == "a"
    await writer.write(b"\xa0")
    assert (await reader.read()).value == "\u3042"


def test_text_is_written_into_a_buffer_by_whole_characters(js: Any) -> None:
    encoder = js.TextEncoder.new()
    room = js.Uint8Array.new(8)
    done = encoder.encodeInto("aé\U0001f600bc", room)
    assert (done.read, done["written"]) == (5, 8)
    assert room.to_bytes() == "aé\U0001f600b".encode()
    room = js.Uint8Array.new(5)
    assert encoder.encodeInto("aé\U0001f600", room) == {"read": 2, "written": 3}
    assert room.to_bytes() == b"a\xc3\xa9\0\0"
    memory = memoryview(bytearray(4))
    assert encoder.encodeInto("\ud800x", memory) == {"read": 2, "written": 4}
    assert bytes(memory) == b"\xef\xbf\xbdx"
    with pytest.raises(JsError, match="^TypeError: Failed to execute 'encodeInto'"):
        encoder.encodeInto("a", "b")


def test_half_a_character_is_written_as_its_replacement(js: Any) -> None:
    assert js.TextEncoder.new().encode("\ud83dx").to_bytes() == b"\xef\xbf\xbdx"


async def test_a_character_may_come_in_halves(js: Any) -> None:
    stream = js.TextEncoderStream.new()
    writer, reader = stream.writable.getWriter(), stream.readable.getReader()
    await writer.write("a\ud83d")
    assert (await reader.read()).value.to_bytes() == b"a"
    await writer.write("\ude00\ud83d")
    assert (await reader.read()).value.to_bytes() == "\U0001f600".encode()
    await writer.close()
    assert (await reader.read()).value.to_bytes() == b"\xef\xbf\xbd"
