"""A server program on this machine: start, stop gracefully, kill, start again on the same port and data."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infrastructure.run_directory import RunDirectory

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05
# Below the range that the kernel gives to outgoing connections, so that nobody takes the port while we are down.
PORT_MIN, PORT_MAX = 15000, 31999
LOG_TAIL_BYTES = 2000


class ServerMissing(Exception):
    """No such server can be had here. The text says what is missing and what to install."""


class ServerFailed(Exception):
    """The server is there and does not work. The text holds the end of its log."""


def free_port() -> int:
    for _ in range(200):
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise ServerFailed(f"no free port between {PORT_MIN} and {PORT_MAX} on the loopback")


@dataclass(frozen=True)
class Program:
    """How to run one server.

    directory: its own, with data and log. ready: returns when the server answers, raises OSError (or a subclass) when
    it does not yet. stop_signal: graceful. end_signal: at the end of the run, when the data is thrown away.
    """

    name: str
    directory: Path
    command: Sequence[str]
    port: int
    ready: Callable[[], None]
    stop_signal: signal.Signals
    end_signal: signal.Signals
    user: str | None = None


class ProcessServer:
    """One server program under a warden. Not thread-safe: one test owns it."""

    def __init__(self, program: Program, run: RunDirectory) -> None:
        self.program = program
        self._run = run
        self._pid: int | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.program.port}"

    @property
    def running(self) -> bool:
        return (self.program.directory / "warden").exists()

    def start(self) -> None:
        """Start, and return once the server answers. Raises ServerFailed with the end of its log."""
        program = self.program
        command = [sys.executable, "-I", str(Path(__file__).with_name("warden.py"))]
        command += ["--directory", str(program.directory), "--alive", str(self._run.alive_path)]
        command += ["--end-signal", str(int(program.end_signal))]
        command += ["--user", program.user] if program.user else []
        answer = subprocess.run([*command, "--", *program.command], stdout=subprocess.PIPE, text=True, check=False)
        if answer.returncode != 0:
            raise ServerFailed(f"{program.name} could not be started: {answer.stdout}")
        self._pid = int(answer.stdout)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return program.ready()
            except OSError as error:
                if not self.running or time.monotonic() > deadline:
                    self.kill()
                    raise ServerFailed(f"{program.name} did not become ready ({error}): {self.log_tail()}") from error
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop gracefully and keep the data; the port refuses connections once this returns."""
        if self._pid is None or not self.running:
            return
        os.kill(self._pid, self.program.stop_signal)
        try:
            self._wait()
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the program and everything below it: what a machine's power cut looks like to its clients."""
        if self._pid is None or not self.running:
            return
        try:
            parent = psutil.Process(self._pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
        self._wait()

    def log_tail(self) -> str:
        log = self.program.directory / "log"
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace") if log.exists() else "(no log)"

    def _wait(self) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.program.name} did not end within {STOP_TIMEOUT_S} s")
            time.sleep(POLL_S)


def answers(port: int) -> None:
    """Raises OSError when nothing listens on the loopback port."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return
