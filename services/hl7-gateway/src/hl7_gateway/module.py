"""Wiring of the HL7 gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from common.runtime.background import background
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load
from hl7_gateway.access import ACCESS
from hl7_gateway.adapters.channels import DirectorySenders
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.journal import TelemetryJournal
from hl7_gateway.adapters.message_store import SqlMessageStore
from hl7_gateway.adapters.mllp_listener import ListenerLimits, MllpListener
from hl7_gateway.adapters.mllp_sender import MllpConnector, SocketTrial
from hl7_gateway.adapters.outbound_journal import ExchangeDeliveryJournal
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.port_probe import SocketPortProbe
from hl7_gateway.adapters.tables import Base
from hl7_gateway.adapters.tls_material import PemInspector
from hl7_gateway.api import Sending, router
from hl7_gateway.core.connection import Limits
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.settings import Hl7GatewaySettings
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.configure_connection import ConfigureConnection
from hl7_gateway.use_cases.deliver_messages import Destination
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages
from hl7_gateway.use_cases.forget_seen import forget_seen
from hl7_gateway.use_cases.forget_settled import forget_settled
from hl7_gateway.use_cases.receive_message import ReceiveMessage
from hl7_gateway.use_cases.run_destinations import Destinations
from hl7_gateway.use_cases.search_outbound import PatientKeys
from hl7_gateway.use_cases.try_connection import TryConnection


def build(runtime: Runtime) -> Module:
    """The HL7 gateway on a runtime."""
    settings = load(Hl7GatewaySettings)
    clock, ids = runtime.clock, runtime.ids
    database = runtime.database("hl7-gateway", Base.metadata, Path(__file__).parent / "migrations")
    store = SqlMessageStore(database, runtime.keyring, clock, ids, runtime.source("hl7-gateway"))
    committer = Committer(
        store,
        runtime.keyring,
        clock,
        batch_messages_max=settings.batch_messages_max,
        waiting_bytes_max=settings.waiting_bytes_max,
        store_timeout_s=settings.store_timeout_s,
    )
    journal = TelemetryJournal(
        runtime.telemetry, runtime.exchanges, f"mllp://{settings.listen_host}:{settings.listen_port}"
    )
    receiver = ReceiveMessage(DirectorySenders(runtime.directory), committer, journal, clock, ids)
    listener = MllpListener(settings.listen_host, settings.listen_port, receiver, clock, _limits(settings))
    leases = Leases(database, clock, ids)
    connections = SqlConnectionStore(database, runtime.keyring, clock)
    outbound = SqlOutboundStore(
        database, leases, runtime.keyring, clock, ids, runtime.source("hl7-gateway"), runtime.replica
    )
    sending = _sending(runtime, connections, outbound, listener)
    destinations = _destinations(runtime, settings, connections, outbound, leases)
    committing: list[asyncio.Task[None]] = []

    async def forget() -> None:
        """Prune what recognises old messages, on one replica."""
        await leases.run_while_held("hl7.forget-seen", lambda: forget_seen(store, settings.duplicate_window_s))

    async def forget_sent() -> None:
        """Delete what was sent long ago, on one replica."""
        kept_s = settings.outbound_kept_s
        await leases.run_while_held("hl7.forget-sent", lambda: forget_settled(outbound, kept_s))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        committing[:] = [asyncio.create_task(committer.run(), name="hl7-commits")]
        async with background("hl7-gateway", forget, forget_sent, destinations.run):
            try:
                await listener.start()
                journal.endpoint = f"mllp://{listener.host}:{listener.port}"
                yield
            finally:
                await destinations.stop()
                await listener.stop(settings.stop_timeout_s)
                committer.stop()  # nobody hears of these any more, but what was read is kept
                await asyncio.gather(*committing, return_exceptions=True)

    async def ready() -> list[str]:
        stopped = [] if listener.listening else ["listener.stopped"]
        return [*stopped, *("committer.stopped" for task in committing if task.done())]

    return Module(
        name="hl7-gateway",
        prefix="/hl7",
        router=router(store, runtime.keyring, runtime.directory.all, [listener], sending),
        access=ACCESS,
        database=database,
        lifespan=lifespan,
        stream_topics=("ps.hl7.received.v1", "ps.hl7.rejected.v1", "ps.hl7.delivery.v1"),
        ready=ready,
    )


def _sending(
    runtime: Runtime, connections: SqlConnectionStore, outbound: SqlOutboundStore, listener: MllpListener
) -> Sending:
    clock, ids, integration_of = runtime.clock, runtime.ids, runtime.directory.get
    probe = SocketPortProbe()

    def trial(connection: Connection, material: TlsMaterial) -> SocketTrial:
        return SocketTrial(runtime.outbound.policy, connection, material)

    return Sending(
        connections,
        ConfigureConnection(connections, PemInspector(), probe, integration_of, [listener], clock, ids),
        outbound,
        EnqueueMessages(outbound, runtime.keyring, integration_of, ids),
        PatientKeys(runtime.keyring, runtime.directory.all),
        TryConnection(trial, connections.material, outbound.connected, [listener], probe, clock, ids),
    )


def _destinations(
    runtime: Runtime,
    settings: Hl7GatewaySettings,
    connections: SqlConnectionStore,
    outbound: SqlOutboundStore,
    leases: Leases,
) -> Destinations:
    connector = MllpConnector(runtime.outbound.policy)
    journal = ExchangeDeliveryJournal(runtime.exchanges)

    def make(connection: Connection, material: TlsMaterial) -> Destination:
        return Destination(
            connection,
            material,
            outbound,
            connector,
            journal,
            runtime.clock,
            runtime.ids.fraction,
            stop_timeout_s=settings.stop_timeout_s,
        )

    destinations = Destinations(
        lambda: connections.active("sender"),
        connections.material,
        make,
        lambda name: leases.hold(name, ttl_s=settings.send_lease_s),
        lease_wait_s=settings.send_lease_s / 2,
    )
    connections.changed.append(destinations.look)
    outbound.queued.append(destinations.wake)
    outbound.released.append(destinations.rescan)
    return destinations


def _limits(settings: Hl7GatewaySettings) -> ListenerLimits:
    return ListenerLimits(
        connections_max=settings.connections_max,
        connection_waiting_messages_max=settings.connection_waiting_messages_max,
        connection=Limits(
            frame_bytes_max=settings.frame_bytes_max,
            frame_timeout_s=settings.frame_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        ),
    )
