"""``crypto.subtle``: WebCrypto by hashlib and `cryptography`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, TypeVar

from ..web.objects import JsDict
from . import js_keys as keys
from .js_keys import CryptoKey
from .js_values import JsException, Uint8Array

T = TypeVar("T")
# More rounds than this are counted on a thread: the event loop goes on meanwhile.
_FEW_ROUNDS = 10_000


class Subtle:
    """Digests, signatures, encryption, and keys that are derived of others."""

    async def digest(self, algorithm: Any, data: Any) -> Uint8Array:
        name = algorithm if isinstance(algorithm, str) else dict(algorithm).get("name", "")
        known = "md5" if str(name).upper() == "MD5" else _of(keys.hash_name(algorithm))
        return Uint8Array(hashlib.new(known, bytes(data)).digest())

    def timingSafeEqual(self, one: Any, other: Any) -> bool:
        one, other = bytes(one), bytes(other)
        if len(one) != len(other):
            raise JsException("TypeError", "Input buffers must have the same byte length.")
        return hmac.compare_digest(one, other)

    async def generateKey(
        self, algorithm: Any, extractable: bool, usages: Any
    ) -> CryptoKey | JsDict:
        # Large numbers take their time to be found.
        return await asyncio.to_thread(keys.generate, algorithm, extractable, usages)

    async def importKey(
        self, form: str, data: Any, algorithm: Any, extractable: bool, usages: Any
    ) -> CryptoKey:
        return keys.read(form, data, algorithm, extractable, usages)

    async def exportKey(self, form: str, key: CryptoKey) -> Any:
        return keys.write(form, key)

    async def sign(self, algorithm: Any, key: CryptoKey, data: Any) -> Uint8Array:
        _, given = keys.parameters(algorithm, "signing")
        return Uint8Array(_signed(given, key, key.need("sign"), bytes(data)))

    async def verify(self, algorithm: Any, key: CryptoKey, signature: Any, data: Any) -> bool:
        _, given = keys.parameters(algorithm, "verification")
        return _verified(given, key, key.need("verify"), bytes(signature), bytes(data))

    async def encrypt(self, algorithm: Any, key: CryptoKey, data: Any) -> Uint8Array:
        _, given = keys.parameters(algorithm, "encryption")
        return Uint8Array(_encrypted(given, key, key.need("encrypt"), bytes(data)))

    async def decrypt(self, algorithm: Any, key: CryptoKey, data: Any) -> Uint8Array:
        _, given = keys.parameters(algorithm, "decryption")
        secret = key.need("decrypt")
        return Uint8Array(_or_failed(lambda: _decrypted(given, key, secret, bytes(data))))

    async def deriveBits(self, algorithm: Any, key: CryptoKey, length: int | None) -> Uint8Array:
        key.need("deriveBits")
        return Uint8Array(await _derived(algorithm, key, length))

    async def deriveKey(
        self, algorithm: Any, key: CryptoKey, derived: Any, extractable: bool, usages: Any
    ) -> CryptoKey:
        key.need("deriveKey")
        name, given = keys.parameters(derived, "key derivation")
        length = given.get("length")
        if length is None and name == "HMAC":
            length = 512 if keys.hash_name(given.get("hash")) in ("SHA-1", "SHA-256") else 1024
        data = await _derived(algorithm, key, length)
        return keys.read("raw", data, derived, extractable, usages)

    async def wrapKey(self, form: str, key: CryptoKey, wrapping: CryptoKey, algorithm: Any) -> Any:
        written = keys.write(form, key)
        name, given = keys.parameters(algorithm, "key wrapping")
        if form == "jwk":
            import json

            written = json.dumps(written).encode()
        secret = wrapping.need("wrapKey")
        if name == "AES-KW":
            from cryptography.hazmat.primitives.keywrap import aes_key_wrap

            return Uint8Array(aes_key_wrap(secret, bytes(written)))
        return Uint8Array(_encrypted(given, wrapping, secret, bytes(written)))

    async def unwrapKey(
        self,
        form: str,
        data: Any,
        unwrapping: CryptoKey,
        algorithm: Any,
        wrapped: Any,
        extractable: bool,
        usages: Any,
    ) -> CryptoKey:
        name, given = keys.parameters(algorithm, "key unwrapping")
        secret = unwrapping.need("unwrapKey")

        def unwrap() -> bytes:
            if name == "AES-KW":
                from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

                return aes_key_unwrap(secret, bytes(data))
            return _decrypted(given, unwrapping, secret, bytes(data))

        written: Any = _or_failed(unwrap)
        if form == "jwk":
            import json

            written = json.loads(written)
        return keys.read(form, written, wrapped, extractable, usages)


def _of(name: str) -> str:
    return name.replace("-", "").lower()


def _or_failed(work: Callable[[], T]) -> T:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

    try:
        return work()
    except (InvalidTag, InvalidUnwrap, ValueError) as error:
        raise JsException(
            "OperationError",
            "Decryption failed. This could be due to a ciphertext authentication failure, bad "
            "padding, incorrect CryptoKey, or another algorithm-specific reason.",
        ) from error


async def _derived(algorithm: Any, key: CryptoKey, length: int | None) -> bytes:
    name, given = keys.parameters(algorithm, "key derivation")
    if name in ("ECDH", "X25519"):
        other = given["public"].key
        if name == "X25519":
            shared: bytes = key.key.exchange(other)
        else:
            from cryptography.hazmat.primitives.asymmetric.ec import ECDH

            shared = key.key.exchange(ECDH(), other)
        return shared if length is None else shared[: length // 8]
    size = int(length or 0) // 8
    digest, salt = keys.hash_name(given.get("hash")), bytes(given.get("salt", b""))
    if name == "PBKDF2":
        rounds = int(given["iterations"])
        work = (_of(digest), key.key, salt, rounds, size)
        if rounds <= _FEW_ROUNDS:
            return hashlib.pbkdf2_hmac(*work)
        return await asyncio.to_thread(hashlib.pbkdf2_hmac, *work)
    if name == "HKDF":
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = bytes(given.get("info", b""))
        return HKDF(keys.hash_object(digest), size, salt, info).derive(key.key)
    raise JsException(
        "NotSupportedError", f'Unrecognized key derivation algorithm "{name}" requested.'
    )


def _padding(given: Any, key: CryptoKey, digest: Any) -> Any:
    from cryptography.hazmat.primitives.asymmetric import padding

    if key.algorithm.name == "RSA-PSS":
        return padding.PSS(padding.MGF1(digest), int(given.get("saltLength", 0)))
    if key.algorithm.name == "RSA-OAEP":
        label = given.get("label")
        return padding.OAEP(padding.MGF1(digest), digest, None if label is None else bytes(label))
    return padding.PKCS1v15()


def _signed(given: Any, key: CryptoKey, secret: Any, data: bytes) -> bytes:
    name = key.algorithm.name
    if name == "HMAC":
        return hmac.digest(secret, data, _of(key.algorithm["hash"].name))
    if name == "Ed25519":
        return bytes(secret.sign(data))
    if name == "ECDSA":
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        digest = keys.hash_object(keys.hash_name(given.get("hash")))
        size = (secret.key_size + 7) // 8
        numbers = decode_dss_signature(secret.sign(data, ec.ECDSA(digest)))
        return b"".join(number.to_bytes(size, "big") for number in numbers)
    digest = keys.hash_object(key.algorithm["hash"].name)
    return bytes(secret.sign(data, _padding(given, key, digest), digest))


def _verified(given: Any, key: CryptoKey, secret: Any, signature: bytes, data: bytes) -> bool:
    name = key.algorithm.name
    if name == "HMAC":
        return hmac.compare_digest(_signed(given, key, secret, data), signature)
    from cryptography.exceptions import InvalidSignature

    try:
        if name == "Ed25519":
            secret.verify(signature, data)
        elif name == "ECDSA":
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

            digest = keys.hash_object(keys.hash_name(given.get("hash")))
            half = len(signature) // 2
            r, s = (int.from_bytes(one, "big") for one in (signature[:half], signature[half:]))
            secret.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
        else:
            digest = keys.hash_object(key.algorithm["hash"].name)
            secret.verify(signature, data, _padding(given, key, digest), digest)
    except InvalidSignature:
        return False
    return True


def _encrypted(given: Any, key: CryptoKey, secret: Any, data: bytes) -> bytes:
    name = key.algorithm.name
    if name == "RSA-OAEP":
        digest = keys.hash_object(key.algorithm["hash"].name)
        return bytes(secret.encrypt(data, _padding(given, key, digest)))
    if name == "AES-GCM":
        made = _gcm(given, secret, None).encryptor()
        made.authenticate_additional_data(bytes(given.get("additionalData") or b""))
        text: bytes = made.update(data) + made.finalize()
        return text + bytes(made.tag[: _tag_bytes(given)])
    if name == "AES-CBC":
        size = 16 - len(data) % 16
        data += bytes([size]) * size
    step = _cipher(given, key, secret).encryptor()
    return bytes(step.update(data) + step.finalize())


def _decrypted(given: Any, key: CryptoKey, secret: Any, data: bytes) -> bytes:
    name = key.algorithm.name
    if name == "RSA-OAEP":
        digest = keys.hash_object(key.algorithm["hash"].name)
        return bytes(secret.decrypt(data, _padding(given, key, digest)))
    if name == "AES-GCM":
        size = _tag_bytes(given)
        made = _gcm(given, secret, data[-size:]).decryptor()
        made.authenticate_additional_data(bytes(given.get("additionalData") or b""))
        return bytes(made.update(data[:-size]) + made.finalize())
    step = _cipher(given, key, secret).decryptor()
    text: bytes = step.update(data) + step.finalize()
    if name == "AES-CBC":
        size = text[-1] if text else 0
        if not 1 <= size <= 16 or text[-size:] != bytes([size]) * size:
            raise ValueError("the padding is wrong")
        return text[:-size]
    return text


def _tag_bytes(given: Any) -> int:
    return int(given.get("tagLength") or 128) // 8


def _gcm(given: Any, secret: bytes, tag: bytes | None) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    mode = modes.GCM(bytes(given["iv"]), tag, 4 if tag is None else len(tag))
    return Cipher(algorithms.AES(secret), mode)


def _cipher(given: Any, key: CryptoKey, secret: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if key.algorithm.name == "AES-CBC":
        mode: Any = modes.CBC(bytes(given["iv"]))
    elif key.algorithm.name == "AES-CTR":
        mode = modes.CTR(bytes(given["counter"]))
    else:
        raise JsException("NotSupportedError", f"{key.algorithm.name} does not encrypt.")
    return Cipher(algorithms.AES(secret), mode)
