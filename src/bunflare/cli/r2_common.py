"""What the commands of ``bunflare r2`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..errors import BunflareError
from .names import completion
from .place import Place, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..bindings.r2 import R2Bucket
    from ..bindings.r2_buckets import R2Buckets
    from ..bindings.r2_objects import R2Object


_MOST_KEYS = 100


class ObjectPath(click.ParamType[tuple[str, str]]):
    """``BUCKET/KEY``."""

    name = "bucket/key"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        bucket, slash, begun = incomplete.partition("/")
        if not slash:
            return [CompletionItem(f"{one}/") for one in _complete_bucket(ctx, param, bucket)]

        def keys(place: Place) -> list[str]:
            return buckets_of(place).keys(name_of(place, bucket), begun, _MOST_KEYS)

        found = completion(None, keys)(ctx, param, begun)
        return [CompletionItem(f"{bucket}/{key}") for key in found]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        bucket, slash, key = str(value).partition("/")
        if not bucket or not slash or not key:
            self.fail(f"{value!r} is not of the form BUCKET/KEY", param, ctx)
        return bucket, key


def _declared(place: Place) -> Iterator[str]:
    for one in place.config.r2_buckets if place.config else ():
        yield from (one.binding, one.bucket)


_complete_bucket = completion(_declared, lambda place: buckets_of(place).names())

OBJECT = click.argument("path", metavar="BUCKET/KEY", type=ObjectPath())
BUCKET = click.argument("bucket", shell_complete=_complete_bucket)
PREFIX = click.option("--prefix", default="", help="Only keys that begin with this.")
JURISDICTION = click.option("--jurisdiction", "-J", hidden=True, expose_value=False)
FORCE = click.option("--force", "-y", is_flag=True, hidden=True, expose_value=False)

_PUT_OPTIONS = (
    click.option("--content-type", "--ct", help="Of the object, as in HTTP."),
    click.option("--content-disposition", "--cd", help="Of the object, as in HTTP."),
    click.option("--content-encoding", "--ce", help="Of the object, as in HTTP."),
    click.option("--content-language", "--cl", help="Of the object, as in HTTP."),
    click.option("--cache-control", "--cc", help="Of the object, as in HTTP."),
    click.option("--expires", help="An ISO 8601 date."),
    click.option(
        "--storage-class",
        "-s",
        type=click.Choice(["Standard", "InfrequentAccess"]),
        help="It is noted with the object.",
    ),
    JURISDICTION,
    FORCE,
)


def put_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take an object's metadata; it gets ``options`` for `R2Bucket.put`."""

    @wraps(function)
    def run(
        *arguments: Any,
        content_type: str | None,
        content_disposition: str | None,
        content_encoding: str | None,
        content_language: str | None,
        cache_control: str | None,
        expires: str | None,
        storage_class: str | None,
        **given: Any,
    ) -> Any:
        http_metadata: dict[str, Any] = {
            "content_type": content_type,
            "content_disposition": content_disposition,
            "content_encoding": content_encoding,
            "content_language": content_language,
            "cache_control": cache_control,
        }
        if expires is not None:
            http_metadata["cache_expiry"] = date_of(expires)
        options = {"http_metadata": http_metadata, "storage_class": storage_class}
        return function(*arguments, options=options, **given)

    wrapped: Callable[..., Any] = run
    for option in reversed(_PUT_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def date_of(text: str) -> datetime:
    """A date of the command line; one without a zone is UTC."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an ISO 8601 date", param_hint="--expires"
        ) from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def name_of(place: Place, bucket: str) -> str:
    """The bucket that a binding of the wrangler file means; else the one of that name."""
    for one in place.config.r2_buckets if place.config else ():
        if one.binding == bucket:
            return one.bucket
    return bucket


def bucket_of(place: Place, bucket: str) -> R2Bucket:
    return place.state.r2(name_of(place, bucket))


def buckets_of(place: Place) -> R2Buckets:
    from ..bindings.r2_buckets import R2Buckets

    return R2Buckets(place.state.database, place.state.clock)


def must_exist(place: Place, bucket: str) -> None:
    """Fail if nobody has declared, made or filled a bucket."""
    unknown = _unknown(place, bucket)
    if unknown is not None:
        raise BunflareError(unknown)


def _unknown(place: Place, bucket: str) -> str | None:
    declared = place.config.r2_buckets if place.config else ()
    known = {*buckets_of(place).names(), *(one.bucket for one in declared)}
    if name_of(place, bucket) in known:
        return None
    known |= {one.binding for one in declared}
    return f"there is no bucket {bucket!r}.{did_you_mean(bucket, known)}"


def missing(place: Place, bucket: str, key: str) -> NoReturn:
    unknown = _unknown(place, bucket)
    why = "." if unknown is None else f": {unknown}"
    raise BunflareError(f"{key!r}: The specified key does not exist{why}")


def described(found: R2Object) -> dict[str, Any]:
    """An object's metadata for JSON."""
    metadata = found.http_metadata
    headers = (
        {}
        if metadata is None
        else {
            name: getattr(metadata, name)
            for name in metadata.__dataclass_fields__
            if getattr(metadata, name) is not None
        }
    )
    return {
        "key": found.key,
        "size": found.size,
        "etag": found.etag,
        "version": found.version,
        "uploaded": found.uploaded.isoformat(),
        "storage_class": found.storage_class,
        "checksums": found.checksums.to_json(),
        "http_metadata": {name: str(value) for name, value in headers.items()},
        "custom_metadata": found.custom_metadata,
    }
