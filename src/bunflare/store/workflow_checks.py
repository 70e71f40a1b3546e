"""What must be true of the rows of workflows: of instances, their logs, and their events."""

from __future__ import annotations

from .records import Invariant, is_time, time_in

_STATUSES = (
    "'queued', 'running', 'paused', 'errored', 'terminated', 'complete', 'waiting',"
    " 'waitingForPause', 'rollingBack'"
)
_AT_REST = "'paused', 'errored', 'terminated', 'complete'"
_ENDS = "'step_completed', 'step_errored', 'sleep_completed', 'wait_completed', 'wait_timed_out'"
_ODD = f"""
kind NOT IN ({_ENDS}, 'attempt_errored', 'sleep_started', 'wait_started')
  AND kind NOT GLOB 'rollback_*' AND kind NOT GLOB 'workflow_*'
"""

# Of an entry of the log: what has to be a time, and which one counts where another is none.
_BEGAN = f"(started_at IS NOT NULL OR attempt IS NOT NULL) AND NOT {is_time('started_at')}"
_DUE = f"(due IS NOT NULL OR kind IN ('sleep_started', 'wait_started')) AND NOT {is_time('due')}"
_KNOWN = f"""coalesce({time_in("at")}, {time_in("started_at")}, (
  SELECT before.at FROM bunflare_workflow_log AS before
  WHERE before.instance = :name AND before.number < :key AND {is_time("before.at")}
  ORDER BY before.number DESC LIMIT 1
), (SELECT {time_in("created_at")} FROM workflow_instances WHERE id = :name), unixepoch() * 1000)"""
_AGAIN = "`bunflare workflows instances restart` runs it anew"

INVARIANTS = (
    *(
        Invariant(
            "workflows",
            kind,
            f"""
            SELECT '', instance, '{what} without its instance' FROM {table}
            WHERE instance NOT IN (SELECT id FROM workflow_instances) GROUP BY instance
            """,
            f"DELETE FROM {table} WHERE instance = :key",
            "what is left of the instance is removed",
        )
        for kind, what, table in (
            ("log", "the log of a run", "bunflare_workflow_log"),
            ("event", "an event", "bunflare_workflow_events"),
            ("chunk", "a piece of a result", "bunflare_workflow_chunks"),
        )
    ),
    Invariant(
        "workflows",
        "status",
        f"""
        SELECT workflow_name, id, 'there is no status ' || quote(status) FROM workflow_instances
        WHERE status NOT IN ({_STATUSES})
        """,
        remedy=_AGAIN,
    ),
    Invariant(
        "workflows",
        "value",
        """
        SELECT workflow_name, id, 'its params or its output are not JSON' FROM workflow_instances
        WHERE NOT json_valid(coalesce(params, '0')) OR NOT json_valid(coalesce(output, '0'))
        """,
        remedy="delete the instance, and trigger it anew",
    ),
    Invariant(
        "workflows",
        "time",
        f"""
        SELECT workflow_name, id, 'when it was created or last changed is no time'
        FROM workflow_instances WHERE NOT {is_time("created_at")} OR NOT {is_time("updated_at")}
        """,
        f"""
        UPDATE workflow_instances SET
          created_at = {time_in("created_at", time_in("updated_at", "unixepoch() * 1000"))},
          updated_at = {time_in("updated_at", time_in("created_at", "unixepoch() * 1000"))}
        WHERE workflow_name = :name AND id = :key
        """,
        "the one of the two counts for the other, or else now",
    ),
    Invariant(
        "workflows",
        "moment",
        f"""
        SELECT instance, number, 'when it was, had begun or is due is no time'
        FROM bunflare_workflow_log WHERE NOT {is_time("at")} OR {_BEGAN} OR {_DUE}
        """,
        f"""
        UPDATE bunflare_workflow_log SET
          at = {_KNOWN},
          started_at = CASE WHEN {_BEGAN} THEN {_KNOWN} ELSE started_at END,
          due = CASE WHEN {_DUE} THEN {_KNOWN} ELSE due END
        WHERE instance = :name AND number = :key
        """,
        "the times beside it count, and what was waited for is due",
    ),
    Invariant(
        "workflows",
        "sent",
        f"""
        SELECT instance, number, 'when its event was sent is no time'
        FROM bunflare_workflow_events WHERE NOT {is_time("at")}
        """,
        """
        UPDATE bunflare_workflow_events SET at = unixepoch() * 1000
        WHERE instance = :name AND number = :key
        """,
        "it counts as sent now",
    ),
    Invariant(
        "workflows",
        "due",
        f"""
        SELECT workflow_name, id, 'it is ' || status || ', and nobody will ever go on with it'
        FROM workflow_instances
        WHERE status IN ({_STATUSES}) AND status NOT IN ({_AT_REST})
          AND typeof(bunflare_due) <> 'integer'
        """,
        f"""
        UPDATE workflow_instances SET bunflare_due = created_at
        WHERE workflow_name = :name AND id = :key AND status NOT IN ({_AT_REST})
          AND typeof(bunflare_due) <> 'integer'
        """,
        "it is gone on with at once",
    ),
    Invariant(
        "workflows",
        "rest",
        f"""
        SELECT workflow_name, id, 'it is ' || status || ', and yet is to be run'
        FROM workflow_instances WHERE status IN ({_AT_REST}) AND bunflare_due IS NOT NULL
        """,
        f"""
        UPDATE workflow_instances SET bunflare_due = NULL
        WHERE workflow_name = :name AND id = :key AND status IN ({_AT_REST})
        """,
        "it stays as it is, and is not run",
    ),
    Invariant(
        "workflows",
        "step",
        f"""
        SELECT instance, number, CASE WHEN {_ODD}
          THEN 'there is no entry ' || quote(kind) ELSE 'what it gave is not JSON' END
        FROM bunflare_workflow_log
        WHERE ({_ODD})
          OR NOT json_valid(coalesce(value, '0')) OR NOT json_valid(coalesce(about, '0'))
        """,
        remedy=_AGAIN,
    ),
    # Steps within a step are run anew with it, so only of those outside one can this be said.
    Invariant(
        "workflows",
        "twice",
        f"""
        SELECT instance, name, 'it has come to its end ' || count(*) || ' times'
        FROM bunflare_workflow_log WHERE parent IS NULL AND kind IN ({_ENDS})
        GROUP BY instance, substr(kind, 1, 4), name, count HAVING count(*) > 1
        """,
        remedy=_AGAIN,
    ),
    Invariant(
        "workflows",
        "attempts",
        """
        SELECT instance, name, 'of its attempts ' || count(*) || ' have failed, but they are '
          || 'numbered to ' || coalesce(max(attempt), 'nothing')
        FROM bunflare_workflow_log WHERE parent IS NULL AND kind = 'attempt_errored'
        GROUP BY instance, name, count
        HAVING count(DISTINCT attempt) <> count(*) OR max(attempt) <> count(*)
        """,
        remedy=_AGAIN,
    ),
    Invariant(
        "workflows",
        "payload",
        """
        SELECT instance, type, 'the payload of its event is not JSON' FROM bunflare_workflow_events
        WHERE NOT json_valid(coalesce(payload, '0'))
        """,
        remedy="restart the instance, and send the event again",
    ),
)
