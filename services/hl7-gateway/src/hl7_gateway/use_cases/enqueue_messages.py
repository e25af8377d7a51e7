"""Put messages into a sender's queue: each is checked and made as it will be sent, then all are stored or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from common.models.clock import Ids
from common.models.errors import SuiteError
from common.models.identifier_systems import IdentifierSystem
from common.models.integration import Integration
from common.models.trace import mllp_trace_id, traceparent
from hl7_gateway.core.connection_configuration import Connection, ConnectionState
from hl7_gateway.core.outbound_message import NewOutbound, Prepared, order_key, prepare
from hl7_gateway.ports import Keys, KeySource, OutboundBook

MESSAGES_MAX: Final = 1_000
"""Of one request."""


@dataclass(frozen=True, slots=True)
class EnqueueMessages:
    """See the module's text."""

    book: OutboundBook
    keys: KeySource
    integration_of: Callable[[str, str], Awaitable[Integration]]
    ids: Ids

    async def __call__(self, connection: Connection, bodies: Sequence[bytes]) -> Sequence[NewOutbound]:
        """What was queued, in the order given.

        Raises SuiteError `connection.not-sending`, `connection.queue-full`, `request.too-large`, those of
        `core.outbound_message.prepare`, and `service.unavailable` when the integration cannot be read.
        """
        if connection.configuration.direction != "sender":
            raise SuiteError("connection.not-sending", "It is a listener.")
        if connection.state is ConnectionState.DISABLED:
            raise SuiteError("connection.not-sending", "It is disabled.")
        if not bodies:
            raise SuiteError("hl7.unparsable", "There is no message.")
        if len(bodies) > MESSAGES_MAX:
            raise SuiteError("request.too-large", f"At most {MESSAGES_MAX} messages at a time.")
        messages = []
        for made in await self.made(connection, bodies):
            if isinstance(made, SuiteError):
                raise made
            messages.append(made)
        await self.book.enqueue(connection, messages)
        return messages

    async def made(self, connection: Connection, bodies: Sequence[bytes]) -> Sequence[NewOutbound | SuiteError]:
        """Each message as it would be queued, or why it can not be sent (`core.outbound_message.prepare`).

        Raises SuiteError when the integration or the keys cannot be read.
        """
        systems = await self._systems(connection)
        keys = await self.keys.tenant(connection.tenant)
        found: list[NewOutbound | SuiteError] = []
        for number, body in enumerate(bodies, 1):
            try:
                found.append(
                    self._new(connection, prepare(body, connection.configuration, systems, number=number), keys)
                )
            except SuiteError as error:
                found.append(error)
        return found

    async def _systems(self, connection: Connection) -> Sequence[IdentifierSystem]:
        try:
            integration = await self.integration_of(connection.tenant, connection.configuration.integration_id)
        except SuiteError as error:
            if error.code != "integration.not-found":
                raise  # by other systems a patient would have another key, and its order would be lost
            return ()
        return integration.identifier_systems

    def _new(self, connection: Connection, prepared: Prepared, keys: Keys) -> NewOutbound:
        message_id = self.ids.new("obm")
        header = prepared.header
        patient = keys.pseudonym("patient", prepared.patient) if prepared.patient else None
        trace_id = mllp_trace_id(header.application, header.facility, header.timestamp, header.control_id)
        return NewOutbound(
            id=message_id,
            order_key=order_key(connection.configuration.ordering_key, message_id, patient),
            patient_key=patient,
            control_id=header.control_id,
            message_type=header.message_type,
            trigger_event=header.trigger_event,
            size_bytes=len(prepared.body),
            sealed_body=keys.seal(prepared.body, record=message_id, field="outbound"),
            traceparent=traceparent(trace_id, trace_id[16:]),
        )
