"""Connections in the database: each change with its version and its audit entry; PEM texts are sealed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from hl7_gateway.adapters.profile_store import check_profile_is_there
from hl7_gateway.adapters.tables import (
    LISTENS,
    NOT_REMOVED,
    UNSETTLED,
    ConnectionRow,
    ConnectionVersionRow,
    OutboundMessageRow,
)
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, ConnectionState, TlsMaterial
from hl7_gateway.ports import ConnectionVersion, KeySource

CONNECTION: Final[Table] = ConnectionRow.__table__  # type: ignore[attr-defined]
VERSION: Final[Table] = ConnectionVersionRow.__table__  # type: ignore[attr-defined]
_MESSAGE: Final[Table] = OutboundMessageRow.__table__  # type: ignore[attr-defined]
_ALL_ADDRESSES: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


class SqlConnectionStore:
    """`ConnectionBook`. `changed` are called after each commit that changed a connection."""

    def __init__(self, database: Database, keys: KeySource, clock: Clock) -> None:
        self.changed: list[Callable[[], None]] = []
        self._database = database
        self._keys = keys
        self._clock = clock

    async def add(self, caller: Caller, connection: Connection, material: TlsMaterial) -> None:
        sealed = await self._sealed(connection, material)
        async with self._database.write() as session:
            await self._check_listening(session, connection)
            values = {**_values(connection), "sealed_tls": sealed, "created_at": connection.created_at}
            await self._store(session, connection, insert(CONNECTION).values(**values, removed_at=None))
            await self._note(session, caller, connection, "connection.created")

    async def get(self, tenant: str, connection_id: str) -> Connection:
        async with self._database.read() as session:
            return _connection(await self._row(session, tenant, connection_id))

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[Connection]:
        statement = select(CONNECTION).where(CONNECTION.c.tenant == tenant, text(NOT_REMOVED))
        if cursor is not None:
            statement = statement.where(CONNECTION.c.id > decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(CONNECTION.c.id).limit(limit + 1))).all()
        items = [_connection(row) for row in rows[:limit]]
        return Page(items, encode_cursor([items[-1].id]) if len(rows) > limit else None)

    async def active(self, direction: str) -> Sequence[Connection]:
        """Every tenant's active connections of a direction, by id."""
        statement = select(CONNECTION).where(
            text(NOT_REMOVED), CONNECTION.c.direction == direction, CONNECTION.c.state == ConnectionState.ACTIVE.value
        )
        async with self._database.read() as session:
            return [_connection(row) for row in await session.execute(statement.order_by(CONNECTION.c.id))]

    async def known(self, connection_ids: Collection[str]) -> Sequence[Connection]:
        """Connections by id, of every tenant, removed ones, too."""
        async with self._database.read() as session:
            rows = await session.execute(select(CONNECTION).where(CONNECTION.c.id.in_(connection_ids)))
            return [_connection(row) for row in rows]

    async def save(
        self, caller: Caller, before: Connection, after: Connection, material: TlsMaterial | None, action: str
    ) -> None:
        values = _values(after)
        if material is not None:
            values["sealed_tls"] = await self._sealed(after, material)
        statement = update(CONNECTION).where(*_as_it_was(before)).values(**values).returning(CONNECTION.c.id)
        async with self._database.write() as session:
            await self._check_listening(session, after)
            if await self._store(session, after, statement) is None:
                raise SuiteError("request.version-changed")
            await self._note(session, caller, after, action)

    async def remove(self, caller: Caller, connection: Connection, reason: str) -> None:
        statement = (
            update(CONNECTION).where(*_as_it_was(connection)).values(removed_at=self._clock.now(), sealed_tls=None)
        )
        unsettled = (
            select(_MESSAGE.c.sequence).where(_MESSAGE.c.connection_id == connection.id, text(UNSETTLED)).limit(1)
        )
        async with self._database.write() as session:
            if (await session.execute(statement.returning(CONNECTION.c.id))).first() is None:
                raise SuiteError("request.version-changed")
            if (await session.execute(unsettled)).first() is not None:
                raise SuiteError("connection.has-messages")
            entry = self._audit(caller, connection, "connection.removed", reason)
            await audit.record(session, entry)
            self._tell(session)

    async def material(self, connection: Connection) -> TlsMaterial:
        async with self._database.read() as session:
            sealed = (await self._row(session, connection.tenant, connection.id)).sealed_tls
        if sealed is None:
            return TlsMaterial()
        keys = await self._keys.tenant(connection.tenant)
        return TlsMaterial(**orjson.loads(keys.open(sealed, record=connection.id, field="tls")))

    async def versions(
        self, tenant: str, connection_id: str, cursor: str | None, limit: int
    ) -> Page[ConnectionVersion]:
        statement = select(VERSION).where(VERSION.c.tenant == tenant, VERSION.c.connection_id == connection_id)
        if cursor is not None:
            statement = statement.where(VERSION.c.version < decode_cursor(cursor, (int,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(VERSION.c.version.desc()).limit(limit + 1))).all()
        if not rows and cursor is None:
            raise SuiteError("connection.not-found")
        items = [
            ConnectionVersion(row.version, row.state, row.body, row.tls_facts, row.author, row.reason, row.changed_at)
            for row in rows[:limit]
        ]
        return Page(items, encode_cursor([items[-1].version]) if len(rows) > limit else None)

    async def _row(self, session: AsyncSession, tenant: str, connection_id: str) -> Any:
        mine = (CONNECTION.c.tenant == tenant, CONNECTION.c.id == connection_id, text(NOT_REMOVED))
        row = (await session.execute(select(CONNECTION).where(*mine))).first()
        if row is None:
            raise SuiteError("connection.not-found")
        return row

    async def _sealed(self, connection: Connection, material: TlsMaterial) -> bytes | None:
        if material == TlsMaterial():
            return None
        keys = await self._keys.tenant(connection.tenant)
        return keys.seal(orjson.dumps(asdict(material)), record=connection.id, field="tls")

    async def _check_listening(self, session: AsyncSession, connection: Connection) -> None:
        """Two listeners that the system would not let listen beside each other are told apart from other programs."""
        configuration = connection.configuration
        if configuration.direction != "listener":
            return
        await check_profile_is_there(session, connection.tenant, connection.listening.validation.profile)
        same_port = select(CONNECTION.c.id, CONNECTION.c.tenant, CONNECTION.c.name, CONNECTION.c.host).where(
            text(LISTENS), CONNECTION.c.port == configuration.port, CONNECTION.c.id != connection.id
        )
        for row in await session.execute(same_port):
            if row.host == configuration.host or _ALL_ADDRESSES & {row.host, configuration.host}:
                raise SuiteError("connection.port-taken", _holder(row, connection.tenant))

    async def _store(self, session: AsyncSession, connection: Connection, statement: Any) -> Any:
        """Run the statement; the row it returns. What another transaction was quicker with is named."""
        try:
            result: Any = await session.execute(statement)
            return result.first() if result.returns_rows else None
        except IntegrityError as error:
            # The two unique indices: port and host of listeners were looked at above, so nearly always it is the name.
            listening = "port" in str(error.orig) or "connection_listening" in str(error.orig)
            raise SuiteError("connection.port-taken" if listening else "connection.name-taken") from error

    async def _note(self, session: AsyncSession, caller: Caller, connection: Connection, action: str) -> None:
        row = {
            "connection_id": connection.id,
            "version": connection.version,
            "tenant": connection.tenant,
            "state": connection.state.value,
            "body": connection.configuration.as_json(),
            "tls_facts": connection.tls_facts,
            "author": connection.author,
            "reason": connection.reason,
            "changed_at": connection.updated_at,
        }
        await session.execute(insert(VERSION).values(**row))
        await audit.record(session, self._audit(caller, connection, action, connection.reason))
        self._tell(session)

    def _audit(self, caller: Caller, connection: Connection, action: str, reason: str) -> audit.Audit:
        detail = {
            "version": connection.version,
            "state": connection.state.value,
            "direction": connection.configuration.direction,
            "integration_id": connection.configuration.integration_id,
        }
        return audit.Audit(
            action=action, subject=connection.id, caller=caller, time=self._clock.now(), reason=reason, detail=detail
        )

    def _tell(self, session: AsyncSession) -> None:
        for callback in self.changed:
            self._database.after_commit(session, callback)


def _holder(row: Any, tenant: str) -> str:
    """Which listener has the port; another practice's is not named."""
    return f"{row.name} ({row.id})" if row.tenant == tenant else "A listener of another practice has it."


def _as_it_was(connection: Connection) -> tuple[Any, ...]:
    mine = (CONNECTION.c.tenant == connection.tenant, CONNECTION.c.id == connection.id, text(NOT_REMOVED))
    return (*mine, CONNECTION.c.version == connection.version)


def _values(connection: Connection) -> dict[str, Any]:
    configuration = connection.configuration
    return {
        "id": connection.id,
        "tenant": connection.tenant,
        "name": configuration.name,
        "direction": configuration.direction,
        "host": configuration.host,
        "port": configuration.port,
        "state": connection.state.value,
        "version": connection.version,
        "body": configuration.as_json(),
        "tls_facts": connection.tls_facts,
        "author": connection.author,
        "reason": connection.reason,
        "updated_at": connection.updated_at,
    }


def _connection(row: Any) -> Connection:
    return Connection(
        id=row.id,
        tenant=row.tenant,
        state=ConnectionState(row.state),
        version=row.version,
        configuration=ConnectionDocument.model_validate(row.body),
        tls_facts=row.tls_facts,
        author=row.author,
        reason=row.reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
