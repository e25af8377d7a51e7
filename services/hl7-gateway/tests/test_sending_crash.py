"""`kill -9` while sending: everything arrives at least once, in order per key, and the counters are as the store."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import hl7_gateway
from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.outbound_message import NewOutbound

PROGRAM = Path(__file__).parent / "gateway_process.py"
MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
KILLS = 3
MESSAGES = 1200
KEYS = 30
WAIT_S = 60.0

pytestmark = pytest.mark.e2e


async def _started(data: Path) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PS_HL7_SEND_LEASE_S": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(data), "0", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def _connection(connections: SqlConnectionStore, at: datetime, port: int) -> Connection:
    document = {
        "name": "Out",
        "direction": "sender",
        "integration_id": "int_x",
        "host": "127.0.0.1",
        "port": port,
        "sending": {"in_flight_max": 3, "backoff": {"first_ms": 10, "max_ms": 100}},
    }
    configuration = ConnectionDocument.model_validate(document).completed()
    connection_id = type_id("con", uuid7(1, 1))
    made = Connection(connection_id, TENANT, ConnectionState.ACTIVE, 1, configuration, {}, "ann", "created", at, at)
    await connections.add(Caller(TENANT, "ann", frozenset({Role.OPERATOR})), made, TlsMaterial())
    return made


async def _queue(store: SqlOutboundStore, connection: Connection) -> None:
    keys = await StaticKeyRing().tenant(TENANT)
    messages = []
    for number in range(MESSAGES):
        message_id, control_id = type_id("obm", uuid7(1, number)), f"c{number}"
        body = f"MSH|^~\\&|a|b|c|d|20260301||ADT^A08|{control_id}|P|2.5.1\r".encode()
        sealed = keys.seal(body, record=message_id, field="outbound")
        key = f"key{number % KEYS}"
        messages.append(NewOutbound(message_id, key, None, control_id, "ADT", "A08", len(body), sealed, ""))
    await store.enqueue(connection, messages)


async def wait_for_count(seen: list[str], count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(seen) < count:  # noqa: ASYNC110 - another process decides when, with a bound
            await asyncio.sleep(0.002)


async def wait_for_depth(store: SqlOutboundStore, connection: Connection, depth: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await store.live(connection)).depth > depth:  # noqa: ASYNC110 - another process decides when
            await asyncio.sleep(0.02)


async def test_nothing_queued_is_lost_or_out_of_order(tmp_path: Path, receiver: Any, at: datetime) -> None:
    there = await receiver()
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    clock, ids = SystemClock(), SystemIds()
    store = SqlOutboundStore(database, Leases(database, clock, ids), StaticKeyRing(), clock, ids, "/x", "rep_x")
    connection = await _connection(SqlConnectionStore(database, StaticKeyRing(), clock), at, there.port)
    await _queue(store, connection)
    for kill in range(KILLS):
        process = await _started(tmp_path)
        await wait_for_count(there.seen, 200 * (kill + 1))
        process.kill()
        await process.wait()
    process = await _started(tmp_path)
    await wait_for_depth(store, connection, 200)
    process.terminate()  # with messages in flight: finished or given back
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0
    left = await store.live(connection)
    assert left.counters["delivered"] == MESSAGES - left.depth
    process = await _started(tmp_path)
    await wait_for_depth(store, connection, 0)
    process.terminate()
    await process.wait()
    live = await store.live(connection)
    await database.close()
    assert (live.counters["delivered"], live.counters["queued"], live.parked) == (MESSAGES, MESSAGES, 0)
    order: dict[int, list[int]] = defaultdict(list)
    for control_id in there.seen:
        number = int(control_id[1:])
        order[number % KEYS].append(number)
    for numbers in order.values():
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == MESSAGES // KEYS
