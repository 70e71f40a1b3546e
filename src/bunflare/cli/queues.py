"""``bunflare queues``: queues and their messages, with wrangler's names and options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BunflareError, QueueError
from .place import Place, confirm, did_you_mean, on_state
from .tables import is_terminal, show, show_json

if TYPE_CHECKING:
    from ..bindings.queue_admin import QueueAdmin, QueueInfo
    from ..bindings.queues import PeekedMessage, Queue

_NAME = click.argument("name")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, also on a terminal.")
_force = click.option("--force", "-f", is_flag=True, help="Do not ask.")


@click.group("queues")
def command() -> None:
    """Queues: their messages, consumers and dead letters.

    NAME is that of a queue, or of its binding in the wrangler file.
    """


@command.group("message")
def message_group() -> None:
    """Messages: send, peek, purge, requeue."""


@command.group("consumer")
def consumer_group() -> None:
    """Who consumes a queue."""


@consumer_group.group("http")
def http_group() -> None:
    """How a queue is pulled."""


# -- which queue -------------------------------------------------------------------------------


def _admin(place: Place) -> QueueAdmin:
    from ..bindings.queue_admin import QueueAdmin

    return QueueAdmin(place.state.database, place.state.clock)


def _named(place: Place, name: str) -> str:
    """The queue that a word means."""
    for one in place.config.queues.producers if place.config else ():
        if one.binding == name:
            return one.queue
    return name


def _declared(place: Place) -> set[str]:
    if place.config is None:
        return set()
    queues = place.config.queues
    dead = {one.dead_letter_queue for one in queues.consumers if one.dead_letter_queue}
    produced = {one.queue for one in queues.producers}
    return produced | {one.queue for one in queues.consumers} | dead


def _known(place: Place, name: str) -> str:
    """The queue that a word means, which must be there or stand in the wrangler file."""
    queue = _named(place, name)
    names = {*_admin(place).names(), *_declared(place)}
    if queue not in names:
        raise QueueError(f'Queue "{queue}" does not exist.{did_you_mean(queue, names)}')
    return queue


def _queue(place: Place, name: str) -> Queue:
    return place.state.queue(_known(place, name))


# -- queues ------------------------------------------------------------------------------------


@on_state(command, "list")
@_json
async def list_queues(place: Place, as_json: bool) -> None:
    """The queues that have messages, were created, or stand in the wrangler file."""
    admin = _admin(place)
    names = sorted({*admin.names(), *_declared(place)})
    rows = [_row(admin.info(name)) for name in names]
    show(rows, as_json or not is_terminal())


def _row(info: QueueInfo) -> dict[str, Any]:
    oldest = info.metrics.oldest_message_timestamp
    return {
        "queue": info.name,
        "backlog": info.metrics.backlog_count,
        "bytes": info.metrics.backlog_bytes,
        "oldest": "" if oldest is None else oldest.isoformat(timespec="milliseconds"),
        "in flight": info.in_flight,
        "delivery": "paused" if info.paused else "active",
    }


def _settings(function: Any) -> Any:
    for option in (
        click.option(
            "--message-retention-period-secs",
            "retention",
            type=int,
            help="How long a message is kept: 60 to 1209600. [default: 345600, four days]",
        ),
        click.option(
            "--delivery-delay-secs",
            "delivery_delay",
            type=int,
            help="How long a message waits at least: 0 to 86400. [default: 0]",
        ),
    ):
        function = option(function)
    return function


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


@on_state(command, "create")
@_NAME
@_settings
async def create(
    place: Place, name: str, delivery_delay: int | None, retention: int | None
) -> None:
    """Make a queue, and show what binds it to a Worker.

    Nothing needs this: a queue is there once something is sent to it.
    """
    if name in _admin(place).names():
        raise QueueError(f'Queue "{name}" exists already')
    settings = _given(delivery_delay=delivery_delay, retention=retention)
    if settings:
        await place.state.queue(name).configure(**settings)
    await _admin(place).create(name)
    click.echo(f"Created queue '{name}'", err=True)
    binding = "".join(one if one.isalnum() and one.isascii() else "_" for one in name).upper()
    if place.config_path is not None and place.config_path.suffix == ".toml":
        click.echo("[[queues.producers]]")
        click.echo(f"queue = {json.dumps(name)}\nbinding = {json.dumps(binding)}")
    else:
        show_json({"queues": {"producers": [{"queue": name, "binding": binding}]}})


@on_state(command, "update")
@_NAME
@_settings
async def update(
    place: Place, name: str, delivery_delay: int | None, retention: int | None
) -> None:
    """Change how long messages wait and are kept."""
    settings = _given(delivery_delay=delivery_delay, retention=retention)
    if not settings:
        raise click.UsageError(
            "give --delivery-delay-secs or --message-retention-period-secs, or both"
        )
    queue = _queue(place, name)
    await queue.configure(**settings)
    click.echo(f"Updated queue '{queue.name}'", err=True)


@on_state(command, "delete", reads=True)
@_NAME
@_force
async def delete(place: Place, name: str, force: bool) -> None:
    """Delete a queue with all its messages."""
    queue = _known(place, name)
    confirm(f"Delete the queue {queue!r} with all its messages?", force)
    count = await _admin(place).delete(queue)
    click.echo(f"Deleted queue '{queue}' ({count} messages)", err=True)


@on_state(command, "info")
@_NAME
@_json
async def info(place: Place, name: str, as_json: bool) -> None:
    """All about one queue: its backlog, settings, producers and consumers."""
    queue = _known(place, name)
    found = _admin(place).info(queue)
    details = {
        **_row(found),
        "created": None if found.created is None else found.created.isoformat(),
        "delivery delay (s)": found.delivery_delay or 0,
        "retention (s)": found.retention,
        "producers": _producers(place, queue),
        "consumers": [one["type"] for one in _consumers(place, found)],
    }
    if as_json or not is_terminal():
        show_json(details)
        return
    for key, value in details.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{key + ':':20} {'' if shown is None else shown}")


def _producers(place: Place, queue: str) -> list[str]:
    producers = place.config.queues.producers if place.config else ()
    return [one.binding for one in producers if one.queue == queue]


@on_state(command, "purge", reads=True)
@_NAME
@_force
async def purge(place: Place, name: str, force: bool) -> None:
    """Delete all messages of a queue for good."""
    await _purge(place, name, force)


async def _purge(place: Place, name: str, force: bool) -> None:
    queue = _queue(place, name)
    confirm(f"Permanently delete all the messages in queue {queue.name!r}?", force)
    count = await queue.purge()
    click.echo(f"Purged queue '{queue.name}' ({count} messages)", err=True)


@on_state(command, "pause-delivery")
@_NAME
async def pause_delivery(place: Place, name: str) -> None:
    """Deliver nothing more, in whatever process; sending goes on."""
    queue = _queue(place, name)
    await queue.pause()
    click.echo(f"Paused message delivery for queue {queue.name}.", err=True)


@on_state(command, "resume-delivery")
@_NAME
async def resume_delivery(place: Place, name: str) -> None:
    """Deliver again."""
    queue = _queue(place, name)
    await queue.resume()
    click.echo(f"Resumed message delivery for queue {queue.name}.", err=True)


# -- consumers ---------------------------------------------------------------------------------


def _consumers(place: Place, info: QueueInfo) -> list[dict[str, Any]]:
    config = place.config
    rows: list[dict[str, Any]] = [
        {
            "type": "worker",
            "worker": config.name,
            "batch size": one.max_batch_size,
            "batch timeout (s)": one.max_batch_timeout,
            "retries": one.max_retries,
            "concurrency": one.max_concurrency,
            "dead letter queue": one.dead_letter_queue,
        }
        for one in (config.queues.consumers if config else ())
        if config is not None and one.queue == info.name and one.type == "worker"
    ]
    pulled = (info.max_retries, info.retry_delay, info.visibility_timeout_ms)
    if any(value is not None for value in (*pulled, info.dead_letter_queue)):
        rows.append(
            {
                "type": "http_pull",
                "worker": None,
                "batch size": None,
                "batch timeout (s)": None,
                "retries": info.max_retries,
                "concurrency": None,
                "dead letter queue": info.dead_letter_queue,
            }
        )
    return rows


@on_state(consumer_group, "list")
@_NAME
@_json
async def list_consumers(place: Place, name: str, as_json: bool) -> None:
    """The Worker of the wrangler file that consumes a queue, and whether it is pulled."""
    info = _admin(place).info(_known(place, name))
    show(_consumers(place, info), as_json or not is_terminal())


@on_state(http_group, "add")
@_NAME
@click.option("--message-retries", "max_retries", type=int, help="0 to 100. [default: 3]")
@click.option("--dead-letter-queue")
@click.option("--visibility-timeout-secs", type=int, help="Up to 43200. [default: 30]")
@click.option("--retry-delay-secs", "retry_delay", type=int, help="Up to 86400. [default: 0]")
async def add_http(
    place: Place,
    name: str,
    max_retries: int | None,
    dead_letter_queue: str | None,
    visibility_timeout_secs: int | None,
    retry_delay: int | None,
) -> None:
    """Set how a queue is pulled."""
    queue = place.state.queue(_named(place, name))
    timeout = visibility_timeout_secs
    await queue.configure(
        max_retries=3 if max_retries is None else max_retries,
        dead_letter_queue=dead_letter_queue,
        visibility_timeout=None if timeout is None else timeout * 1000,
        retry_delay=retry_delay,
    )
    click.echo(f"Added consumer to queue {queue.name}.", err=True)


@on_state(http_group, "remove", reads=True)
@_NAME
async def remove_http(place: Place, name: str) -> None:
    """Forget how a queue is pulled: the defaults count again."""
    queue = _queue(place, name)
    await queue.configure(
        max_retries=None, dead_letter_queue=None, visibility_timeout=None, retry_delay=None
    )
    click.echo(f"Removed consumer from queue {queue.name}.", err=True)


# -- messages ----------------------------------------------------------------------------------


@on_state(message_group, "send")
@_NAME
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
async def send(
    place: Place,
    name: str,
    body: str | None,
    path: Path | None,
    content_type: str,
    delay_secs: float | None,
) -> None:
    """Send a message: BODY, or what a file holds."""
    if (body is None) == (path is None):
        raise click.UsageError("give either BODY or --path")
    if body is not None:
        data = body.encode("utf-8", "surrogateescape")
    else:
        data = sys.stdin.buffer.read() if str(path) == "-" else (path or Path()).read_bytes()
    queue = place.state.queue(_named(place, name))
    value = _value(data, content_type)
    kind: Any = content_type
    answer = await queue.send(value, kind, delay_secs)
    waiting = answer.metadata.metrics.backlog_count
    click.echo(f"Sent to queue {queue.name}; {waiting} wait there.", err=True)


def _value(data: bytes, content_type: str) -> Any:
    if content_type == "bytes":
        return data
    try:
        text = data.decode()
        return text if content_type == "text" else json.loads(text)
    except ValueError as error:
        raise BunflareError(f"the body is not {content_type}: {error}") from error


@on_state(message_group, "peek", reads=True)
@_NAME
@click.option("--limit", type=int, default=10, show_default=True)
@_json
async def peek(place: Place, name: str, limit: int, as_json: bool) -> None:
    """Look at messages in the order of their delivery, without delivering them."""
    found = await _queue(place, name).peek(limit)
    show([_peeked(one) for one in found], as_json or not is_terminal())


def _peeked(message: PeekedMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "timestamp": message.timestamp.isoformat(timespec="milliseconds"),
        "state": message.state,
        "attempts": message.attempts,
        "content_type": message.content_type,
        "origin": message.origin,
        "body": f"({message.corrupt})" if message.corrupt else message.body,
    }


@on_state(message_group, "purge", reads=True)
@_NAME
@_force
async def purge_messages(place: Place, name: str, force: bool) -> None:
    """Delete all messages of a queue for good."""
    await _purge(place, name, force)


@on_state(message_group, "requeue", reads=True)
@_NAME
@click.option("--to", help="The queue to send them to; by default where each came from.")
@click.option("--id", "ids", multiple=True, help="Only this message; may be repeated.")
@click.option("--limit", type=int, default=1000, show_default=True, help="Of all messages.")
async def requeue(
    place: Place, name: str, to: str | None, ids: tuple[str, ...], limit: int
) -> None:
    """Send the messages of a dead-letter queue back."""
    target = None if to is None else _named(place, to)
    counts = await _queue(place, name).requeue(target, list(ids) or None, limit)
    if ids and sum(counts.values()) < len(set(ids)):
        missing = len(set(ids)) - sum(counts.values())
        click.echo(f"{missing} of the messages are not there, or came from nowhere", err=True)
    for queue, count in counts.items():
        click.echo(f"Sent {count} messages to queue {queue}.", err=True)
    if not counts:
        raise QueueError("nothing was sent back: no message came from elsewhere; see --to")
