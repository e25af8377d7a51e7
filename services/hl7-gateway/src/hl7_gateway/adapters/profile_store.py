"""Site profiles in the database: each change with its version and its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from hl7_gateway.adapters.profile_tables import ProfileRow, ProfileVersionRow
from hl7_gateway.adapters.tables import LISTENS, NOT_REMOVED, ConnectionRow
from hl7_gateway.core.connection_configuration import ConnectionDocument
from hl7_gateway.core.site_profile import BUILT_IN, SiteProfile
from hl7_gateway.ports import ProfileVersion

PROFILE: Final[Table] = ProfileRow.__table__  # type: ignore[attr-defined]
PROFILE_VERSION: Final[Table] = ProfileVersionRow.__table__  # type: ignore[attr-defined]
_CONNECTION: Final[Table] = ConnectionRow.__table__  # type: ignore[attr-defined]


class SqlProfileStore:
    """`ProfileBook`. `changed` are called after each commit that changed a profile."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.changed: list[Callable[[], None]] = []
        self._database = database
        self._clock = clock

    async def add(self, caller: Caller, profile: SiteProfile) -> SiteProfile:
        async with self._database.write() as session:
            known = (await session.execute(select(PROFILE).where(*_named(profile.tenant, profile.name)))).first()
            if known is not None and known.removed_at is None:
                raise SuiteError("profile.name-taken")
            version = 1 if known is None else known.version + 1
            stored = _copy(profile, version)
            try:
                if known is None:
                    await session.execute(insert(PROFILE).values(**_values(stored), removed_at=None))
                else:
                    again = update(PROFILE).where(*_named(profile.tenant, profile.name))
                    await session.execute(again.values(**_values(stored), removed_at=None))
            except IntegrityError as error:
                raise SuiteError("profile.name-taken") from error
            await self._note(session, caller, stored, "profile.created")
        return stored

    async def find(self, tenant: str, name: str) -> SiteProfile:
        if name in BUILT_IN:
            return BUILT_IN[name]
        async with self._database.read() as session:
            row = (await session.execute(select(PROFILE).where(*_named(tenant, name), text(NOT_REMOVED)))).first()
        if row is None:
            raise SuiteError("profile.not-found")
        return _profile(row)

    async def list(self, tenant: str, cursor: str | None, limit: int) -> Page[SiteProfile]:
        after = decode_cursor(cursor, (str,))[0] if cursor is not None else ""
        mine = (PROFILE.c.tenant == tenant, PROFILE.c.name > after, text(NOT_REMOVED))
        statement = select(PROFILE).where(*mine).order_by(PROFILE.c.name).limit(limit + 1)
        async with self._database.read() as session:
            stored = [_profile(row) for row in await session.execute(statement)]
        built_in = [profile for profile in BUILT_IN.values() if profile.name > after]
        found = sorted([*stored, *built_in], key=lambda profile: profile.name)
        items = found[:limit]
        return Page(items, encode_cursor([items[-1].name]) if len(found) > limit else None)

    async def save(self, caller: Caller, before: SiteProfile, after: SiteProfile) -> None:
        statement = update(PROFILE).where(*_as_it_was(before)).values(**_values(after)).returning(PROFILE.c.name)
        async with self._database.write() as session:
            if (await session.execute(statement)).first() is None:
                raise SuiteError("request.version-changed")
            await self._note(session, caller, after, "profile.changed")

    async def remove(self, caller: Caller, profile: SiteProfile, reason: str) -> None:
        statement = update(PROFILE).where(*_as_it_was(profile)).values(removed_at=self._clock.now())
        async with self._database.write() as session:
            if (await session.execute(statement.returning(PROFILE.c.name))).first() is None:
                raise SuiteError("request.version-changed")
            used = await _users(session, profile.tenant, profile.name)
            if used:
                names = ", ".join(f"{name} ({connection_id})" for connection_id, name in used)
                raise SuiteError("profile.in-use", names)
            await audit.record(session, self._audit(caller, profile, "profile.removed", reason))
            self._tell(session)

    async def used_by(self, tenant: str, name: str) -> Sequence[tuple[str, str]]:
        async with self._database.read() as session:
            return await _users(session, tenant, name)

    async def versions(self, tenant: str, name: str, cursor: str | None, limit: int) -> Page[ProfileVersion]:
        statement = select(PROFILE_VERSION).where(PROFILE_VERSION.c.tenant == tenant, PROFILE_VERSION.c.name == name)
        if cursor is not None:
            statement = statement.where(PROFILE_VERSION.c.version < decode_cursor(cursor, (int,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(PROFILE_VERSION.c.version.desc()).limit(limit + 1))).all()
        if not rows and cursor is None:
            raise SuiteError("profile.not-found")
        items = [
            ProfileVersion(row.version, row.text, row.document, row.author, row.reason, row.changed_at)
            for row in rows[:limit]
        ]
        return Page(items, encode_cursor([items[-1].version]) if len(rows) > limit else None)

    async def _note(self, session: AsyncSession, caller: Caller, profile: SiteProfile, action: str) -> None:
        names = ("tenant", "name", "version", "text", "document", "author", "reason")
        values = {name: getattr(profile, name) for name in names}
        await session.execute(insert(PROFILE_VERSION).values(**values, changed_at=profile.updated_at))
        await audit.record(session, self._audit(caller, profile, action, profile.reason))
        self._tell(session)

    def _audit(self, caller: Caller, profile: SiteProfile, action: str, reason: str) -> audit.Audit:
        detail = {"version": profile.version}
        return audit.Audit(
            action=action, subject=profile.name, caller=caller, time=self._clock.now(), reason=reason, detail=detail
        )

    def _tell(self, session: AsyncSession) -> None:
        for callback in self.changed:
            self._database.after_commit(session, callback)


async def check_profile_is_there(session: AsyncSession, tenant: str, name: str) -> None:
    """In the transaction that begins to use it; raises SuiteError `profile.not-found`."""
    if name in BUILT_IN:
        return
    # The row is shared with other users of it and waited for by who removes it.
    mine = select(PROFILE.c.name).where(*_named(tenant, name), text(NOT_REMOVED)).with_for_update(read=True)
    if (await session.execute(mine)).first() is None:
        raise SuiteError("profile.not-found")


async def _users(session: AsyncSession, tenant: str, name: str) -> Sequence[tuple[str, str]]:
    """Ids and names of the listeners that name a profile, whether they validate just now or not."""
    listeners = select(_CONNECTION.c.id, _CONNECTION.c.body).where(_CONNECTION.c.tenant == tenant, text(LISTENS))
    found = []
    for row in await session.execute(listeners.order_by(_CONNECTION.c.id)):
        document = ConnectionDocument.model_validate(row.body)
        if document.listening is not None and document.listening.validation.profile == name:
            found.append((row.id, document.name))
    return found


def _named(tenant: str, name: str) -> tuple[Any, ...]:
    return PROFILE.c.tenant == tenant, PROFILE.c.name == name


def _as_it_was(profile: SiteProfile) -> tuple[Any, ...]:
    return (*_named(profile.tenant, profile.name), PROFILE.c.version == profile.version, text(NOT_REMOVED))


def _values(profile: SiteProfile) -> dict[str, Any]:
    names = ("tenant", "name", "version", "text", "document", "author", "reason", "created_at", "updated_at")
    return {name: getattr(profile, name) for name in names}


def _copy(profile: SiteProfile, version: int) -> SiteProfile:
    return SiteProfile(**{**_values(profile), "version": version})


def _profile(row: Any) -> SiteProfile:
    names = ("tenant", "name", "version", "text", "document", "author", "reason", "created_at", "updated_at")
    return SiteProfile(**{name: getattr(row, name) for name in names})
