"""``bunflare queues``: queues and their messages, with wrangler's names and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import QueueError
from .elsewhere import only_there
from .place import Place, confirm, on_state
from .queues_common import FORCE, QUEUE, admin, declared, known_queue, purge_queue, queue_of
from .queues_consumers import consumer_group, consumers_of
from .queues_messages import message_group
from .tables import JSON, many, show, show_json, tell
from .wrangler_file import show_table

if TYPE_CHECKING:
    from ..bindings.queue_admin import QueueInfo


@click.group("queues")
def command() -> None:
    """Queues: their messages, consumers and dead letters.

    NAME is that of a queue, or of its binding in the wrangler file.
    """


command.add_command(message_group)
command.add_command(consumer_group)
only_there(command, {"subscription": "events of an account are sent where the account is"})


@on_state(command, "list", reads=True)
@click.option("--page", type=click.IntRange(1), hidden=True, expose_value=False)
@JSON
async def list_queues(place: Place, as_json: bool) -> None:
    """The queues that have messages, were created, or stand in the wrangler file."""
    known = admin(place)
    rows = [_row(known.info(name)) for name in sorted({*known.names(), *declared(place)})]
    show(rows, as_json)


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
@click.argument("name")
@_settings
@JSON
async def create(
    place: Place, name: str, delivery_delay: int | None, retention: int | None, as_json: bool
) -> None:
    """Make a queue, and show what binds it to a Worker.

    Nothing needs this: a queue is there once something is sent to it.
    """
    if name in admin(place).names():
        raise QueueError(f'Queue "{name}" exists already')
    settings = _given(delivery_delay=delivery_delay, retention=retention)
    if settings:
        await place.state.queue(name).configure(**settings)
    await admin(place).create(name)
    click.echo(f"Created queue '{name}'", err=True)
    binding = "".join(one if one.isalnum() and one.isascii() else "_" for one in name).upper()
    show_table(place, "queues.producers", {"queue": name, "binding": binding}, as_json)


@on_state(command, "update")
@QUEUE
@_settings
@JSON
async def update(
    place: Place, name: str, delivery_delay: int | None, retention: int | None, as_json: bool
) -> None:
    """Change how long messages wait and are kept."""
    settings = _given(delivery_delay=delivery_delay, retention=retention)
    if not settings:
        raise click.UsageError(
            "give --delivery-delay-secs or --message-retention-period-secs, or both"
        )
    queue = queue_of(place, name)
    await queue.configure(**settings)
    tell(as_json, f"Updated queue '{queue.name}'", queue=queue.name, **settings)


@on_state(command, "delete", reads=True)
@QUEUE
@FORCE
@JSON
async def delete(place: Place, name: str, force: bool, as_json: bool) -> None:
    """Delete a queue with all its messages."""
    queue = known_queue(place, name)
    confirm(f"Delete the queue {queue!r} with all its messages?", force)
    count = await admin(place).delete(queue)
    sentence = f"Deleted queue '{queue}' ({many(count, 'message')})"
    tell(as_json, sentence, queue=queue, deleted=True, messages=count)


@on_state(command, "info", reads=True)
@QUEUE
@JSON
async def info(place: Place, name: str, as_json: bool) -> None:
    """All about one queue: its backlog, settings, producers and consumers."""
    queue = known_queue(place, name)
    found = admin(place).info(queue)
    details = {
        **_row(found),
        "created": None if found.created is None else found.created.isoformat(),
        "delivery delay (s)": found.delivery_delay or 0,
        "retention (s)": found.retention,
        "producers": _producers(place, queue),
        "consumers": [one["type"] for one in consumers_of(place, found)],
    }
    if as_json:
        show_json(details)
        return
    for key, value in details.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{key + ':':20} {'' if shown is None else shown}")


def _producers(place: Place, queue: str) -> list[str]:
    producers = place.config.queues.producers if place.config else ()
    return [one.binding for one in producers if one.queue == queue]


@on_state(command, "purge", reads=True)
@QUEUE
@FORCE
@JSON
async def purge(place: Place, name: str, force: bool, as_json: bool) -> None:
    """Delete all messages of a queue for good."""
    await purge_queue(place, name, force, as_json)


@on_state(command, "pause-delivery")
@QUEUE
@JSON
async def pause_delivery(place: Place, name: str, as_json: bool) -> None:
    """Deliver nothing more, in whatever process; sending goes on."""
    queue = queue_of(place, name)
    await queue.pause()
    sentence = f"Paused message delivery for queue {queue.name}."
    tell(as_json, sentence, queue=queue.name, delivery="paused")


@on_state(command, "resume-delivery")
@QUEUE
@JSON
async def resume_delivery(place: Place, name: str, as_json: bool) -> None:
    """Deliver again."""
    queue = queue_of(place, name)
    await queue.resume()
    sentence = f"Resumed message delivery for queue {queue.name}."
    tell(as_json, sentence, queue=queue.name, delivery="active")
