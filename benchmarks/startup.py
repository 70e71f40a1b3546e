"""Processor time until something can be done, of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from .report import Report, seconds
from .serving import dev, make_worker, start, uvicorn

_RUNS = 9


async def measure(scratch: Path) -> Report:
    report = Report()
    # Compiled modules are kept, as they are for users, whatever the environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(scratch / "compiled")
    await make_worker(scratch)
    program = str(Path(sys.executable).with_name("bunflare"))
    key = ["--namespace-id", "N", "--persist-to", str(scratch / "keys")]
    _command([program, "kv", "key", "put", "key", "value", *key])
    bare, imported, got = _medians(
        lambda: _command([sys.executable, "-c", "pass"]),
        lambda: _command([sys.executable, "-c", "import bunflare"]),
        lambda: _command([program, "kv", "key", "get", "key", *key]),
    )
    report.at_most(
        "processor time of `import bunflare` (floor: `python -c pass`)",
        0.15,
        bare,
        imported,
        "at most 0.15 s",
        seconds,
    )
    report.at_most(
        "processor time of `bunflare kv key get` (floor: `python -c pass`)",
        0.15,
        bare,
        got,
        "at most 0.15 s",
        seconds,
    )
    hello, worker = _medians(
        lambda: start("uvicorn", uvicorn, scratch).kill(),
        lambda: start("ours", dev, scratch).kill(),
    )
    report.at_most(
        "processor time of `bunflare dev` to its first answer (floor: uvicorn's hello)",
        0.6,
        hello,
        worker,
        "at most 0.6 s",
        seconds,
    )
    return report


def _medians(*costs: Callable[[], float]) -> list[float]:
    """The costs, taken in turns, after a first time that fills the caches of the disk."""
    found: list[list[float]] = [[] for _ in costs]
    for number in range(_RUNS + 1):
        for cost, values in zip(costs, found, strict=True):
            value = cost()
            if number:
                values.append(value)
    return [median(values) for values in found]


def _command(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime
