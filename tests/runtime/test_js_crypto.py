"""``crypto.subtle``. Literal results and messages are what workerd answers."""

from __future__ import annotations

import json
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


@pytest.fixture
def subtle(js: Any) -> Any:
    return js.crypto.subtle


async def secret(subtle: Any, name: Any, data: bytes, *usages: str) -> Any:
    return await subtle.importKey("raw", data, name, True, list(usages))


async def test_bits_and_keys_are_derived_of_a_password(subtle: Any) -> None:
    key = await secret(subtle, {"name": "PBKDF2"}, b"password", "deriveBits", "deriveKey")
    how = {"name": "PBKDF2", "salt": b"salt", "iterations": 1000, "hash": "SHA-256"}
    bits = await subtle.deriveBits(how, key, 256)
    assert bits.to_bytes().hex() == (
        "632c2812e46d4604102ba7618e9d6d7d2f8128f6266b4a03264d2a0460b7dcb3"
    )
    many = await subtle.deriveBits({**how, "iterations": 600_000}, key, 256)
    assert many.to_bytes().hex() == (
        "669cfe52482116fda1aa2cbe409b2f56c8e4563752b7a28f6eaab614ee005178"
    )
    made = await subtle.deriveKey(
        {**how, "iterations": 10, "hash": "SHA-512"},
        key,
        {"name": "AES-GCM", "length": 256},
        True,
        ["encrypt"],
    )
    raw = await subtle.exportKey("raw", made)
    assert raw.to_bytes().hex() == (
        "ded5fd36ace28019108070acb5acc9db892eb04230f71ecda77c0dbf97e38a8d"
    )
    assert (made.type, made.extractable, made.usages) == ("secret", True, ["encrypt"])
    assert made.algorithm == {"name": "AES-GCM", "length": 256}
    sealed = await subtle.encrypt(
        {"name": "AES-GCM", "iv": bytes(12), "additionalData": b"ad"}, made, b"hello"
    )
    assert sealed.to_bytes().hex() == "97cff71996011540e86c3b5e8b29eccd471eec42be"


async def test_hkdf_and_the_other_modes_of_aes(subtle: Any) -> None:
    key = await secret(subtle, "HKDF", b"ikm", "deriveBits")
    how = {"name": "HKDF", "salt": b"salt", "info": b"info", "hash": "SHA-256"}
    assert (await subtle.deriveBits(how, key, 256)).to_bytes().hex() == (
        "fe8f9615d2374c0d17f77d1aeaf408c2e75fe0466073d0def23c733e2f862dfd"
    )
    cbc = await secret(subtle, "AES-CBC", bytes(16), "encrypt", "decrypt")
    how = {"name": "AES-CBC", "iv": bytes(16)}
    sealed = await subtle.encrypt(how, cbc, b"hello")
    assert sealed.to_bytes().hex() == "9834ed518cbc8fbe9af3c6ecb75eb8c0"
    assert (await subtle.decrypt(how, cbc, sealed)).to_bytes() == b"hello"
    assert await subtle.exportKey("jwk", cbc) == {
        "kty": "oct",
        "key_ops": ["encrypt", "decrypt"],
        "alg": "A128CBC",
        "ext": True,
        "k": "AAAAAAAAAAAAAAAAAAAAAA",
    }
    ctr = await secret(subtle, "AES-CTR", bytes(16), "encrypt")
    sealed = await subtle.encrypt(
        {"name": "AES-CTR", "counter": bytes(16), "length": 64}, ctr, b"hello"
    )
    assert sealed.to_bytes().hex() == "0e8c27b880"


async def test_what_is_wrong_is_said_as_on_the_platform(subtle: Any) -> None:
    gcm = await secret(subtle, "AES-GCM", bytes(16), "decrypt")
    how = {"name": "AES-GCM", "iv": bytes(12)}
    hidden = await subtle.importKey("raw", bytes(16), "AES-GCM", False, [])
    for failing, text in (
        (subtle.decrypt(how, gcm, bytes(20)), "OperationError: Decryption failed. This could be"),
        (
            subtle.encrypt(how, gcm, b""),
            'InvalidAccessError: Requested key usage "encrypt" does not match any usage listed in',
        ),
        (
            subtle.exportKey("raw", hidden),
            "InvalidAccessError: Attempt to export non-extractable AES-GCM key.",
        ),
        (
            subtle.importKey("raw", bytes(15), "AES-GCM", False, []),
            "DataError: Imported AES key length must be 128, 192, or 256 bits but provided 120.",
        ),
        (
            subtle.importKey("raw", b"", "FOO", False, []),
            'NotSupportedError: Unrecognized key import algorithm "FOO" requested.',
        ),
        (
            subtle.importKey("foo", b"", "HMAC", False, []),
            'NotSupportedError: Unrecognized key import format "foo".',
        ),
        (
            subtle.importKey("raw", b"", "HMAC", False, []),
            'TypeError: Missing field "hash" in "algorithm".',
        ),
        (
            subtle.digest("SHA-3", b""),
            "NotSupportedError: Unrecognized or unimplemented digest algorithm requested.",
        ),
        (subtle.importKey("pkcs8", b"no", "Ed25519", False, []), "DataError: Invalid pkcs8 input"),
    ):
        with pytest.raises(JsError) as caught:
            await failing
        assert str(caught.value).startswith(text)
    with pytest.raises(JsError, match="^TypeError: Input buffers must have the same byte length."):
        subtle.timingSafeEqual(b"abc", b"ab")
    assert subtle.timingSafeEqual(b"abc", b"abc")


@pytest.mark.parametrize(
    ("algorithm", "how", "size", "described"),
    [
        (
            {"name": "HMAC", "hash": "SHA-256"},
            "HMAC",
            32,
            {"name": "HMAC", "length": 512, "hash": {"name": "SHA-256"}},
        ),
        (
            {
                "name": "RSASSA-PKCS1-v1_5",
                "modulusLength": 2048,
                "publicExponent": b"\1\0\1",
                "hash": "SHA-256",
            },
            "RSASSA-PKCS1-v1_5",
            256,
            {
                "name": "RSASSA-PKCS1-v1_5",
                "modulusLength": 2048,
                "publicExponent": b"\1\0\1",
                "hash": {"name": "SHA-256"},
            },
        ),
        (
            {"name": "RSA-PSS", "modulusLength": 2048, "hash": {"name": "SHA-512"}},
            {"name": "RSA-PSS", "saltLength": 32},
            256,
            None,
        ),
        (
            {"name": "ECDSA", "namedCurve": "P-256"},
            {"name": "ECDSA", "hash": "SHA-256"},
            64,
            {"name": "ECDSA", "namedCurve": "P-256"},
        ),
        ("Ed25519", "Ed25519", 64, {"name": "Ed25519"}),
    ],
)
async def test_signatures_and_keys_go_out_and_come_in(
    subtle: Any, algorithm: Any, how: Any, size: int, described: Any
) -> None:
    made = await subtle.generateKey(algorithm, True, ["sign", "verify"])
    private, public = (made, made) if algorithm_is_hmac(algorithm) else made.values()
    if private.type == "public":
        private, public = public, private
    if described is not None:
        assert public.algorithm == described
    signature = await subtle.sign(how, private, b"text")
    assert len(signature) == size
    assert await subtle.verify(how, public, signature, b"text")
    assert not await subtle.verify(how, public, signature, b"other")
    forms = ("raw", "jwk") if private is public else ("pkcs8", "jwk")
    for form in forms:
        written = await subtle.exportKey(form, private)
        if form == "jwk":
            json.dumps(written)
        again = await subtle.importKey(form, written, algorithm, True, ["sign"])
        signed = await subtle.sign(how, again, b"text")
        assert await subtle.verify(how, public, signed, b"text")
    for form in () if private is public else ("spki", "jwk"):
        written = await subtle.exportKey(form, public)
        again = await subtle.importKey(form, written, algorithm, True, ["verify"])
        assert await subtle.verify(how, again, signature, b"text")


def algorithm_is_hmac(algorithm: Any) -> bool:
    return isinstance(algorithm, dict) and algorithm["name"] == "HMAC"


async def test_secrets_are_agreed_on_sealed_and_wrapped(subtle: Any) -> None:
    for algorithm in ({"name": "ECDH", "namedCurve": "P-384"}, "X25519"):
        one = await subtle.generateKey(algorithm, True, ["deriveBits"])
        other = await subtle.generateKey(algorithm, True, ["deriveBits"])
        name = algorithm if isinstance(algorithm, str) else algorithm["name"]
        public = await subtle.importKey(
            "raw", await subtle.exportKey("raw", other.publicKey), algorithm, True, []
        )
        shared = await subtle.deriveBits({"name": name, "public": public}, one.privateKey, 256)
        assert shared == await subtle.deriveBits(
            {"name": name, "public": one.publicKey}, other.privateKey, 256
        )
    pair = await subtle.generateKey(
        {"name": "RSA-OAEP", "modulusLength": 2048, "hash": "SHA-256"},
        True,
        ["encrypt", "decrypt", "wrapKey", "unwrapKey"],
    )
    sealed = await subtle.encrypt({"name": "RSA-OAEP"}, pair.publicKey, b"text")
    assert (await subtle.decrypt("RSA-OAEP", pair.privateKey, sealed)).to_bytes() == b"text"
    key = await subtle.generateKey({"name": "AES-GCM", "length": 256}, True, ["encrypt"])
    raw = await subtle.exportKey("raw", key)
    wrapped = await subtle.wrapKey("raw", key, pair.publicKey, "RSA-OAEP")
    again = await subtle.unwrapKey(
        "raw", wrapped, pair.privateKey, "RSA-OAEP", "AES-GCM", True, ["encrypt"]
    )
    assert await subtle.exportKey("raw", again) == raw
    uses = ["wrapKey", "unwrapKey"]
    wrapping = await subtle.generateKey({"name": "AES-KW", "length": 128}, False, uses)
    wrapped = await subtle.wrapKey("raw", key, wrapping, "AES-KW")
    again = await subtle.unwrapKey("raw", wrapped, wrapping, "AES-KW", "AES-GCM", True, [])
    assert await subtle.exportKey("raw", again) == raw
