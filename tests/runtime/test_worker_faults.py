"""What a Worker may do wrong, and what its author sees then."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import PATIENCE

from .test_dev import Server, dev, project

WORKER = """
import asyncio
import logging
import sys
import time
from js import console, setTimeout
from workers import Response, WorkerEntrypoint, wait_until
import helper

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = request.url.rsplit("/", 1)[1].partition("?")[0]
        return await getattr(self, name or "index")()

    async def index(self):
        return Response("fine")

    async def spin(self):
        while True:
            pass

    async def caused(self):
        try:
            helper.divide(1, 0)
        except ZeroDivisionError as error:
            raise ValueError("<caused>") from error

    async def binding(self):
        await self.env.KV.put("", "empty")

    async def exits(self):
        sys.exit(3)

    async def base(self):
        raise BaseException("of the worst kind")

    async def interrupts(self):
        raise KeyboardInterrupt

    async def cancels_itself(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def cancels_all(self):
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    async def exits_in_a_task(self):
        async def leave():
            sys.exit(5)
        asyncio.ensure_future(leave())
        await asyncio.sleep(0.01)
        return Response("left")

    async def exits_in_a_timer(self):
        setTimeout(lambda: sys.exit(6), 1)
        await asyncio.sleep(0.01)
        return Response("left")

    async def stops_the_loop(self):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return Response("left")

    async def prints(self):
        for i in range(20_000):
            print("printed", i)
            logging.getLogger("of the worker").warning("logged %d", i)
        return Response("printed")

    async def leak(self):
        for _ in range(1000):
            asyncio.get_running_loop().create_task(asyncio.sleep(3600))
        return Response("leaked")

    async def late(self):
        async def fail():
            raise ZeroDivisionError("in the background")
        wait_until(fail())
        return Response("soon")

    async def flood(self):
        for i in range(20_000):
            console.log("flood", i)
            logging.getLogger("bunflare").warning("flood %d", i)
        return Response("flooded")

    async def says(self):
        console.log("said", 1, None, {"a": 1})
        console.error("said loudly")
        console.debug("whispered")
        return Response("said")

    async def stop(self):
        number = 6
        breakpoint()
        return Response(f"went on with {number}")
"""
_PATIENT = f"Terminal._PATIENCE_SECONDS = {PATIENCE}\n"
HELPER = """
def divide(a, b):
    return a / b
"""
WRANGLER = 'name = "faults"\nmain = "src/entry.py"\nkv_namespaces = [{ binding = "KV" }]\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    project(tmp_path, WORKER, WRANGLER)
    (tmp_path / "src" / "helper.py").write_text(HELPER)
    return tmp_path


def lines_until(server: Server, expected: str) -> list[str]:
    """What stands on standard error up to a line with ``expected``."""
    assert server.process.stderr is not None
    lines: list[str] = []
    while not lines or expected not in lines[-1]:
        lines.append(server.process.stderr.readline())
        assert lines[-1], lines
    return lines


def test_a_worker_that_fails_in_any_way_takes_nothing_down(path: Path) -> None:
    with dev(path) as server:
        for name, expected in (
            ("caused", "ValueError: <caused>"),
            ("exits", "SystemExit: 3"),
            ("base", "BaseException: of the worst kind"),
            ("binding", "TypeError: Key name cannot be empty."),
            ("missing", "AttributeError"),
            ("interrupts", "KeyboardInterrupt"),
            ("cancels_itself", "Internal Server Error"),
            ("cancels_all", "Internal Server Error"),
        ):
            status, _, body = server.fetch(f"/{name}")
            assert status == 500
            assert expected in body.decode()
            assert server.text() == "fine"
        for name in ("exits_in_a_task", "exits_in_a_timer", "stops_the_loop"):
            assert server.text(f"/{name}") == "left"
            assert server.text() == "fine"
        assert server.text("/leak") == "leaked"
        assert server.text("/late") == "soon"
        assert "in the background" in "".join(lines_until(server, "in the background"))
        assert server.text("/flood") == "flooded"
        assert server.text() == "fine"
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=PATIENCE)
        assert server.process.returncode == 0


def test_what_nobody_reads_holds_nobody_up(path: Path) -> None:
    with dev(path) as server:
        for _ in range(2):
            assert server.text("/prints") == "printed"
            assert server.text() == "fine"
        # A reader who comes later is told what was dropped.
        assert server.process.stdout is not None
        assert server.process.stderr is not None
        out: list[str] = []
        err: list[str] = []
        with ThreadPoolExecutor() as pool:
            readers = [
                pool.submit(out.extend, server.process.stdout),
                pool.submit(err.extend, server.process.stderr),
            ]
            deadline = time.monotonic() + PATIENCE
            while not any("lines more were too many to be written" in one for one in out + err):
                assert time.monotonic() < deadline
                time.sleep(0.005)  # until it has been written
            server.process.send_signal(signal.SIGTERM)
            for reader in readers:
                reader.result(PATIENCE)
    assert out[0] == "printed 0\n"


def test_all_that_is_printed_is_there_for_whoever_reads(path: Path) -> None:
    # Whoever has their turns late is not yet somebody who does not read.
    patient = f"from bunflare.runtime.terminal import Terminal\n{_PATIENT}"
    (path / "src" / "entry.py").write_text(WORKER + patient)
    with dev(path) as server, ThreadPoolExecutor() as pool:
        told = pool.submit(server.process.communicate)
        assert server.text("/prints") == "printed"
        server.process.send_signal(signal.SIGTERM)
        out, err = told.result(PATIENCE)
    assert [line for line in out.splitlines() if line.startswith("printed")] == [
        f"printed {i}" for i in range(20_000)
    ]
    # On a busy machine the watchdog may show the line that logs, too.
    assert [line for line in err.splitlines() if line.startswith("warning: logged")] == [
        f"warning: logged {i}" for i in range(20_000)
    ]


def test_a_traceback_shows_the_frames_of_the_worker(path: Path) -> None:
    with dev(path) as server:
        _, headers, body = server.fetch("/caused")
        text = body.decode()
        assert headers["content-type"] == "text/plain;charset=UTF-8"
        files = re.findall(r'File "(.*?)"', text)
        assert {Path(file).name for file in files} == {"entry.py", "helper.py"}
        said = "".join(lines_until(server, "ValueError"))
        assert said.startswith("ERROR: the Worker failed on GET http://127.0.0.1:")
        assert re.findall(r'File "(.*?)"', said) == files
        # What a binding refuses is shown where the Worker asked for it.
        found = re.findall(r'File "(.*?)"', server.text("/binding"))
        assert {Path(file).name for file in found} == {"entry.py"}


def test_a_browser_gets_a_page(path: Path) -> None:
    with dev(path) as server:
        accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        status, headers, body = server.fetch("/caused?a=<b>", headers=accept)
        page = body.decode()
        assert status == 500
        assert headers["content-type"] == "text/html;charset=UTF-8"
        assert "<title>ValueError: &lt;caused&gt;</title>" in page
        assert "ZeroDivisionError: division by zero" in page
        assert re.search(r'class="at"><i>\s*\d+\s+</i>\s*return a / b', page)
        assert "<b>" not in page
        assert "asgi.py" not in page


def test_a_worker_that_keeps_all_waiting_is_told_of_and_can_be_ended(path: Path) -> None:
    with dev(path) as server:
        thread = threading.Thread(target=_ignore, args=(server, "spin"))
        thread.start()
        said = "".join(lines_until(server, "in spin"))
        assert "nothing else could run for 2 seconds" in said
        server.process.send_signal(signal.SIGINT)
        for _ in range(10):
            time.sleep(0.05)  # two signals at once would be one, and still are on a busy machine
            server.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(PATIENCE / 10)
                break
        assert server.process.returncode == 1
        thread.join()


def test_a_worker_that_blocks_is_told_of_though_nobody_asks_for_anything(tmp_path: Path) -> None:
    source = """
        import asyncio
        from workers import Response, WorkerEntrypoint

        def sleepy():
            open("gate").close()  # this line
            print("awake")

        asyncio.get_running_loop().call_later(0.1, sleepy)

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                return Response("fine")
        """
    project(tmp_path, source)
    # Whoever opens it to read waits until another writes.
    os.mkfifo(tmp_path / "gate")
    with dev(tmp_path) as server:
        said = "".join(lines_until(server, "# this line"))
        assert "nothing else could run for 2 seconds" in said
        assert "in sleepy" in said
        os.close(os.open(tmp_path / "gate", os.O_WRONLY | os.O_NONBLOCK))
        assert server.text() == "fine"
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "awake\n"


STUBBORN = """
import asyncio
from bunflare.runtime import context, looping, server
from workers import Response, WorkerEntrypoint

server._GRACE = context._GRACE_SECONDS = looping._GRACE_SECONDS = 0.1
begun = asyncio.Event()

async def stay():
    while True:
        try:
            begun.set()
            await asyncio.sleep(3600)
        except SWALLOWED:
            continue

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        if request.url.endswith("/task"):
            self.ctx.wait_until(stay())
        elif request.url.endswith("/begun"):
            await begun.wait()
        elif request.url.endswith("/request"):
            await stay()
        await self.env.KV.put("key", "value")
        return Response("WORD")
"""


@pytest.mark.parametrize("swallowed", ["asyncio.CancelledError", "BaseException"])
@pytest.mark.parametrize("name", ["task", "request"])
def test_what_swallows_its_cancellation_does_not_keep_the_server_from_its_end(
    tmp_path: Path, name: str, swallowed: str
) -> None:
    path = project(tmp_path, STUBBORN.replace("SWALLOWED", swallowed), WRANGLER)
    with dev(path) as server:
        connection = server.connect()
        connection.request("GET", f"/{name}")
        assert server.text("/begun") == "WORD"
        said = server.stop()
        connection.close()
        assert server.process.returncode == 0
    told = "given to wait_until go on" if name == "task" else "do not end"
    assert f"task(s) {told} though they were cancelled" in said
    assert re.search(r"\n  stay \(.*/src/entry\.py:13\)\n", said)
    assert said.count("though they were cancelled") == 1
    assert "destroyed" not in said
    # Closed cleanly: no log is left.
    assert not (path / ".bunflare" / "data.sqlite-wal").exists()


def _ignore(server: Server, name: str) -> None:
    try:
        server.text(f"/{name}")
    except OSError:
        return


def test_what_a_worker_says_is_shown(path: Path) -> None:
    with dev(path) as server:
        assert server.text("/says") == "said"
        assert server.process.stdout is not None
        shown = [server.process.stdout.readline() for _ in range(2)]
        assert shown[0] == "said 1 None {'a': 1}\n"
        assert re.fullmatch(r"GET /says 200 OK \(\d+ms\)\n", shown[1])
        assert lines_until(server, "loudly") == ["said loudly\n"]
    with dev(path, "--log-level", "debug") as server:
        assert server.text("/says") == "said"
        assert server.process.stdout is not None
        assert "whispered\n" in [server.process.stdout.readline() for _ in range(3)]


def test_a_breakpoint_stops_in_the_terminal_and_goes_on(path: Path) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("bunflare")), "dev", "--port", "0"],
        cwd=path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = ""

    def until(expected: str) -> re.Match[str]:
        nonlocal shown
        while not (found := re.search(expected, shown)):
            shown += os.read(controller, 4096).decode()
        shown = shown[found.end() :]
        return found

    try:
        port = int(until(r"Ready on http://127\.0\.0\.1:(\d+)\r\n")[1])
        server = Server(process, port, path)  # type: ignore[arg-type]
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(server.text("/stop")))
        thread.start()
        until(r"entry\.py\(\d+\)stop\(\)")
        until(r"\(Pdb\) ")
        os.write(controller, b"p number * 7\n")
        until(r"42\r\n\(Pdb\) ")
        os.write(controller, b"number = 7\n")
        until(r"\(Pdb\) ")
        os.write(controller, b"c\n")
        thread.join(PATIENCE)
        assert answers == ["went on with 7"]
        until(r"GET /stop 200 OK")
        assert "waiting" not in shown
    finally:
        process.kill()
        process.wait()
        os.close(controller)
