"""`examples/care`: a folder that follows a namespace, and what cron does each night."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import bunflare
from tests.cli.process import PROGRAM
from tests.support import child, eventually

CARE = Path(__file__).parents[2] / "examples/care"


async def test_a_folder_follows_a_namespace_also_across_kills(tmp_path: Path) -> None:
    folder = tmp_path / "settings"
    mirror = ((CARE / "mirror.py").read_text(), tmp_path / ".bunflare", "SETTINGS", folder)

    def there() -> dict[str, str]:
        found = {}
        for path in folder.glob("[!.]*"):
            with suppress(FileNotFoundError):  # the other process may just have removed it
                found[path.name] = path.read_text()
        return found

    async with bunflare.open(tmp_path / ".bunflare") as state:
        kv = state.kv("SETTINGS")
        await kv.put("colour", "blue")
        with child(*mirror) as process:
            assert await asyncio.to_thread(process.line) == "following"
            assert there() == {"colour": "blue"}
            await kv.put("a/b", "1")
            await state.kv("OTHER").put("colour", "red")
            await kv.put("colour", "green")
            await eventually(lambda: there() == {"colour": "green", "a%2Fb": "1"})
            process.kill()
        # What happens meanwhile is made up for.
        await kv.delete("colour")
        await kv.put("new", "2")
        with child(*mirror) as process:
            await eventually(lambda: there() == {"a%2Fb": "1", "new": "2"})


async def test_a_night(tmp_path: Path) -> None:
    state_directory, backups = tmp_path / "state", tmp_path / "backups"
    nightly = [str(CARE / "nightly.sh"), str(state_directory), str(backups)]
    # It is the same night all the time, whatever the hour.
    date = tmp_path / "bin" / "date"
    date.parent.mkdir()
    date.write_text("#!/bin/sh\necho 2026-01-31\n")
    date.chmod(0o755)
    path = os.pathsep.join([str(date.parent), str(Path(PROGRAM).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}

    def night() -> subprocess.CompletedProcess[str]:
        return subprocess.run(nightly, capture_output=True, text=True, env=environment, check=False)

    async with bunflare.open(state_directory) as state:
        await state.r2("files").put("a", "b")
        for number in range(8):
            await state.snapshot(f"s{number}")
        for _ in range(2):  # it may be run again
            done = await asyncio.to_thread(night)
            assert done.returncode == 0, done.stderr
        (backup,) = backups.iterdir()
        names = [one.name for one in await state.snapshots()]
        assert len(names) == 7
        assert names[-1] == backup.name.removesuffix(".tar.gz") == "2026-01-31"
        (state_directory / "r2/files/a").unlink()
        done = await asyncio.to_thread(night)
        assert done.returncode == 1
        assert "r2: missing: files/a" in done.stdout
    bunflare.restore(backup, tmp_path / "restored")
    async with bunflare.open(tmp_path / "restored") as state:
        assert await state.r2("files").head("a") is not None
