"""Wiring of the HL7 gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common.runtime.background import background
from common.runtime.database import Database
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load
from hl7_gateway.access import ACCESS
from hl7_gateway.adapters.channels import ConnectionSenders, DirectorySenders
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.edit_store import SqlEditStore
from hl7_gateway.adapters.intake_tables import IntakeBase
from hl7_gateway.adapters.journal import TelemetryJournal
from hl7_gateway.adapters.message_store import SqlMessageStore
from hl7_gateway.adapters.mllp_listener import ListenerLimits, MllpListener, configured_listener
from hl7_gateway.adapters.mllp_sender import MllpConnector, SocketTrial
from hl7_gateway.adapters.outbound_journal import ExchangeDeliveryJournal
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.port_probe import SocketPortProbe
from hl7_gateway.adapters.postgres_intake import PostgresIntake
from hl7_gateway.adapters.profile_store import SqlProfileStore
from hl7_gateway.adapters.replay_store import SqlReplayStore
from hl7_gateway.adapters.sqlite_intake import SqliteIntake
from hl7_gateway.adapters.tables import Base
from hl7_gateway.adapters.tenant_parts import tenant_parts
from hl7_gateway.adapters.tls_material import PemInspector
from hl7_gateway.api import Again, Checking, Sending, router
from hl7_gateway.core.connection import Limits
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.message import StoredMessage
from hl7_gateway.core.unmatched import UnmatchedSenders
from hl7_gateway.settings import Hl7GatewaySettings
from hl7_gateway.use_cases.catalogue_messages import Cataloguer
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.configure_connection import ConfigureConnection
from hl7_gateway.use_cases.configure_profile import ConfigureProfile
from hl7_gateway.use_cases.deliver_messages import Destination
from hl7_gateway.use_cases.edit_messages import EditMessages
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages
from hl7_gateway.use_cases.forget_messages import Retention, forget_messages
from hl7_gateway.use_cases.forget_seen import forget_seen
from hl7_gateway.use_cases.forget_settled import forget_settled
from hl7_gateway.use_cases.receive_message import ReceiveMessage
from hl7_gateway.use_cases.reception_rules import ReceptionRules
from hl7_gateway.use_cases.replay_messages import ReplayMessages
from hl7_gateway.use_cases.run_destinations import Destinations
from hl7_gateway.use_cases.run_listeners import Listeners
from hl7_gateway.use_cases.run_replays import Replays
from hl7_gateway.use_cases.search_messages import PatientKeys
from hl7_gateway.use_cases.try_connection import TryConnection
from hl7_gateway.use_cases.try_profile import TryProfile


@dataclass(frozen=True, slots=True)
class _Receiving:
    """What takes messages in, catalogues them and shows them."""

    intake: SqliteIntake | PostgresIntake
    store: SqlMessageStore
    committer: Committer
    cataloguer: Cataloguer
    listener: MllpListener
    listeners: Listeners
    journal: TelemetryJournal
    unmatched: UnmatchedSenders
    profiles: SqlProfileStore
    rules: ReceptionRules

    @asynccontextmanager
    async def running(self, stop_timeout_s: float, committing: list[asyncio.Task[None]]) -> AsyncIterator[None]:
        """Listen; the end answers what was read, and keeps what nobody hears of any more."""
        await self.intake.open()
        committing[:] = [asyncio.create_task(self.committer.run(), name="hl7-commits")]
        try:
            await self.listener.start()
            self.journal.endpoint = f"mllp://{self.listener.host}:{self.listener.port}"
            async with background("hl7-gateway", self.rules.run):
                yield
        finally:
            await asyncio.gather(self.listener.stop(stop_timeout_s), self.listeners.stop())
            self.committer.stop()
            await asyncio.gather(*committing, return_exceptions=True)
            await self.intake.close()


def build(runtime: Runtime) -> Module:
    """The HL7 gateway on a runtime."""
    settings = load(Hl7GatewaySettings)
    database = runtime.database("hl7-gateway", Base.metadata, Path(__file__).parent / "migrations")
    leases = Leases(database, runtime.clock, runtime.ids)
    connections = SqlConnectionStore(database, runtime.keyring, runtime.clock)
    receiving = _receiving(runtime, settings, database, connections)
    source = runtime.source("hl7-gateway")
    outbound = SqlOutboundStore(database, leases, runtime.keyring, runtime.clock, runtime.ids, source, runtime.replica)
    destinations = _destinations(runtime, settings, connections, outbound, leases)
    sending = _sending(runtime, connections, outbound, receiving)
    again, replays = _again(runtime, settings, database, leases, sending, outbound, receiving)
    forgetting = _forgetting(settings, leases, receiving, outbound)
    committing: list[asyncio.Task[None]] = []

    async def catalogue() -> None:
        """Catalogue on one replica, so that messages are told of in order."""
        if receiving.intake.exclusive:  # after a crash nobody waits for a lease to expire
            await receiving.cataloguer.run()
        await leases.run_while_held("hl7.catalogue", receiving.cataloguer.run)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with (
            receiving.running(settings.stop_timeout_s, committing),
            background("hl7-gateway", catalogue, *forgetting, destinations.run, receiving.listeners.run),
            background("hl7-replays", replays.run),
        ):
            try:
                yield
            finally:
                await destinations.stop()

    async def ready() -> list[str]:
        stopped = [] if receiving.listener.listening else ["listener.stopped"]
        return [*stopped, *("committer.stopped" for task in committing if task.done())]

    return Module(
        name="hl7-gateway",
        prefix="/hl7",
        router=router(
            receiving.store,
            [receiving.listener],
            receiving.cataloguer,
            sending,
            receiving.listeners,
            receiving.unmatched,
            runtime.clock,
            runtime.ids,
            again,
        ),
        access=ACCESS,
        database=database,
        lifespan=lifespan,
        tenant_parts=tenant_parts(runtime.keyring, receiving.intake),
        stream_topics=("ps.hl7.received.v1", "ps.hl7.rejected.v1", "ps.hl7.delivery.v1"),
        ready=ready,
    )


def _forgetting(
    settings: Hl7GatewaySettings, leases: Leases, receiving: _Receiving, outbound: SqlOutboundStore
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What deletes what is old; each on one replica."""
    intake, window_s, kept_s = receiving.intake, settings.duplicate_window_s, settings.outbound_kept_s
    retention = Retention(settings.bodies_kept_s, settings.bodies_bytes_max, settings.headers_kept_s)
    return [
        partial(leases.run_while_held, f"hl7.{name}", work)
        for name, work in (
            ("forget-seen", lambda: forget_seen(intake, window_s)),
            ("forget-messages", lambda: forget_messages(intake, receiving.store, retention)),
            ("forget-sent", lambda: forget_settled(outbound, kept_s)),
        )
    ]


def _receiving(
    runtime: Runtime, settings: Hl7GatewaySettings, database: Database, connections: SqlConnectionStore
) -> _Receiving:
    clock, ids, keys = runtime.clock, runtime.ids, runtime.keyring
    intake = _intake(runtime)
    store = SqlMessageStore(database, intake, keys, clock, ids, runtime.source("hl7-gateway"))
    committer = Committer(
        intake,
        keys,
        clock,
        batch_messages_max=settings.batch_messages_max,
        waiting_bytes_max=settings.waiting_bytes_max,
        store_timeout_s=settings.store_timeout_s,
    )
    journal = TelemetryJournal(
        runtime.telemetry, runtime.exchanges, f"mllp://{settings.listen_host}:{settings.listen_port}"
    )
    senders, unmatched = DirectorySenders(runtime.directory), UnmatchedSenders()
    profiles = SqlProfileStore(database, clock)
    rules = ReceptionRules(profiles, connections.known, clock)
    receiver = ReceiveMessage(senders, committer, journal, clock, ids, unmatched=unmatched)

    async def make(connection: Connection, material: TlsMaterial) -> MllpListener:
        reception = await rules.of(connection)
        own = ConnectionSenders(runtime.directory, connection)
        receives = ReceiveMessage(own, committer, journal, clock, ids, reception=reception, unmatched=unmatched)
        rules.runs(connection, receives, reception)
        return configured_listener(connection, material, receives, clock, _limits(settings))

    cataloguer = Cataloguer(
        intake,
        store,
        keys,
        senders,
        journal,
        clock,
        lambda: committer.loaded,
        rules.look_up,
    )
    committer.stored = cataloguer.stored
    listener = MllpListener(settings.listen_host, settings.listen_port, receiver, clock, _limits(settings))
    listeners = Listeners(
        lambda: connections.active("listener"),
        connections.material,
        make,
        stop_timeout_s=settings.stop_timeout_s,
        rules=rules.shown,
    )
    connections.changed += [rules.changed, listeners.look]
    profiles.changed.append(rules.changed)
    return _Receiving(intake, store, committer, cataloguer, listener, listeners, journal, unmatched, profiles, rules)


def _checking(runtime: Runtime, connections: SqlConnectionStore, receiving: _Receiving) -> Checking:
    profiles = receiving.profiles

    async def encodings(connection_ids: Collection[str]) -> Mapping[str, str | None]:
        return {key: found.encoding for key, found in (await receiving.rules.look_up(connection_ids)).items()}

    return Checking(
        profiles,
        ConfigureProfile(profiles, runtime.clock),
        TryProfile(profiles, receiving.store, connections.get),
        encodings,
    )


def _sending(
    runtime: Runtime, connections: SqlConnectionStore, outbound: SqlOutboundStore, receiving: _Receiving
) -> Sending:
    configure = ConfigureConnection(
        connections,
        PemInspector(),
        SocketPortProbe(),
        runtime.directory.get,
        [receiving.listener],
        runtime.clock,
        runtime.ids,
        profiles=receiving.profiles,
    )
    return Sending(
        connections,
        configure,
        outbound,
        EnqueueMessages(outbound, runtime.keyring, runtime.directory.get, runtime.ids),
        PatientKeys(runtime.keyring, runtime.directory.all),
        TryConnection(
            lambda connection, material: SocketTrial(runtime.outbound.policy, connection, material),
            connections.material,
            outbound.connected,
            lambda: [receiving.listener, *receiving.listeners.open()],
            SocketPortProbe(),
            runtime.clock,
            runtime.ids,
        ),
        _checking(runtime, connections, receiving),
    )


def _again(
    runtime: Runtime,
    settings: Hl7GatewaySettings,
    database: Database,
    leases: Leases,
    sending: Sending,
    outbound: SqlOutboundStore,
    receiving: _Receiving,
) -> tuple[Again, Replays]:
    """What shows, edits and sends stored messages again, and what works the replays."""
    clock, ids, source = runtime.clock, runtime.ids, runtime.source("hl7-gateway")

    async def order_keys(messages: Collection[StoredMessage]) -> Mapping[str, str]:
        rules = await receiving.rules.look_up({message.connection_id for message in messages})
        return {
            one.id: rules[one.connection_id].order_key(one.patient_key, one.integration_id, one.id) for one in messages
        }

    book = SqlReplayStore(database, leases, receiving.store, outbound, clock, ids, source)
    replays = Replays(
        book,
        sending.connections,
        outbound,
        sending.enqueue,
        runtime.keyring,
        order_keys,
        lambda name: leases.hold(name, ttl_s=settings.send_lease_s),
        clock,
    )
    edits = SqlEditStore(database, outbound)
    replay = ReplayMessages(book, receiving.store, sending.connections, outbound, order_keys, replays.wake, clock, ids)
    edit = EditMessages(
        edits,
        receiving.store,
        sending.connections,
        sending.enqueue,
        receiving.committer,
        receiving.rules.look_up,
        runtime.directory.get,
        clock,
        ids,
        settings.frame_bytes_max,
    )
    return Again(book, replay, edits, edit), replays


def _intake(runtime: Runtime) -> SqliteIntake | PostgresIntake:
    migrations = Path(__file__).parent / "migrations" / "intake"
    database = runtime.database("hl7-intake", IntakeBase.metadata, migrations)
    if database.dialect == "sqlite":
        return SqliteIntake(database.path, runtime.clock)
    return PostgresIntake(database, runtime.clock)


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
