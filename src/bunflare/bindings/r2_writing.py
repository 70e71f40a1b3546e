"""What the row of an object will say, gathered and checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from ..store.r2 import ObjectRow
from ..web import Headers
from .r2_conditions import Condition, R2Conditional, condition_of
from .r2_options import (
    LIMITS,
    R2HTTPMetadata,
    R2Limits,
    check_digest,
    date_of,
    digest_of,
    dump_custom_metadata,
    dump_http_metadata,
    http_metadata_of,
    iso,
    storage_class_of,
)
from .r2_ssec import Keystream, Ssec, SsecKey, ssec_key_of

Digest = str | bytes | bytearray | memoryview


class R2PutOptions(TypedDict, total=False):
    """The options of `R2Bucket.put`."""

    only_if: R2Conditional | Headers | Mapping[str, Any] | None
    http_metadata: R2HTTPMetadata | Headers | Mapping[str, Any] | None
    custom_metadata: Mapping[str, str] | None
    md5: Digest | None
    sha1: Digest | None
    sha256: Digest | None
    sha384: Digest | None
    sha512: Digest | None
    storage_class: Literal["Standard", "InfrequentAccess"] | None
    ssec_key: str | bytes | None


class Writing:
    """What a row will say of an object, apart from its bytes."""

    __slots__ = (
        "condition",
        "custom_metadata",
        "digest",
        "http_metadata",
        "ssec",
        "ssec_key",
        "storage_class",
    )

    @classmethod
    def of(cls, options: R2PutOptions, limits: R2Limits) -> Writing:
        return cls(options, limits) if options else _PLAIN

    def __init__(self, options: R2PutOptions, limits: R2Limits) -> None:
        unknown = options.keys() - R2PutOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"put() has no option {', '.join(sorted(unknown))}")
        option = options.get
        self.condition: Condition | None = condition_of(option("only_if"))
        self.http_metadata = dump_http_metadata(http_metadata_of(option("http_metadata")))
        self.custom_metadata = dump_custom_metadata(option("custom_metadata"), "put", limits)
        self.digest = digest_of(
            md5=option("md5"),
            sha1=option("sha1"),
            sha256=option("sha256"),
            sha384=option("sha384"),
            sha512=option("sha512"),
        )
        self.storage_class = storage_class_of(option("storage_class"), "put")
        self.ssec_key: SsecKey | None = ssec_key_of(option("ssec_key"))
        self.ssec = None if self.ssec_key is None else Ssec.fresh(self.ssec_key)

    @property
    def algorithms(self) -> tuple[str, ...]:
        if self.digest is None or self.digest[0] == "md5":
            return ("md5",)
        return ("md5", self.digest[0])

    def keystream(self) -> Keystream | None:
        if self.ssec_key is None or self.ssec is None:
            return None
        return Keystream(self.ssec_key, self.ssec)

    def row(self, version: str, mtime: int, size: int, found: Mapping[str, bytes]) -> ObjectRow:
        check_digest(self.digest, found)
        etag = found["md5"].hex()
        checksums = None
        if self.digest is not None:
            name, digest = self.digest
            checksums = json.dumps({name: digest.hex()})
        return ObjectRow(
            size,
            etag,
            iso(date_of(mtime // 1_000_000)),
            self.http_metadata,
            self.custom_metadata,
            version,
            etag,
            mtime,
            checksums,
            None if self.storage_class == "Standard" else self.storage_class,
            None if self.ssec is None else self.ssec.dump(),
        )


_PLAIN = Writing({}, LIMITS)


def renewed(row: ObjectRow, version: str, mtime: int) -> ObjectRow:
    """The row of a copy."""
    return row._replace(
        uploaded=iso(date_of(mtime // 1_000_000)),
        version=version,
        own_etag=row.etag,
        mtime=mtime,
        checksums=row.checksums if row.own else None,
        storage_class=row.storage_class if row.own else None,
        ssec=row.ssec if row.own else None,
    )
