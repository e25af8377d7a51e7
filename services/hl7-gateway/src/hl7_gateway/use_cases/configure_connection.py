"""Make, change and remove a connection: what is saved can be used, or it is not saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from common.models.clock import Clock, Ids
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.models.integration import Integration
from common.runtime.authentication import Caller
from hl7_gateway.core.connection_configuration import (
    Connection,
    ConnectionDocument,
    ConnectionState,
    Step,
    TlsMaterial,
    check,
    material_after,
    moved,
)
from hl7_gateway.core.site_profile import BUILT_IN
from hl7_gateway.ports import ConnectionBook, Listener, PortProbe, ProfileBook, TlsInspector

_NO_INTEGRATION: Final = frozenset({"integration.not-found", "request.invalid-id"})
_PAST: Final = {Step.PAUSE: "paused", Step.RESUME: "resumed", Step.DISABLE: "suspended"}


class ConfigureConnection:
    """See the module's text. `below` is where the document stands in the request."""

    def __init__(
        self,
        book: ConnectionBook,
        inspector: TlsInspector,
        probe: PortProbe,
        integration_of: Callable[[str, str], Awaitable[Integration]],
        listeners: Sequence[Listener],
        clock: Clock,
        ids: Ids,
        *,
        profiles: ProfileBook,
        below: str = "/configuration",
    ) -> None:
        self._book = book
        self._inspector = inspector
        self._probe = probe
        self._integration_of = integration_of
        self._listeners = listeners
        self._clock = clock
        self._ids = ids
        self._profiles = profiles
        self._below = below

    async def create(self, caller: Caller, document: ConnectionDocument, reason: str) -> Connection:
        """Raises SuiteError `request.invalid`, `connection.name-taken`, `connection.port-…`."""
        material = material_after(document.tls, TlsMaterial())
        facts = await self._checked(caller.tenant, document, material)
        self._check_port(document)
        now = self._clock.now()
        connection = Connection(
            id=self._ids.new("con"),
            tenant=caller.tenant,
            state=ConnectionState.ACTIVE,
            version=1,
            configuration=document.completed(),
            tls_facts=facts,
            author=caller.subject,
            reason=reason,
            created_at=now,
            updated_at=now,
        )
        await self._book.add(caller, connection, material)
        return connection

    async def change(self, caller: Caller, before: Connection, document: ConnectionDocument, reason: str) -> Connection:
        """Replaces the whole document. Raises as `create`, and SuiteError `request.version-changed`."""
        was = before.configuration
        if document.direction != was.direction:
            field = FieldError(f"{self._below}/direction", "fixed", f"It stays a {was.direction}: make a new one.")
            raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
        material = material_after(document.tls, await self._book.material(before))
        facts = await self._checked(caller.tenant, document, material)
        if (document.host, document.port) != (was.host, was.port):
            self._check_port(document)
        after = replace(self._next(caller, before, reason), configuration=document.completed(), tls_facts=facts)
        await self._book.save(caller, before, after, material, "connection.changed")
        return after

    async def move(self, caller: Caller, before: Connection, step: Step, reason: str) -> Connection:
        """Pause, resume or disable. Raises SuiteError `request.conflict`."""
        state = moved(before.state, step)
        if state is before.state:
            return before
        after = replace(self._next(caller, before, reason), state=state)
        await self._book.save(caller, before, after, None, f"connection.{_PAST[step]}")
        return after

    def _next(self, caller: Caller, before: Connection, reason: str) -> Connection:
        return replace(
            before, version=before.version + 1, author=caller.subject, reason=reason, updated_at=self._clock.now()
        )

    async def _checked(self, tenant: str, document: ConnectionDocument, material: TlsMaterial) -> dict[str, object]:
        check(document, material, await self._usable(tenant, document), below=self._below)
        try:
            await self._integration_of(tenant, check_id(document.integration_id, "int"))
        except SuiteError as error:
            if error.code not in _NO_INTEGRATION:
                raise
            field = FieldError(f"{self._below}/integration_id", "unknown", "List them with GET /auth/v1/integrations.")
            raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field]) from error
        return dict(self._inspector.inspect(material, below=f"{self._below}/tls"))

    async def _usable(self, tenant: str, document: ConnectionDocument) -> frozenset[str]:
        """The built-in profiles, and the one that the document names when it is there."""
        if document.listening is None:
            return frozenset(BUILT_IN)
        try:
            profile = await self._profiles.find(tenant, document.listening.validation.profile)
        except SuiteError as error:
            if error.code != "profile.not-found":
                raise
            return frozenset(BUILT_IN)
        return frozenset({*BUILT_IN, profile.name})

    def _check_port(self, document: ConnectionDocument) -> None:
        """A port that we hold ourselves must not be blamed on another program."""
        if document.direction != "listener":
            return
        for listener in self._listeners:
            state = listener.state()
            if state["port"] == document.port and state["state"] == "listening":
                raise SuiteError("connection.port-taken", "The gateway's own listener (PS_HL7_LISTEN_PORT) has it.")
        self._probe.check(document.host, document.port)
