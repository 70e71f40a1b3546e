"""Steps: results, retries, time-outs, sleeps, events, and what a later run sees of them."""

from __future__ import annotations

# The decorator as untyped code uses it.
# mypy: disable-error-code="untyped-decorator"
import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import bunflare
from bunflare import (
    ManualClock,
    NonRetryableError,
    WorkflowError,
    WorkflowFatalError,
    WorkflowTimeoutError,
)
from tests.bindings.workflow_tools import entries, finish, forget_runs, workflow
from tests.support import PATIENCE

HOUR = 3_600_000


class Broken(Exception):
    """An error of the workflow's own module."""


def noted(ran: list[str], name: str, value: Any) -> Any:
    ran.append(name)
    return value


async def outcome(state: bunflare.State, run: Any, params: Any = None, **options: Any) -> Any:
    """The status of an instance at its end."""
    instance = await workflow(state, run, **options).create("a", params)
    return await instance.wait(PATIENCE)


async def test_a_step_runs_once_and_gives_the_same_to_a_later_run(
    state: bunflare.State, clock: ManualClock
) -> None:
    value = {
        "bytes": b"\0",
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "set": {1, 2},
        "none": None,
        "tuple": (1, "x"),
        "big": 2**70,
    }
    ran: list[int] = []
    seen: list[Any] = []

    async def run(event: Any, step: Any) -> Any:
        async def make() -> Any:
            ran.append(1)
            return value

        given = await step.do("make", make)
        seen.append(given)
        await step.sleep("s", "1 hour")
        return given

    instance = await workflow(state, run).create("a")
    await clock.advance(minutes=1)
    forget_runs(state)
    await clock.advance(hours=1)
    assert (await instance.wait(PATIENCE)).output == value
    assert len(ran) == 1
    assert seen == [value, value]
    assert [type(one["tuple"]) for one in seen] == [tuple, tuple]
    # The live run has a copy, too.
    assert seen[0] is not value


async def test_a_name_may_be_used_again(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        return [
            await step.do("again", lambda ctx: (ctx.step.name, ctx.step.count)) for _ in range(3)
        ]

    assert (await outcome(state, run)).output == [("again", 1), ("again", 2), ("again", 3)]
    assert entries(state, "a") == [("step_completed", "again", count) for count in (1, 2, 3)]


async def test_a_failed_step_is_tried_again_with_pauses(
    state: bunflare.State, clock: ManualClock
) -> None:
    tried: list[tuple[int, int]] = []

    async def run(event: Any, step: Any) -> Any:
        async def work(ctx: Any) -> Any:
            tried.append((ctx.attempt, clock.now()))
            if ctx.attempt < 4:
                raise ValueError(ctx.attempt)
            return ctx.attempt

        return await step.do("work", work, retries={"limit": 3, "delay": 2, **event.payload})

    made = workflow(state, run)
    for backoff, pauses in {
        "constant": [2, 2, 2],
        "linear": [2, 4, 6],
        "exponential": [2, 4, 8],
    }.items():
        tried.clear()
        instance = await made.create(params={"backoff": backoff})
        await clock.advance(minutes=1)
        assert (await instance.wait(PATIENCE)).output == 4
        times = [time for _, time in tried]
        assert [round((b - a) / 1000) for a, b in itertools.pairwise(times)] == pauses


async def test_the_pause_may_be_a_function_and_nothing(
    state: bunflare.State, clock: ManualClock
) -> None:
    told: list[Any] = []

    async def delay(given: Any) -> str:
        told.append((given["ctx"].attempt, str(given["error"]), given["ctx"].config))
        return "1 minute"

    async def run(event: Any, step: Any) -> Any:
        async def work(ctx: Any) -> Any:
            if ctx.attempt < 3:
                raise ValueError("no")
            return ctx.attempt

        at_once = await step.do("at once", work, retries={"delay": 0})
        return [at_once, await step.do("work", work, config={"retries": {"delay": delay}})]

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=119)
    assert (await instance.status()).status == "running"
    await clock.advance(seconds=2)
    assert (await instance.wait(PATIENCE)).output == [3, 3]
    assert [one[:2] for one in told] == [(1, "no"), (2, "no")]
    assert "delay" not in told[0][2]["retries"]
    assert told[0][2]["timeout"] == "10 minutes"


async def test_after_the_last_attempt_the_error_is_raised_and_kept(
    state: bunflare.State, clock: ManualClock
) -> None:
    tried: list[int] = []
    caught: list[BaseException] = []

    async def run(event: Any, step: Any) -> Any:
        async def fail() -> None:
            tried.append(1)
            raise Broken("really")

        async def divide() -> float:
            return 1 / 0

        for name, callback in (("fail", fail), ("divide", divide)):
            try:
                await step.do(name, callback, retries={"limit": 2, "delay": 0})
            except Exception as error:
                caught.append(error)
        await step.sleep("s", 60)
        return "over"

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    forget_runs(state)
    await clock.advance(minutes=2)
    assert (await instance.wait(PATIENCE)).output == "over"
    assert len(tried) == 3
    assert [type(one) for one in caught] == [Broken, ZeroDivisionError] * 2
    assert [str(one) for one in caught] == ["really", "division by zero"] * 2


async def test_an_error_that_nobody_catches_ends_the_instance(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def fail() -> None:
            raise NonRetryableError("never again")

        await step.do("fail", fail)

    status = await outcome(state, run)
    assert status.status == "errored"
    assert (status.error.name, status.error.message) == ("NonRetryableError", "never again")
    assert entries(state, "a") == [("step_errored", "fail", 1)]


async def test_a_step_that_takes_too_long_is_cancelled(
    state: bunflare.State, clock: ManualClock
) -> None:
    cancelled: list[int] = []

    async def run(event: Any, step: Any) -> Any:
        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        try:
            await step.do("hang", hang, retries={"limit": 1, "delay": 0}, timeout="1 minute")
        except TimeoutError as error:
            return [type(error).__name__, str(error)]

    instance = await workflow(state, run).create("a")
    await clock.advance(minutes=3)
    expected = ["WorkflowTimeoutError", "Execution timed out after 60000ms"]
    assert (await instance.wait(PATIENCE)).output == expected
    assert len(cancelled) == 2


async def test_a_result_that_cannot_be_kept_is_an_error_at_once(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        found = []
        for value in (object(), "ü" * 600_000):
            try:
                await step.do("bad", lambda value=value: value)
            except WorkflowFatalError as error:
                found.append(str(error))
        return found

    first, second = (await outcome(state, run)).output
    assert 'Value returned from step "bad" is not serialisable' in first
    assert "output is too large. Maximum allowed size is 1MiB." in second
    assert [kind for kind, *_ in entries(state, "a")] == ["step_errored"] * 2


@pytest.mark.parametrize(
    "config",
    [
        {"retries": {"limit": -1}},
        {"retries": {"limit": "many"}},
        {"retries": {"delay": "5m"}},
        {"retries": {"backoff": "quadratic"}},
        {"retries": {"tries": 3}},
        {"retries": 3},
        {"timeout": -1},
        {"timeout": "soon"},
        {"sensitive": "input"},
        {"retry": {}},
    ],
)
async def test_a_wrong_configuration_is_refused(state: bunflare.State, config: Any) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.do("a", config, lambda: 1)

    status = await outcome(state, run)
    assert status.error.name == "WorkflowFatalError"
    assert 'Step config for "a" is in a invalid format' in status.error.message


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", 5])
async def test_a_wrong_name_is_refused(state: bunflare.State, name: Any) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.do(name, lambda: 1)

    status = await outcome(state, run)
    assert "exceeds max length (256 chars) or invalid characters found" in status.error.message


async def test_there_are_only_so_many_steps(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        for number in range(event.payload):
            await step.do("one", lambda number=number: number)

    made = workflow(state, run, max_steps=10)
    assert (await (await made.create(params=10)).wait(PATIENCE)).status == "complete"
    status = await (await made.create(params=11)).wait(PATIENCE)
    assert status.error is not None
    assert "The limit of 10 steps has been reached" in status.error.message


async def test_steps_side_by_side(state: bunflare.State, clock: ManualClock) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def chain(name: str, pause: int) -> list[str]:
            got = []
            for number in range(3):
                got.append(await step.do(name, lambda: noted(ran, name, name)))
                await step.sleep(f"{name} {number}", pause)
            return got

        return await asyncio.gather(chain("a", 10), chain("b", 15), chain("c", 7))

    instance = await workflow(state, run).create("a")
    for _ in range(50):
        await clock.advance(seconds=1)
        forget_runs(state)
    assert (await instance.wait(PATIENCE)).output == [["a"] * 3, ["b"] * 3, ["c"] * 3]
    assert sorted(ran) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


async def test_a_sleep_goes_on_while_a_step_runs(state: bunflare.State, clock: ManualClock) -> None:
    going = asyncio.Event()
    seen: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def sleep() -> None:
            await step.sleep("s", 60)
            seen.append("slept")

        await asyncio.gather(step.do("wait", going.wait), sleep())

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=61)
    assert seen == ["slept"]
    going.set()
    assert (await instance.wait(PATIENCE)).status == "complete"


async def test_steps_within_a_step(state: bunflare.State, clock: ManualClock) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def outer(ctx: Any) -> Any:
            first = await step.do("inner", lambda: noted(ran, "inner", 1))
            second = await step.do("inner", lambda: noted(ran, "second", 2))
            if ctx.attempt == 1:
                raise ValueError("once more")
            return [first, second, ctx.attempt]

        result = await step.do("outer", outer, retries={"delay": 60})
        await step.sleep("s", 60)
        return [result, await step.do("inner", lambda: 3)]

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=30)
    forget_runs(state)
    await clock.advance(seconds=31)
    forget_runs(state)
    await clock.advance(seconds=61)
    assert (await instance.wait(PATIENCE)).output == [[1, 2, 2], 3]
    assert ran == ["inner", "second"]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_step_within_a_step_that_has_failed_is_tried_again_with_it(
    state: bunflare.State, clock: ManualClock, forgotten: bool
) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def outer(ctx: Any) -> Any:
            async def inner() -> int:
                if ctx.attempt == 1:
                    raise ValueError("not yet")
                return int(ctx.attempt)

            return await step.do("inner", inner, retries={"limit": 0})

        return await step.do("outer", outer, retries={"delay": 60})

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=30)
    if forgotten:
        forget_runs(state)
    await clock.advance(seconds=31)
    assert (await instance.wait(PATIENCE)).output == 2


async def test_sleeps_end_in_time_however_long(state: bunflare.State, clock: ManualClock) -> None:
    times: list[int] = []

    async def run(event: Any, step: Any) -> Any:
        await step.sleep("words", "2 weeks")
        times.append(clock.now())
        await step.sleep("delta", timedelta(hours=1))
        times.append(clock.now())
        await step.sleep_until("moment", datetime.fromtimestamp(clock.now() / 1000 + 60, UTC))
        times.append(clock.now())
        await step.sleep_until("past", 0)
        await step.sleep("nothing", 0)
        times.append(clock.now())

    start = clock.now()
    instance = await workflow(state, run).create("a")
    assert (await instance.status()).status == "running"
    await clock.advance(days=1)
    assert (await instance.status()).status == "waiting"
    await clock.advance(days=14)
    assert (await instance.wait(PATIENCE)).status == "complete"
    first = start + 14 * 24 * HOUR
    assert all(
        abs(a - b) < 10
        for a, b in zip(
            times, [first, first + HOUR, first + HOUR + 60_000, first + HOUR + 60_000], strict=True
        )
    )


@pytest.mark.parametrize("duration", ["366 days", "5m", -1, None, "2 years", float("nan")])
async def test_a_wrong_duration_is_refused(state: bunflare.State, duration: Any) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.sleep("s", duration)

    status = await outcome(state, run)
    assert status.error.name in ("WorkflowValueError", "WorkflowTypeError")


async def test_events_are_kept_until_they_are_awaited_first_in_first_out(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.sleep("s", 60)
        got = [(await step.wait_for_event("x", "x")).payload for _ in range(2)]
        last = await step.wait_for_event("y", type="y", timeout="1 hour")
        return [*got, last.payload, last.type, last.timestamp.timestamp() * 1000]

    instance = await workflow(state, run).create("a")
    sent = clock.now()
    await instance.send_event("x", 1)
    await instance.send_event("y", {"b": b"1"})
    await instance.send_event("x", 2)
    await instance.send_event("x", "nobody wants it")
    forget_runs(state)
    await clock.advance(minutes=2)
    assert (await instance.wait(PATIENCE)).output == [1, 2, {"b": b"1"}, "y", sent]
    with pytest.raises(WorkflowError, match="complete"):
        await instance.send_event("x", 3)


async def test_an_event_is_noticed_at_whatever_moment_it_comes(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        return (await step.wait_for_event("x", "x")).payload

    made = workflow(state, run)
    for turns in range(25):
        instance = await made.create(f"i{turns}")
        for _ in range(turns):
            await asyncio.sleep(0)
        await instance.send_event("x", turns)
        assert (await instance.wait(PATIENCE)).output == turns


async def test_a_log_that_knows_nothing_of_tasks_is_followed_by_the_counts(
    state: bunflare.State, clock: ManualClock
) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def lane(name: str) -> str:
            given = await step.do(name, lambda: ran.append(name) or name)  # type: ignore[func-returns-value]
            await step.sleep("nap", 5)
            return str(given)

        return list(await asyncio.gather(lane("a"), lane("b"), lane("c")))

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    forget_runs(state)
    # As an import from another program leaves it.
    await state.database.write(lambda tx: tx.run("UPDATE bunflare_workflow_log SET place = NULL"))
    await clock.advance(minutes=1)
    assert (await instance.wait(PATIENCE)).output == ["a", "b", "c"]
    assert sorted(ran) == ["a", "b", "c"]


async def test_a_delay_without_end_is_a_year(state: bunflare.State, clock: ManualClock) -> None:
    async def run(event: Any, step: Any) -> Any:
        def fail(ctx: Any) -> int:
            if ctx.attempt == 1:
                raise ValueError("not yet")
            return int(ctx.attempt)

        retries = {"delay": lambda given: 1e300}
        return await asyncio.gather(
            step.do("never", fail, retries=retries), step.do("soon", lambda: 1)
        )

    instance = await workflow(state, run).create("a")
    await clock.advance(days=364)
    assert ("step_completed", "soon", 1) in entries(state, "a")
    assert (await instance.status()).status == "running"
    await clock.advance(days=2)
    assert (await instance.wait(PATIENCE)).output == [2, 1]


async def test_tasks_that_use_one_name_each_get_their_own_results_again(
    state: bunflare.State, clock: ManualClock
) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def lane(name: str, uses: int) -> list[str]:
            async def same() -> str:
                ran.append(name)
                return name

            given = [await step.do("same", same) for _ in range(uses)]
            await step.sleep("nap", 5)
            return [*given, await step.do("same", same)]

        return list(await asyncio.gather(lane("a", 3), lane("b", 1), lane("c", 2)))

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    forget_runs(state)
    await clock.advance(minutes=1)
    assert (await instance.wait(PATIENCE)).output == [["a"] * 4, ["b"] * 2, ["c"] * 3]
    assert sorted(ran) == ["a"] * 4 + ["b"] * 2 + ["c"] * 3
    counts = [entry[2] for entry in entries(state, "a") if entry[0] == "step_completed"]
    assert sorted(counts) == list(range(1, 10))


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("failing", ["", "a", "b", "c"])
async def test_tasks_within_a_step_are_told_apart_by_the_order_of_their_start(
    state: bunflare.State, clock: ManualClock, failing: str, forgotten: bool
) -> None:
    """Whichever ends first, and whichever of them has to be tried again with the step around."""
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        async def outer(ctx: Any) -> list[str]:
            ends = {name: asyncio.Event() for name in "abc"}
            before = {"a": "b", "b": "c"}

            async def lane(name: str) -> str:
                async def same() -> str:
                    ran.append(name)
                    if name in before and ctx.attempt == 1:
                        await ends[before[name]].wait()
                    if name == failing and ctx.attempt == 1:
                        raise ValueError("once more")
                    return name

                try:
                    return str(await step.do("same", same, retries={"limit": 0}))
                finally:
                    ends[name].set()

            given = await asyncio.gather(*map(lane, "abc"), return_exceptions=True)
            if ctx.attempt == 1:
                raise ValueError("once more")
            return [str(one) for one in given]

        return await step.do("outer", outer, retries={"delay": 60})

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=30)
    if forgotten:
        forget_runs(state)
    await clock.advance(seconds=31)
    assert (await instance.wait(PATIENCE)).output == ["a", "b", "c"]
    assert "".join(ran) == "abc" + failing


async def test_two_waits_for_one_type_get_one_event_each(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        waits = [step.wait_for_event(f"w{number}", "x") for number in range(2)]
        return [one.payload for one in await asyncio.gather(*waits)]

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "waiting"
    await instance.send_event("x", 1)
    await clock.advance(seconds=1)
    assert (await instance.status()).status == "waiting"
    forget_runs(state)
    await instance.send_event("x", 2)
    assert (await instance.wait(PATIENCE)).output == [1, 2]


async def test_no_event_in_time_is_the_platforms_error_also_after_a_restart(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        try:
            await step.wait_for_event("w", "x", timeout="1 hour")
        except WorkflowTimeoutError as error:
            await step.sleep("s", 10)
            return [str(error), clock.now()]

    start = clock.now()
    instance = await workflow(state, run).create("a")
    await clock.advance(minutes=59)
    forget_runs(state)
    # What comes for another step does not begin the time anew.
    await instance.send_event("y")
    await clock.advance(minutes=2)
    forget_runs(state)
    await clock.advance(minutes=2)
    message, ended = (await instance.wait(PATIENCE)).output
    assert message == "Execution timed out after 3600000ms"
    assert ended - start < HOUR + 11_000


@pytest.mark.parametrize(
    ("type", "timeout"), [("", 60), ("x" * 101, 60), (None, 60), ("x", 0.5), ("x", "366 days")]
)
async def test_wrong_waits_are_refused(state: bunflare.State, type: Any, timeout: Any) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.wait_for_event("w", type, timeout=timeout)

    status = await outcome(state, run)
    assert status.error.name == "WorkflowValueError"


async def test_wrong_events_are_refused(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        await step.wait_for_event("w", "x")

    instance = await workflow(state, run).create("a")
    for name, payload, kind in [
        ("", 1, ValueError),
        ("x" * 101, 1, ValueError),
        ("x", object(), TypeError),
        ("x", "x" * 2**21, ValueError),
    ]:
        with pytest.raises(kind):
            await instance.send_event(name, payload)
    assert state.database.view.all("SELECT * FROM bunflare_workflow_events") == []


async def test_a_stream_is_kept_in_pieces(state: bunflare.State, clock: ManualClock) -> None:
    ran: list[int] = []

    async def run(event: Any, step: Any) -> Any:
        async def chunks() -> Any:
            ran.append(1)
            for number in range(3):
                yield bytes([number]) * 400_000

        stream = await step.do("read", chunks)
        empty = await step.do("empty", lambda: _nothing())
        await step.sleep("s", 60)
        data = await stream.bytes()
        again = [piece async for piece in stream]
        return [len(data), data[0], data[-1], len(again), await empty.text()]

    instance = await workflow(state, run).create("a")
    await clock.advance(seconds=1)
    forget_runs(state)
    assert (await finish(instance, clock, 20)).output == [1_200_000, 0, 2, 5, ""]
    assert ran == [1]


async def _nothing() -> Any:
    return
    yield b""


async def test_code_that_cancels_what_it_asked_for(
    state: bunflare.State, clock: ManualClock
) -> None:
    async def run(event: Any, step: Any) -> Any:
        tasks = [
            asyncio.ensure_future(step.wait_for_event("never", "x")),
            asyncio.ensure_future(step.sleep("soon", 60)),
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in rest:
            one.cancel()
        await step.sleep("more", 60)
        return [len(done), len(rest)]

    instance = await workflow(state, run).create("a")
    for _ in range(5):
        await clock.advance(seconds=30)
        forget_runs(state)
    assert (await instance.wait(PATIENCE)).output == [1, 1]


# -- the decorator -------------------------------------------------------------------------


async def test_the_decorator_with_dependencies_by_name(state: bunflare.State) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        @step.do()
        async def one() -> int:
            ran.append("one")
            return 1

        @step.do("second")
        async def two(one: int, ctx: Any) -> int:
            ran.append("two")
            assert ctx.step.name == "second"
            return one + 1

        @step.do(concurrent=True)
        def both(one: int, second: int) -> list[int]:
            ran.append("both")
            return [one, second]

        first = await both()
        return [first, await both(), await one()]

    assert (await outcome(state, run)).output == [[1, 2], [1, 2], 1]
    # What others depend on runs once; what is called runs whenever it is called.
    assert ran == ["one", "two", "both", "both", "one"]


async def test_the_decorator_with_dependencies_in_a_list(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        @step.do("a")
        async def first() -> int:
            return 1

        @step.do("b", depends=[first], config={"retries": {"limit": 0}})
        async def second(x: int, ctx: Any) -> Any:
            return [x, ctx.attempt, ctx.config["retries"]["limit"]]

        @step.do("c", [first, second], True)
        async def third(x: int, y: Any) -> Any:
            return [x, y]

        return await third()

    assert (await outcome(state, run)).output == [1, [1, 1, 0]]


async def test_wrong_dependencies_are_type_errors(state: bunflare.State) -> None:
    async def run(event: Any, step: Any) -> Any:
        @step.do()
        async def first() -> None: ...

        @step.do()
        async def unknown(other: Any) -> None: ...

        @step.do("short", depends=[])
        async def short(x: Any) -> None: ...

        @step.do("plain", depends=[len])
        async def plain(x: Any) -> None: ...

        found = []
        for one in (unknown, short, plain):
            try:
                await one()
            except TypeError as error:
                found.append(str(error))
        return found

    first, second, third = (await outcome(state, run)).output
    assert "Received unexpected parameter other" in first
    assert "1 non-ctx parameter(s) but 'depends' has 0 item(s)" in second
    assert "is not a function decorated with step.do" in third


async def test_diamonds_run_their_top_once(state: bunflare.State) -> None:
    ran: list[str] = []

    async def run(event: Any, step: Any) -> Any:
        @step.do()
        async def top() -> int:
            ran.append("top")
            await asyncio.sleep(0)
            return 1

        @step.do()
        async def left(top: int) -> int:
            return top + 1

        @step.do()
        async def right(top: int) -> int:
            return top + 2

        @step.do(concurrent=True)
        async def bottom(left: int, right: int) -> list[int]:
            return [left, right]

        return await bottom()

    assert (await outcome(state, run)).output == [2, 3]
    assert ran == ["top"]
