"""Random programs of steps, sleeps, events, failures and gathers, dropped from memory anywhere,
end as a reference model says, and no step that was recorded runs again."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

import bunflare
from bunflare.store import alone
from tests.bindings.workflow_tools import finish, workflow


@dataclass(frozen=True)
class Step:
    name: str
    #: How often it fails before it gives its value; more than 2 is for good.
    fails: int


@dataclass(frozen=True)
class Sleep:
    name: str
    seconds: int


@dataclass(frozen=True)
class Wait:
    type: str
    #: Whether there is an event for it.
    comes: bool


@dataclass(frozen=True)
class Nested:
    name: str
    inner: tuple[Any, ...]


@dataclass(frozen=True)
class Gather:
    lanes: tuple[tuple[Any, ...], ...]


LONG = os.environ.get("BUNFLARE_CRASH") == "long"

names = st.sampled_from("abc")
leaves = st.one_of(
    st.builds(Step, names, st.integers(0, 3)),
    st.builds(Sleep, names, st.integers(0, 30)),
    st.builds(Wait, st.sampled_from("xy"), st.booleans()),
)
parts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Gather, st.lists(st.lists(inner, max_size=3).map(tuple), max_size=3).map(tuple)),
        st.builds(Nested, names, st.lists(leaves, max_size=2).map(tuple)),
    ),
    max_leaves=8,
)
programs = st.lists(parts, max_size=5).map(tuple)


def model(program: tuple[Any, ...]) -> list[Any]:
    """What a program gives when nothing disturbs it."""
    found: list[Any] = []
    for part in program:
        if isinstance(part, Step):
            found.append("failed" if part.fails > 2 else [part.name, part.fails + 1])
        elif isinstance(part, Wait):
            found.append("event" if part.comes else "no event")
        elif isinstance(part, Nested):
            found.append([part.name, model(part.inner)])
        elif isinstance(part, Gather):
            found.append([model(lane) for lane in part.lanes])
    return found


def types_that_come(program: tuple[Any, ...]) -> list[str]:
    found: list[str] = []
    for part in program:
        if isinstance(part, Wait) and part.comes:
            found.append(part.type)
        elif isinstance(part, Nested):
            found += types_that_come(part.inner)
        elif isinstance(part, Gather):
            found += [one for lane in part.lanes for one in types_that_come(lane)]
    return found


class Runner:
    """The same as a workflow."""

    def __init__(self) -> None:
        self.successes: Counter[str] = Counter()

    async def run(self, program: tuple[Any, ...], step: Any, path: str) -> list[Any]:
        found: list[Any] = []
        for at, part in enumerate(program):
            here = f"{path}.{at}"
            if isinstance(part, Step):
                found.append(await self.step(part, step, here))
            elif isinstance(part, Sleep):
                await step.sleep(part.name, part.seconds)
            elif isinstance(part, Wait):
                # Those that come and those that do not are of two types.
                kind = part.type if part.comes else f"no {part.type}"
                try:
                    await step.wait_for_event(
                        part.type, kind, timeout=20 if not part.comes else 900
                    )
                    found.append("event")
                except TimeoutError:
                    found.append("no event")
            elif isinstance(part, Nested):

                async def nested(part: Nested = part, here: str = here) -> list[Any]:
                    return [part.name, await self.run(part.inner, step, here)]

                found.append(await step.do(part.name, nested))
            else:
                lanes = [
                    self.run(lane, step, f"{here}/{number}")
                    for number, lane in enumerate(part.lanes)
                ]
                found.append(list(await asyncio.gather(*lanes)))
        return found

    async def step(self, part: Step, step: Any, here: str) -> Any:
        async def callback(ctx: Any) -> Any:
            await asyncio.sleep(0)
            if ctx.attempt <= part.fails:
                raise ValueError(ctx.attempt)
            self.successes[here] += 1
            return [part.name, ctx.attempt]

        try:
            return await step.do(part.name, callback, retries={"limit": 2, "delay": 1})
        except ValueError:
            return "failed"


RACE = (
    Gather(((Wait("y", True),), ())),
    Gather(
        (
            (
                Gather(
                    (
                        (Nested("a", (Step("a", 3),)),),
                        (Step("b", 0), Gather(((Step("a", 0), Step("b", 1)), ()))),
                        (Nested("a", (Step("a", 0),)),),
                    )
                ),
                Wait("y", False),
            ),
            (
                Gather(
                    (
                        (Gather(((), (Sleep("a", 2), Step("a", 0)), ())),),
                        (),
                        (Gather(((), (Sleep("b", 0), Step("a", 3)), ())),),
                    )
                ),
                Nested("b", (Step("a", 1),)),
            ),
        )
    ),
)


@settings(max_examples=600 if LONG else 25)
@given(program=programs, chance=st.integers(0, 2**32), slow=st.booleans())
# Two tasks use a name, and what one of them has begun is in the log already.
@example(
    program=(Gather(((Nested("a", ()), Step("a", 1)), (Step("a", 0),))),),
    chance=0,
    slow=False,
)
# Two tasks go on from what came to the disk at once, one sooner than the other.
@example(program=RACE, chance=247, slow=True)
# An event comes while it is being looked for.
@example(program=(Nested("a", (Wait("x", True), Wait("x", True))),) * 2, chance=2, slow=False)
def test_a_program_ends_as_the_model_says(
    program: tuple[Any, ...], chance: int, slow: bool, tmp_path_factory: Any
) -> None:
    directory = tmp_path_factory.mktemp("state")
    # As on a slow disk, commits are on a thread, while the event loop goes on.
    with mock.patch.object(alone, "_SLOW_COMMIT_SECONDS", -1 if slow else 1):
        asyncio.run(_check(program, random.Random(chance), directory))


async def _check(program: tuple[Any, ...], chance: random.Random, directory: Path) -> None:
    clock = bunflare.ManualClock()
    runner = Runner()
    recorded: Counter[str] = Counter()

    async def code(event: Any, step: Any) -> Any:
        return await runner.run(program, step, "")

    async with bunflare.open(directory, durability="normal", clock=clock) as state:
        instance = await workflow(state, code).create("a")
        events = types_that_come(program)
        chance.shuffle(events)
        for _ in range(12):
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if events and chance.random() < 0.5:
                await instance.send_event(events.pop())
            if chance.random() < 0.3:
                await clock.advance(seconds=chance.choice([0.5, 1, 5]))
            if chance.random() < 0.5:
                # As if the process had ended just now.
                host = state._services.workflows["Program"]
                for run in list(host.runs.values()):
                    run.drop()
                    # What was on its way to the disk has come there.
                    await state.database.write(lambda tx: None)
                    host.again(run.id)
                row = state.database.view.all(
                    "SELECT count(*) FROM bunflare_workflow_log WHERE kind = 'step_completed'"
                )
                recorded["steps"] = row[0][0]
        for type in events:  # noqa: A001
            await instance.send_event(type)
        status = await finish(instance, clock)
        assert (status.status, status.output) == ("complete", model(program))
        key = "SELECT number FROM bunflare_workflow_events"
        assert state.database.view.all(key) == []
