"""Conditions of R2: whether to go on, decided by the object that is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ..errors import R2TypeError, R2ValueError
from ..store.r2 import ObjectRow
from ..web import Headers
from .r2_options import from_iso, from_mapping, http_date, milliseconds, moment, text_of


@dataclass(frozen=True, slots=True)
class R2Conditional:
    """When to go on: only if all that is set here holds for the object that is there."""

    #: Without quotes; ``*`` matches any object.
    etag_matches: str | None = None
    etag_does_not_match: str | None = None
    uploaded_before: datetime | None = None
    uploaded_after: datetime | None = None
    #: Compare times without their fractions of a second, as HTTP does.
    seconds_granularity: bool = False


_WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class _Etag:
    value: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that is ready to be asked. Times in epoch milliseconds."""

    matches: tuple[_Etag, ...] | None
    does_not_match: tuple[_Etag, ...] | None
    before: int | None
    after: int | None
    seconds: bool

    def __call__(self, row: ObjectRow | None) -> bool:
        """Whether it holds for this object, or for none."""
        if row is None:
            return self.matches is None and self.after is None
        matched = self.matches is None or _includes(self.matches, row.etag, weakly=False)
        differs = self.does_not_match is None or not _includes(
            self.does_not_match, row.etag, weakly=True
        )
        if not (matched and differs):
            return False
        # As in HTTP, a date is only asked where no etag has answered.
        uploaded = self._rounded(milliseconds(from_iso(row.uploaded)))
        if (
            self.after is not None
            and self.does_not_match is None
            and not self._rounded(self.after) < uploaded
        ):
            return False
        return (
            self.before is None or self.matches is not None or uploaded < self._rounded(self.before)
        )

    def _rounded(self, time: int) -> int:
        return time // 1000 if self.seconds else time


def _includes(etags: tuple[_Etag, ...], etag: str, weakly: bool) -> bool:
    return any(
        one.value == _WILDCARD or (one.value == etag and (weakly or not one.weak)) for one in etags
    )


def condition_of(only_if: object) -> Condition | None:
    """`R2Conditional`, a mapping of its names, or conditional headers."""
    if only_if is None:
        return None
    if isinstance(only_if, Headers):
        return Condition(
            _etags_of_header(only_if.get("if-match")),
            _etags_of_header(only_if.get("if-none-match")),
            _ms(http_date(only_if.get("if-unmodified-since"))),
            _ms(http_date(only_if.get("if-modified-since"))),
            seconds=True,
        )
    if isinstance(only_if, Mapping):
        only_if = from_mapping(R2Conditional, only_if, "a condition")
    if not isinstance(only_if, R2Conditional):
        raise R2TypeError(
            f"only_if must be an R2Conditional or Headers, not {type(only_if).__name__}"
        )
    return Condition(
        _single_etag(only_if.etag_matches),
        _single_etag(only_if.etag_does_not_match),
        _ms(moment(only_if.uploaded_before, "uploaded_before")),
        _ms(moment(only_if.uploaded_after, "uploaded_after")),
        bool(only_if.seconds_granularity),
    )


def _ms(when: datetime | None) -> int | None:
    return None if when is None else milliseconds(when)


def _single_etag(etag: object) -> tuple[_Etag, ...] | None:
    if etag is None:
        return None
    value = text_of(etag, "an etag")
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        raise R2TypeError(f"Conditional ETag should not be wrapped in quotes ({value}).")
    return (_Etag(value),)


_ETAG = re.compile(r'\s*(?:(\*)|(W/)?"([^"]*)")\s*')


def _etags_of_header(header: str | None) -> tuple[_Etag, ...] | None:
    """The list of etags in a header. Empty elements are passed over, as HTTP says."""
    if header is None:
        return None
    found: list[_Etag] = []
    position = 0
    while position < len(header):
        if header[position] in ", \t":
            position += 1
            continue
        match = _ETAG.match(header, position)
        if match is None:
            if header.find('"', position) < 0 and header.find("*", position) < 0:
                break  # nothing that follows can be an etag
            if header.count('"', position) % 2:
                raise R2ValueError("Unclosed double quote for Etag")
            if "W" in header[position : header.find('"', position)]:
                raise R2ValueError("Weak etags must start with W/ and their value must be quoted")
            raise R2ValueError("Invalid conditional header")
        wildcard, weak, value = match.groups()
        if wildcard:
            return (_Etag(_WILDCARD),)
        found.append(_Etag(value, weak is not None))
        position = match.end()
        if position < len(header) and header[position] != ",":
            raise R2ValueError("Comma was expected to separate etags.")
    return tuple(found)
