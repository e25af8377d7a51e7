"""When somebody last read a practice's key set: what tells a vendor that cannot reach it from one that refuses us."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, Table, delete, insert, select
from sqlmodel import Field

from auth_gateway.adapters.tables import Base
from common.models.clock import Clock
from common.models.integration import Environment
from common.runtime.columns import UtcInstant
from common.runtime.database import Database

NOTED_EVERY: Final = timedelta(minutes=1)
"""A reading is written down so often at most: the address is open to everybody."""
_ANY: Final = ""


class KeySetReadingRow(Base, table=True):
    """The last reading of a tenant's key set; `environment` empty: at the address from before there were any."""

    __tablename__ = "key_set_reading"

    tenant: str = Field(primary_key=True)
    environment: str = Field(primary_key=True)
    read_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))


_READING: Final[Table] = KeySetReadingRow.__table__  # type: ignore[attr-defined]


class KeySetReadings:
    """Readings by others; our own looks are not noted."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._noted: dict[tuple[str, str], datetime] = {}

    async def note(self, tenant: str, environment: Environment | None) -> None:
        """Somebody read the key set of an environment, or the one without."""
        key, now = (tenant, environment.value if environment else _ANY), self._clock.now()
        last = self._noted.get(key)
        if last is not None and now - last < NOTED_EVERY:
            return
        # Before the write: what waits for the database is not waited for by everybody who reads meanwhile.
        self._noted[key] = now
        mine = (_READING.c.tenant == key[0], _READING.c.environment == key[1])
        async with self._database.write() as session:
            await session.execute(delete(_READING).where(*mine))
            await session.execute(insert(_READING).values(tenant=key[0], environment=key[1], read_at=now))

    async def last(self, tenant: str, environment: Environment) -> datetime | None:
        """When it was last read, at either address; None: never yet."""
        either = _READING.c.environment.in_((environment.value, _ANY))
        async with self._database.read() as session:
            rows = await session.execute(select(_READING.c.read_at).where(_READING.c.tenant == tenant, either))
            return max((row.read_at for row in rows), default=None)
