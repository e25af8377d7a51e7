"""The intake on PostgreSQL: a group commit is one statement, and so one round trip and one transaction.

Its arrays go to the server as they are (asyncpg), not row by row. A connection is kept and replaced when it broke.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.database import Database
from hl7_gateway.core.message import Receipt, TakenMessage, instant_of, milliseconds_of
from hl7_gateway.ports import WaitingMessage

SEEN_ROWS_MAX: Final = 10_000
BODY_ROWS_MAX: Final = 2_000
SAMPLE_ROWS: Final = 100
EVER: Final = 2**62
"""Milliseconds; later than any message."""

# The keys in their own order: two replicas that store the same messages wait for each other instead of deadlocking.
_SAVE: Final = """
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
        $8::bytea[], $9::bytea[], $10::text[]) WITH ORDINALITY
        AS one(id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body, duplicate_key,
            connection_id, place)
), fresh AS (
    INSERT INTO seen (duplicate_key, message_id, received_ms)
    SELECT duplicate_key, id, received_ms FROM input ORDER BY duplicate_key, place
    ON CONFLICT (duplicate_key) DO NOTHING RETURNING message_id
), stored AS (
    INSERT INTO body (id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body, duplicate_key,
        connection_id)
    SELECT id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body, duplicate_key, connection_id
    FROM input JOIN fresh ON fresh.message_id = input.id ORDER BY place RETURNING sequence
), noted AS (
    INSERT INTO waiting (sequence) SELECT sequence FROM stored
)
SELECT count(*) FROM stored"""
_RECOGNISE: Final = "SELECT duplicate_key, message_id, received_ms FROM seen WHERE duplicate_key = ANY($1::bytea[])"
_WAITING: Final = """
SELECT body.sequence, id, tenant, integration_id, channel, peer, received_ms, rejection, sealed_body,
    connection_id
FROM waiting JOIN body ON body.sequence = waiting.sequence
ORDER BY waiting.sequence LIMIT $1"""
_FORGET: Final = """
WITH old AS (DELETE FROM seen WHERE sequence IN (
    SELECT sequence FROM seen WHERE received_ms < $1 AND sequence < (SELECT min(sequence) + $2 FROM seen)) RETURNING 1)
SELECT count(*) FROM old"""

_FORGET_BODIES: Final = """
WITH old AS (DELETE FROM body WHERE sequence < (SELECT min(sequence) + $2 FROM body) AND received_ms < $1
    AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.sequence = body.sequence) RETURNING 1)
SELECT count(*) FROM old"""
# What a deleted row took is free for others only after a vacuum, so the table's size says nothing: sequences are dense.
_USED: Final = """
SELECT coalesce((SELECT max(sequence) - min(sequence) + 1 FROM body) * (SELECT avg(octet_length(sealed_body)) FROM
    (SELECT sealed_body FROM body ORDER BY sequence LIMIT $1) AS oldest), 0)::bigint"""


class PostgresIntake:
    """`Intake`. The database is open."""

    exclusive: Final = False
    """Replicas share these messages."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._held: AsyncExitStack | None = None
        self._connection: Any = None
        self._saving = asyncio.Lock()

    async def open(self) -> None:
        """Nothing to do: the connection is taken with the first message."""

    async def close(self) -> None:
        """Give the connection back."""
        async with self._saving:
            await self._forsake()

    def save(self, messages: Sequence[TakenMessage]) -> asyncio.Future[Mapping[str, Receipt]]:
        return asyncio.ensure_future(self._save(messages))

    async def _save(self, messages: Sequence[TakenMessage]) -> Mapping[str, Receipt]:
        async with self._saving, self._kept() as connection:
            stored = await connection.fetchval(_SAVE, *map(list, zip(*messages, strict=True)))
            if stored == len(messages):
                return {}
            rows = await connection.fetch(_RECOGNISE, [message.duplicate_key for message in messages])
        first = {row["duplicate_key"]: Receipt(row["message_id"], instant_of(row["received_ms"])) for row in rows}
        return {
            message.id: first[message.duplicate_key]
            for message in messages
            if first[message.duplicate_key].message_id != message.id
        }

    async def waiting(self, limit: int) -> Sequence[WaitingMessage]:
        async with self._database.driver_connection() as connection:
            return [WaitingMessage(*row) for row in await connection.fetch(_WAITING, limit)]

    async def catalogued(self, sequences: Sequence[int]) -> None:
        async with self._database.driver_connection() as connection:
            await connection.execute("DELETE FROM waiting WHERE sequence = ANY($1::bigint[])", list(sequences))

    async def bodies(self, sequences: Sequence[int]) -> Mapping[int, bytes]:
        async with self._database.driver_connection() as connection:
            statement = "SELECT sequence, sealed_body FROM body WHERE sequence = ANY($1::bigint[])"
            return {row[0]: row[1] for row in await connection.fetch(statement, list(sequences))}

    async def erase_bodies(self, sequences: Sequence[int]) -> None:
        """Delete them, whatever their age: a practice is offboarded."""
        async with self._database.driver_connection() as connection:
            await connection.execute("DELETE FROM body WHERE sequence = ANY($1::bigint[])", list(sequences))

    async def forget_seen(self, window_s: float) -> int:
        before = milliseconds_of(self._clock.now() - timedelta(seconds=window_s))
        forgotten = 0
        while True:
            async with self._database.driver_connection() as connection:
                deleted = int(await connection.fetchval(_FORGET, before, SEEN_ROWS_MAX))
            forgotten += deleted
            if not deleted:
                return forgotten

    async def forget_bodies(self, kept_s: float, bytes_max: int) -> int:
        """Autovacuum makes the space of deleted rows free for the next messages."""
        before = milliseconds_of(self._clock.now() - timedelta(seconds=kept_s))
        async with self._database.driver_connection() as connection:
            if bytes_max and await connection.fetchval(_USED, SAMPLE_ROWS) > bytes_max:
                before = EVER
            return int(await connection.fetchval(_FORGET_BODIES, before, BODY_ROWS_MAX))

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[Any]:
        try:
            if self._held is None:
                self._held = AsyncExitStack()
                self._connection = await self._held.enter_async_context(self._database.driver_connection())
            yield self._connection
        except BaseException:
            await self._forsake()
            raise

    async def _forsake(self) -> None:
        held, self._held, self._connection = self._held, None, None
        if held is not None:
            with contextlib.suppress(SuiteError):
                await held.aclose()
