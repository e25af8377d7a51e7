"""Finding one HL7 message among a million, and the disk they take."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import insert, text

import hl7_gateway
from bench.hl7_servers import durable_postgres, gateway, load
from bench.mllp_load import adt_message
from bench.report import figure
from common.models.clock import FixedClock
from common.models.identifiers import time_part, type_id_of
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.message_store import MESSAGE, MESSAGE_KEY, SqlMessageStore, key_rows, message_row
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.message import Header, MessageState, NewMessage, milliseconds_of
from hl7_gateway.ports import MessageFilter

MIGRATIONS: Final = Path(hl7_gateway.__file__).parent / "migrations"
MESSAGES: Final = 1_000_000
ROWS: Final = 5_000
SEARCHES: Final = 50
GOAL_MS: Final = 20.0
DISK_GOAL: Final = 3.0
DISK_S: Final = 2.0
CAUGHT_UP_S: Final = 60.0
BEGAN: Final = datetime(2026, 3, 1, tzinfo=UTC)
TYPES: Final = (("ADT", "A08"), ("ADT", "A01"), ("SIU", "S12"), ("ORU", "R01"))


def hl7_search(folder: Path) -> Iterator[dict[str, object]]:
    """Searches of the catalogue as the API asks them, on both databases; then what is written for a message."""
    yield from asyncio.run(_searched(f"sqlite:///{folder}", "SQLite"))
    with durable_postgres(folder) as url:
        if url is not None:
            yield from asyncio.run(_searched(url, "PostgreSQL"))
    yield from _disk(folder)


def message(number: int) -> NewMessage:
    """One every 100 ms; ten of a visit, a hundred of a patient, every thousandth rejected."""
    at = BEGAN + timedelta(milliseconds=100 * number)
    kind, trigger = TYPES[number % len(TYPES)]
    sender = "LAB" if number % 50_000 == 0 else "EPIC"
    rejected = number % 1_000 == 0
    return NewMessage(
        id=type_id_of("msg", time_part(milliseconds_of(at)), number.to_bytes(16, "big")),
        sequence=number + 1,
        tenant=TENANT,
        integration_id="int_01h455vb4pex5vsknk084sn02q",
        channel="hl7-in",
        peer="127.0.0.1:50000",
        header=Header(sender, "CLINIC", "", f"C{number:09d}", kind, trigger, "2.5.1", "", ""),
        patient_key=f"{number // 100:026d}",
        received_at=at,
        state=MessageState.REJECTED if rejected else MessageState.RECEIVED,
        acknowledgment_code="AR" if rejected else "AA",
        size_bytes=1_500,
        findings=("hl7.type-unsupported",) if rejected else (),
        traceparent="",
        keys=(("visit", f"{number // 10:026d}"),),
    )


def asked(number: int) -> dict[str, MessageFilter]:
    """What is searched for, by what the figure says."""
    at = BEGAN + timedelta(milliseconds=100 * number)
    return {
        "control id": MessageFilter(control_id=f"C{number:09d}"),
        "control id that nobody used": MessageFilter(control_id=f"X{number}"),
        "patient": MessageFilter(patient_keys=(f"{number // 100:026d}",)),
        "visit": MessageFilter(visit_key=f"{number // 10:026d}"),
        "finding": MessageFilter(finding_code="hl7.type-unsupported", before=at),
        "rare sender": MessageFilter(application="LAB", facility="CLINIC"),
        "minute": MessageFilter(after=at, before=at + timedelta(minutes=1)),
        "type that never came": MessageFilter(message_type="DFT", trigger_event="P03"),
    }


async def _searched(url: str, name: str) -> list[dict[str, object]]:
    database = Database(url, "hl7-gateway", Base.metadata, MIGRATIONS)
    await database.open()
    try:
        await _fill(database)
        clock = FixedClock(BEGAN)
        store = SqlMessageStore(database, MemoryIntake(), StaticKeyRing(), clock, SystemIds(), "/bench/1")
        took: dict[str, list[float]] = {}
        for step in range(SEARCHES):
            for what, wanted in asked(step * (MESSAGES // SEARCHES)).items():
                began = time.perf_counter()
                await store.search(TENANT, wanted, None, 50)
                took.setdefault(what, []).append((time.perf_counter() - began) * 1000)
    finally:
        await database.close()
    at = f"{name}, {MESSAGES} messages, a page of 50, p95 of {SEARCHES}; median "
    return [
        figure(
            f"HL7 search by {what}, {name}",
            statistics.quantiles(times, n=20)[-1],
            "ms",
            f"{at}{statistics.median(times):.2f} ms",
            goal=GOAL_MS,
        )
        for what, times in took.items()
    ]


async def _fill(database: Database) -> None:
    for start in range(0, MESSAGES, ROWS):
        some = [message(number) for number in range(start, start + ROWS)]
        async with database.write() as session:
            await session.execute(insert(MESSAGE), [message_row(one) for one in some])
            await session.execute(insert(MESSAGE_KEY), [key for one in some for key in key_rows(one)])
    if database.dialect != "sqlite":
        async with database.write() as session:
            await session.execute(text("ANALYZE message, message_key"))


def _disk(folder: Path) -> Iterator[dict[str, object]]:
    with gateway(folder, "disk") as server:
        load(server.port, 8, DISK_S)
        count = _catalogued(folder / "disk")
    received = count * len(adt_message())
    sizes = {path.stem: path.stat().st_size / received for path in (folder / "disk").glob("*.sqlite3")}
    how = f"{count} messages of 1.5 KB, SQLite files after the end"
    stored = sizes["hl7-intake"] + sizes["hl7-gateway"]
    parts = "contents, catalogue with its indexes, and the outbox that is emptied after an hour"
    yield figure("HL7 disk per KB received", stored, "KB", f"{how}: {parts}", goal=DISK_GOAL)
    events = "two events a message, kept for 2 and 14 days"
    yield figure("HL7 bus log per KB received", sizes["bus"], "KB", f"{how}: {events}")


def _catalogued(data: Path) -> int:
    """How many messages there are, once all are catalogued and their events are on the bus."""
    until = time.monotonic() + CAUGHT_UP_S
    while time.monotonic() < until:
        time.sleep(0.5)
        with contextlib.closing(sqlite3.connect(f"file:{data}/hl7-intake.sqlite3?mode=ro", uri=True)) as intake:
            stored = intake.execute("SELECT count(*) FROM body").fetchone()[0]
        with contextlib.closing(sqlite3.connect(f"file:{data}/hl7-gateway.sqlite3?mode=ro", uri=True)) as catalogue:
            known = catalogue.execute("SELECT count(*) FROM message").fetchone()[0]
            untold = catalogue.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL").fetchone()[0]
        if stored == known and not untold:
            return int(stored)
    raise RuntimeError("the catalogue did not catch up")
