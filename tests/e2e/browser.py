"""A real browser: Debian's Chromium, headless, driven by the DevTools protocol over its WebSocket (RFC 6455)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from e2e.suite_process import eventually

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0
_ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip


def find_program() -> str | None:
    """The browser's program, None when this machine has none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class WebSocket:
    """As much of RFC 6455 as the DevTools protocol needs: text frames, masked by us."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_S)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._reader = self._socket.makefile("rb")
        assert b" 101 " in self._reader.readline()
        while self._reader.readline() != b"\r\n":
            pass

    def send(self, text: str) -> None:
        body = text.encode()
        size = len(body)
        head = bytes([0x81]) + (
            bytes([0x80 | size])
            if size < 126
            else bytes([0x80 | 126]) + size.to_bytes(2, "big")
            if size < 2**16
            else bytes([0x80 | 127]) + size.to_bytes(8, "big")
        )
        mask = secrets.token_bytes(4)
        self._socket.sendall(head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(body)))

    def receive(self) -> str:
        body = b""
        while True:
            first, second = self._reader.read(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._reader.read(2 if size == 126 else 8), "big")
            part = self._reader.read(size)
            if first & 0x0F in (0, 1):
                body += part
                if first & 0x80:
                    return body.decode()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


class Tab:
    """One page. `events` are the notifications so far, `(method, parameters)`."""

    def __init__(self, channel: WebSocket) -> None:
        self._channel = channel
        self._number = 0
        self.events: list[tuple[str, dict[str, Any]]] = []

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._channel.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        return dict(self._until(lambda message: message.get("id") == self._number).get("result", {}))

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._channel.receive())
            if "method" in message:
                self.events.append((message["method"], message["params"]))
            if wanted(message):
                assert "error" not in message, message
                return message

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.command("Page.navigate", url="about:blank")
        eventually(lambda: self.evaluate("location.href") == "about:blank", within_s=ANSWER_TIMEOUT_S)
        self.command("Page.navigate", url=url)
        loaded = "location.href != 'about:blank' && document.readyState == 'complete'"
        eventually(lambda: self.evaluate(loaded), within_s=ANSWER_TIMEOUT_S)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """One key, down and up."""
        self.command("Input.dispatchKeyEvent", type="keyDown", key=key, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    def write(self, text: str) -> None:
        for character in text:
            self.press(character, character)

    def width(self, pixels: int, height: int = 900) -> None:
        """The size of the window, as a telephone or a monitor has it."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=pixels, height=height, deviceScaleFactor=1, mobile=pixels < 600
        )

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """What the console shows as errors: of scripts, of the security policy, of what could not be loaded."""
        return [
            str(parameters["entry"]["text"])
            for method, parameters in self.events
            if method == "Log.entryAdded" and parameters["entry"]["level"] == "error"
        ] + [str(parameters) for method, parameters in self.events if method == "Runtime.exceptionThrown"]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [
            str(parameters["request"]["url"])
            for method, parameters in self.events
            if method == "Network.requestWillBeSent"
        ]


class Browser:
    """A running browser with a profile of its own."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.contextmanager
    def tab(self) -> Iterator[Tab]:
        """A new page."""
        made = httpx.put(f"http://127.0.0.1:{self._port}/json/new?about:blank", timeout=30, trust_env=False).json()
        channel = WebSocket(self._port, "/devtools/page/" + made["id"])
        tab = Tab(channel)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        try:
            yield tab
        finally:
            tab.command("Page.close")
            channel.close()


@contextlib.contextmanager
def running_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start the browser; it and its helpers end with the block."""
    with (profile.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        note = profile / "DevToolsActivePort"
        lines = eventually(
            lambda: note.exists() and len(found := note.read_text().splitlines()) == 2 and found,
            within_s=START_TIMEOUT_S,
        )
        assert lines
        yield Browser(int(lines[0]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
