"""An authorization server that grants to persons: codes once, refresh tokens rotated, counts of everything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs


@dataclass
class Provider:
    """On a real socket. `rotates`: each refresh ends the token it came with (`forgiving`: the one before is taken once
    more); `hold`: called after a grant was decided and before it is answered."""

    rotates: bool = True
    forgiving: bool = False
    life_s: int = 300
    answers: list[tuple[int, str]] = field(default_factory=list)
    """Answers to give instead, in order."""
    hold: Callable[[], None] | None = None
    refresh_token: str = "canary-refresh-0"
    parent: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    challenge: str = ""
    url: str = ""
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        named = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
        body = (await reader.readexactly(int(named[0]) if named else 0)).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append(form)
        status, text = self.answers.pop(0) if self.answers else self._grant(form)
        if self.hold is not None:
            self.hold()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
            f"Connection: close\r\n\r\n{text}".encode()
        )
        await writer.drain()
        writer.close()

    def _grant(self, form: dict[str, str]) -> tuple[int, str]:
        refused = 400, json.dumps({"error": "invalid_grant"})
        if form["grant_type"] == "authorization_code":
            proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
            if form["code"] != "the-code" or proof.decode() != self.challenge:
                return refused
        elif form["grant_type"] == "client_credentials":
            return 200, json.dumps({"access_token": f"canary-access-{len(self.asked)}", "expires_in": self.life_s})
        elif form["refresh_token"] != self.refresh_token and not (
            self.forgiving and form["refresh_token"] == self.parent
        ):
            return refused
        if self.rotates:
            self.parent = form.get("refresh_token", "")
            self.refresh_token = f"canary-refresh-{len(self.asked)}"
        token = {"access_token": f"canary-access-{len(self.asked)}", "expires_in": self.life_s, "scope": "a"}
        held = {"refresh_token": self.refresh_token} if self.rotates or "code" in form else {}
        return 200, json.dumps({**token, **held})
