"""Who is alive among the processes of a directory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from bunflare.store.processes import Presence
from tests.support import PATIENCE

_OTHER = """
import sys, time
from pathlib import Path
from bunflare.store.processes import Presence
print(Presence(Path(sys.argv[1])).id, flush=True)
time.sleep(600)
"""


def _other(directory: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_one_is_alive_to_oneself_and_a_stranger_is_not(tmp_path: Path) -> None:
    presence = Presence(tmp_path / "processes")
    assert presence.alive(presence.id)
    assert not presence.alive("0123456789abcdef")
    presence.close()


async def test_the_end_of_another_process_is_reported_and_seen(tmp_path: Path) -> None:
    directory = tmp_path / "processes"
    presence = Presence(directory)
    process, other = _other(directory)
    try:
        assert presence.alive(other)
        ended = asyncio.Event()

        def look() -> None:
            if not presence.alive(other):
                ended.set()

        unsubscribe = presence.subscribe(look)
        process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        unsubscribe()
    finally:
        process.kill()
        process.communicate()
    assert not presence.alive(other)
    # The next one to come removes what it left.
    assert (directory / other).exists()
    newcomer, _ = _other(directory)
    assert not (directory / other).exists()
    assert (directory / presence.id).exists()
    newcomer.kill()
    newcomer.communicate()
    presence.close()
    assert not (directory / presence.id).exists()


def test_the_child_of_a_fork_holds_nothing_of_its_parent(tmp_path: Path) -> None:
    """A parent that dies is dead although its child goes on."""
    directory = tmp_path / "processes"
    program = _OTHER.replace(
        "time.sleep(600)",
        "import os\nif os.fork() == 0:\n    print('child', flush=True)\n    time.sleep(600)\n"
        "os.kill(os.getpid(), 9)",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    assert process.stdout.readline().strip() == "child"
    process.wait()
    presence = Presence(directory)
    try:
        assert not presence.alive(first)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        presence.close()


async def test_a_database_has_one_presence_and_a_forked_child_another(tmp_path: Path) -> None:
    import bunflare

    state = bunflare.open(tmp_path / "state")
    own = state.database.presence
    assert state.database.presence is own
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, state.database.presence.id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs != own.id
    assert own.alive(own.id)
    assert not own.alive(theirs)
    await state.close()
