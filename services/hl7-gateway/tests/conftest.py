"""What the gateway's tests share: synthetic messages, a gateway on a fake store, a client that speaks MLLP."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from common.models.access import Role
from common.models.events import Event
from common.models.identifiers import type_id, uuid7
from common.models.integration import (
    Channel,
    ChannelKind,
    Environment,
    Integration,
    IntegrationState,
    Vendor,
    WriteBack,
)
from common.runtime.keyring import StaticKeyRing
from common.runtime.runtime import Runtime
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT, make_test_runtime, running
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.mllp_listener import ListenerLimits, MllpListener
from hl7_gateway.core.connection import Limits
from hl7_gateway.core.senders import SenderTable, sender_table
from hl7_gateway.module import build
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.receive_message import ReceiveMessage
from hl7v2 import mllp

INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
SYSTEM = "urn:oid:1.2.3"
START, END = b"\x0b", b"\x1c\r"
WAIT_S = 5.0


def _integration(number: int = 1, *, tenant: str = TENANT, senders: Any = (), state: str = "active") -> Integration:
    channel = Channel("hl7-in", ChannelKind.HL7V2_IN, "", "America/Chicago", settings={"senders": list(senders)})
    return Integration(
        id=type_id("int", uuid7(1_700_000_000_000 + number, number)),
        tenant=tenant,
        name=f"Integration {number}",
        vendor=Vendor.HL7V2,
        product="any",
        environment=Environment.TEST,
        state=IntegrationState(state),
        write_back=WriteBack.OFF,
        version=1,
        channels={"hl7-in": channel},
    )


def _message(
    control_id: str = "1",
    *,
    kind: str = "ADT^A08",
    sender: str = "EPIC|CLINIC",
    patient: str = "4711^^^EPIC^MR",
    name: str = "TEST^SYNTHETIC",
    modes: str = "",
    charset: str = "UNICODE UTF-8",
) -> bytes:
    msh = f"MSH|^~\\&|{sender}|PS|HERE|20260301093000||{kind}|{control_id}|P|2.5.1|||{modes or '|'}||{charset}"
    segments = [msh, "EVN||20260301093000", f"PID|1||{patient}||{name}||19700101|F", "PV1|1|O"]
    return ("\r".join(segments) + "\r").encode()


def document() -> dict[str, Any]:
    """The integration that stands in auth-gateway's place."""
    channel = {"kind": "hl7v2-in", "endpoint": "", "time_zone": "America/Chicago", "settings": {"senders": []}}
    return {
        "id": INTEGRATION_ID,
        "tenant": TENANT,
        "name": "Clinic",
        "vendor": "hl7v2",
        "product": "any",
        "environment": "test",
        "state": "active",
        "write_back": "off",
        "version": 1,
        "identifier_systems": [{"assigning_authority": "EPIC", "system": SYSTEM}],
        "channels": {"hl7-in": channel},
    }


def peer() -> Starlette:
    """In the place of auth-gateway: knows the one integration."""

    async def read(_: Request) -> JSONResponse:
        return JSONResponse(document())

    return Starlette(routes=[Route("/auth/v1/integrations/{id}", read)])


async def announce(runtime: Runtime) -> None:
    """Tell the bus of the integration."""
    await runtime.bus.publish(
        [
            Event(
                id=runtime.ids.new("evt"),
                type="ps.integration.changed",
                source="/auth-gateway/test",
                subject=INTEGRATION_ID,
                time=runtime.clock.now(),
                tenant=TENANT,
                key=INTEGRATION_ID,
                data={"integration_id": INTEGRATION_ID, "version": 1, "state": "active", "changed": []},
            )
        ]
    )


async def wait_for_the_integration(runtime: Runtime) -> None:
    """Until the directory has its copy."""
    async with asyncio.timeout(WAIT_S):
        while not runtime.directory.all():  # noqa: ASYNC110 - a condition of the chassis, with a bound
            await asyncio.sleep(0.005)


class FakeSenders:
    """`Senders` with a table set by hand."""

    def __init__(self, *integrations: Integration) -> None:
        self.now: SenderTable = sender_table(integrations)
        self.known = True

    def table(self) -> SenderTable:
        return self.now

    def settled(self) -> bool:
        return self.known


class FakeJournal:
    """`Journal` that keeps what it was told."""

    def __init__(self) -> None:
        self.exchanges: list[Any] = []
        self.answers: dict[str, Any] = {}

    def begin(self, _: Any, __: Any) -> Any:
        return SimpleNamespace(traceparent="")

    def answered(self, message_id: str, how: Any) -> None:
        self.answers[message_id] = how

    def answer_of(self, message_id: str) -> Any:
        return self.answers.pop(message_id, None)

    def end(self, _: Any, exchange: Any) -> None:
        self.exchanges.append(exchange)


class Client:
    """A peer that writes bytes and reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *bodies: bytes) -> None:
        await self.raw(b"".join(START + body + END for body in bodies))

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> bytes:
        """The next frame's body."""
        async with asyncio.timeout(WAIT_S):
            frame = await self.reader.readuntil(END)
        assert frame.startswith(START)
        return frame[1 : -len(END)]

    async def code(self) -> tuple[str, str]:
        """MSA-1 and MSA-2 of the next frame."""
        return acknowledgment(await self.answer())

    async def ended(self) -> bool:
        """Whether the other side closed without another byte."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self.writer.close()


def acknowledgment(body: bytes) -> tuple[str, str]:
    fields = next(row for row in body.split(b"\r") if row.startswith(b"MSA")).decode().split("|")
    return fields[1], fields[2] if len(fields) > 2 else ""


class Gateway:
    """Listener, receiver and committer on a fake store."""

    def __init__(self, store: Any, senders: FakeSenders, limits: dict[str, Any]) -> None:
        clock = SystemClock()
        self.store = store
        self.senders = senders
        self.journal = FakeJournal()
        self.committer = Committer(
            store,
            StaticKeyRing(),
            clock,
            batch_messages_max=limits.get("batch_messages_max", 512),
            waiting_bytes_max=limits.get("waiting_bytes_max", 1 << 26),
            store_timeout_s=limits.get("store_timeout_s", 4.0),
        )
        receiver = ReceiveMessage(senders, self.committer, self.journal, clock, SystemIds())
        connection = Limits(
            limits.get("frame_bytes_max", 1 << 20),
            limits.get("frame_timeout_s", 60.0),
            limits.get("idle_timeout_s", 60.0),
        )
        admitted = ListenerLimits(
            limits.get("connections_max", 100), limits.get("connection_waiting_messages_max", 64), connection
        )
        self.listener = MllpListener("127.0.0.1", 0, receiver, clock, admitted)

        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.listener.port))
        self._clients.append(client)
        return client

    async def close_clients(self) -> None:
        for client in self._clients:
            client.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()


Running = Callable[..., Any]


@pytest.fixture
def running_gateway() -> Running:
    """`async with running_gateway(store, integrations=…, limits…) as gateway`."""

    @asynccontextmanager
    async def on_a_fake(store: Any = None, *, integrations: Any = None, **limits: Any) -> AsyncIterator[Gateway]:
        known = [_integration()] if integrations is None else integrations
        gateway = Gateway(store or MemoryIntake(), FakeSenders(*known), limits)
        committing = asyncio.create_task(gateway.committer.run())
        await gateway.listener.start()
        try:
            yield gateway
        finally:
            await gateway.listener.stop(WAIT_S)
            gateway.committer.stop()
            async with asyncio.timeout(WAIT_S):
                await committing
            await gateway.close_clients()

    return on_a_fake


@pytest.fixture
def integration() -> Callable[..., Integration]:
    return _integration


@pytest.fixture
def message() -> Callable[..., bytes]:
    return _message


@pytest.fixture
def memory_intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def at() -> datetime:
    return datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
async def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The module as the host runs it, with its listener on a free port; `suite.mllp_port`, `suite.runtime`, clients."""
    monkeypatch.setenv("PS_HL7_LISTEN_PORT", "0")
    spans = InMemorySpanExporter()
    runtime = make_test_runtime(tmp_path, "hl7-gateway", peer_apps={"auth-gateway": peer()}, span_exporter=spans)
    async with running(runtime, build) as up:
        await announce(runtime)
        await wait_for_the_integration(runtime)
        async with up.client(Role.VIEWER) as viewer:
            listener = (await viewer.get("/hl7/v1/listeners")).json()["items"][0]
        up.mllp_port = listener["port"]  # type: ignore[attr-defined]
        up.spans = spans  # type: ignore[attr-defined]
        yield up


@pytest.fixture
def connect() -> Callable[[int], Any]:
    """`client = await connect(port)`."""

    async def connected(port: int) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", port))

    return connected


class Authority:
    """A certificate authority for tests; `issue` gives (certificate, private key) in PEM."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Authority")])
        signed = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.pem = signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str = "127.0.0.1") -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[Any] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = signed.sign(self._key, hashes.SHA256())
        plain = serialization.NoEncryption()
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode(),
        )

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        today = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - timedelta(days=1))
            .not_valid_after(today + timedelta(days=30))
        )


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _acknowledgment(code: str, control_id: str) -> bytes:
    return mllp.encode(f"MSH|^~\\&|EPIC|CLINIC|PS|HERE|20260301||ACK|x|P|2.5.1\rMSA|{code}|{control_id}\r".encode())


async def _accept(visit: Visit, control_id: str) -> None:
    visit.answer("AA", control_id)


class Visit:
    """One connection to a receiver."""

    def __init__(self, receiver: Receiver, writer: asyncio.StreamWriter) -> None:
        self.receiver = receiver
        self.writer = writer

    def acknowledgment(self, code: str, control_id: str) -> bytes:
        return _acknowledgment(code, control_id)

    def answer(self, code: str, control_id: str) -> None:
        self.writer.write(_acknowledgment(code, control_id))

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


class Receiver:
    """An MLLP server; each message is met by the next behaviour, the last of which stays."""

    def __init__(self, *behaviours: Any, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.behaviours = list(behaviours) or [_accept]
        self.tls = tls
        self.seen: list[str] = []
        self.visits = 0
        self.port = port
        self.bodies: list[bytes] = []
        self.open: set[Visit] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._visited, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def wait_stopped(self) -> None:
        assert self._server is not None
        self._server.close()
        for visit in list(self.open):
            visit.abort()
        async with asyncio.timeout(WAIT_S):
            while self.open:  # noqa: ASYNC110 - the handlers end by themselves, with a bound
                await asyncio.sleep(0.005)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit, decoder = Visit(self, writer), mllp.Decoder()
        self.visits += 1
        self.open.add(visit)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for event in decoder.receive_data(data):
                    if not isinstance(event, mllp.Frame):
                        return self._gone(visit)
                    control_id = event.body.split(b"|")[9].decode()
                    self.seen.append(control_id)
                    self.bodies.append(event.body)
                    behave = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
                    await behave(visit, control_id)
        return self._gone(visit)

    def _gone(self, visit: Visit) -> None:
        visit.abort()
        self.open.discard(visit)


@pytest.fixture
async def receiver() -> AsyncIterator[Callable[..., Awaitable[Receiver]]]:
    started: list[Receiver] = []

    async def start(*behaviours: Any, **how: Any) -> Receiver:
        made = Receiver(*behaviours, **how)
        await made.start()
        started.append(made)
        return made

    yield start
    for one in started:
        await one.wait_stopped()
