"""The names of character encodings: https://encoding.spec.whatwg.org/#names-and-labels

What the standard calls by one name, Python often has by another: its Shift_JIS is ``cp932``, and
ISO-8859-1 is windows-1252 to every browser.
"""

from __future__ import annotations

import re

#: Python's codecs that have all of ASCII as it is, with their labels.
_CODECS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 "
    "l2 latin2",
    "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 "
    "l3 latin3",
    "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 "
    "l4 latin4",
    "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 "
    "iso_8859-5:1988",
    "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 "
    "iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 "
    "iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek",
    "iso8859-8": "csiso88598e csiso88598i csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e "
    "iso-8859-8-i iso-ir-138 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 logical visual",
    "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "mac-roman": "csmacintosh mac macintosh x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 "
    "iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252",
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 "
    "iso_8859-9:1989 l5 latin5 windows-1254 x-cp1254",
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "gbk": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk",
    "gb18030": "gb18030",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 "
    "ksc_5601 windows-949",
    # Its further characters are in a range of their own, one for each byte.
    "ascii": "x-user-defined",
}
#: The others, of which the last has nothing but errors.
_OTHERS = {
    "utf-16-le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
    "utf-16-be": "unicodefffe utf-16be",
    "iso2022-jp-ext": "csiso2022jp iso-2022-jp",
    "": "csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr replacement",
}
#: Encodings that have other names than most of their codecs.
_NAMES = {
    "cp866": "ibm866",
    "mac-roman": "macintosh",
    "mac-cyrillic": "x-mac-cyrillic",
    "big5hkscs": "big5",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "ascii": "x-user-defined",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "iso2022-jp-ext": "iso-2022-jp",
}
_LOGICAL = ("csiso88598i", "iso-8859-8-i", "logical")
_LABELS = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
_UNLIKE_ASCII = {label: codec for codec, labels in _OTHERS.items() for label in labels.split()}
_CHARSET = re.compile(r';\s*charset\s*=\s*(?:"([^"]*)"|([^;\s"]+))', re.I)


def charset(content_type: str | None) -> str | None:
    """The charset that a Content-Type names."""
    found = _CHARSET.search(content_type or "")
    return None if found is None else (found[1] if found[1] is not None else found[2])


def codec(label: str) -> str:
    """Python's codec for an encoding that has all of ASCII as it is.

    Raises LookupError for a label that is none, and ValueError for that of another encoding.
    """
    label = _plain(label)
    if label in _UNLIKE_ASCII:
        raise ValueError(label)
    return _LABELS[label]


def encoding(label: str) -> tuple[str, str]:
    """The name of an encoding, in small letters, and Python's codec for reading it.

    Raises LookupError for a label that is none, and for the encoding that cannot be read.
    """
    label = _plain(label)
    codec = _LABELS.get(label) or _UNLIKE_ASCII.get(label)
    if not codec:
        raise LookupError(label)
    if label in _LOGICAL:
        return "iso-8859-8-i", codec
    name = _NAMES.get(codec) or re.sub("^cp", "windows-", re.sub("^iso8859", "iso-8859", codec))
    return name, "gb18030" if codec == "gbk" else codec


def _plain(label: str) -> str:
    return label.strip("\t\n\f\r ").lower()
