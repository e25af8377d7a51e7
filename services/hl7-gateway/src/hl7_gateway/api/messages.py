"""HTTP of the message store and the listeners."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, page_body
from hl7_gateway.core.message import MessageState, StoredMessage
from hl7_gateway.ports import Listener, MessageBook, MessageFilter
from hl7_gateway.use_cases.search_messages import Numbers, PatientKeys

CATCH_UP_S: Final = 1.0

MessageIds = Annotated[list[Annotated[str, Field(max_length=40)]], Field(min_length=1, max_length=200)]


class PatientIdentifier(BaseModel):
    """One identifier of a patient."""

    model_config = ConfigDict(extra="forbid")

    system: str = Field(default="", max_length=500, description="identifier system, or HL7 assigning authority")
    value: str = Field(min_length=1, max_length=200, description="the identifier itself, as in PID-3.1")


class MessageSearch(BaseModel):
    """Which messages: every filter that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    integration_id: str | None = Field(default=None, max_length=40)
    channel: str | None = Field(default=None, max_length=100)
    connection_id: str | None = Field(default=None, max_length=40, description="the listener it came by")
    control_id: str | None = Field(default=None, min_length=1, max_length=199, description="MSH-10, exactly")
    message_type: str | None = Field(default=None, pattern="^[A-Z0-9]{3}$", description="MSH-9.1, e.g. ADT")
    trigger_event: str | None = Field(default=None, pattern="^[A-Z0-9]{3}$", description="MSH-9.2, e.g. A08")
    state: MessageState | None = None
    sending_application: str | None = Field(default=None, min_length=1, max_length=199, description="MSH-3.1, exactly")
    sending_facility: str | None = Field(default=None, min_length=1, max_length=199, description="MSH-4.1, exactly")
    patient: PatientIdentifier | None = None
    visit_number: str | None = Field(default=None, min_length=1, max_length=250, description="PV1-19.1, exactly")
    order_number: str | None = Field(
        default=None,
        min_length=1,
        max_length=250,
        description="placer or filler number, exactly: ORC-2, ORC-3, OBR-2, OBR-3; of appointments SCH-1, SCH-2",
    )
    finding_code: str | None = Field(
        default=None, min_length=1, max_length=100, description="a finding of it, e.g. hl7.control-id-reused"
    )
    after: AwareDatetime | None = Field(default=None, description="received at this instant or later")
    before: AwareDatetime | None = Field(default=None, description="received before this instant")
    cursor: str | None = Field(default=None, max_length=512, description="the `next` of the page before")
    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=500)

    def filter(self) -> MessageFilter:
        """Without what is found by a pseudonym: see `numbers`."""
        given = self.model_dump(exclude={"patient", "visit_number", "order_number", "cursor", "limit"})
        given["application"] = given.pop("sending_application")
        given["facility"] = given.pop("sending_facility")
        return MessageFilter(**given)

    def numbers(self) -> Numbers:
        """What is found by a pseudonym."""
        patient = (self.patient.system, self.patient.value) if self.patient else None
        return Numbers(patient, self.visit_number, self.order_number)


class ReadBody(BaseModel):
    """Why a body is read."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=3, max_length=500, description="kept in the audit log")


class ReadMessages(BaseModel):
    """Which messages a service reads."""

    model_config = ConfigDict(extra="forbid")

    ids: MessageIds


Encodings = Callable[[Collection[str]], Awaitable[Mapping[str, str | None]]]
"""What the messages of connections are in where MSH-18 does not say, by connection."""


class Backlog(Protocol):
    """Stored messages that are not catalogued yet."""

    async def caught_up(self, timeout_s: float) -> bool:
        """Wait until those of before the call are, so long at most."""


def router(
    book: MessageBook,
    patients: PatientKeys,
    listeners: Sequence[Listener],
    backlog: Backlog,
    encodings: Encodings,
) -> APIRouter:
    """The routes; paths begin after /hl7/v1."""
    api = APIRouter(tags=["hl7"])
    _messages(api, book, patients, backlog)
    _bodies(api, book, encodings)

    @api.get("/listeners", summary="HL7 listeners (HL7 > Connections)")
    async def list_listeners(_: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Every listening port of this replica with its state and what it counted since it started."""
        return page_body([dict(listener.state()) for listener in listeners], None)

    return api


def _messages(api: APIRouter, book: MessageBook, patients: PatientKeys, backlog: Backlog) -> None:
    @api.post("/messages:search", summary="Search HL7 messages (Message Tracer)")
    async def search(body: MessageSearch, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Messages without their contents, newest first; `complete` is false while newer ones are being catalogued."""
        complete = await backlog.caught_up(CATCH_UP_S)
        wanted = await patients.filter(caller.tenant, body.filter(), body.numbers())
        page = await book.search(caller.tenant, wanted, body.cursor, body.limit)
        return {**page_body([message_json(message) for message in page.items], page.next), "complete": complete}

    @api.get("/messages/{message_id}", summary="One HL7 message, without its contents")
    async def read(message_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Header, state and acknowledgement of one message."""
        return message_json(await book.get(caller.tenant, check_id(message_id, "msg")))


def _bodies(api: APIRouter, book: MessageBook, encodings: Encodings) -> None:
    @api.post("/messages/{message_id}:read-body", summary="Read the contents of an HL7 message")
    async def read_body(
        message_id: str, why: ReadBody, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """The message as it was received (base64); who read it and why is kept in the audit log. `encoding` is what
        its connection says it is in where MSH-18 says nothing."""
        message, body = await book.read_body(caller, check_id(message_id, "msg"), why.reason)
        encoding = (await encodings([message.connection_id]))[message.connection_id]
        return {**message_json(message), "encoding": encoding, "body": base64.b64encode(body).decode()}

    @api.post("/messages:read", summary="Read the contents of HL7 messages (services)")
    async def read_bodies(body: ReadMessages, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """The messages that exist, in the order asked for; bodies in base64. `encoding` is what a message's connection
        says it is in where MSH-18 says nothing."""
        found = await book.read_bodies(caller, [check_id(message_id, "msg") for message_id in body.ids])
        known = await encodings({message.connection_id for message, _ in found})
        return {
            "items": [
                {
                    "id": message.id,
                    "integration_id": message.integration_id,
                    "channel": message.channel,
                    "message_type": message.message_type,
                    "trigger_event": message.trigger_event,
                    "received_at": instant_text(message.received_at),
                    "encoding": known[message.connection_id],
                    "body": base64.b64encode(contents).decode(),
                }
                for message, contents in found
            ]
        }


def message_json(message: StoredMessage) -> dict[str, Any]:
    """A message as the API shows it. `connection` is where it came from."""
    return {
        "id": message.id,
        "integration_id": message.integration_id,
        "channel": message.channel,
        "connection": {"id": message.connection_id or None, "peer": message.peer},
        "sending_application": message.application,
        "sending_facility": message.facility,
        "control_id": message.control_id,
        "message_type": message.message_type,
        "trigger_event": message.trigger_event,
        "hl7_version": message.version,
        "patient_key": message.patient_key,
        "received_at": instant_text(message.received_at),
        "state": message.state.value,
        "acknowledgment_code": message.acknowledgment_code,
        "size_bytes": message.size_bytes,
        "findings": list(message.findings),
    }
