"""`python -m bench hl7-frame`: what a frame of 100 MB costs the gateway in memory, refused as by default and taken in.

The gateway is a process of its own; its peak is what Linux says (VmHWM), above what it had before the frame came.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.report import figure

ROOT: Final = Path(__file__).resolve().parents[1]
GATEWAY: Final = ROOT / "services/hl7-gateway/tests/gateway_process.py"
FRAME_BYTES: Final = 100_000_000
MEGABYTES_MAX: Final = 3 * FRAME_BYTES / 1e6 + 200
PIECE: Final = b"A" * 1_000_000
SETTLE_S: Final = 5.0
"""How long the gateway works on after its answer: the message is catalogued then."""


def figures(folder: Path) -> Iterator[dict[str, object]]:
    """The frame with the default limit, and with one that lets it in."""
    yield from _frame(folder / "refused", {}, "AR", "refused")
    yield from _frame(folder / "taken", {"PS_HL7_FRAME_BYTES_MAX": str(2 * FRAME_BYTES)}, "AA", "taken in")


def _frame(folder: Path, settings: dict[str, str], wanted: str, name: str) -> Iterator[dict[str, object]]:
    with _gateway(folder, settings) as (port, process):
        before = _megabytes(process, "VmRSS")
        answer = _sent(port)
        time.sleep(SETTLE_S)
        peak = _megabytes(process, "VmHWM") - before
    code = answer.partition(b"MSA|")[2][:2].decode() or "none"
    how = f"peak memory of the gateway above what it had before, a frame of {FRAME_BYTES / 1e6:g} MB; answered {code}"
    if code != wanted:
        how += f" where {wanted} was due"
    yield figure(f"HL7 frame of 100 MB at the gateway, {name}", peak, "MB", how, goal=MEGABYTES_MAX)


def _sent(port: int) -> bytes:
    """Send the frame piece by piece; gives what came back, nothing where the gateway hung up."""
    header = b"\x0bMSH|^~\\&|EPIC|CLINIC|PS|HERE|20260301093000||ADT^A08^ADT_A01|C1|P|2.5.1\rOBX|1|ED|||"
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 60) as connection, contextlib.suppress(OSError):
        try:
            connection.sendall(header)
            for _ in range(FRAME_BYTES // len(PIECE)):
                connection.sendall(PIECE)
            connection.sendall(b"\r\x1c\r")
        except OSError:  # it has answered, and reads no more
            pass
        while not answer.endswith(b"\x1c\r") and (data := connection.recv(65_536)):
            answer += data
    return answer


def _megabytes(process: int, what: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(what)).split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def _gateway(folder: Path, settings: dict[str, str]) -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    folder.mkdir()
    command = [sys.executable, str(GATEWAY), str(folder), str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, **settings})
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the gateway did not start")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)
