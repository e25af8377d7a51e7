"""`kill -9` in the middle of replays: nothing is left out, and nothing is handed over twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import hl7_gateway
from common.models.access import Role
from common.models.identifiers import type_id, uuid7
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.event_text import parse_event
from common.runtime.host import claim_port
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.connection_store import SqlConnectionStore
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.message_store import SqlMessageStore
from hl7_gateway.adapters.outbound_store import SqlOutboundStore
from hl7_gateway.adapters.replay_store import SqlReplayStore
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.core.replay import Replay, State, Target
from hl7_gateway.ports import MessageFilter

PROGRAM = Path(__file__).parent / "gateway_process.py"
MIGRATIONS = Path(hl7_gateway.__file__).parent / "migrations"
CALLER = Caller(TENANT, "ann", frozenset({Role.INTEGRATION_ADMIN}))
KILLS = 3
MESSAGES = 600
RATE_PER_S = 200.0
WAIT_S = 60.0

pytestmark = pytest.mark.e2e


async def _started(data: Path, port: int) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PS_HL7_SEND_LEASE_S": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), str(data), str(port), stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def _fill(data: Path, connect: Any, message: Callable[..., bytes]) -> None:
    """Messages by MLLP, each catalogued when the process is gone."""
    with contextlib.closing(claim_port("127.0.0.1", 0)) as claimed:
        port = claimed.getsockname()[1]
    process = await _started(data, port)
    client = await connect(port)
    for first in range(0, MESSAGES, 50):
        numbers = range(first, first + 50)
        await client.send(*(message(f"c{number}", patient=f"{number % 9}^^^EPIC^MR") for number in numbers))
        assert [await client.code() for _ in numbers] == [("AA", f"c{number}") for number in numbers]
    client.close()
    await client.writer.wait_closed()
    await wait_for_count(data, "SELECT count(*) FROM message", MESSAGES)
    process.terminate()
    assert await process.wait() == 0


async def wait_for_count(data: Path, query: str, count: int) -> None:
    """Another process decides when; with a bound."""
    with contextlib.closing(sqlite3.connect(data / "hl7-gateway.sqlite3")) as database:
        async with asyncio.timeout(WAIT_S):
            while database.execute(query).fetchone()[0] < count:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.005)


async def _connection(connections: SqlConnectionStore, at: datetime) -> Connection:
    """A sender that is paused, so that what is queued can be counted; the replay fills all it may of its queue."""
    document = {
        "name": "Out",
        "direction": "sender",
        "integration_id": "int_x",
        "host": "127.0.0.1",
        "port": 6000,
        "sending": {"queue_messages_max": 2 * MESSAGES},
    }
    configuration = ConnectionDocument.model_validate(document).completed()
    connection_id = type_id("con", uuid7(1, 1))
    made = Connection(connection_id, TENANT, ConnectionState.PAUSED, 1, configuration, {}, "ann", "created", at, at)
    await connections.add(CALLER, made, TlsMaterial())
    return made


async def _start(store: SqlReplayStore, at: datetime, number: int, target: Target) -> str:
    counted = await store.counted(TENANT, MessageFilter())
    replay = Replay(
        id=type_id("rpl", uuid7(1, number)),
        tenant=TENANT,
        target=target,
        filter={},
        rate_per_s=RATE_PER_S,
        state=State.RUNNING,
        total=counted.total,
        done=0,
        skipped={},
        cursor=0,
        up_to=counted.up_to,
        waiting_code=None,
        error_code=None,
        author="ann",
        reason="repair",
        created_at=at,
        updated_at=at,
    )
    await store.add(CALLER, replay, 10)
    return replay.id


def _handed_over(data: Path) -> tuple[list[str], list[str]]:
    """Control ids told of again, and control ids queued, each in their order."""
    with contextlib.closing(sqlite3.connect(data / "hl7-gateway.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = dict(database.execute("SELECT id, control_id FROM message").fetchall())
        events = [parse_event(row[0]) for row in database.execute("SELECT event FROM outbox ORDER BY id")]
        queued = [row[0] for row in database.execute("SELECT control_id FROM outbound_message ORDER BY sequence")]
    return [names[event.subject] for event in events if event.data.get("replay_id")], queued


async def test_replays_survive_kills(tmp_path: Path, connect: Any, message: Any, at: datetime) -> None:
    await _fill(tmp_path, connect, message)
    database = Database(f"sqlite:///{tmp_path}", "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    clock, ids, keys = SystemClock(), SystemIds(), StaticKeyRing()
    leases = Leases(database, clock, ids)
    outbound = SqlOutboundStore(database, leases, keys, clock, ids, "/x", "rep_x")
    messages = SqlMessageStore(database, MemoryIntake(), keys, clock, ids, "/x")
    store = SqlReplayStore(database, leases, messages, outbound, clock, ids, "/x")
    connection = await _connection(SqlConnectionStore(database, keys, clock), at)
    replays = [
        await _start(store, at, number, target) for number, target in enumerate([Target(), Target(connection.id)], 1)
    ]
    for kill in range(KILLS):
        process = await _started(tmp_path, 0)
        await wait_for_count(tmp_path, "SELECT min(done) FROM replay", (kill + 1) * MESSAGES // (KILLS + 2))
        process.kill()
        await process.wait()
    cut_off = [await store.get(TENANT, replay_id) for replay_id in replays]
    assert [one.state for one in cut_off] == [State.RUNNING, State.RUNNING]
    process = await _started(tmp_path, 0)
    await wait_for_count(tmp_path, "SELECT count(*) FROM replay WHERE state = 'done'", 2)
    process.terminate()
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0
    ended = [await store.get(TENANT, replay_id) for replay_id in replays]
    await database.close()
    told, queued = await asyncio.to_thread(_handed_over, tmp_path)
    everything = [f"c{number}" for number in range(MESSAGES)]
    assert (told, queued) == (everything, everything)
    assert [(one.done, one.skipped, one.remaining) for one in ended] == [(MESSAGES, {}, 0)] * 2
