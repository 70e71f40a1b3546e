"""Run one operation of R2 again and again, killed at its first step, its second, and so on.

A step is a call of the operating system that changes files. Each run happens in a process of its
own that is killed with SIGKILL before (or right after) the step, and another process then opens the
directory and tells what it finds, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bunflare

STEPS = [
    *("open", "write", "fsync", "rename", "unlink", "utime", "mkdir", "rmdir", "close"),
    *("copy_file_range", "pread"),
]
OLD = b"old" * 100
LARGE_OLD = b"old" * 100_000
NEW = b"new!" * 100
LARGE_NEW = b"new!" * 100_000


async def _put(bucket: bunflare.R2Bucket) -> None:
    await bucket.put("dir/key", NEW)


async def _put_large(bucket: bunflare.R2Bucket) -> None:
    await bucket.put("dir/key", LARGE_NEW)


async def _delete(bucket: bunflare.R2Bucket) -> None:
    await bucket.delete("dir/key")


async def _copy(bucket: bunflare.R2Bucket) -> None:
    await bucket.copy("other", "dir/key")


async def _complete(bucket: bunflare.R2Bucket) -> None:
    upload = await bucket.create_multipart_upload("dir/key")
    await upload.complete([await upload.upload_part(1, NEW)])


Act = Callable[[bunflare.R2Bucket], Awaitable[None]]

#: What is there before, what is done, and what is there then. The close that follows is part of it.
SCENARIOS: dict[str, tuple[bytes | None, Act, bytes | None]] = {
    "put": (None, _put, NEW),
    "overwrite": (OLD, _put, NEW),
    "overwrite a large one": (LARGE_OLD, _put, NEW),
    "put a large one": (None, _put_large, LARGE_NEW),
    "overwrite by a large one": (OLD, _put_large, LARGE_NEW),
    "delete": (OLD, _delete, None),
    "delete a large one": (LARGE_OLD, _delete, None),
    "copy": (OLD, _copy, LARGE_OLD),
    "complete": (OLD, _complete, NEW),
}


async def prepare(directory: Path, before: bytes | None) -> None:
    async with bunflare.open(directory) as state:
        bucket = state.r2("bucket")
        await bucket.put("other", LARGE_OLD)
        await bucket.put("dir/neighbour", OLD)
        if before is not None:
            await bucket.put("dir/key", before)


def kill_at(step: int, afterwards: bool) -> None:
    """Let this process die at a step from now on."""
    steps = itertools.count(1)  # which counts right, whatever threads it is asked by

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            now = next(steps)
            if now == step and not afterwards:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **kwargs)
            finally:
                if now == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in STEPS:
        setattr(os, name, watched(getattr(os, name)))


async def act(directory: Path, what: Act, step: int, afterwards: bool, told: int) -> None:
    state = bunflare.open(directory)
    await state.r2("bucket").head("other")
    kill_at(step, afterwards)
    await what(state.r2("bucket"))
    os.write(told, b"done")  # a step as well
    await state.close()


async def look(directory: Path) -> dict[str, Any]:
    async with bunflare.open(directory) as state:
        await state.r2("bucket").repair()
        bucket = state.r2("bucket")
        found = await bucket.get("dir/key")
        value = await found.bytes() if isinstance(found, bunflare.R2ObjectBody) else None
        check = await bucket.check(digests=True)
        integrity = state.database.view.one("PRAGMA integrity_check")
        path = directory / "r2" / "bucket" / "dir" / "key"
        return {
            "value": None if value is None else value.hex(),
            "file": path.read_bytes() == value if value is not None else not path.exists(),
            "problems": [problem.detail for problem in check.problems],
            "strangers": check.strangers,
            "staged": sorted(
                one.name for one in state.directory.glob("r2-staging/*") if not _is_part(state, one)
            ),
            "integrity": integrity,
        }


def _is_part(state: bunflare.State, path: Path) -> bool:
    return bool(
        state.database.view.one("SELECT 1 FROM bunflare_r2_parts WHERE file = ?", (path.name,))
    )


def in_child(run: Callable[[], Any]) -> int:
    """Run something in a fork; how that ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def run(directory: Path, what: Act, step: int, afterwards: bool) -> str:
    """One run, and what another process finds then."""
    reader, writer = os.pipe()
    ended = in_child(lambda: asyncio.run(act(directory, what, step, afterwards, writer)))
    os.close(writer)
    told = os.read(reader, 100)
    os.close(reader)
    killed = os.WIFSIGNALED(ended)
    assert killed or ended == 0

    def tell() -> None:
        found = asyncio.run(look(directory))
        line = json.dumps({"step": step, "told": bool(told), "killed": killed, **found})
        sys.stdout.write(line + "\n")

    assert in_child(tell) == 0
    return "killed" if killed else "whole"


def main(root: Path, name: str, stride: int) -> None:
    before, what, _ = SCENARIOS[name]
    template = root / "template"
    assert in_child(lambda: asyncio.run(prepare(template, before))) == 0
    step, afterwards, ended = 1, False, "killed"
    while ended == "killed":
        directory = root / f"{step}-{afterwards}"
        shutil.copytree(template, directory, copy_function=shutil.copy2)
        ended = run(directory, what, step, afterwards)
        shutil.rmtree(directory)
        if afterwards or stride > 1:
            step += stride
        afterwards = not afterwards


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
