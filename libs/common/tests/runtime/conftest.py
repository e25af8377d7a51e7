"""Peers on the loopback: servers that answer what a test says, certificates of an authority made for the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from common.runtime.exchanges import Exchange, Exchanges
from common.runtime.outbound import AddressPolicy, LookUp, Outbound
from common.runtime.settings import RuntimeSettings
from common.runtime.system import SystemClock
from common.runtime.telemetry import Telemetry

LOOPBACK = ("127.0.0.0/8",)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PEM = serialization.Encoding.PEM


@dataclass
class Peer:
    """A server, the heads of the requests that it got, and the names that TLS clients asked for."""

    host: str
    port: int = 0
    heads: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


Answer = bytes | Callable[[Peer, asyncio.StreamWriter], Awaitable[None]]
StartPeer = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Starts servers: `await start_peer(answer, host=…, tls=…)`; each connection gets requests answered till it ends.

    `answer` is the response's bytes, or writes them itself; what waits inside waits for `peer.ended`.
    """
    servers: list[tuple[Peer, asyncio.Server]] = []
    serving: set[asyncio.Task[None]] = set()

    async def start(answer: Answer = OK, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Peer:
        peer = Peer(host)
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: peer.names.append(name)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer.connections += 1
            this = asyncio.current_task()
            assert this is not None
            serving.add(this)
            try:
                while True:
                    peer.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                    peer.requested.set()
                    if not isinstance(answer, bytes):
                        await answer(peer, writer)
                        break
                    writer.write(answer)
                    await writer.drain()
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                writer.transport.abort()
            finally:
                writer.close()

        server = await asyncio.start_server(serve, host, 0, ssl=tls)
        peer.port = server.sockets[0].getsockname()[1]
        servers.append((peer, server))
        return peer

    yield start
    for peer, server in servers:
        peer.ended.set()
        server.close()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: what it signs, clients that trust it and servers that show it."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this authority only."""
        return ssl.create_default_context(cadata=self.certificate.public_bytes(PEM).decode())

    def named(self, name: str) -> Authority:
        """Another authority of this name, that nobody trusts and whose own certificate no server shows."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        )
        certificate = (
            builder.issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=100))
            .sign(self.key, hashes.SHA256())
        )
        return Authority(self.folder, key, certificate)

    def serving(
        self, *names: str, days: int = 30, self_signed: bool = False, issuer_url: str | None = None
    ) -> ssl.SSLContext:
        """A server's context with a certificate for the names (host names or addresses), good from `days` - 60 on."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer of a test")])
        kinds = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
        builder = x509.CertificateBuilder()
        if issuer_url is not None:
            place = x509.UniformResourceIdentifier(issuer_url)
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        certificate = (
            builder.subject_name(subject)
            .issuer_name(subject if self_signed else self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days - 60))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(kinds), critical=False)
            .sign(key if self_signed else self.key, hashes.SHA256())
        )
        path = self.folder / f"{certificate.serial_number}.pem"
        path.write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    usage = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
            "decipher_only", "digital_signature",
        ),
        False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=100))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(tmp_path_factory.mktemp("authority"), key, certificate)


class RecordedExchanges(Exchanges):
    """Keeps what would be published."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    def record(self, exchange: Exchange) -> None:
        self.seen.append(exchange)


@dataclass
class Client:
    """An Outbound and what it recorded."""

    outbound: Outbound
    exchanges: RecordedExchanges


NewClient = Callable[..., Client]


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Makes clients: `new_client({"pms.example": ["127.0.0.1"]}, networks=…, response_bytes_max=…, verify=…)`."""
    clients: list[Client] = []
    telemetries: list[Telemetry] = []

    def new(
        names: dict[str, Sequence[str]] | LookUp,
        *,
        networks: Sequence[str] = LOOPBACK,
        response_bytes_max: int = 100_000,
        verify: ssl.SSLContext | None = None,
    ) -> Client:
        async def named(host: str, port: int) -> Sequence[str]:
            assert not callable(names)
            if host not in names:
                raise OSError("no such name")
            return names[host]

        telemetry = Telemetry(RuntimeSettings(), service="test", replica="test")
        telemetries.append(telemetry)
        exchanges = RecordedExchanges()
        policy = AddressPolicy(networks, names if callable(names) else named)
        outbound = Outbound(
            policy, exchanges, telemetry, SystemClock(), response_bytes_max=response_bytes_max, verify=verify
        )
        clients.append(Client(outbound, exchanges))
        return clients[-1]

    yield new
    for client in clients:
        await client.outbound.close()
    for telemetry in telemetries:
        telemetry.shutdown()


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment that nobody may use."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
