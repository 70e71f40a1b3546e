"""Reading a wrangler file, and finding the line of a key in it.

The line is only looked for when there is something to report, by a second, simpler reading of the
text: parsers do not tell where a key stood.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .errors import ConfigError

#: Where a value stands: keys of tables and positions in arrays.
KeyPath = tuple[str | int, ...]

NAMES = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")

# Strings first, so that what looks like a comment inside of one is left alone.
# Comments are matched whole or not at all: a part of one may look like something else.
_JSONC_COMMENT = r"//[^\r\n]*+|/\*(?>.*?\*/)"
_JSONC_TOKEN = re.compile(
    rf'("(?:[^"\\]|\\.)*")|({_JSONC_COMMENT})|,(?=(?:\s|{_JSONC_COMMENT})*+[\]}}])', re.DOTALL
)
_TOML_KEY_PART = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_TOML_KEY = rf"{_TOML_KEY_PART}(?:\s*\.\s*{_TOML_KEY_PART})*"
_TOML_TABLE = re.compile(rf"\s*(\[\[?)\s*({_TOML_KEY})\s*\]\]?\s*(?:#.*)?")
_TOML_PAIR = re.compile(rf"\s*({_TOML_KEY})\s*=")


class Source:
    """The text of a wrangler file with what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read ({error})") from error
        self.is_toml = path.suffix == ".toml"
        self.data = self._toml() if self.is_toml else self._jsonc()

    def _toml(self) -> dict[str, Any]:
        # Imported here because looking for a file, which every command does, needs none of it.
        import tomllib

        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            position = f":{where[1]}:{where[2]}" if where else ""
            reason = str(error).partition(" (at ")[0]
            raise ConfigError(f"{self.path}{position}: {reason}") from error

    def _jsonc(self) -> dict[str, Any]:
        try:
            data = json.loads(strip_jsonc(self.text))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{self.path}:{error.lineno}:{error.colno}: {error.msg}") from error
        if not isinstance(data, dict):
            raise ConfigError(f"{self.path}:1: the configuration must be an object")
        return data

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest table around it that has one; from 1 on."""
        return _toml_line(self.text, path) if self.is_toml else _json_line(self.text, path)

    def at(self, path: KeyPath) -> str:
        """``file:line`` for a message."""
        return f"{self.path}:{self.line(path)}"


def find_config(start: Path) -> Path | None:
    """The wrangler file of a directory or of the nearest one above that has one."""
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in NAMES:
            if (directory / name).is_file():
                return directory / name
    return None


def strip_jsonc(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON in which everything keeps its place."""

    def blank(match: re.Match[str]) -> str:
        return match[0] if match[1] is not None else re.sub(r"[^\r\n]", " ", match[0])

    return _JSONC_TOKEN.sub(blank, text)


def _json_line(text: str, path: KeyPath) -> int:
    text = strip_jsonc(text)
    position = _skip(text, 0)
    found = position
    for key in path:
        following = _json_member(text, position, key)
        if following is None:
            break
        found, position = following
    return text.count("\n", 0, found) + 1


def _json_member(text: str, position: int, key: str | int) -> tuple[int, int] | None:
    """Where a member is named and where its value begins."""
    decode = json.JSONDecoder().raw_decode
    opening = "{" if isinstance(key, str) else "["
    if position >= len(text) or text[position] != opening:
        return None
    position = _skip(text, position + 1)
    index = 0
    while position < len(text) and text[position] not in "]}":
        start = position
        name: str | int = index
        if opening == "{":
            name, position = decode(text, position)
            # Over the colon.
            position = _skip(text, _skip(text, position) + 1)
        if name == key:
            return start, position
        _, position = decode(text, position)
        position = _skip(text, position)
        if position < len(text) and text[position] == ",":
            position = _skip(text, position + 1)
        index += 1
    return None


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _toml_line(text: str, path: KeyPath) -> int:
    best, line_of_best = 0, 1
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    quote: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if quote is not None:
            quote = None if quote in line else quote
            continue
        header = _TOML_TABLE.fullmatch(line)
        pair = _TOML_PAIR.match(line)
        if header is not None:
            here = table = _toml_table(_toml_keys(header[2]), header[1] == "[[", counts)
        elif pair is not None:
            here = table + _toml_keys(pair[1])
            rest = line[pair.end() :].lstrip()
            opened = rest[:3]
            if opened in ('"""', "'''") and rest.count(opened) == 1:
                quote = opened
        else:
            continue
        shared = min(len(here), len(path))
        if shared > best and path[:shared] == here[:shared]:
            best, line_of_best = shared, number
    return line_of_best


def _toml_table(keys: KeyPath, is_array: bool, counts: dict[KeyPath, int]) -> KeyPath:
    """The full path of a table header, with the positions of the arrays it lies in."""
    path: KeyPath = ()
    for position, key in enumerate(keys):
        path += (key,)
        last = position == len(keys) - 1
        if last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _toml_keys(text: str) -> KeyPath:
    keys: list[str] = []
    for part in re.findall(_TOML_KEY_PART, text):
        if part.startswith('"'):
            keys.append(json.loads(part))
        else:
            keys.append(part.strip("'"))
    return tuple(keys)
