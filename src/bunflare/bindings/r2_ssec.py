"""SSE-C: objects encrypted with a key that only the customer has.

Follows https://developers.cloudflare.com/r2/examples/ssec/. Bytes are encrypted with AES-256 in
counter mode, so that a file is as long as its object and any range of it can be read alone. The
key is never stored: only its MD5, by which a wrong one is recognised.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import R2TypeError, R2ValueError
from .r2_options import refuse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

_BLOCK = 16
_KEY_SIZE = 32
_HEX = re.compile(r"[0-9a-f]+")

#: Of an object that was written as a whole, however long it gets.
_ENDLESS = 2**63


@dataclass(frozen=True, slots=True)
class SsecKey:
    """A customer's key."""

    secret: bytes

    @property
    def md5(self) -> str:
        return hashlib.md5(self.secret, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Ssec:
    """How an object is encrypted."""

    key_md5: str
    #: For each part that it was written in, the part's size and the first counter block.
    segments: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def fresh(cls, key: SsecKey) -> Ssec:
        """For something new that is to be encrypted with this key."""
        return cls(key.md5, ((_ENDLESS, secrets.token_bytes(_BLOCK)),))

    def sized(self, size: int) -> Ssec:
        """The same for a part that has turned out to be of that size."""
        [(_, block)] = self.segments
        return Ssec(self.key_md5, ((size, block),))

    def dump(self) -> str:
        segments = [[size, block.hex()] for size, block in self.segments]
        return json.dumps({"keyMd5": self.key_md5, "segments": segments}, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Ssec:
        stored = json.loads(text)
        segments = tuple((size, bytes.fromhex(block)) for size, block in stored["segments"])
        return cls(stored["keyMd5"], segments)


class Keystream:
    """Encrypts or decrypts what lies from an offset on; in counter mode these are the same."""

    def __init__(self, key: SsecKey, ssec: Ssec, offset: int = 0) -> None:
        self._key = key.secret
        self._segments = list(reversed(ssec.segments))
        self._left, block = self._segments.pop()
        while offset >= self._left and self._segments:
            offset -= self._left
            self._left, block = self._segments.pop()
        self._left -= offset
        self._cipher = self._begin(block, offset)

    def _begin(self, block: bytes, offset: int) -> CipherContext:
        # Imported here because it takes longer than all the rest, and few need it.
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import CTR

        counter = (int.from_bytes(block) + offset // _BLOCK) % (1 << 128)
        cipher = Cipher(AES(self._key), CTR(counter.to_bytes(_BLOCK))).encryptor()
        cipher.update(bytes(offset % _BLOCK))
        return cipher

    def apply(self, data: bytes | memoryview) -> bytes:
        """The next bytes, encrypted or decrypted."""
        if len(data) <= self._left:
            self._left -= len(data)
            return self._cipher.update(data)
        done: list[bytes] = []
        rest = memoryview(data)
        while rest:
            if not self._left:
                self._left, block = self._segments.pop()
                self._cipher = self._begin(block, 0)
            now = rest[: self._left]
            self._left -= len(now)
            done.append(self._cipher.update(now))
            rest = rest[len(now) :]
        return b"".join(done)


def ssec_key_of(value: object) -> SsecKey | None:
    """A key of 32 bytes, or the 64 hexadecimal digits of one."""
    if value is None:
        return None
    if isinstance(value, str):
        if _HEX.fullmatch(value) is None:
            raise R2ValueError("SSE-C Key has invalid format")
        if len(value) != 2 * _KEY_SIZE:
            raise R2ValueError("SSE-C Key must be 32 bytes in length")
        return SsecKey(bytes.fromhex(value))
    if not isinstance(value, bytes | bytearray | memoryview):
        raise R2TypeError(f"ssec_key must be bytes or a hex str, not {type(value).__name__}")
    data = bytes(value)
    if len(data) != _KEY_SIZE:
        raise R2ValueError("SSE-C Key must be 32 bytes in length")
    return SsecKey(data)


def check_key(key: SsecKey | None, key_md5: str | None, action: str) -> None:
    """Refuse a key that is missing, not asked for, or another one."""
    given = None if key is None else key.md5
    if given == key_md5:
        return
    if given is None:
        refuse(
            action,
            10029,
            "The object is encrypted with a customer's key (SSE-C); give it as ssec_key.",
        )
    if key_md5 is None:
        refuse(action, 10029, "The object is not encrypted with a customer's key (SSE-C).")
    refuse(action, 10029, "The SSE-C key is not the one that the object is encrypted with.")
