"""``bunflare queues consumer``: the Workers that a queue is delivered to, and who pulls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import QueueError
from .place import Place, on_state
from .queues_common import QUEUE, admin, known_queue, named, queue_of
from .tables import JSON, show, show_json, tell
from .wrangler_file import add_table, nested, show_table

if TYPE_CHECKING:
    from ..bindings.queue_admin import QueueInfo


_TABLE = "queues.consumers"


@click.group("consumer")
def consumer_group() -> None:
    """Who consumes a queue."""


@consumer_group.group("http")
def http_group() -> None:
    """How a queue is pulled."""


@consumer_group.group("worker")
def worker_group() -> None:
    """Which Workers a queue is delivered to: those whose wrangler files say so."""


def consumers_of(place: Place, info: QueueInfo) -> list[dict[str, Any]]:
    """The consumers of a queue, a row each."""
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


def _list(group: click.Group, told: str, *types: str) -> None:
    async def run(place: Place, name: str, as_json: bool) -> None:
        found = consumers_of(place, admin(place).info(known_queue(place, name)))
        show([one for one in found if one["type"] in types], as_json)

    run.__doc__ = told
    on_state(group, "list", reads=True)(QUEUE(JSON(run)))


_list(
    consumer_group,
    "The Worker of the wrangler file that consumes a queue, and whether it is pulled.",
    *("worker", "http_pull"),
)
_list(worker_group, "The Worker of the wrangler file that consumes a queue.", "worker")
_list(http_group, "Whether and how a queue is pulled.", "http_pull")


# -- Workers -----------------------------------------------------------------------------------


def _add(group: click.Group) -> None:
    """Wrangler has the command under two names."""

    @on_state(group, "add")
    @QUEUE
    @click.argument("script")
    @click.option("--batch-size", "max_batch_size", type=int, help="Messages at once, at most.")
    @click.option(
        "--batch-timeout", "max_batch_timeout", type=int, help="Seconds until a batch is full."
    )
    @click.option("--message-retries", "max_retries", type=int, help="0 to 100. [default: 3]")
    @click.option("--dead-letter-queue", help="Where messages go after that.")
    @click.option("--max-concurrency", type=click.IntRange(1), help="Batches at once, at most.")
    @click.option("--retry-delay-secs", "retry_delay", type=int, help="Seconds, up to 86400.")
    @click.option("--update-config", is_flag=True, help="Add it to wrangler.toml.")
    @JSON
    async def add(
        place: Place, name: str, script: str, update_config: bool, as_json: bool, **settings: Any
    ) -> None:
        """Add a Worker that consumes a queue to its wrangler file, if --update-config is given.

        There is nothing else that would have it consume: whoever runs a Worker asks its wrangler
        file. Without the option what belongs there is printed, nothing is changed, and the exit
        code is 1.
        """
        queue = named(place, name)
        _refuse_other(place, script)
        if any(one["type"] == "worker" for one in consumers_of(place, admin(place).info(queue))):
            raise QueueError(f'Queue "{queue}" already has a consumer: {script}')
        given = {key: value for key, value in settings.items() if value is not None}
        entry = {"queue": queue, **given}
        path = place.config_path
        told = {"config": str(path), **nested(_TABLE, entry)}
        if update_config:
            path = add_table(place, _TABLE, entry)()
            tell(as_json, f"Added consumer to queue {queue}, in {path}.", changed=True, **told)
            return
        if as_json:
            show_json({"changed": False, **told})
        else:
            show_table(place, _TABLE, entry)
        raise QueueError(
            f"NOTHING WAS CHANGED: {script} consumes {queue} once this is in {path}; write it "
            "there, or give --update-config"
        )


def _remove(group: click.Group) -> None:
    @on_state(group, "remove", reads=True)
    @QUEUE
    @click.argument("script")
    @JSON
    async def remove(place: Place, name: str, script: str, as_json: bool) -> None:
        """Say what has a Worker consume a queue no longer."""
        queue = known_queue(place, name)
        _refuse_other(place, script)
        if all(one["type"] != "worker" for one in consumers_of(place, admin(place).info(queue))):
            raise QueueError(f'No worker consumer "{script}" exists for queue "{queue}"')
        raise QueueError(
            f"{script} consumes {queue} because {place.config_path} says so under "
            "queues.consumers; remove it there"
        )


def _refuse_other(place: Place, script: str) -> None:
    """Only the Worker of the wrangler file is known here."""
    config = place.config
    if config is None:
        raise QueueError(f"there is no wrangler file here, which would say what {script} consumes")
    if config.name != script:
        raise QueueError(f"{place.config_path} is that of {config.name!r}, not of {script!r}")


for one in (consumer_group, worker_group):
    _add(one)
    _remove(one)


# -- pulling -----------------------------------------------------------------------------------


@on_state(http_group, "add")
@QUEUE
@click.option("--batch-size", type=int, hidden=True, expose_value=False)
@click.option("--message-retries", "max_retries", type=int, help="0 to 100. [default: 3]")
@click.option("--dead-letter-queue", help="Where messages go after that.")
@click.option("--visibility-timeout-secs", type=int, help="Up to 43200. [default: 30]")
@click.option("--retry-delay-secs", "retry_delay", type=int, help="Up to 86400. [default: 0]")
@JSON
async def add_http(
    place: Place,
    name: str,
    max_retries: int | None,
    dead_letter_queue: str | None,
    visibility_timeout_secs: int | None,
    retry_delay: int | None,
    as_json: bool,
) -> None:
    """Set how a queue is pulled."""
    queue = place.state.queue(named(place, name))
    timeout = visibility_timeout_secs
    await queue.configure(
        max_retries=3 if max_retries is None else max_retries,
        dead_letter_queue=dead_letter_queue,
        visibility_timeout=None if timeout is None else timeout * 1000,
        retry_delay=retry_delay,
    )
    sentence = f"Added consumer to queue {queue.name}."
    tell(as_json, sentence, queue=queue.name, type="http_pull", changed=True)


@on_state(http_group, "remove", reads=True)
@QUEUE
@JSON
async def remove_http(place: Place, name: str, as_json: bool) -> None:
    """Forget how a queue is pulled: the defaults count again."""
    queue = queue_of(place, name)
    there = any(
        one["type"] == "http_pull" for one in consumers_of(place, admin(place).info(queue.name))
    )
    await queue.configure(
        max_retries=None, dead_letter_queue=None, visibility_timeout=None, retry_delay=None
    )
    sentence = f"Removed consumer from queue {queue.name}."
    tell(as_json, sentence, queue=queue.name, type="http_pull", changed=there)
