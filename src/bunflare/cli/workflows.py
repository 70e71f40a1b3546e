"""``bunflare workflows``: instances from outside, with wrangler's names and options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..errors import WorkflowError
from .names import completion
from .place import Place, confirm, did_you_mean, on_state
from .tables import JSON, many, show, show_json, styled, tell

if TYPE_CHECKING:
    from ..bindings.workflow_care import InstanceHistory, StepInfo, WorkflowCare
    from ..bindings.workflows import WorkflowInstance

_STATUSES = (
    *("queued", "running", "paused", "errored", "terminated", "complete"),
    *("waiting", "waitingForPause", "rollingBack"),
)
_ALIVE = ("queued", "running", "paused", "waiting", "waitingForPause")
_BATCH = 100


def _pages(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--per-page", type=click.IntRange(1), default=25, show_default=True, help="Rows."
        ),
        click.option(
            "--page",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Which of them to show.",
        ),
    ):
        function = option(function)
    return function


@click.group("workflows")
def command() -> None:
    """Workflows and their instances: trigger, look into, pause, restart.

    NAME is that of a workflow, or of its binding in the wrangler file. What is asked for is done by
    the process that runs the workflow, `bunflare dev` say, at once or when it is there.
    """


@command.group("instances")
def instances() -> None:
    """The instances of one workflow; an ID may be `latest`."""


def _care(place: Place) -> WorkflowCare:
    from ..bindings.workflow_care import WorkflowCare

    return WorkflowCare(place.state.database)


def _declared(place: Place) -> Iterator[str]:
    for one in place.config.workflows if place.config else ():
        yield from (one.name, one.binding)


def _stored(place: Place) -> Iterator[str]:
    for one in _care(place).workflows():
        yield one.name


def _ids(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Of the workflow that stands before: the newest instances."""

    def names(place: Place) -> list[str]:
        name = _named(place, context.params["name"])
        return ["latest", *(one.id for one in _care(place).instances(name, limit=_MOST_IDS))]

    return completion(None, names)(context, parameter, begun)


_MOST_IDS = 100
_NAME = click.argument("name", shell_complete=completion(_declared, _stored))
_ID = click.argument("id", default="latest", shell_complete=_ids)


def _named(place: Place, name: str) -> str:
    """The workflow that a word means."""
    for one in place.config.workflows if place.config else ():
        if one.binding == name:
            return one.name
    return name


def _known(place: Place, name: str) -> str:
    """The workflow that a word means, which must have instances or stand in the wrangler file."""
    found = _named(place, name)
    known = {*_declared(place), *_stored(place)}
    if found not in known:
        raise WorkflowError(f'there is no workflow "{name}".{did_you_mean(name, known)}')
    return found


async def _instance(place: Place, name: str, id: str) -> WorkflowInstance:
    workflow = _known(place, name)
    found = _care(place).latest(workflow) if id == "latest" else id
    return await place.state.workflow(workflow).get(found)


def _on(group: click.Group, name: str, reads: bool = False) -> Callable[..., Any]:
    """A command on a state, which takes wrangler's ``--port`` of a server, too."""
    port = click.option("--port", type=int, hidden=True, expose_value=False)
    return lambda function: on_state(group, name, reads)(port(function))


# In the place of a time that another program has spoilt.
_UNKNOWN = "?"


def _time(moment: float | None) -> str:
    if moment is None:
        return ""
    try:
        return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        # Another program's, beyond all calendars.
        return ""


def _json_value(text: str | None, what: str) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint=what) from error


@_on(command, "list", reads=True)
@_pages
@JSON
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


@_on(command, "describe", reads=True)
@_NAME
@JSON
async def describe(place: Place, name: str, as_json: bool) -> None:
    """How many instances a workflow has in each status."""
    workflow = _known(place, name)
    counts = _care(place).counts(workflow)
    if as_json:
        show_json({"name": workflow, "instances": counts})
    else:
        show([{"status": one, "instances": counts[one]} for one in sorted(counts)], False)


@_on(command, "trigger")
@_NAME
@click.argument("params", required=False)
@click.option("--id", "id", help="The id of the new instance. [default: a random one]")
@click.option("--params", "params_option", help="The parameters, as JSON.")
@JSON
async def trigger(
    place: Place,
    name: str,
    params: str | None,
    id: str | None,
    params_option: str | None,
    as_json: bool,
) -> None:
    """Create an instance. PARAMS are JSON.

    Of any workflow, where no wrangler file says which there are.
    """
    given = _json_value(params if params is not None else params_option, "PARAMS")
    workflow = _known(place, name) if any(_declared(place)) else name
    instance = await place.state.workflow(workflow).create(id, given)
    if as_json:
        show_json({"id": instance.id, "workflow": workflow})
    else:
        click.echo(f"Created the instance {instance.id} of {workflow}")


@_on(command, "delete", reads=True)
@_NAME
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@JSON
async def delete(place: Place, name: str, yes: bool, as_json: bool) -> None:
    """Remove all instances of a workflow, whatever they are doing, with all that belongs to them.

    The workflow itself is what the wrangler file says.
    """
    workflow = _known(place, name)
    confirm(f"Remove all instances of the workflow {workflow!r}?", yes)
    count = await place.state.workflow(workflow).delete_all()
    tell(
        as_json,
        f"Deleted {many(count, 'instance')} of {workflow}",
        workflow=workflow,
        deleted=count,
    )


@_on(instances, "list", reads=True)
@_NAME
@click.option("--status", type=click.Choice(_STATUSES), help="Only those.")
@click.option("--reverse", is_flag=True, help="The oldest first.")
@_pages
@JSON
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
    workflow = _known(place, name)
    found = _care(place).instances(workflow, status, per_page, (page - 1) * per_page, reverse)
    rows = [asdict(one) for one in found]
    if not as_json:
        for row in rows:
            row["created_at"], row["updated_at"] = (
                _time(row["created_at"]),
                _time(row["updated_at"]),
            )
    show(rows, as_json)


@_on(instances, "describe", reads=True)
@_NAME
@_ID
@click.option("--step-output/--no-step-output", default=True, help="What the steps gave.")
@click.option(
    "--truncate-output-limit", type=click.IntRange(1), default=5000, help="Characters of an output."
)
@JSON
async def describe_instance(
    place: Place, name: str, id: str, step_output: bool, truncate_output_limit: int, as_json: bool
) -> None:
    """An instance with the timeline of its steps: attempts, durations, waits."""
    care = _care(place)
    workflow = _known(place, name)
    history = care.describe(workflow, care.latest(workflow) if id == "latest" else id)
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
        f"{styled('Created', bold=True)}   {_time(history.created_at) or _UNKNOWN}",
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
        offset = _between(history.created_at, step.start)
        mark = {True: styled("✓", fg="green"), False: styled("✗", fg="red"), None: "…"}
        indent = "    " if step.within else ""
        lines.append(f"{offset:>9}  {indent}{mark[step.success]} {_line(step, now)}")
        for number, attempt in enumerate(step.attempts, 1):
            if attempt.error is not None:
                took = _between(attempt.start, attempt.end)
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
    if step.success is not None:
        text += f"  {_between(step.start, step.end)}"
    elif step.until is not None:
        left = max(step.until - now, 0)
        word = "next attempt" if step.attempts else "until"
        text += f"  {word} {_time(step.until)} (in {_duration(left)})"
    if len(step.attempts) > 1:
        text += f", {len(step.attempts)} attempts"
    return text


def _between(start: float | None, end: float | None) -> str:
    return _UNKNOWN if start is None or end is None else _duration(end - start)


def _duration(milliseconds: float) -> str:
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


def _done(place: Place, name: str, instance: WorkflowInstance, done: str, as_json: bool) -> None:
    """Say that something was done with an instance: "Paused", say."""
    sentence = f"{done} the instance {instance.id} of {name}"
    workflow = _named(place, name)
    tell(as_json, sentence, workflow=workflow, id=instance.id, done=done.lower())


def _verb(verb: str, told: str, done: str) -> None:
    async def run(place: Place, name: str, id: str, as_json: bool) -> None:
        instance = await _instance(place, name, id)
        await getattr(instance, verb)()
        _done(place, name, instance, done, as_json)

    run.__doc__ = told
    named = _NAME(_ID(JSON(run)))
    _on(instances, verb, reads=True)(named)


_verb("pause", "Pause an instance, when its steps under way have ended.", "Paused")
_verb("resume", "Go on with an instance that is paused.", "Resumed")
_verb("delete", "Remove an instance with all that belongs to it.", "Deleted")


@_on(instances, "terminate", reads=True)
@_NAME
@_ID
@click.option("--rollback", is_flag=True, help="Have its rollback handlers run before.")
@JSON
async def terminate(place: Place, name: str, id: str, rollback: bool, as_json: bool) -> None:
    """End an instance."""
    instance = await _instance(place, name, id)
    await instance.terminate(rollback=rollback)
    _done(place, name, instance, "Terminated", as_json)


@_on(instances, "terminate-all", reads=True)
@_NAME
@click.option("--status", type=click.Choice(_ALIVE), help="Only those.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@JSON
async def terminate_all(
    place: Place, name: str, status: str | None, yes: bool, as_json: bool
) -> None:
    """End all instances that have not come to their end, or those in one status."""
    workflow = _known(place, name)
    confirm(f"Terminate the instances of the workflow {workflow!r}?", yes)
    count = 0
    for one in (status,) if status is not None else _ALIVE:
        while found := _care(place).instances(workflow, one, _BATCH):
            for instance in found:
                await (await place.state.workflow(workflow).get(instance.id)).terminate()
            count += len(found)
    tell(
        as_json,
        f"Terminated {many(count, 'instance')} of {workflow}",
        workflow=workflow,
        terminated=count,
    )


@_on(instances, "restart", reads=True)
@_NAME
@_ID
@click.option("--from-step-name", help="What steps before it gave is kept.")
@click.option("--from-step-count", type=click.IntRange(1), help="Which use of the name.")
@click.option(
    "--from-step-type",
    type=click.Choice(["do", "sleep", "waitForEvent"]),
    help="Where the name is not enough.",
)
@JSON
async def restart(
    place: Place,
    name: str,
    id: str,
    from_step_name: str | None,
    from_step_count: int | None,
    from_step_type: str | None,
    as_json: bool,
) -> None:
    """Run an instance once more, from its beginning or from a step."""
    start: dict[str, Any] | None = None
    if from_step_name is not None:
        start = {"name": from_step_name, "count": from_step_count or 1, "type": from_step_type}
    elif from_step_count is not None or from_step_type is not None:
        raise click.UsageError("--from-step-count and --from-step-type need --from-step-name")
    instance = await _instance(place, name, id)
    await instance.restart(start)
    _done(place, name, instance, "Restarted", as_json)


@_on(instances, "send-event", reads=True)
@_NAME
@_ID
@click.option("--type", "type", required=True, help="The type that a step waits for.")
@click.option("--payload", help="The payload, as JSON.")
@JSON
async def send_event(
    place: Place, name: str, id: str, type: str, payload: str | None, as_json: bool
) -> None:
    """Send an event to an instance."""
    given = _json_value(payload, "--payload")
    instance = await _instance(place, name, id)
    await instance.send_event(type, given)
    sentence = f'Sent the event "{type}" to the instance {instance.id} of {name}'
    tell(as_json, sentence, workflow=_named(place, name), id=instance.id, type=type)
