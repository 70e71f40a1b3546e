"""What the bridges to ASGI and WSGI share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .context import Background

EncodeBody = Literal["automatic", "manual"]
NULL_BODY = frozenset({101, 103, 204, 205, 304})


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a response is made of an application's answer.

    ``encode_body`` "manual" says that the body is compressed already, as its header says. Bodies
    pass here as they are either way.
    """

    encode_body: EncodeBody = "automatic"

    def __post_init__(self) -> None:
        if self.encode_body not in ("automatic", "manual"):
            raise ValueError(
                f"encode_body must be one of ('automatic', 'manual'), got {self.encode_body!r}"
            )

    def response_init(self) -> dict[str, Any]:
        """What the options add to those of a response."""
        return {} if self.encode_body == "automatic" else {"encodeBody": self.encode_body}


@dataclass(frozen=True, slots=True)
class Bridge:
    """The Worker that an application runs in."""

    background: Background
    #: The class ``WorkerEntrypoint``.
    base: Any
