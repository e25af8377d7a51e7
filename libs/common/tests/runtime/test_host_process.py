"""One service as a process: a failed start is one line, a stop finishes what is in hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

PROGRAM = Path(__file__).with_name("host_process.py")
ENDS_S = 30.0


def environment(**changed: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PS_")}
    return {**own, "PS_LOG_LEVEL": "ERROR", **changed}


def start_and_fail(*arguments: str, **changed: str) -> str:
    """The one line of a start that failed."""
    failed = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=environment(**changed), capture_output=True, text=True, timeout=ENDS_S, check=False,
    )  # fmt: skip
    assert failed.returncode == 1, failed.stderr
    lines = failed.stderr.strip().splitlines()
    assert len(lines) == 1, failed.stderr
    return lines[0]


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path, port: int) -> None:
    line = start_and_fail("--data", str(tmp_path), PS_PORT=str(port))
    assert line.startswith(f"start.port-in-use: 127.0.0.1:{port}: ")
    assert "Choose another" in line


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_directory_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("no directory")
    path = tmp_path / where
    line = start_and_fail("--port", "0", PS_DATA=str(path))
    assert line.startswith(f"start.directory-unwritable: {path}: ")
    assert "Choose another" in line


BAD = {
    "a port that is none": ({"PS_PORT": "66x61"}, "PS_PORT"),
    "an address that is none": ({"PS_HOST": "a..b"}, "PS_HOST"),
    "JSON that is none": ({"PS_PEERS": "auth-gateway=http://127.0.0.1"}, "PS_PEERS"),
    "a key that is none": ({"PS_KEY": "c2hvcnQ="}, "PS_KEY"),
    "a key file that is not there": ({"PS_KEY_FILE": "nowhere/key"}, "PS_KEY_FILE"),
    "a key file with other bytes": ({"PS_KEY_FILE": "bytes"}, "PS_KEY_FILE"),
    "a database that is none": ({"PS_DATABASE_URL": "postgresql+asyncpg://u:secret@h:x/d"}, "PS_DATABASE_URL"),
}


@pytest.mark.parametrize(("given", "named"), BAD.values(), ids=BAD.keys())
def test_a_bad_setting_is_named_with_the_remedy(tmp_path: Path, given: dict[str, str], named: str) -> None:
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    changed = {"PS_PORT": "0", "PS_DATA": str(tmp_path / "data"), **given}
    if "PS_KEY_FILE" in given:
        changed["PS_KEY_FILE"] = str(tmp_path / given["PS_KEY_FILE"])
    line = start_and_fail(**changed)
    assert line.startswith(f"start.bad-setting: {named}")
    assert "docs/settings.md" in line
    assert "secret" not in line


class Service:
    """A running process; its standard output is its diary."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def expect(self, line: str) -> None:
        """The next line of the diary; the end of the output when the process died."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def rest(self) -> list[str]:
        """What it tells until its end."""
        output, _ = self.process.communicate(timeout=ENDS_S)
        return str(output).split()


@contextmanager
def service(data: Path, **changed: str) -> Iterator[Service]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--port", str(port), "--data", str(data)],
        env=environment(**changed), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Service(process, port)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_request_in_hand(tmp_path: Path, number: signal.Signals) -> None:
    released = tmp_path / "released"
    with service(tmp_path / "data") as running, ThreadPoolExecutor(1) as pool:
        running.expect("starting")
        running.expect("up")
        # Who connects while it starts is answered once it is up.
        assert httpx.get(f"{running.url}/things/v1/quick", timeout=ENDS_S, trust_env=False).status_code == 200
        slow = pool.submit(
            httpx.get, f"{running.url}/things/v1/slow", params={"until": str(released)}, timeout=ENDS_S, trust_env=False
        )
        running.expect("handling")
        running.process.send_signal(number)
        wait_until_refused(running.url)
        released.touch()
        assert slow.result(ENDS_S).json() == {"finished": True}
        assert running.rest() == ["handled", "down"]
        assert running.process.returncode == 0


def wait_until_refused(url: str) -> None:
    """Until a stopping process takes no more connections."""
    for _ in range(10_000):
        try:
            httpx.get(f"{url}/things/v1/quick", timeout=1.0, trust_env=False)
        except httpx.TransportError:
            return
    raise AssertionError("it still answers")


def test_a_stop_gives_up_what_takes_too_long(tmp_path: Path) -> None:
    with service(tmp_path / "data", PS_STOP_TIMEOUT_S="1", PS_LOG_LEVEL="ERROR") as running:
        running.expect("starting")
        running.expect("up")
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(httpx.get, f"{running.url}/things/v1/slow?until=/never", timeout=ENDS_S, trust_env=False)
            running.expect("handling")
            running.process.send_signal(signal.SIGTERM)
            assert running.rest() == ["down"]
            assert running.process.returncode == 0
            failed = slow.exception(ENDS_S)
        assert failed is not None or slow.result().status_code == 500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_the_start(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path / "data", THINGS_START="hang") as running:
        running.expect("starting")
        running.process.send_signal(number)
        assert running.rest() == ["down"]
        assert running.process.returncode == 0


JSON = "host: suite.test\r\ncontent-type: application/json\r\n"
CHUNK = b"400\r\n" + b" " * 1024 + b"\r\n"
RAW = {
    "a stranger is not waited for": (f"POST /things/v1/guarded HTTP/1.1\r\n{JSON}content-length: 1000", b"", 401),
    "nor is one that is too large": (f"POST /things/v1/things HTTP/1.1\r\n{JSON}content-length: 2000000", b"", 413),
    "chunks over the limit": (f"POST /things/v1/things HTTP/1.1\r\n{JSON}transfer-encoding: chunked", CHUNK * 3, 413),
    "chunks": (
        f"POST /things/v1/things HTTP/1.1\r\n{JSON}transfer-encoding: chunked", b'b\r\n{"a": "b"}\n\r\n0\r\n\r\n', 200
    ),
    "a length that is none": (f"POST /things/v1/things HTTP/1.1\r\n{JSON}content-length: x", b"", 400),
    "no HTTP": ("MSH|^~\\&|EPIC", b"", 400),
}  # fmt: skip


def test_requests_on_a_real_socket(tmp_path: Path) -> None:
    """Answered by what stands in the head alone, or as soon as the limit is passed."""
    seen: dict[str, int] = {}
    with service(tmp_path / "data", PS_BODY_BYTES_MAX="2048") as running:
        running.expect("starting")
        running.expect("up")
        for name, (head, body, _) in RAW.items():
            with socket.create_connection(("127.0.0.1", running.port), timeout=ENDS_S) as connection:
                connection.sendall(head.encode() + b"\r\n\r\n" + body)
                seen[name] = int(connection.recv(4096).split(b" ")[1])
    assert seen == {name: status for name, (_, _, status) in RAW.items()}
