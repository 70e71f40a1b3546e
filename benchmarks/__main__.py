"""``python -m benchmarks [GROUP …]``: measure, and print ratios as Markdown.

Without a group, all are measured. The exit code is 1 if something could not be measured; a ratio
that was not reached is said in the table.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import uvloop

from .report import Report, main_table, peer_table, tell

#: Each group with its module.
GROUPS = {
    "kv": "kv",
    "r2": "r2",
    "d1": "d1",
    "do": "objects",
    "queues": "queues",
    "workflows": "workflows",
    "cache": "cache",
    "state": "state",
    "http": "serving",
    "sockets": "sockets",
    "startup": "startup",
    "import": "importing",
    "growth": "growth",
}

# On the disk of the project, which is one that keeps what it is given: /tmp may be memory.
_SCRATCH = Path(__file__).parent / ".bunflare"


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in GROUPS]
    if unknown:
        tell(f"there is no group {' or '.join(unknown)}; the groups are {', '.join(GROUPS)}")
        return 2
    # Whatever directory the user works with stays out of this.
    os.environ.pop("BUNFLARE_DIR", None)
    whole = Report()
    failed: list[str] = []
    for group in arguments or GROUPS:
        tell(f"-- {group}")
        try:
            report = _measure(group)
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{group}: {type(error).__name__}: {error}")
            continue
        whole.rows += report.rows
        whole.peers += report.peers
    print(f"{_machine()}. Ratios are medians of rounds in which all took turns.\n")
    print(main_table(whole.rows))
    if whole.peers:
        print(f"\n{peer_table(whole.peers)}")
    for failure in failed:
        print(f"\n**Not measured**: {failure}")
    return 1 if failed else 0


def _measure(group: str) -> Report:
    module = importlib.import_module(f".{GROUPS[group]}", __package__)
    _SCRATCH.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{group}-", dir=_SCRATCH))
    try:
        # The event loop that `bunflare dev` runs Workers on.
        report = uvloop.run(module.measure(scratch))
        assert isinstance(report, Report)
        return report
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _machine() -> str:
    import apsw

    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()} on uvloop, SQLite {apsw.sqlite_lib_version()}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
