"""Sending: messages into a sender's queue, what became of them, and what a person decides about them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, page_body
from hl7_gateway.api.connections import Move
from hl7_gateway.api.message_bodies import BODY, messages_in
from hl7_gateway.api.messages import PatientIdentifier
from hl7_gateway.core.delivery import State
from hl7_gateway.ports import ConnectionBook, OutboundBook, OutboundFilter
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages
from hl7_gateway.use_cases.search_messages import PatientKeys

Who = Annotated[Caller, Depends(caller_of)]
RETRIED_MAX: Final = 1_000


class OutboundSearch(BaseModel):
    """Which outbound messages: every filter that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    connection_id: str | None = Field(default=None, max_length=40)
    integration_id: str | None = Field(default=None, max_length=40)
    control_id: str | None = Field(default=None, min_length=1, max_length=199, description="MSH-10, exactly")
    message_type: str | None = Field(default=None, pattern="^[A-Z0-9]{3}$", description="MSH-9.1, e.g. ADT")
    trigger_event: str | None = Field(default=None, pattern="^[A-Z0-9]{3}$", description="MSH-9.2, e.g. A08")
    state: State | None = None
    error_code: str | None = Field(default=None, max_length=100, description="why the last try failed")
    patient: PatientIdentifier | None = None
    after: AwareDatetime | None = Field(default=None, description="queued at this instant or later")
    before: AwareDatetime | None = Field(default=None, description="queued before this instant")
    cursor: str | None = Field(default=None, max_length=512, description="the `next` of the page before")
    limit: int = Field(default=LIMIT_DEFAULT, ge=1, le=500)


def add_routes(
    api: APIRouter, connections: ConnectionBook, book: OutboundBook, enqueue: EnqueueMessages, patients: PatientKeys
) -> None:
    """Paths begin after /hl7/v1."""
    _queue(api, connections, enqueue)
    _look(api, book, patients)
    _decide(api, connections, book)


def _queue(api: APIRouter, connections: ConnectionBook, enqueue: EnqueueMessages) -> None:
    @api.post("/connections/{connection_id}/messages", status_code=202, summary="Send HL7 messages", openapi_extra=BODY)
    async def send(connection_id: str, request: Request, caller: Who) -> dict[str, Any]:
        """Queues a message, a batch file, or a JSON list of messages in base64: all of them, or none.

        They are sent at least once, in order per patient, with their MSH-10. Send an Idempotency-Key to be able to
        repeat the request without queueing them twice.
        """
        connection = await connections.get(caller.tenant, check_id(connection_id, "con"))
        queued = await enqueue(connection, messages_in(request, await request.body()))
        return {"items": [{"id": one.id, "control_id": one.control_id, "state": "queued"} for one in queued]}


def _look(api: APIRouter, book: OutboundBook, patients: PatientKeys) -> None:
    @api.post("/outbound:search", summary="Search outbound HL7 messages")
    async def search(body: OutboundSearch, caller: Who) -> dict[str, Any]:
        """Messages without their contents, newest first. Parked ones say why in `error_code`."""
        filters = body.model_dump(exclude={"patient", "cursor", "limit"})
        if body.patient is not None:
            filters["patient_keys"] = await patients(caller.tenant, body.patient.system, body.patient.value)
        page = await book.search(caller.tenant, OutboundFilter(**filters), body.cursor, body.limit)
        return page_body([message.as_json() for message in page.items], page.next)

    @api.get("/outbound/{message_id}", summary="One outbound HL7 message, with its tries")
    async def read(message_id: str, caller: Who) -> dict[str, Any]:
        """Without its contents; the last hundred tries."""
        message, attempts = await book.get(caller.tenant, check_id(message_id, "obm"))
        return {**message.as_json(), "tries": [attempt.as_json() for attempt in attempts]}


def _decide(api: APIRouter, connections: ConnectionBook, book: OutboundBook) -> None:
    @api.post("/outbound/{message_id}:retry", summary="Send a parked HL7 message again")
    async def retry(message_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """At its old place: later messages of the same patient go after it."""
        return (await book.retry(caller, check_id(message_id, "obm"), why.reason)).as_json()

    @api.post("/outbound/{message_id}:discard", summary="Give up an outbound HL7 message")
    async def discard(message_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """It is not sent any more; what waits behind it goes on."""
        return (await book.discard(caller, check_id(message_id, "obm"), why.reason)).as_json()

    @api.post("/connections/{connection_id}:retry-parked", summary="Send a connection's parked HL7 messages again")
    async def retry_parked(connection_id: str, why: Move, caller: Who) -> dict[str, Any]:
        """The oldest thousand; `retried` says how many there were."""
        connection = await connections.get(caller.tenant, check_id(connection_id, "con"))
        return {"retried": await book.retry_parked(caller, connection, why.reason, RETRIED_MAX)}
