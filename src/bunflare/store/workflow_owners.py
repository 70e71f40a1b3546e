"""Which process runs a workflow's instances, and how others have it look at one."""

from __future__ import annotations

from .connection import Row
from .session import View
from .transaction import Transaction

OWNERS = """
CREATE TABLE IF NOT EXISTS bunflare_workflow_owners (
  workflow_name TEXT PRIMARY KEY,
  owner TEXT NOT NULL,   -- the process that runs the workflow's instances
  token TEXT NOT NULL    -- and which part of it
);
CREATE TABLE IF NOT EXISTS bunflare_workflow_signals (
  workflow_name TEXT NOT NULL,
  instance TEXT NOT NULL,   -- which its owner has to look at: another process has changed it
  PRIMARY KEY (workflow_name, instance)
)
"""

#: Of `bunflare_due`: a process runs the instance.
RUNNING = -1

_RETURN = f"""
UPDATE workflow_instances SET bunflare_due = ? WHERE workflow_name = ? AND bunflare_due = {RUNNING}
"""

_OWNERS = "SELECT workflow_name, owner FROM bunflare_workflow_owners"
_OWNER = "SELECT owner, token FROM bunflare_workflow_owners WHERE workflow_name = ?"
_OWN = """
INSERT INTO bunflare_workflow_owners (workflow_name, owner, token) VALUES (?, ?, ?)
ON CONFLICT (workflow_name) DO UPDATE SET owner = excluded.owner, token = excluded.token
"""
_DISOWN = "DELETE FROM bunflare_workflow_owners WHERE workflow_name = ? AND token = ?"
_SIGNAL = """
INSERT INTO bunflare_workflow_signals (workflow_name, instance) VALUES (?, ?)
ON CONFLICT (workflow_name, instance) DO NOTHING
"""
_SIGNALLED = "SELECT 1 FROM bunflare_workflow_signals WHERE workflow_name = ? LIMIT 1"
_TAKE_SIGNALS = """
DELETE FROM bunflare_workflow_signals WHERE workflow_name = ? RETURNING instance
"""


def owners(view: View) -> list[Row]:
    """``(workflow, process)`` of those whose instances are run."""
    return view.all(_OWNERS)


def owner(view: View, workflow: str) -> tuple[str, str] | None:
    """The process that runs a workflow's instances, and its token."""
    row = view.one(_OWNER, (workflow,))
    return None if row is None else (row[0], row[1])


def own(tx: Transaction, workflow: str, owner: str, token: str, now: int) -> None:
    """Become the owner. What the last one ran waits to be run."""
    tx.run(_OWN, (workflow, owner, token))
    tx.run(_RETURN, (now, workflow))
    tx.all(_TAKE_SIGNALS, (workflow,))


def disown(tx: Transaction, workflow: str, token: str, now: int) -> None:
    """Leave a workflow's instances to others."""
    if (found := owner(tx, workflow)) is not None and found[1] == token:
        tx.run(_DISOWN, (workflow, token))
        tx.run(_RETURN, (now, workflow))


def signal(tx: Transaction, workflow: str, id: str) -> None:
    """Have the owner look at an instance."""
    tx.run(_SIGNAL, (workflow, id))


def signalled(view: View, workflow: str) -> bool:
    return view.one(_SIGNALLED, (workflow,)) is not None


def take_signals(tx: Transaction, workflow: str) -> list[str]:
    return [row[0] for row in tx.all(_TAKE_SIGNALS, (workflow,))]
