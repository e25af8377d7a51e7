"""Leases: one owner of a piece of work across replicas, with fencing numbers.

A lease is a row with an owner, an expiry and a fencing number that rises whenever the row gets a new owner. A holder
that was away too long may still believe it holds the lease; whoever writes under a lease therefore calls `check` in
the same transaction, which refuses an old fencing number. Correctness rests on that check, not on clocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.database import Database
from common.runtime.tables import LEASE

TTL_S: Final = 6.0
RUN_TTL_S: Final = 10.0
_RENEWALS_PER_TTL: Final = 3
_NOBODY: Final = ""
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger("common.leases")


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease in hand. `lost` is set when it could not be renewed in time or another owner took over."""

    name: str
    owner: str
    fencing: int
    ttl_s: float
    lost: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Leases:
    """The leases kept in one database; see the module's text."""

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self.ids = ids
        self._database = database
        self._clock = clock

    async def acquire(self, name: str, *, owner: str, ttl_s: float) -> Lease | None:
        """The lease when it is free, expired, or already this owner's (then longer, same fencing number); else None."""
        now = self._clock.now()
        statement = self._database.insert(LEASE).values(
            name=name, owner=owner, fencing=1, expires_at=now + timedelta(seconds=ttl_s)
        )
        live = LEASE.c.expires_at > now
        same = LEASE.c.owner == statement.excluded.owner
        taken = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "owner": statement.excluded.owner,
                "fencing": case((live & same, LEASE.c.fencing), else_=LEASE.c.fencing + 1),
                "expires_at": statement.excluded.expires_at,
            },
            where=or_(LEASE.c.expires_at <= now, same),
        ).returning(LEASE.c.fencing)
        async with self._database.write() as session:
            fencing = (await session.execute(taken)).scalar()
        return None if fencing is None else Lease(name, owner, fencing, ttl_s)

    async def renew(self, lease: Lease) -> bool:
        """Extend it by its time to live; False (and `lost`) when another owner took over."""
        renewed = await self._change(lease, expires_at=self._clock.now() + timedelta(seconds=lease.ttl_s))
        if not renewed:
            lease.lost.set()
        return renewed

    async def release(self, lease: Lease) -> None:
        """Give it back; nothing happens when it is another's by now."""
        await self._change(lease, owner=_NOBODY, expires_at=_LONG_AGO)

    async def check(self, session: AsyncSession, lease: Lease) -> None:
        """Inside a write transaction: nobody takes over before it ends. Raises SuiteError `lease.lost`."""
        statement = select(LEASE.c.owner, LEASE.c.fencing).where(LEASE.c.name == lease.name).with_for_update(read=True)
        row = (await session.execute(statement)).first()
        if row is None or (row.owner, row.fencing) != (lease.owner, lease.fencing):
            lease.lost.set()
            raise SuiteError("lease.lost")

    @asynccontextmanager
    async def hold(self, name: str, *, ttl_s: float = TTL_S) -> AsyncIterator[Lease | None]:
        """The lease, renewed in the background and released at the end; None when another holds it.

        The block must stop by itself when `lease.lost` is set. Raises SuiteError `database.unavailable` on entry.
        """
        lease = await self.acquire(name, owner=self.ids.new("rep"), ttl_s=ttl_s)
        if lease is None:
            yield None
            return
        renewing = asyncio.create_task(self._renew_on(lease), name=f"lease-{name}")
        try:
            yield lease
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with contextlib.suppress(SuiteError):  # it expires by itself
                await self.release(lease)

    async def run_while_held(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], *, ttl_s: float = RUN_TTL_S
    ) -> None:
        """Do the work on one replica at a time, until it ends by itself.

        Waits for the lease; the work is cancelled when the lease is lost, and begun again once it is held again. A
        transient failure is logged and the work begun again after a pause; any other one is raised.
        """
        while True:
            try:
                async with self.hold(name, ttl_s=ttl_s) as lease:
                    if lease is not None and await _until_lost(work, lease):
                        return
            except (SuiteError, OSError, ExceptionGroup) as error:
                if not _transient(error):
                    raise
                _log.warning("work under a lease failed", extra=_failure(error))
            await asyncio.sleep(ttl_s / _RENEWALS_PER_TTL)

    async def _change(self, lease: Lease, **values: Any) -> bool:
        ours = (LEASE.c.name == lease.name, LEASE.c.owner == lease.owner, LEASE.c.fencing == lease.fencing)
        async with self._database.write() as session:
            result = await session.execute(update(LEASE).where(*ours).values(**values))
            return isinstance(result, CursorResult) and result.rowcount == 1

    async def _renew_on(self, lease: Lease) -> None:
        renewed_at = self._clock.monotonic()
        while not lease.lost.is_set():
            await asyncio.sleep(lease.ttl_s / _RENEWALS_PER_TTL)
            began_at = self._clock.monotonic()
            try:
                if await self.renew(lease):
                    renewed_at = began_at
            except SuiteError as error:
                _log.info("lease not renewed", extra={"code": error.code})
            if self._clock.monotonic() - renewed_at >= lease.ttl_s:
                lease.lost.set()


async def _until_lost(work: Callable[[], Coroutine[Any, Any, None]], lease: Lease) -> bool:
    """True when the work ended by itself, False when the lease was lost first; raises what the work raised."""
    working = asyncio.create_task(work(), name=f"under-lease-{lease.name}")
    losing = asyncio.create_task(lease.lost.wait())
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


def _transient(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_transient(part) for part in error.exceptions)
    return error.transient if isinstance(error, SuiteError) else isinstance(error, OSError)


def _failure(error: BaseException) -> dict[str, str]:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return {
        "code": error.code if isinstance(error, SuiteError) else "internal.error",
        "error_type": type(error).__name__,
    }
