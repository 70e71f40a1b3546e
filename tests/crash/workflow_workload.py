"""Workflows that are killed again and again until they are done. Run as a program.

``python -m tests.crash.workflow_workload DIRECTORY SEED KILLS PROCESSES`` forks processes that run
the same instances, kills them at random, and prints how often they were killed when all instances
have come to their end. What a step does is a line in a file.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bunflare

INSTANCES = 12
# How often tasks that run side by side use one name.
LANES = {"d": 3, "e": 1, "f": 2}


def expected(number: int) -> Any:
    """What an undisturbed run gives."""
    return {
        "loop": [number * step for step in range(4)],
        "flaky": 3,
        "nested": [number, "inner"],
        "side": [[f"{lane}{at}" for at in range(2)] for lane in "abc"],
        "same": [[f"{lane}{at}" for at in range(uses)] for lane, uses in LANES.items()],
        "event": number,
        "caught": "refused",
    }


class Work(bunflare.WorkflowEntrypoint):
    def effect(self, name: str) -> None:
        with Path(self.env).open("a") as file:
            file.write(f"{name}\n")

    async def run(self, event: Any, step: Any) -> Any:
        number = event.payload
        own = event.instance_id

        async def act(name: str, value: Any) -> Any:
            async def callback(ctx: Any) -> Any:
                self.effect(f"{own} {name} {ctx.step.count}")
                await asyncio.sleep(0)
                return value

            return await step.do(name, callback)

        found: dict[str, Any] = {}
        found["loop"] = [await act("loop", number * at) for at in range(4)]
        await step.sleep("nap", 0.002)

        async def flaky(ctx: Any) -> int:
            if ctx.attempt < 3:
                raise ValueError("not yet")
            return int(ctx.attempt)

        found["flaky"] = await step.do("flaky", flaky, retries={"delay": 0.001})

        async def outer() -> Any:
            return [number, await act("inner", "inner")]

        found["nested"] = await step.do("outer", outer)

        async def lane(name: str) -> list[str]:
            got = []
            for at in range(2):
                got.append(await act(name, f"{name}{at}"))
                await step.sleep(f"{name} nap", 0.001)
            return got

        found["side"] = list(await asyncio.gather(*[lane(name) for name in "abc"]))

        async def same(name: str, uses: int) -> list[str]:
            return [await act("same", f"{name}{at}") for at in range(uses)]

        lanes = [same(name, uses) for name, uses in LANES.items()]
        found["same"] = list(await asyncio.gather(*lanes))
        waited = await step.wait_for_event("news", "news", timeout="1 hour")
        found["event"] = waited.payload

        async def refuse() -> None:
            self.effect(f"{own} refuse 1")
            raise bunflare.NonRetryableError("refused")

        try:
            await step.do("refuse", refuse)
        except bunflare.NonRetryableError as error:
            found["caught"] = str(error)
        return found


async def work(directory: Path) -> None:
    async with bunflare.open(directory / "state") as state:
        made = state.workflow(Work, env=str(directory / "effects"))
        for number in range(INSTANCES):
            try:
                async with state.transaction() as tx:
                    instance = await tx.workflow(Work).create(f"w{number}", number)
                    await instance.send_event("news", number)
            except bunflare.WorkflowError:
                continue  # it was created before the last kill
        instances = [await made.get(f"w{number}") for number in range(INSTANCES)]
        await asyncio.gather(*[instance.wait() for instance in instances])


def child(directory: Path) -> int:
    """A process that works until it is killed, or done."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        asyncio.run(work(directory))
        code = 0
    finally:
        os._exit(code)


def recorded(directory: Path) -> set[str]:
    """The steps whose results are on disk, as their effects are called."""
    path = directory / "state" / "data.sqlite"
    if not path.exists():
        return set()
    connection = sqlite3.connect(path, timeout=10)
    try:
        return {
            f"{instance} {name} {count}"
            for instance, name, count in connection.execute(
                "SELECT instance, name, count FROM bunflare_workflow_log"
                " WHERE kind IN ('step_completed', 'step_errored')"
            )
        }
    except sqlite3.OperationalError:
        return set()
    finally:
        connection.close()


def effects(directory: Path) -> Counter[str]:
    path = directory / "effects"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def main(directory: Path, seed: int, kills: int, processes: int) -> int:
    chance = random.Random(seed)
    killed = 0
    while True:
        running = [child(directory) for _ in range(processes)]
        if killed < kills:
            time.sleep(chance.expovariate(1 / 0.02))
        else:
            os.waitid(os.P_PID, running[0], os.WEXITED | os.WNOWAIT)
        chance.shuffle(running)
        ended = False
        for process in running:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0, "a process failed"
                ended = True
                continue
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            killed += 1
            time.sleep(chance.uniform(0, 0.005))
        known = recorded(directory)
        before = effects(directory)
        for name in known:
            settled.setdefault(name, before[name])
            # A step whose result was recorded never runs again.
            assert before[name] == settled[name], name
        if ended:
            return killed


settled: dict[str, int] = {}

if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    sys.stdout.write(f"{main(Path(place), *map(int, numbers))}\n")
