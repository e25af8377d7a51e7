"""Edit a message and send it again: as a new message with an id of its own, linked to the one it was made of.

What a person made of a received message goes the inbound road (sealed, committed, catalogued, told to the consumers)
or into a sender's queue. What was made of a parked outbound message takes its place in its queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import hl7v2
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.integration import Integration
from common.runtime.authentication import Caller
from hl7_gateway.core.delivery import State
from hl7_gateway.core.edit import Edit, Edited, EditRecord, apply_edit
from hl7_gateway.core.message import StoredMessage, read_header
from hl7_gateway.core.outbound_message import NewOutbound, Outbound
from hl7_gateway.core.reception import Reception
from hl7_gateway.core.rejection import type_rejection
from hl7_gateway.core.senders import InboundChannel
from hl7_gateway.core.shape import shape_of
from hl7_gateway.ports import ConnectionBook, EditBook, MessageBook
from hl7_gateway.use_cases.commit_messages import Arrival, Committer, Verdict
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages

ERRORS_TOLD_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class EditMessages:
    """See the module's text. Every reading of a body is audited with the reason, previews included."""

    book: EditBook
    messages: MessageBook
    connections: ConnectionBook
    enqueue: EnqueueMessages
    committer: Committer
    rules: Callable[[Collection[str]], Awaitable[Mapping[str, Reception]]]
    integration_of: Callable[[str, str], Awaitable[Integration]]
    clock: Clock
    ids: Ids
    frame_bytes_max: int

    async def received(self, caller: Caller, message_id: str, edit: Edit, reason: str) -> tuple[StoredMessage, Edited]:
        """A received message and what the edit makes of it; nothing is taken in.

        Raises SuiteError `message.not-found`, `message.body-deleted`, and as `core.edit.apply_edit`.
        """
        message, body = await self.messages.read_body(caller, message_id, reason)
        return message, apply_edit(body, edit)

    async def parked(self, caller: Caller, message_id: str, edit: Edit, reason: str) -> tuple[Outbound, Edited]:
        """A parked outbound message and what the edit makes of it; nothing is queued.

        Raises SuiteError `outbound.not-found`, `request.conflict`, and as `core.edit.apply_edit`.
        """
        message, body = await self.book.read_outbound(caller, message_id, reason)
        if message.state is not State.PARKED:
            raise SuiteError("request.conflict", f"Only a parked message is edited; it is {message.state}.")
        return message, apply_edit(body, edit)

    async def to_inbound(self, caller: Caller, message: StoredMessage, edited: Edited, reason: str) -> EditRecord:
        """Take it in as if it had come by the same connection, now.

        The edit is recorded first: a message that cannot be stored then leaves a record without a message. Raises
        SuiteError `integration.not-found`, and what the road refuses: `hl7.type-unsupported`, `hl7.invalid`,
        `hl7.frame-too-large`, `hl7.store-failed`, `keys.unavailable`.
        """
        arrival, verdict = await self._arrival(message, edited.after)
        record = self._record(caller, arrival.id, message.id, "", edited, reason)
        await self.book.note(caller, record)
        self.committer.put(arrival)
        failure = (await verdict).failure
        if failure is not None:
            raise SuiteError(failure.code, "The message as edited was not taken in.")
        return record

    async def to_connection(
        self, caller: Caller, message: StoredMessage, connection_id: str, edited: Edited, reason: str
    ) -> EditRecord:
        """Queue it on a sender. Raises SuiteError `connection.…`, and as `core.outbound_message.prepare`."""
        connection = await self.connections.get(caller.tenant, connection_id)
        if connection.configuration.direction != "sender":
            raise SuiteError("connection.not-sending", "It is a listener.")
        made = _queueable((await self.enqueue.made(connection, [edited.after]))[0])
        record = self._record(caller, made.id, message.id, connection.id, edited, reason)
        await self.book.enqueue(caller, record, connection, made)
        return record

    async def in_its_place(self, caller: Caller, parked: Outbound, edited: Edited, reason: str) -> EditRecord:
        """Queue it in the place of the parked message. Raises SuiteError as `EditBook.replace_parked`."""
        connection = await self.connections.get(caller.tenant, parked.connection_id)
        made = _queueable((await self.enqueue.made(connection, [edited.after]))[0])
        record = self._record(caller, made.id, parked.id, connection.id, edited, reason)
        await self.book.replace_parked(caller, record, connection, made)
        return record

    async def _arrival(self, message: StoredMessage, body: bytes) -> tuple[Arrival, asyncio.Future[Verdict]]:
        await self.integration_of(message.tenant, message.integration_id)
        if len(body) > self.frame_bytes_max:
            raise SuiteError("hl7.frame-too-large", f"{len(body)} bytes, {self.frame_bytes_max} allowed.")
        if self.committer.full:
            raise SuiteError("hl7.store-failed", "Too many messages wait to be stored.")
        # What a person sends again on purpose is no repetition, whatever the connection's rule.
        rules = await self.rules([message.connection_id])
        reception = replace(rules[message.connection_id], duplicate_rule="off")
        parsed = reception.parse(body)
        header = reception.header(read_header(parsed))
        refused = type_rejection(header.message_type, header.trigger_event)
        if refused is not None:
            raise SuiteError(refused.code, refused.expected)
        if reception.validate == "before":
            _check(parsed, reception)
        channel = InboundChannel(message.tenant, message.integration_id, message.channel)
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def settled(_: Arrival, given: Verdict) -> None:
            if not verdict.done():  # whoever asked may be gone
                verdict.set_result(given)

        arrival = Arrival(
            self.ids.new("msg"),
            body,
            f"edited:{message.id}",
            shape_of(parsed, header, channel, None, reception),
            b"",
            self.clock.now(),
            self.clock.monotonic(),
            reception,
            (),
            settled,
            _nobody_is_answered,
        )
        return arrival, verdict

    def _record(
        self, caller: Caller, new_id: str, edited_from: str, connection_id: str, edited: Edited, reason: str
    ) -> EditRecord:
        return EditRecord(
            id=new_id,
            tenant=caller.tenant,
            edited_from=edited_from,
            connection_id=connection_id,
            changed=edited.changed,
            author=caller.subject,
            reason=reason,
            edited_at=self.clock.now(),
        )


def _check(message: hl7v2.Message, reception: Reception) -> None:
    """As the listener does that validates before it acknowledges."""
    errors = [finding for finding in hl7v2.validate(message, reception.profile.compiled) if finding.severity == "error"]
    if errors:
        paths = ", ".join(dict.fromkeys(finding.path for finding in errors[:ERRORS_TOLD_MAX]))
        raise SuiteError("hl7.invalid", f"{len(errors)} error(s): {paths}.")


def _queueable(made: NewOutbound | SuiteError) -> NewOutbound:
    if isinstance(made, SuiteError):
        raise made
    return made


def _nobody_is_answered(_: bytes) -> None:
    """No sender waits for an acknowledgement."""
