"""The suite as its users start it: one process, or one process per service on Kafka and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

PREFIXES = {
    "auth": "auth-gateway",
    "sync": "sync",
    "hl7": "hl7-gateway",
    "diagnostics": "diagnostics",
    "alerts": "alerts",
    "simulator": "simulator",
}
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as claimed:
        claimed.bind(("127.0.0.1", 0))
        return int(claimed.getsockname()[1])


def eventually(check: Callable[[], T | None], *, within_s: float, every_s: float = 0.1) -> T:
    """The first truthy result of a check; fails with its last result when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            result = check()
        except (httpx.TransportError, AssertionError) as error:
            result, problem = None, repr(error)
        else:
            problem = repr(result)
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {problem}")
        time.sleep(every_s)


class Process:
    """One program of the suite, with its output in a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._arguments = arguments
        self.environment = environment
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to stop; returns the exit status. What does not stop in time is killed, and that fails the test."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"did not stop:\n{self.tail()}") from None

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Suite:
    """The suite's public face: URLs by service, one token, the MLLP port."""

    def __init__(self, processes: dict[str, Process], urls: dict[str, str], mllp_port: int, data: Path) -> None:
        self.processes = processes
        self.urls = urls
        self.mllp_port = mllp_port
        self.data = data
        self._client = httpx.Client(timeout=15.0, trust_env=False)

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def url(self, path: str) -> str:
        return self.urls[PREFIXES[path.split("/")[1]]] + path

    def request(self, method: str, path: str, body: Any = None, **arguments: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        return self._client.request(method, self.url(path), json=body, headers=headers, **arguments)

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        response = self.request(method, path, body, headers=dict(headers or {}))
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.running(), f"{name} ended:\n{process.tail()}"
        return all(self._client.get(f"{url}/readyz").status_code == 200 for url in set(self.urls.values()))

    def close(self) -> None:
        self._client.close()
        for process in self.processes.values():
            if process.running():
                process.stop()


@contextlib.contextmanager
def embedded_suite(data: Path, *, demo: bool = True, environment: Mapping[str, str] | None = None) -> Iterator[Suite]:
    """`make run`'s program, on free ports."""
    port, mllp_port = free_port(), free_port()
    arguments = [
        sys.executable, "-m", "suite", "--port", str(port), "--mllp-port", str(mllp_port), "--data", str(data),
        "--demo", "1" if demo else "0",
    ]  # fmt: skip
    process = Process(arguments, environment or {}, data.parent / f"{data.name}.log")
    suite = Suite({"suite": process}, dict.fromkeys(PREFIXES.values(), f"http://127.0.0.1:{port}"), mllp_port, data)
    process.start()
    try:
        wait_until_welcome(suite)
        yield suite
    finally:
        suite.close()


def wait_until_welcome(suite: Suite) -> None:
    """Until the suite is ready and its token lies in the file."""
    eventually(lambda: suite.ready() and (suite.data / "admin-token").exists(), within_s=START_TIMEOUT_S)
    process = suite.processes.get("suite")
    if process is not None:
        eventually(lambda: "Ctrl-C" in process.log.read_text(), within_s=START_TIMEOUT_S)


@contextlib.contextmanager
def separate_suite(data: Path, *, database_url: str, bus_url: str, demo: bool = True) -> Iterator[Suite]:
    """One process per service on a real broker and database, set up by `python -m suite.bootstrap`."""
    ports = {service: free_port() for service in PREFIXES.values()}
    urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}
    mllp_port = free_port()
    environment = {
        "PS_DATABASE_URL": database_url,
        "PS_BUS_URL": bus_url,
        "PS_PEERS": json.dumps(urls),
        "PS_KEY": b64encode(secrets.token_bytes(32)).decode(),
        "PS_TOKEN_ISSUER": "urn:practice-studio:test",
        "PS_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PS_HL7_LISTEN_PORT": str(mllp_port),
        "PS_DATABASE_CONNECTIONS_MAX": "4",
    }
    data.mkdir(parents=True, exist_ok=True)
    processes = {
        service: Process(
            [sys.executable, "-m", service.replace("-", "_"), "--port", str(port), "--data", str(data / service)],
            environment,
            data / f"{service}.log",
        )
        for service, port in ports.items()
    }
    suite = Suite(processes, urls, mllp_port, data)
    try:
        for process in processes.values():
            process.start()
        eventually(suite.ready, within_s=START_TIMEOUT_S * 2)
        made = subprocess.run(
            [sys.executable, "-m", "suite.bootstrap", "--demo", "1" if demo else "0"],
            env={**os.environ, **environment, "PS_DATA": str(data)},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        yield suite
    finally:
        suite.close()
