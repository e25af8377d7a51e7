"""Run a profile over messages before it is in force, and suggest one from what a sender sends.

Stored messages are read through the book that audits every reading. What comes out are counts by place and code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from hl7_gateway.core.connection_configuration import STANDARD_PROFILE, Connection
from hl7_gateway.core.profile_comparison import counted, counts_json, difference_json, readable
from hl7_gateway.core.profile_text import written
from hl7_gateway.core.site_profile import SiteProfile, checked_text
from hl7_gateway.core.suggest_profile import Suggestion, suggested
from hl7_gateway.ports import MessageBook, MessageFilter, ProfileBook

LAST_MAX: Final = 500
_READ_AT_ONCE: Final = 50

ConnectionOf = Callable[[str, str], Awaitable[Connection]]


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Bodies of messages, what they are in where they do not say, and the profile that is in force for them."""

    bodies: Sequence[bytes]
    encoding: str | None
    in_force: SiteProfile


class TryProfile:
    """See the module's text."""

    def __init__(self, profiles: ProfileBook, messages: MessageBook, connection_of: ConnectionOf) -> None:
        self._profiles = profiles
        self._messages = messages
        self._connection_of = connection_of

    async def on_messages(
        self, caller: Caller, name: str, draft: str | None, bodies: Sequence[bytes], against: str
    ) -> dict[str, Any]:
        """Over messages that are given. Raises SuiteError `profile.not-found` or `request.invalid`."""
        traffic = _Traffic(bodies, None, await self._profiles.find(caller.tenant, against))
        return await self._compared(await self._tried(caller, name, draft), traffic)

    async def on_connection(
        self, caller: Caller, name: str, draft: str | None, connection_id: str, last: int
    ) -> dict[str, Any]:
        """Over the last messages of a connection. Raises SuiteError `connection.not-found` besides."""
        tried = await self._tried(caller, name, draft)
        return await self._compared(tried, await self._traffic(caller, connection_id, last))

    async def suggest(self, caller: Caller, connection_id: str, last: int) -> dict[str, Any]:
        """A profile that takes what the last messages break, and why; nothing is saved."""
        traffic = await self._traffic(caller, connection_id, last)

        def work() -> tuple[Suggestion, int]:
            found = readable(traffic.bodies, traffic.encoding)
            messages = [message for message in found if message is not None]
            return suggested(messages, traffic.in_force.document), len(found) - len(messages)

        suggestion, unread = await asyncio.to_thread(work)
        return {
            "in_force": traffic.in_force.ref.as_json(),
            "messages": len(traffic.bodies),
            "unreadable": unread,
            "valid_before": suggestion.valid_before,
            "valid_after": suggestion.valid_after,
            "text": written(suggestion.document),
            "document": dict(suggestion.document),
            "changes": [change.as_json() for change in suggestion.changes],
            "left": [{"path": kind.path, "code": kind.code, "messages": number} for kind, number in suggestion.left],
        }

    async def _tried(self, caller: Caller, name: str, draft: str | None) -> SiteProfile:
        """The profile, or a draft in its place (a new name may have a draft only)."""
        try:
            known = await self._profiles.find(caller.tenant, name)
        except SuiteError as error:
            if error.code != "profile.not-found" or draft is None:
                raise
            known = replace(await self._profiles.find(caller.tenant, STANDARD_PROFILE), name=name, version=0)
        return known if draft is None else replace(known, document=checked_text(draft).document, text=draft)

    async def _traffic(self, caller: Caller, connection_id: str, last: int) -> _Traffic:
        connection = await self._connection_of(caller.tenant, connection_id)
        if connection.configuration.direction != "listener":
            raise SuiteError("request.conflict", "A sender receives no messages.")
        in_force = await self._profiles.find(caller.tenant, connection.listening.validation.profile)
        ids: list[str] = []
        cursor = None
        while len(ids) < last:
            wanted = MessageFilter(connection_id=connection_id)
            page = await self._messages.search(caller.tenant, wanted, cursor, min(_READ_AT_ONCE, last - len(ids)))
            ids += [message.id for message in page.items]
            cursor = page.next
            if cursor is None:
                break
        bodies: list[bytes] = []
        for start in range(0, len(ids), _READ_AT_ONCE):
            found = await self._messages.read_bodies(caller, ids[start : start + _READ_AT_ONCE])
            bodies += [body for _, body in found]
        return _Traffic(bodies, connection.configuration.encoding, in_force)

    async def _compared(self, tried: SiteProfile, traffic: _Traffic) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            messages = readable(traffic.bodies, traffic.encoding)
            now, then = counted(messages, traffic.in_force), counted(messages, tried)
            return {
                "profile": tried.ref.as_json(),
                "in_force": traffic.in_force.ref.as_json(),
                "messages": now.messages,
                "unreadable": now.unreadable,
                "tried": counts_json(then),
                "as_in_force": counts_json(now),
                "difference": difference_json(now, then),
            }

        return await asyncio.to_thread(work)
