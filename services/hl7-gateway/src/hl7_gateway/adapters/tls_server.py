"""The TLS handshake of a listener, done by ourselves so that a refusal has a name.

`create_server(ssl=…)` tells nobody of a handshake that fails: the peer's staff say "it does not connect", and our side
shows nothing at all. `connect_accepted_socket(ssl=…)` does tell, so connections are accepted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Final

ACCEPT_RETRY_S: Final = 0.5
_log = logging.getLogger("hl7_gateway.listener")

_REASONS: Final[dict[str, str]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no-certificate",
    "CERTIFICATE_VERIFY_FAILED": "certificate-refused",
    "UNSUPPORTED_PROTOCOL": "version-too-old",
    "VERSION_TOO_LOW": "version-too-old",
    "NO_SHARED_CIPHER": "no-common-cipher",
    "WRONG_VERSION_NUMBER": "not-tls",
    "HTTP_REQUEST": "not-tls",
    "HTTPS_PROXY_REQUEST": "not-tls",
    "RECORD_LAYER_FAILURE": "not-tls",
    "PACKET_LENGTH_TOO_LONG": "not-tls",
    "TLSV1_ALERT_UNKNOWN_CA": "ours-not-trusted",
    "TLSV1_ALERT_DECRYPT_ERROR": "ours-not-trusted",
    "SSLV3_ALERT_BAD_CERTIFICATE": "ours-not-trusted",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "ours-not-trusted",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "ours-not-trusted",
    "TLSV1_ALERT_PROTOCOL_VERSION": "version-too-old",
}
"""OpenSSL's reason (openssl/sslerr.h) → ours; an alert is what the peer said of us (RFC 8446 §6.2)."""
OTHER: Final = "failed"
SLOW: Final = "too-slow"
LEFT: Final = "peer-left"


def refusal_of(error: BaseException) -> str:
    """What a failed handshake is called; the texts of the TLS library are not shown, they may quote the peer."""
    if isinstance(error, TimeoutError):
        return SLOW
    if isinstance(error, ssl.SSLEOFError):
        return LEFT
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", OTHER)
    return LEFT


class TlsServer:
    """Listening sockets whose connections begin with a TLS handshake; used like an `asyncio.Server`.

    `admit` says whether there is room for one more of an address, with the addresses whose handshakes go on; `refused`
    is called with the name of what went wrong.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        timeout_s: float,
        *,
        protocol: Callable[[], asyncio.Protocol],
        admit: Callable[[str, Counter[str]], bool],
        refused: Callable[[str], None],
    ) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._protocol = protocol
        self._admit = admit
        self._refused = refused
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], str] = {}
        """Those that go on, and whose they are."""
        self.sockets: tuple[socket.socket, ...] = ()

    async def start(self, host: str, port: int, backlog: int) -> None:
        """Listen at every address the host has; raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        places = dict.fromkeys((family, address) for family, _, _, _, address in found)
        with contextlib.ExitStack() as opened:
            for family, address in places:
                listening = socket.create_server(address, family=family, backlog=backlog)
                opened.callback(listening.close)
                listening.setblocking(False)
                self.sockets += (listening,)
            opened.pop_all()
        self._accepting = [asyncio.create_task(self._accept(one), name="mllp-accept") for one in self.sockets]

    def is_serving(self) -> bool:
        """Whether peers can connect."""
        return bool(self._accepting) and not any(task.done() for task in self._accepting)

    def close(self) -> None:
        """Accept no more, give up the handshakes; connections that are open stay."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        self._accepting = []
        for listening in self.sockets:
            asyncio.get_running_loop().remove_reader(listening)  # before the number is another file's
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:  # a peer that was gone already, or no file descriptor is left
                _log.warning("connection not accepted", extra={"error_type": type(error).__name__})
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            if not self._admit(peer[0], Counter(self._handshakes.values())):
                accepted.close()
                continue
            handshake = loop.create_task(self._shake(accepted), name="mllp-handshake")
            self._handshakes[handshake] = peer[0]
            handshake.add_done_callback(self._handshakes.pop)

    async def _shake(self, accepted: socket.socket) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                # Its own limit comes after ours, which is the one that can be told from a peer that left.
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._protocol, accepted, ssl=self._context, ssl_handshake_timeout=2 * self._timeout_s
                )
        except OSError as error:  # ssl.SSLError and TimeoutError are among them
            self._refused(refusal_of(error))
