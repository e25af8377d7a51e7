"""Edit an HL7 message and send it again. Only who may read contents may give them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from hl7_gateway.core.edit import CHANGES_MAX, Change, Edit, Edited, EditRecord
from hl7_gateway.core.inspection import inspected
from hl7_gateway.ports import EditBook, MessageBook, OutboundBook
from hl7_gateway.use_cases.edit_messages import EditMessages

Who = Annotated[Caller, Depends(caller_of)]
VALUE_CHARACTERS_MAX: Final = 1024 * 1024


class FieldChange(BaseModel):
    """A value for a field, component or subcomponent."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=3, max_length=60, description="e.g. PID-5[2].1; numbers count from 1")
    value: str | None = Field(max_length=VALUE_CHARACTERS_MAX, description='not escaped; null writes the null (`""`)')


class NewEdit(BaseModel):
    """What is to be changed: fields, or the whole message."""

    model_config = ConfigDict(extra="forbid")

    changes: list[FieldChange] | None = Field(default=None, min_length=1, max_length=CHANGES_MAX)
    body: str | None = Field(default=None, min_length=1, description="instead of changes: the whole message, in base64")
    preview: bool = Field(default=False, description="true: show findings before and after, and take nothing in")
    reason: str = Field(min_length=3, max_length=500, description="kept in the audit log")

    @model_validator(mode="after")
    def _one_of_both(self) -> NewEdit:
        if (self.changes is None) == (self.body is None):
            raise ValueError("give either changes or body")
        return self

    def edit(self) -> Edit:
        """Raises SuiteError `request.invalid` when the body is not base64."""
        if self.body is None:
            return Edit(tuple(Change(change.path, change.value) for change in self.changes or ()))
        try:
            return Edit(body=base64.b64decode(self.body, validate=True))
        except (binascii.Error, ValueError) as error:
            field = FieldError("/body", "base64", "Expected a message in base64.")
            raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field]) from error


class EditTarget(BaseModel):
    """Where the edited message goes."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["inbound", "connection"] = Field(default="inbound", description="inbound: as if it had come now")
    connection_id: str | None = Field(default=None, max_length=40, description="of a sender; with kind connection")


class NewReceivedEdit(NewEdit):
    """What is to be changed in a received message, and where the new one goes."""

    target: EditTarget = Field(default_factory=EditTarget)


def add_routes(
    api: APIRouter, edits: EditMessages, book: EditBook, messages: MessageBook, outbound: OutboundBook
) -> None:
    """Paths begin after /hl7/v1."""
    _received(api, edits)
    _parked(api, edits)
    _look(api, book, messages, outbound)


def _received(api: APIRouter, edits: EditMessages) -> None:
    @api.post("/messages/{message_id}:edit", status_code=201, summary="Edit an HL7 message and send it again")
    async def edit(message_id: str, body: NewReceivedEdit, response: Response, caller: Who) -> dict[str, Any]:
        """A new message with its own id, linked by `edited_from`; the old one stays as it came.

        With `preview` (200): findings before and after, the paths that change, and the message as edited; nothing is
        taken in. Consumers keep their order by MSH-7: where newer messages were applied, change that, too.
        """
        to = body.target
        connection_id = check_id(to.connection_id or "", "con") if to.kind == "connection" else ""
        message, edited = await edits.received(caller, check_id(message_id, "msg"), body.edit(), body.reason)
        if body.preview:
            return _preview(response, message.id, edited)
        if connection_id:
            record = await edits.to_connection(caller, message, connection_id, edited, body.reason)
        else:
            record = await edits.to_inbound(caller, message, edited, body.reason)
        return _done(record, edited)


def _parked(api: APIRouter, edits: EditMessages) -> None:
    @api.post("/outbound/{message_id}:edit", status_code=201, summary="Edit a parked HL7 message and send it")
    async def edit(message_id: str, body: NewEdit, response: Response, caller: Who) -> dict[str, Any]:
        """A new message takes the parked one's place; that one is discarded. What waited behind it goes on after it.

        Where the edit changes whose message it is (the connection's ordering key), it goes to the queue's end.
        """
        parked, edited = await edits.parked(caller, check_id(message_id, "obm"), body.edit(), body.reason)
        if body.preview:
            return _preview(response, parked.id, edited)
        return _done(await edits.in_its_place(caller, parked, edited, body.reason), edited)


def _look(api: APIRouter, book: EditBook, messages: MessageBook, outbound: OutboundBook) -> None:
    async def shown(tenant: str, message_id: str) -> dict[str, Any]:
        origin, edits = await book.of(tenant, message_id)
        return {
            "edited_from": None if origin is None else origin.edited_from,
            "origin": None if origin is None else origin.as_json(),
            "edits": [record.as_json() for record in edits],
        }

    @api.get("/messages/{message_id}/edits", summary="What an HL7 message was made of, and what was made of it")
    async def of_received(message_id: str, caller: Who) -> dict[str, Any]:
        """Who, why, and which paths; never values."""
        return await shown(caller.tenant, (await messages.get(caller.tenant, check_id(message_id, "msg"))).id)

    @api.get("/outbound/{message_id}/edits", summary="What an outbound HL7 message was made of")
    async def of_outbound(message_id: str, caller: Who) -> dict[str, Any]:
        """Who, why, and which paths; never values."""
        found, _ = await outbound.get(caller.tenant, check_id(message_id, "obm"))
        return await shown(caller.tenant, found.id)


def _preview(response: Response, message_id: str, edited: Edited) -> dict[str, Any]:
    response.status_code = 200
    return {
        "preview": True,
        "edited_from": message_id,
        "changed": list(edited.changed),
        "before": inspected(edited.before),
        "after": inspected(edited.after),
        "body": base64.b64encode(edited.after).decode(),
    }


def _done(record: EditRecord, edited: Edited) -> dict[str, Any]:
    return {"preview": False, **record.as_json(), "after": inspected(edited.after)}
