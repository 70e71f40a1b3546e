"""Servers that run as processes of their own while something is measured."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.002


class Server:
    """A process that answers HTTP on a port of its own."""

    def __init__(self, name: str, command: Callable[[int], Sequence[str]], scratch: Path) -> None:
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._log = scratch / f"{name}-{self.port}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(self.port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self, expect: bytes | None) -> None:
        """Return with the first answer, which must be 200 and ``expect`` if that is given."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.output() or 'without a word'}")
            try:
                answer = self.ask()
            except OSError:
                if time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"{self.name} does not answer: {self.output()}") from None
                time.sleep(_LOOK_AGAIN_SECONDS)
                continue
            if expect is not None and answer != (200, expect):
                self.stop()
                raise RuntimeError(f"{self.name} answered {answer!r:.2000}")
            return

    def memory(self, field: str) -> int:
        """Bytes of memory: ``VmRSS`` now, ``VmHWM`` at most so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
        return int(line.split()[1]) * 1024

    def ask(self, path: str = "/") -> tuple[int, bytes]:
        """One request, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def resident(self) -> int:
        """Memory that the process has, in KiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def output(self) -> str:
        return self._log.read_text(errors="replace")[-2000:].strip()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> float:
        """End it at once. Returns the seconds of processor time that it has used until then."""
        self._process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
