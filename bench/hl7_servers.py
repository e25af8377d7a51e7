"""Servers that the HL7 figures are measured on: the gateway on either database, and what it is compared with."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infrastructure import postgres_server
from infrastructure.run_directory import RunDirectory

ROOT: Final = Path(__file__).resolve().parents[1]
GATEWAY: Final = ROOT / "services/hl7-gateway/tests/gateway_process.py"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up."""

    port: int
    pid: int


@contextlib.contextmanager
def floor(name: str, folder: Path) -> Iterator[Server]:
    """`bare` or `python-hl7`: see `bench.mllp_floor`."""
    with _running(name, ["-m", "bench.mllp_floor", name], folder, {}) as server:
        yield server


@contextlib.contextmanager
def gateway(folder: Path, name: str = "gateway", **settings: str) -> Iterator[Server]:
    """The gateway as a process of its own; `settings` are variables of its environment."""
    with _running(name, [str(GATEWAY)], folder, settings, port_last=True) as server:
        yield server


@contextlib.contextmanager
def validating_gateway(folder: Path) -> Iterator[Server]:
    """The gateway on SQLite, its second listener, which validates whole messages before it acknowledges them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with gateway(folder, "validating", VALIDATED_PORT=str(port)) as server:
        yield Server(port, server.pid)


@contextlib.contextmanager
def durable_postgres(folder: Path) -> Iterator[str | None]:
    """The URL of an empty PostgreSQL whose commits wait for the disk; None where no programs of it are."""
    bin_directory = next(postgres_server.programs(), None)
    if bin_directory is None:
        yield None
        return
    run = RunDirectory.lead()
    directory = folder / "postgres"
    directory.mkdir(mode=0o711)
    folder.chmod(0o711)
    server = postgres_server.from_programs(run, directory, bin_directory, durable=True)
    try:
        server.start()
        yield postgres_server.sqlalchemy_url(postgres_server.dsn(server.program.port), "postgres")
    finally:
        server.stop()
        run.leave()


def load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """What `bench.mllp_load` saw."""
    command = [sys.executable, "-m", "bench.mllp_load", str(port), str(connections), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


@contextlib.contextmanager
def _running(
    name: str, program: list[str], folder: Path, settings: Mapping[str, str], *, port_last: bool = False
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    data = folder / name
    data.mkdir()
    place = [str(data), str(port)] if port_last else [str(port), str(data)]
    process = subprocess.Popen(
        [sys.executable, *program, *place], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, **settings}
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} did not start")
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)
