"""Keys of ``crypto.subtle``: made, read and written, as WebCrypto has them.

`cryptography` is imported when a key of a kind that needs it is made.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from ..web.objects import JsArray, JsDict
from .js_values import JsException, Uint8Array

_HASHES = {"SHA1": "SHA-1", "SHA256": "SHA-256", "SHA384": "SHA-384", "SHA512": "SHA-512"}
# In bytes: what a hash works on at once, which is how long keys of HMAC are.
_BLOCKS = {"SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128}
_CURVES = {"P-256": "SECP256R1", "P-384": "SECP384R1", "P-521": "SECP521R1"}
_RSA = frozenset({"RSASSA-PKCS1-v1_5", "RSA-PSS", "RSA-OAEP"})
_AES = frozenset({"AES-GCM", "AES-CBC", "AES-CTR", "AES-KW"})
_EC = frozenset({"ECDSA", "ECDH"})
_OKP = frozenset({"Ed25519", "X25519"})
_NAMES = {one.upper(): one for one in (*_RSA, *_AES, *_EC, *_OKP, "HMAC", "PBKDF2", "HKDF")}
_PRIVATE_USES = frozenset({"sign", "decrypt", "unwrapKey", "deriveKey", "deriveBits"})


class CryptoKey:
    """A key: its bytes, or what `cryptography` has for one half of a pair."""

    def __init__(
        self, kind: str, extractable: bool, algorithm: JsDict, usages: Iterable[str], key: Any
    ) -> None:
        self.type = kind
        self.extractable = bool(extractable)
        self.algorithm = algorithm
        self.usages = JsArray(usages)
        self.key = key

    def __repr__(self) -> str:
        return f"<CryptoKey {self.type} {self.algorithm.name}>"

    def need(self, usage: str) -> Any:
        """The key, if it may be used for that."""
        if usage not in self.usages:
            raise JsException(
                "InvalidAccessError",
                f'Requested key usage "{usage}" does not match any usage listed in this CryptoKey.',
            )
        return self.key


def parameters(algorithm: Any, doing: str) -> tuple[str, Mapping[str, Any]]:
    """The name of an algorithm, and what is said of it beside."""
    given = {"name": algorithm} if isinstance(algorithm, str) else dict(algorithm)
    name = _NAMES.get(str(given.get("name", "")).upper())
    if name is None:
        raise JsException(
            "NotSupportedError",
            f'Unrecognized {doing} algorithm "{given.get("name")}" requested.',
        )
    return name, given


def hash_name(given: Any) -> str:
    """The name of a hash as the platform writes it."""
    name = given if isinstance(given, str) else dict(given or {}).get("name", "")
    known = _HASHES.get(str(name).upper().replace("-", ""))
    if known is None:
        raise JsException(
            "NotSupportedError", "Unrecognized or unimplemented digest algorithm requested."
        )
    return known


def hash_object(name: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    return getattr(hashes, name.replace("-", ""))()


def _described(name: str, given: Mapping[str, Any], **more: Any) -> JsDict:
    made = JsDict(name=name, **more)
    if name == "HMAC" or name in _RSA:
        if given.get("hash") is None:
            raise JsException("TypeError", 'Missing field "hash" in "algorithm".')
        made["hash"] = JsDict(name=hash_name(given["hash"]))
    return made


def _of_secret(
    name: str, given: Mapping[str, Any], data: bytes, extractable: bool, usages: Iterable[str]
) -> CryptoKey:
    if name in _AES and len(data) not in (16, 24, 32):
        raise JsException(
            "DataError",
            f"Imported AES key length must be 128, 192, or 256 bits but provided {len(data) * 8}.",
        )
    more = {"length": len(data) * 8} if name == "HMAC" or name in _AES else {}
    return CryptoKey("secret", extractable, _described(name, given, **more), usages, data)


def _of_pair(
    name: str, given: Mapping[str, Any], key: Any, extractable: bool, usages: Iterable[str]
) -> CryptoKey:
    more: dict[str, Any] = {}
    if name in _RSA:
        public = key.public_key() if hasattr(key, "public_key") else key
        exponent = public.public_numbers().e
        size = (exponent.bit_length() + 7) // 8
        more["modulusLength"] = public.key_size
        more["publicExponent"] = Uint8Array(exponent.to_bytes(size, "big"))
    elif name in _EC:
        more["namedCurve"] = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
    kind = "private" if hasattr(key, "public_key") else "public"
    return CryptoKey(kind, extractable, _described(name, given, **more), usages, key)


def _curve(given: Mapping[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    name = str(given.get("namedCurve", given.get("crv")))
    if name not in _CURVES:
        raise JsException("NotSupportedError", f'Unrecognized or unimplemented EC curve "{name}".')
    return getattr(ec, _CURVES[name])()


def generate(algorithm: Any, extractable: bool, usages: Any) -> CryptoKey | JsDict:
    """A new key, or a new pair of them."""
    name, given = parameters(algorithm, "key generation")
    uses = list(usages)
    if name in _AES or name == "HMAC":
        bits = given.get("length")
        if bits is None and name == "HMAC":
            bits = 8 * _BLOCKS[str(_described(name, given)["hash"].name)]
        return _of_secret(name, given, secrets.token_bytes(int(bits or 0) // 8), extractable, uses)
    if name in _RSA:
        from cryptography.hazmat.primitives.asymmetric import rsa

        exponent = int.from_bytes(bytes(given.get("publicExponent", b"\1\0\1")), "big")
        private: Any = rsa.generate_private_key(exponent, int(given["modulusLength"]))
    elif name in _EC:
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(_curve(given))
    elif name in _OKP:
        private = _okp(name)[0].generate()
    else:
        raise JsException(
            "NotSupportedError", f'Unrecognized key generation algorithm "{name}" requested.'
        )
    return JsDict(
        publicKey=_of_pair(
            name, given, private.public_key(), True, [u for u in uses if u not in _PRIVATE_USES]
        ),
        privateKey=_of_pair(
            name, given, private, extractable, [u for u in uses if u in _PRIVATE_USES]
        ),
    )


def _okp(name: str) -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

    module = ed25519 if name == "Ed25519" else x25519
    return getattr(module, f"{name}PrivateKey"), getattr(module, f"{name}PublicKey")


def read(form: str, data: Any, algorithm: Any, extractable: bool, usages: Any) -> CryptoKey:
    """A key that was written elsewhere. Raises DataError for what is none."""
    name, given = parameters(algorithm, "key import")
    if form not in ("raw", "pkcs8", "spki", "jwk"):
        raise JsException("NotSupportedError", f'Unrecognized key import format "{form}".')
    uses = list(usages)
    secret = name in _AES or name in ("HMAC", "PBKDF2", "HKDF")
    try:
        if form == "jwk":
            data = dict(data)
            if secret:
                return _of_secret(name, given, _number_bytes(data["k"]), extractable, uses)
            return _of_pair(name, given, _from_jwk(name, data), extractable, uses)
        data = bytes(data)
        if secret and form == "raw":
            return _of_secret(name, given, data, extractable, uses)
        return _of_pair(name, given, _from_bytes(form, name, given, data), extractable, uses)
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, JsException):
            raise
        raise JsException("DataError", f"Invalid {form} input: {error}") from error


def _from_bytes(form: str, name: str, given: Mapping[str, Any], data: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if form == "pkcs8":
        return serialization.load_der_private_key(data, None)
    if form == "spki":
        return serialization.load_der_public_key(data)
    if name in _EC:
        return ec.EllipticCurvePublicKey.from_encoded_point(_curve(given), data)
    if name in _OKP:
        return _okp(name)[1].from_public_bytes(data)
    raise JsException("NotSupportedError", f'Unrecognized key import format "{form}".')


def _number_bytes(text: Any) -> bytes:
    text = str(text)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _integer(text: Any) -> int:
    return int.from_bytes(_number_bytes(text), "big")


def _from_jwk(name: str, jwk: Mapping[str, Any]) -> Any:
    if name in _OKP:
        private, public = _okp(name)
        if "d" in jwk:
            return private.from_private_bytes(_number_bytes(jwk["d"]))
        return public.from_public_bytes(_number_bytes(jwk["x"]))
    if name in _EC:
        from cryptography.hazmat.primitives.asymmetric import ec

        point = ec.EllipticCurvePublicNumbers(_integer(jwk["x"]), _integer(jwk["y"]), _curve(jwk))
        if "d" in jwk:
            return ec.EllipticCurvePrivateNumbers(_integer(jwk["d"]), point).private_key()
        return point.public_key()
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.RSAPublicNumbers(_integer(jwk["e"]), _integer(jwk["n"]))
    if "d" not in jwk:
        return numbers.public_key()
    p, q, d, dp, dq, qi = (_integer(jwk[one]) for one in ("p", "q", "d", "dp", "dq", "qi"))
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, numbers).private_key()


def write(form: str, key: CryptoKey) -> Any:
    """A key as bytes, or as a JWK."""
    if not key.extractable:
        raise JsException(
            "InvalidAccessError", f"Attempt to export non-extractable {key.algorithm.name} key."
        )
    if form == "jwk":
        return _jwk(key)
    if key.type == "secret":
        if form != "raw":
            raise _unwritable(form, key)
        return Uint8Array(key.key)
    from cryptography.hazmat.primitives import serialization as to

    if form == "pkcs8" and key.type == "private":
        der = key.key.private_bytes(to.Encoding.DER, to.PrivateFormat.PKCS8, to.NoEncryption())
    elif form == "spki" and key.type == "public":
        der = key.key.public_bytes(to.Encoding.DER, to.PublicFormat.SubjectPublicKeyInfo)
    elif form == "raw" and key.type == "public" and key.algorithm.name in _EC:
        der = key.key.public_bytes(to.Encoding.X962, to.PublicFormat.UncompressedPoint)
    elif form == "raw" and key.type == "public" and key.algorithm.name in _OKP:
        der = key.key.public_bytes_raw()
    else:
        raise _unwritable(form, key)
    return Uint8Array(der)


def _unwritable(form: str, key: CryptoKey) -> JsException:
    return JsException(
        "NotSupportedError",
        f'Unimplemented key export format "{form}" for a {key.type} {key.algorithm.name} key.',
    )


def _text(value: int | bytes, size: int = 0) -> str:
    if isinstance(value, int):
        value = value.to_bytes(max(size, (value.bit_length() + 7) // 8), "big")
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _jwk(key: CryptoKey) -> JsDict:
    name = key.algorithm.name
    made = JsDict(key_ops=JsArray(key.usages), ext=True)
    if key.type == "secret":
        digest = key.algorithm.get("hash")
        short = f"HS{digest.name[4:]}" if digest else f"A{len(key.key) * 8}{name[4:]}"
        made.update(kty="oct", alg=short, k=_text(key.key))
        return made
    public = key.key.public_key() if key.type == "private" else key.key
    if name in _OKP:
        made.update(kty="OKP", crv=name, x=_text(public.public_bytes_raw()))
        if key.type == "private":
            made["d"] = _text(key.key.private_bytes_raw())
    elif name in _EC:
        numbers, size = public.public_numbers(), (public.key_size + 7) // 8
        made.update(kty="EC", crv=key.algorithm.namedCurve)
        made.update(x=_text(numbers.x, size), y=_text(numbers.y, size))
        if key.type == "private":
            made["d"] = _text(key.key.private_numbers().private_value, size)
    else:
        numbers = public.public_numbers()
        prefix = {"RSASSA-PKCS1-v1_5": "RS", "RSA-PSS": "PS"}.get(name, "RSA-OAEP-")
        made.update(kty="RSA", alg=prefix + key.algorithm["hash"].name[4:])
        made.update(n=_text(numbers.n), e=_text(numbers.e))
        if key.type == "private":
            of = key.key.private_numbers()
            parts = {"d": of.d, "p": of.p, "q": of.q, "dp": of.dmp1, "dq": of.dmq1, "qi": of.iqmp}
            made.update({part: _text(value) for part, value in parts.items()})
    return made
