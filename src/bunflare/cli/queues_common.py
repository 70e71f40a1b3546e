"""What the commands of ``bunflare queues`` share: which queue is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import QueueError
from .names import completion
from .place import Place, confirm, did_you_mean
from .tables import many, tell

if TYPE_CHECKING:
    from ..bindings.queue_admin import QueueAdmin
    from ..bindings.queues import Queue


def admin(place: Place) -> QueueAdmin:
    from ..bindings.queue_admin import QueueAdmin

    return QueueAdmin(place.state.database, place.state.clock)


def named(place: Place, name: str) -> str:
    """The queue that a word means."""
    for one in place.config.queues.producers if place.config else ():
        if one.binding == name:
            return one.queue
    return name


def declared(place: Place) -> set[str]:
    """The queues of the wrangler file."""
    if place.config is None:
        return set()
    queues = place.config.queues
    dead = {one.dead_letter_queue for one in queues.consumers if one.dead_letter_queue}
    produced = {one.queue for one in queues.producers}
    return produced | {one.queue for one in queues.consumers} | dead


def known_queue(place: Place, name: str) -> str:
    """The queue that a word means, which must be there or stand in the wrangler file."""
    queue = named(place, name)
    names = {*admin(place).names(), *declared(place)}
    if queue not in names:
        raise QueueError(f'Queue "{queue}" does not exist.{did_you_mean(queue, names)}')
    return queue


def mention_new(place: Place, queue: str) -> None:
    """Say that a queue is made now, where another was perhaps meant."""
    known = {*admin(place).names(), *_words(place)}
    close = did_you_mean(queue, known, cutoff=0.75)
    if close and queue not in known:
        click.echo(f"{queue!r} is a new queue.{close}", err=True)


def queue_of(place: Place, name: str) -> Queue:
    """That queue, which must be there or stand in the wrangler file."""
    return place.state.queue(known_queue(place, name))


def _words(place: Place) -> set[str]:
    bindings = {one.binding for one in place.config.queues.producers} if place.config else set()
    return bindings | declared(place)


QUEUE = click.argument(
    "name", shell_complete=completion(_words, lambda place: admin(place).names())
)
FORCE = click.option("--force", "-f", is_flag=True, help="Do not ask.")


async def purge_queue(place: Place, name: str, force: bool, as_json: bool) -> None:
    """Delete all messages of a queue, if that is meant."""
    queue = queue_of(place, name)
    confirm(f"Permanently delete all the messages in queue {queue.name!r}?", force)
    count = await queue.purge()
    sentence = f"Purged queue '{queue.name}' ({many(count, 'message')})"
    tell(as_json, sentence, queue=queue.name, messages=count)
