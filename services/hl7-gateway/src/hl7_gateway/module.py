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
from hl7_gateway.adapters.port_probe import SocketPortProbe
from hl7_gateway.adapters.tables import Base
from hl7_gateway.adapters.tls_material import PemInspector
from hl7_gateway.api import router
from hl7_gateway.core.connection import Limits
from hl7_gateway.settings import Hl7GatewaySettings
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.configure_connection import ConfigureConnection
from hl7_gateway.use_cases.forget_seen import forget_seen
from hl7_gateway.use_cases.receive_message import ReceiveMessage


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
    connections = SqlConnectionStore(database, runtime.keyring, clock)
    configure = ConfigureConnection(
        connections, PemInspector(), SocketPortProbe(), runtime.directory.get, [listener], clock, ids
    )
    leases = Leases(database, clock, ids)
    committing: list[asyncio.Task[None]] = []

    async def forget() -> None:
        """Prune what recognises old messages, on one replica."""
        await leases.run_while_held("hl7.forget-seen", lambda: forget_seen(store, settings.duplicate_window_s))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        committing[:] = [asyncio.create_task(committer.run(), name="hl7-commits")]
        async with background("hl7-gateway", forget):
            try:
                await listener.start()
                journal.endpoint = f"mllp://{listener.host}:{listener.port}"
                yield
            finally:
                await listener.stop(settings.stop_timeout_s)
                committer.stop()  # nobody hears of these any more, but what was read is kept
                await asyncio.gather(*committing, return_exceptions=True)

    async def ready() -> list[str]:
        stopped = [] if listener.listening else ["listener.stopped"]
        return [*stopped, *("committer.stopped" for task in committing if task.done())]

    return Module(
        name="hl7-gateway",
        prefix="/hl7",
        router=router(store, runtime.keyring, runtime.directory.all, [listener], connections, configure),
        access=ACCESS,
        database=database,
        lifespan=lifespan,
        stream_topics=("ps.hl7.received.v1", "ps.hl7.rejected.v1"),
        ready=ready,
    )


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
