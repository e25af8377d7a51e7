"""A million messages queued: what is held in memory does not depend on them, nor does the time to the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

import hl7_gateway
from common.models.identifiers import type_id, uuid7
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.outbound import AddressPolicy
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.mllp_sender import MllpConnector
from hl7_gateway.adapters.outbound_store import MESSAGE, SqlOutboundStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.use_cases.deliver_messages import Destination
from hl7v2 import mllp

MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
MESSAGES, DELIVERED = 1_000_000, 2_000
ROWS = 20_000
GROWTH_BYTES_MAX = 40 * 1024 * 1024


class Silence:
    def tried(self, _: Any) -> None:
        pass


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connection_of(at: datetime, port: int) -> Connection:
    document = {
        "name": "Out",
        "direction": "sender",
        "integration_id": "int_x",
        "host": "127.0.0.1",
        "port": port,
        "sending": {"in_flight_max": 4, "backoff": {"first_ms": 600_000, "max_ms": 600_000}},
    }
    configuration = ConnectionDocument.model_validate(document).completed()
    connection_id = type_id("con", uuid7(1, 1))
    return Connection(connection_id, TENANT, ConnectionState.ACTIVE, 1, configuration, {}, "ann", "created", at, at)


async def fill(database: Database, connection: Connection, at: datetime) -> None:
    """The first half is of one patient, whose first message the receiver never accepts; then a thousand others."""
    keys = await StaticKeyRing().tenant(TENANT)
    for start in range(0, MESSAGES, ROWS):
        rows = []
        for number in range(start, start + ROWS):
            message_id = type_id("obm", uuid7(1, number))
            body = f"MSH|^~\\&|a|b|c|d|20260301||ADT^A08|c{number}|P|2.5.1\r".encode()
            rows.append(
                {
                    "id": message_id, "tenant": TENANT, "connection_id": connection.id, "integration_id": "int_x",
                    "order_key": "first" if number < MESSAGES // 2 else f"k{number % 1000}", "control_id": f"c{number}",
                    "message_type": "ADT", "trigger_event": "A08", "size_bytes": len(body), "state": "queued",
                    "attempts": 0, "refusals": 0, "silences": 0, "queued_at": at, "traceparent": "",
                    "sealed_body": keys.seal(body, record=message_id, field="outbound"),
                }
            )  # fmt: skip
        async with database.write() as session:
            await session.execute(insert(MESSAGE), rows)


@pytest.mark.proof
async def test_a_million_queued_messages_are_read_by_pages(tmp_path: Path, at: datetime) -> None:
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    clock, ids = SystemClock(), SystemIds()
    leases = Leases(database, clock, ids)
    store = SqlOutboundStore(database, leases, StaticKeyRing(), clock, ids, "/hl7-gateway/test", "rep_test")
    seen: list[str] = []
    enough, stop = asyncio.Event(), asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = mllp.Decoder()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for event in decoder.receive_data(data):
                    assert isinstance(event, mllp.Frame)
                    control_id = event.body.split(b"|")[9].decode()
                    seen.append(control_id)
                    code = "AE" if control_id == "c0" else "AA"
                    answer = f"MSH|^~\\&|c|d|a|b|20260301||ACK|x|P|2.5.1\rMSA|{code}|{control_id}\r"
                    writer.write(mllp.encode(answer.encode()))
                if len(seen) > DELIVERED:
                    enough.set()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    connection = connection_of(at, server.sockets[0].getsockname()[1])
    await fill(database, connection, at)
    before = resident_bytes()
    destination = Destination(
        connection, TlsMaterial(), store, MllpConnector(AddressPolicy(["127.0.0.0/8"])), Silence(), clock,
        ids.fraction, stop_timeout_s=5.0,
    )  # fmt: skip
    async with asyncio.timeout(120), leases.hold("hl7.send.x", ttl_s=60.0) as lease:
        assert lease is not None
        running = asyncio.create_task(destination.run(lease, stop))
        await enough.wait()
        stop.set()
        await running
    growth = resident_bytes() - before
    server.close()
    await database.close()
    assert seen[0] == "c0"
    assert set(seen[1:]) <= {f"c{number}" for number in range(MESSAGES // 2, MESSAGES)}
    assert growth < GROWTH_BYTES_MAX, f"grew by {growth} bytes"
