"""What queues take: bodies and their limits, delays, and the settings of consumers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .. import values
from ..errors import (
    QueueError,
    QueueTypeError,
    QueueValueError,
    ValueCorrupt,
    ValueNotSerializable,
)
from ..store.queues import SETTABLE
from .text import encodable, scalar, utf8_length

QueueContentType = Literal["text", "bytes", "json", "v8"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The platform's limits. https://developers.cloudflare.com/queues/platform/limits/"""

    #: Bytes of a message, and of the messages of one `send_batch`; and how many these may be.
    message_size: int = 128_000
    batch_size: int = 256_000
    batch_count: int = 100
    #: Seconds.
    delay: int = 24 * 3600
    batch_timeout: int = 60
    retention: tuple[int, int] = (60, 14 * 24 * 3600)
    #: Milliseconds.
    visibility_timeout: int = 12 * 3600 * 1000
    retries: int = 100
    concurrency: int = 250


LIMITS = QueueLimits()


@dataclass(frozen=True, slots=True)
class MessageSendRequest:
    """One message of a `send_batch`. ``delay_seconds`` is in place of what the batch says."""

    body: Any
    content_type: QueueContentType = "json"
    delay_seconds: float | None = None


def check_name(name: object, what: str = "a queue") -> str:
    if not isinstance(name, str) or not name:
        raise QueueTypeError(f"{what} needs a name (a non-empty str)")
    if encodable(name) is not name:
        # Such a row would fail with all those that are sent in the same turn.
        raise QueueTypeError(f"{what} needs a name that UTF-8 can encode, not {name!r}")
    return name


# -- bodies ------------------------------------------------------------------------------------


def encode(body: Any, content_type: object) -> tuple[str, str, int]:
    """A body as it is stored, its content type, and its size in bytes.

    What is stored can be read: JSON, plain text, or base64 where the body is bytes.
    """
    # Nearly all are JSON.
    if content_type == "json":
        try:
            text = values.dumps(body)
        except ValueNotSerializable as error:
            raise QueueTypeError(str(error)) from error
        return text, "json", len(text) if text.isascii() else utf8_length(text)
    match content_type.lower() if isinstance(content_type, str) else content_type:
        case "json" | "v8" | None as kind:
            text, _, size = encode(body, "json")
            return text, kind or "json", size
        case "text":
            if not isinstance(body, str):
                raise QueueTypeError(
                    'Content Type "text" requires a value of type string, but received: '
                    + _type_of(body)
                )
            text = body if body.isascii() else scalar(body)
            return text, "text", utf8_length(text)
        case "bytes":
            if not isinstance(body, bytes | bytearray | memoryview):
                raise QueueTypeError(
                    'Content Type "bytes" requires a value of type ArrayBufferView, but received: '
                    + _type_of(body)
                )
            data = bytes(body)
            return base64.b64encode(data).decode(), "bytes", len(data)
        case _:
            raise QueueTypeError(f"Unsupported queue message content type: {content_type}")


def decode(stored: str | bytes, content_type: str) -> Any:
    """The body of a message. Raises `ValueCorrupt`."""
    match content_type:
        case "json" | "v8":
            return values.loads(stored)
        case "text":
            return stored if isinstance(stored, str) else stored.decode("utf-8", "replace")
        case "bytes":
            if isinstance(stored, bytes):
                return stored  # as a relative of the seed stores it
            try:
                return base64.b64decode(stored, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ValueCorrupt(f"the stored bytes cannot be read: {error}") from error
        case _:
            raise ValueCorrupt(f"there is no content type {content_type!r}")


def body_of(stored: str | bytes, content_type: str) -> tuple[Any, str | None]:
    """A body, or why it cannot be read."""
    try:
        return decode(stored, content_type), None
    except ValueCorrupt as error:
        return None, str(error)


def _type_of(value: Any) -> str:
    """JavaScript's word for the type of a value."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _ if callable(value):
            return "function"
        case _:
            return "object"


def check_size(size: int, limits: QueueLimits) -> None:
    if size > limits.message_size:
        raise QueueValueError(
            f"Queue send failed: message length of {size} bytes exceeds limit of "
            f"{limits.message_size}",
            413,
        )


def check_sizes(sizes: list[int], limits: QueueLimits) -> int:
    """The size of a batch, by those of its messages."""
    if not sizes:
        raise QueueTypeError("sendBatch() requires at least one message")
    if len(sizes) > limits.batch_count:
        raise QueueValueError(
            f"Queue sendBatch failed: batch message count of {len(sizes)} exceeds limit of "
            f"{limits.batch_count}",
            413,
        )
    largest = max(sizes)
    if largest > limits.message_size:
        raise QueueValueError(
            f"Queue sendBatch failed: message in batch has length {largest} bytes which exceeds "
            f"single message size limit of {limits.message_size}",
            413,
        )
    whole = sum(sizes)
    if whole > limits.batch_size:
        raise QueueValueError(
            f"Queue sendBatch failed: batch size of {whole} bytes exceeds limit of "
            f"{limits.batch_size}",
            413,
        )
    return whole


# -- requests ----------------------------------------------------------------------------------

_REQUEST = {
    "body": "body",
    "content_type": "content_type",
    "contentType": "content_type",
    "delay_seconds": "delay_seconds",
    "delaySeconds": "delay_seconds",
}


def request_of(message: object) -> MessageSendRequest:
    """What `send_batch` was given for one message: a request, a dict like one, or a body."""
    kind = message.__class__
    if kind is str or kind is int:
        return MessageSendRequest(message)
    if isinstance(message, MessageSendRequest):
        return message
    if kind is dict or isinstance(message, Mapping):
        assert isinstance(message, Mapping)
        if "body" in message and message.keys() <= _REQUEST.keys():
            return MessageSendRequest(**{_REQUEST[key]: value for key, value in message.items()})
    return MessageSendRequest(message)


# -- leases ------------------------------------------------------------------------------------


def several_leases(given: Any, what: str) -> Iterable[Any]:
    """What `Queue.ack` was given, if it is several."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise QueueTypeError(f"{what} are several lease ids, not {type(given).__name__}")
    return given


_LEASE = {
    "lease_id": "lease_id",
    "leaseId": "lease_id",
    "delay_seconds": "delay_seconds",
    "delaySeconds": "delay_seconds",
}


def lease_of(given: Any) -> Any:
    """A lease id, which may stand in a dict, as in the platform's HTTP interface."""
    return _named(given)[0] if isinstance(given, Mapping) else given


def retry_of(given: Any) -> tuple[Any, float | None]:
    """A lease id, and the delay that belongs to it."""
    if isinstance(given, Mapping):
        return _named(given)
    if isinstance(given, tuple | list) and len(given) == 2:
        return given[0], given[1]
    return given, None


def _named(given: Mapping[str, Any]) -> tuple[Any, Any]:
    fields = {_LEASE.get(name, name): value for name, value in given.items()}
    if "lease_id" not in fields or fields.keys() - {"lease_id", "delay_seconds"}:
        raise QueueTypeError(f"a lease is {{lease_id, delay_seconds}}, not {dict(given)!r}")
    return fields["lease_id"], fields.get("delay_seconds")


def parts_of_lease(lease: object) -> tuple[str, str]:
    """The message that is leased, and the secret of the lease."""
    if not isinstance(lease, str):
        raise QueueTypeError(f"a lease id is a str, not {type(lease).__name__}")
    # Ours are; others are as unknown as what this becomes.
    message, _, secret = (lease if lease.isascii() else "").rpartition(".")
    return message, secret


# -- numbers -----------------------------------------------------------------------------------


def delay_ms(seconds: object, call: str, limits: QueueLimits = LIMITS) -> int:
    """A delay in milliseconds."""
    if type(seconds) is int and 0 <= seconds <= limits.delay:
        return seconds * 1000
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise QueueTypeError(
            f"{call}: a delay must be a number of seconds, not {type(seconds).__name__}"
        )
    if not 0 <= seconds <= limits.delay:
        raise QueueValueError(
            f"{call}: message delay {seconds} is invalid: it must be from 0 to {limits.delay} "
            "seconds",
            400,
        )
    return round(seconds * 1000)


def whole(value: object, what: str, least: int, most: int) -> int:
    """A whole number within limits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise QueueTypeError(f"{what} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise QueueValueError(f"{what} must be from {least} to {most}, not {value}")
    return value


def seconds_ms(value: object, what: str, most: int) -> int:
    """A time in milliseconds that was given in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise QueueTypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise QueueValueError(f"{what} must be from 0 to {most} seconds, not {value}")
    return round(value * 1000)


def paused(queue: str) -> QueueError:
    return QueueError(f"queue_delivery_paused: delivery of the queue {queue!r} is paused", 409)


def check_settings(settings: Mapping[str, Any], limits: QueueLimits) -> None:
    """What `Queue.configure` was given."""
    for name, value in settings.items():
        if name not in SETTABLE or name == "paused":
            known = ", ".join(sorted(SETTABLE - {"paused"}))
            raise QueueTypeError(f"{name!r} cannot be set of a queue; there are {known}")
        if value is None:
            continue
        match name:
            case "dead_letter_queue":
                check_name(value, name)
            case "retention":
                whole(value, name, *limits.retention)
            case "max_retries":
                whole(value, name, 0, limits.retries)
            case "visibility_timeout":
                whole(value, name, 1, limits.visibility_timeout)
            case _:
                whole(value, name, 0, limits.delay)
