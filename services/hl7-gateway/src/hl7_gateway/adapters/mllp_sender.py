"""Connections to receivers: addresses checked by the operator's networks, TLS, bytes out and in."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from typing import Any, Final

from common.models.clock import instant_text
from common.models.errors import SuiteError
from common.runtime.outbound import AddressPolicy
from hl7_gateway.adapters.keep_alive import keep_alive
from hl7_gateway.adapters.tls_material import client_context
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.delivery import Ending

READ_BYTES_MAX: Final = 64 * 1024
CONTEXTS_MAX: Final = 1_000


class StreamLink:
    """`PeerLink`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader

    def send(self, data: bytes) -> None:
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    async def receive(self) -> bytes | Ending:
        try:
            return await self._reader.read(READ_BYTES_MAX) or Ending.CLOSED
        except ssl.SSLError:
            return Ending.TLS
        except OSError:
            return Ending.RESET

    def close(self) -> None:
        # Not a graceful close: what the receiver still says must find nobody, and it may have stopped reading.
        self.writer.transport.abort()


class MllpConnector:
    """`Connector`."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._contexts: dict[str, tuple[TlsMaterial, ssl.SSLContext]] = {}

    async def connect(self, connection: Connection, material: TlsMaterial) -> StreamLink:
        timeout_s = connection.sending.connect_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                configuration = connection.configuration
                addresses = await self._policy.resolve(configuration.host, configuration.port)
                return await self._connect(connection, material, addresses)
        except TimeoutError as error:
            raise SuiteError("peer.timeout", f"No connection within {timeout_s:g} s.") from error

    async def _connect(self, connection: Connection, material: TlsMaterial, addresses: list[str]) -> StreamLink:
        failure: OSError | None = None
        for address in addresses:
            try:
                return await self._open(connection, material, address)
            except ssl.SSLError as error:
                raise SuiteError("peer.tls", _tls_detail(error)) from error
            except OSError as error:
                failure = error
        raise SuiteError("peer.connect", None if failure is None else f"{failure.strerror}.") from failure

    async def _open(self, connection: Connection, material: TlsMaterial, address: str) -> StreamLink:
        configuration = connection.configuration
        endpoint = await _tcp(address, configuration.port)
        if configuration.keep_alive:
            keep_alive(endpoint, True)
        try:
            if configuration.tls.mode == "off":
                return StreamLink(*await asyncio.open_connection(sock=endpoint, limit=READ_BYTES_MAX))
            name = configuration.tls.server_name or configuration.host
            context = self._context(connection.id, material)
            return await _tls(endpoint, context, name)
        except BaseException:
            endpoint.close()
            raise

    def _context(self, connection_id: str, material: TlsMaterial) -> ssl.SSLContext:
        held = self._contexts.get(connection_id)
        if held is not None and held[0] == material:
            return held[1]
        context = client_context(material)
        if len(self._contexts) >= CONTEXTS_MAX:
            self._contexts.clear()
        self._contexts[connection_id] = material, context
        return context


async def _tcp(address: str, port: int) -> socket.socket:
    endpoint = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    endpoint.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(endpoint, (address, port))
    except BaseException:
        endpoint.close()
        raise
    return endpoint


async def _tls(endpoint: socket.socket, context: ssl.SSLContext, name: str) -> StreamLink:
    """Apart from connecting, so that who closes during the handshake is not taken for a closed port."""
    try:
        streams = await asyncio.open_connection(sock=endpoint, limit=READ_BYTES_MAX, ssl=context, server_hostname=name)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise SuiteError("peer.tls", "The receiver closed the connection during the handshake.") from error
    return StreamLink(*streams)


class SocketTrial:
    """`Trial`."""

    def __init__(self, policy: AddressPolicy, connection: Connection, material: TlsMaterial) -> None:
        self._policy = policy
        self._configuration = connection.configuration
        self._material = material
        self._addresses: list[str] = []
        self._endpoint: socket.socket | None = None
        self._link: StreamLink | None = None

    async def resolve(self) -> dict[str, Any]:
        self._addresses = await self._policy.resolve(self._configuration.host, self._configuration.port)
        return {"addresses": self._addresses}

    async def connect(self) -> dict[str, Any]:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                self._endpoint = await _tcp(address, self._configuration.port)
            except OSError as error:
                failure = error
                continue
            if self._configuration.tls.mode == "off":
                self._link = StreamLink(*await asyncio.open_connection(sock=self._endpoint, limit=READ_BYTES_MAX))
            return {"address": address, "port": self._configuration.port}
        raise SuiteError("peer.connect", None if failure is None else f"{failure.strerror}.") from failure

    async def secure(self) -> dict[str, Any]:
        assert self._endpoint is not None
        name = self._configuration.tls.server_name or self._configuration.host
        try:
            self._link = await _tls(self._endpoint, client_context(self._material), name)
        except ssl.SSLError as error:
            raise SuiteError("peer.tls", _tls_detail(error)) from error
        tls: ssl.SSLObject = self._link.writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() or {}
        not_after = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        shown = bool(self._material.certificate_pem)
        return {"protocol": tls.version(), "not_after": instant_text(not_after), "certificate_shown": shown}

    @property
    def link(self) -> StreamLink:
        assert self._link is not None
        return self._link

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        elif self._endpoint is not None:
            self._endpoint.close()


def _tls_detail(error: ssl.SSLError) -> str:
    """What the library says of the failure: its reason, or what is wrong with the certificate."""
    return str(getattr(error, "verify_message", "") or error.reason or "TLS").replace("_", " ").lower() + "."
