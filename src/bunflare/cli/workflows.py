"""``bunflare workflows``: instances from outside, with wrangler's names and options."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .place import Place, on_state
from .tables import show, show_json, styled

if TYPE_CHECKING:
    from ..bindings.workflow_care import InstanceHistory, StepInfo, WorkflowCare
    from ..bindings.workflows import WorkflowInstance

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
_STATUSES = (
    *("queued", "running", "paused", "errored", "terminated", "complete"),
    *("waiting", "waitingForPause", "rollingBack"),
)


def _pages(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--per-page", type=click.IntRange(1), default=25, show_default=True),
        click.option("--page", type=click.IntRange(1), default=1, show_default=True),
    ):
        function = option(function)
    return function


@click.group("workflows")
def command() -> None:
    """Workflows and their instances: trigger, look into, pause, restart.

    What is asked for is done by the process that runs the workflow, `bunflare dev` say, at once or
    when it is there.
    """


@command.group("instances")
def instances() -> None:
    """The instances of one workflow; an ID may be `latest`."""


def _care(place: Place) -> WorkflowCare:
    from ..bindings.workflow_care import WorkflowCare

    return WorkflowCare(place.state.database)


async def _instance(place: Place, name: str, id: str) -> WorkflowInstance:
    found = _care(place).latest(name) if id == "latest" else id
    return await place.state.workflow(name).get(found)


def _time(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _json_value(text: str | None, what: str) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint=what) from error


@on_state(command, "list", reads=True)
@_pages
@_json
async def list_workflows(place: Place, page: int, per_page: int, as_json: bool) -> None:
    """The workflows of the wrangler file and of the state."""
    found = {one.name: asdict(one) for one in _care(place).workflows()}
    for one in place.config.workflows if place.config is not None else ():
        found.setdefault(one.name, {"name": one.name, "class_name": one.class_name, "instances": 0})
    rows = [found[name] for name in sorted(found)][(page - 1) * per_page : page * per_page]
    if not as_json:
        rows = [
            {
                "name": row["name"],
                "class": row["class_name"],
                "instances": row["instances"],
                "last change": _time(row["updated_at"]) if "updated_at" in row else "",
            }
            for row in rows
        ]
    show(rows, as_json)


@on_state(command, "describe", reads=True)
@click.argument("name")
@_json
async def describe(place: Place, name: str, as_json: bool) -> None:
    """How many instances a workflow has in each status."""
    counts = _care(place).counts(name)
    if as_json:
        show_json({"name": name, "instances": counts})
    else:
        show([{"status": one, "instances": counts[one]} for one in sorted(counts)], False)


@on_state(command, "trigger")
@click.argument("name")
@click.argument("params", required=False)
@click.option("--id", "id", help="The id of the new instance. [default: a random one]")
@click.option("--params", "params_option", help="The parameters, as JSON.")
async def trigger(
    place: Place, name: str, params: str | None, id: str | None, params_option: str | None
) -> None:
    """Create an instance. PARAMS are JSON."""
    given = _json_value(params if params is not None else params_option, "PARAMS")
    instance = await place.state.workflow(name).create(id, given)
    click.echo(f"Created the instance {instance.id} of {name}")


@on_state(instances, "list", reads=True)
@click.argument("name")
@click.option("--status", type=click.Choice(_STATUSES), help="Only those.")
@click.option("--reverse", is_flag=True, help="The oldest first.")
@_pages
@_json
async def list_instances(
    place: Place,
    name: str,
    status: str | None,
    reverse: bool,
    page: int,
    per_page: int,
    as_json: bool,
) -> None:
    """The instances, the newest first."""
    found = _care(place).instances(name, status, per_page, (page - 1) * per_page, reverse)
    rows = [asdict(one) for one in found]
    if not as_json:
        for row in rows:
            row["created_at"], row["updated_at"] = (
                _time(row["created_at"]),
                _time(row["updated_at"]),
            )
    show(rows, as_json)


@on_state(instances, "describe", reads=True)
@click.argument("name")
@click.argument("id", default="latest")
@click.option("--step-output/--no-step-output", default=True, help="What the steps gave.")
@click.option(
    "--truncate-output-limit", type=click.IntRange(1), default=5000, help="Characters of an output."
)
@_json
async def describe_instance(
    place: Place, name: str, id: str, step_output: bool, truncate_output_limit: int, as_json: bool
) -> None:
    """An instance with the timeline of its steps: attempts, durations, waits."""
    care = _care(place)
    history = care.describe(name, care.latest(name) if id == "latest" else id)
    if as_json:
        show_json(asdict(history))
        return
    now = place.state.clock.now()
    for line in _described(history, step_output, truncate_output_limit, now):
        click.echo(line)


def _described(history: InstanceHistory, outputs: bool, limit: int, now: int) -> list[str]:
    lines = [
        f"{styled('Instance', bold=True)}  {history.id}",
        f"{styled('Status', bold=True)}    {_coloured(history.status)}",
        f"{styled('Created', bold=True)}   {_time(history.created_at)}",
        f"{styled('Params', bold=True)}    {_text(history.params, limit)}",
    ]
    if history.status == "complete":
        lines.append(f"{styled('Output', bold=True)}    {_text(history.output, limit)}")
    if history.error is not None:
        lines.append(
            f"{styled('Error', bold=True)}     {history.error.name}: {history.error.message}"
        )
    if history.events:
        lines.append(f"{styled('Events', bold=True)}    not taken: {', '.join(history.events)}")
    lines.append("")
    for step in history.steps:
        offset = _duration(step.start - history.created_at)
        mark = {True: styled("✓", fg="green"), False: styled("✗", fg="red"), None: "…"}
        indent = "    " if step.within else ""
        lines.append(f"{offset:>9}  {indent}{mark[step.success]} {_line(step, now)}")
        for number, attempt in enumerate(step.attempts, 1):
            if attempt.error is not None:
                took = _duration(attempt.end - attempt.start)
                lines.append(
                    f"{'':11}{indent}    attempt {number} failed after {took}: "
                    f"{attempt.error.name}: {attempt.error.message}"
                )
        if outputs and step.success and step.type in ("step", "waitForEvent"):
            lines.append(f"{'':11}{indent}    → {_text(step.output, limit)}")
    return lines


def _line(step: StepInfo, now: int) -> str:
    kind = "" if step.type == "step" else f"{step.type} "
    text = f"{kind}{step.name}"
    if step.end is not None:
        text += f"  {_duration(step.end - step.start)}"
    elif step.until is not None:
        left = max(step.until - now, 0)
        word = "next attempt" if step.attempts else "until"
        text += f"  {word} {_time(step.until)} (in {_duration(left)})"
    if len(step.attempts) > 1:
        text += f", {len(step.attempts)} attempts"
    return text


def _duration(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"


def _text(value: Any, limit: int) -> str:
    from .tables import plain

    text = json.dumps(value, default=plain, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _coloured(status: str) -> str:
    colours = {"complete": "green", "errored": "red", "terminated": "red"}
    return styled(status, fg=colours.get(status, "yellow"))


def _verb(verb: str, told: str, done: str) -> None:
    async def run(place: Place, name: str, id: str) -> None:
        instance = await _instance(place, name, id)
        await getattr(instance, verb)()
        click.echo(f"{done} the instance {instance.id} of {name}")

    run.__doc__ = told
    named = click.argument("name")(click.argument("id", default="latest")(run))
    on_state(instances, verb, reads=True)(named)


_verb("pause", "Pause an instance, when its steps under way have ended.", "Paused")
_verb("resume", "Go on with an instance that is paused.", "Resumed")
_verb("delete", "Remove an instance with all that belongs to it.", "Deleted")


@on_state(instances, "terminate", reads=True)
@click.argument("name")
@click.argument("id", default="latest")
@click.option("--rollback", is_flag=True, help="Have its rollback handlers run before.")
async def terminate(place: Place, name: str, id: str, rollback: bool) -> None:
    """End an instance."""
    instance = await _instance(place, name, id)
    await instance.terminate(rollback=rollback)
    click.echo(f"Terminated the instance {instance.id} of {name}")


@on_state(instances, "restart", reads=True)
@click.argument("name")
@click.argument("id", default="latest")
@click.option("--from-step-name", help="What steps before it gave is kept.")
@click.option("--from-step-count", type=click.IntRange(1), help="Which use of the name.")
@click.option("--from-step-type", type=click.Choice(["do", "sleep", "waitForEvent"]))
async def restart(
    place: Place,
    name: str,
    id: str,
    from_step_name: str | None,
    from_step_count: int | None,
    from_step_type: str | None,
) -> None:
    """Run an instance once more, from its beginning or from a step."""
    start: dict[str, Any] | None = None
    if from_step_name is not None:
        start = {"name": from_step_name, "count": from_step_count or 1, "type": from_step_type}
    elif from_step_count is not None or from_step_type is not None:
        raise click.UsageError("--from-step-count and --from-step-type need --from-step-name")
    instance = await _instance(place, name, id)
    await instance.restart(start)
    click.echo(f"Restarted the instance {instance.id} of {name}")


@on_state(instances, "send-event", reads=True)
@click.argument("name")
@click.argument("id", default="latest")
@click.option("--type", "type", required=True, help="The type that a step waits for.")
@click.option("--payload", help="The payload, as JSON.")
async def send_event(place: Place, name: str, id: str, type: str, payload: str | None) -> None:
    """Send an event to an instance."""
    given = _json_value(payload, "--payload")
    instance = await _instance(place, name, id)
    await instance.send_event(type, given)
    click.echo(f'Sent the event "{type}" to the instance {instance.id} of {name}')
