"""CPU time until something can be done."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from .measure import Result, scratch
from .serving import WORKER, WRANGLER

ROUNDS = 7


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run() -> Iterator[Result]:
    def imported() -> float:
        before = _cpu()
        subprocess.run([sys.executable, "-c", "import bunflare"], check=True)
        return _cpu() - before

    imported()
    yield Result(
        "CPU time of `import bunflare`",
        0.15,
        used := median(imported() for _ in range(ROUNDS)),
        0.15,
        used,
        unit=" s",
        is_cost=True,
    )
    with scratch() as directory:
        (directory / "entry.py").write_text(WORKER)
        (directory / "wrangler.toml").write_text(WRANGLER)

        def answered() -> float:
            return _first_answer(directory)

        answered()
        yield Result(
            "CPU time of `bunflare dev` to its first answer",
            0.6,
            used := median(answered() for _ in range(ROUNDS)),
            0.6,
            used,
            unit=" s",
            is_cost=True,
        )


def _first_answer(directory: Path) -> float:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("bunflare"), "dev", "--port", "0"],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("Ready on ").strip()
    with urllib.request.urlopen(address, timeout=30) as response:
        response.read()
    # What it has used up to here; what ending costs does not count.
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.05)
    return used
