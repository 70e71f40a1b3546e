"""``bunflare queues message``: sending messages, looking at them, and dead letters sent back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError, QueueError
from .place import Place, on_state, read_file
from .queues_common import FORCE, QUEUE, mention_new, named, purge_queue, queue_of
from .tables import JSON, many, show, tell

if TYPE_CHECKING:
    from ..bindings.queues import PeekedMessage


@click.group("message")
def message_group() -> None:
    """Messages: send, peek, purge, requeue."""


@on_state(message_group, "send")
@QUEUE
@click.argument("body", required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Take the body from this file; - is standard input.",
)
@click.option(
    "--content-type",
    type=click.Choice(["json", "text", "bytes"]),
    default="json",
    show_default=True,
    help="How the body is meant. bytes are taken as they are.",
)
@click.option("--delay-secs", type=float, help="Seconds until it may be delivered.")
@JSON
async def send(
    place: Place,
    name: str,
    body: str | None,
    path: Path | None,
    content_type: str,
    delay_secs: float | None,
    as_json: bool,
) -> None:
    """Send a message: BODY, or what a file holds."""
    if (body is None) == (path is None):
        raise click.UsageError("give either BODY or --path")
    if body is not None:
        data = body.encode("utf-8", "surrogateescape")
    else:
        data = read_file(path or Path("-"))
    value = _value(data, content_type)
    queue = place.state.queue(named(place, name))
    mention_new(place, queue.name)
    kind: Any = content_type
    answer = await queue.send(value, kind, delay_secs)
    waiting = answer.metadata.metrics.backlog_count
    sentence = f"Sent to queue {queue.name}; {many(waiting, 'message', 'waits', 'wait')} there."
    tell(as_json, sentence, queue=queue.name, backlog=waiting)


def _value(data: bytes, content_type: str) -> Any:
    if content_type == "bytes":
        return data
    try:
        text = data.decode()
        return text if content_type == "text" else json.loads(text)
    except ValueError as error:
        raise BunflareError(f"the body is not {content_type}: {error}") from error


@on_state(message_group, "peek", reads=True)
@QUEUE
@click.option("--limit", type=int, default=10, show_default=True, help="How many, at most.")
@JSON
async def peek(place: Place, name: str, limit: int, as_json: bool) -> None:
    """Look at messages in the order of their delivery, without delivering them."""
    found = await queue_of(place, name).peek(limit)
    # Hardly ever is there anything to say about a message.
    noted = any(one.corrupt for one in found)
    show([_peeked(one, noted) for one in found], as_json)


def _peeked(message: PeekedMessage, noted: bool) -> dict[str, Any]:
    return {
        "id": message.id,
        "timestamp": message.timestamp.isoformat(timespec="milliseconds"),
        "state": message.state,
        "attempts": message.attempts,
        "content_type": message.content_type,
        "origin": message.origin,
        "body": message.body,
        **({"corrupt": message.corrupt} if noted else {}),
    }


@on_state(message_group, "purge", reads=True)
@QUEUE
@FORCE
@JSON
async def purge_messages(place: Place, name: str, force: bool, as_json: bool) -> None:
    """Delete all messages of a queue for good."""
    await purge_queue(place, name, force, as_json)


@on_state(message_group, "requeue", reads=True)
@QUEUE
@click.option("--to", help="The queue to send them to; by default where each came from.")
@click.option("--id", "ids", multiple=True, help="Only this message; may be repeated.")
@click.option("--limit", type=int, default=1000, show_default=True, help="Of all messages.")
@JSON
async def requeue(
    place: Place, name: str, to: str | None, ids: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Send the messages of a dead-letter queue back."""
    target = None if to is None else named(place, to)
    counts = await queue_of(place, name).requeue(target, list(ids) or None, limit)
    if ids and sum(counts.values()) < len(set(ids)):
        missing = len(set(ids)) - sum(counts.values())
        click.echo(f"{missing} of the messages are not there, or came from nowhere", err=True)
    if not counts:
        raise QueueError("nothing was sent back: no message came from elsewhere; see --to")
    for queue, count in counts.items():
        click.echo(f"Sent {many(count, 'message')} to queue {queue}.", err=True)
    tell(as_json, None, messages=counts)
