"""Who follows an instance from another process than the one that runs it.

They have a mailbox there, and the owner of the workflow puts into it what begins. Nobody else pays
for that: where there is no mailbox, an attempt's begin is told to nobody, and never written.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from ..store.mailboxes import Mailbox, mailboxes, post
from ..values import loads as value_of
from .workflow_options import USUAL, StepConfig, about
from .workflow_scope import Use
from .workflow_under_way import Begun

if TYPE_CHECKING:
    from ..store.processes import Presence
    from .workflow_engine import WorkflowHost
    from .workflow_events import WorkflowInstanceSubscription
    from .workflow_run import Run


def look(host: WorkflowHost) -> None:
    """See who follows from elsewhere; those who are new hear what is under way."""
    before, found = host.elsewhere, mailboxes(host.database.presence)
    if found == before:
        return
    host.elsewhere = found
    for run in host.runs.values():
        topic = _topic(run.id)
        for name in found.get(topic, set()) - before.get(topic, set()):
            for begun in run.under_way.values():
                post(host.database.presence, name, _line(begun))


def tell(run: Run, begun: Begun) -> None:
    """An attempt has begun, while somebody follows something from elsewhere."""
    host = run.host
    for name in host.elsewhere.get(_topic(run.id), ()):
        post(host.database.presence, name, _line(begun))


def follow(subscription: WorkflowInstanceSubscription, key: str, presence: Presence) -> Any:
    """Have a subscription hear what begins in the process that runs the instance.

    What is given ends that when it is called; it ends with the subscription, too.
    """
    mailbox = Mailbox(presence, _topic(key))
    found = weakref.ref(subscription)

    def rung() -> None:
        follower = found()
        for line in mailbox.read() if follower is not None else ():
            with suppress(ValueError, TypeError, AttributeError):
                assert follower is not None
                follower.hear(_read(line))

    unsubscribe = presence.subscribe(rung)
    end = weakref.finalize(subscription, _end, unsubscribe, mailbox)
    end.atexit = False
    # The owner is to look who follows.
    presence.ring()
    return end


def _end(unsubscribe: Callable[[], None], mailbox: Mailbox) -> None:
    unsubscribe()
    mailbox.close()


def _topic(key: str) -> str:
    return blake2b(key.encode(), digest_size=12).hexdigest()


def _line(begun: Begun) -> bytes:
    use = begun.use
    named = (use.name, use.count, use.parent)
    return dumps([*begun[:3], *named, begun.attempt, begun.started, about(begun.config)]).encode()


def _read(line: bytes) -> Begun:
    after, place, undoing, name, count, parent, attempt, started, config = loads(line)
    shown = USUAL if config is None else StepConfig(shown=value_of(config))
    return Begun(after, place, undoing, Use("do", 0, name, count, parent), attempt, started, shown)
