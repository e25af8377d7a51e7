"""The HL7 Validator: what the gateway makes of messages that somebody shows it; nothing is stored."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from hl7_gateway.api.message_bodies import BODY, messages_in
from hl7_gateway.core.inspection import acknowledged, inspected, taken_apart
from hl7_gateway.use_cases.enqueue_messages import MESSAGES_MAX

Who = Annotated[Caller, Depends(caller_of)]


def add_routes(api: APIRouter, clock: Clock, ids: Ids) -> None:
    """Paths begin after /hl7/v1."""

    @api.post("/validate", summary="Validate HL7 messages (HL7 Message Validator)", openapi_extra=BODY)
    async def validate(request: Request, _: Who) -> dict[str, Any]:
        """A message, a batch file, or a JSON list in base64, against the standard of the version in MSH-12.

        Each finding has its path, an HL7 error code (table 0357), severity, what is expected, the class of what was
        found (never the value), and the place in the standard.
        """
        bodies = _some(messages_in(request, await request.body()))
        # Beside the event loop: a large batch takes seconds.
        return page_body(await asyncio.to_thread(lambda: [inspected(body) for body in bodies]), None)

    @api.post("/parse", summary="Show what HL7 messages hold", openapi_extra=BODY)
    async def parse(request: Request, _: Who) -> dict[str, Any]:
        """Each message in JSON form, decoded; bytes that are no message say so. Nothing is stored."""
        bodies = _some(messages_in(request, await request.body()))
        return page_body(await asyncio.to_thread(lambda: [taken_apart(body) for body in bodies]), None)

    @api.post("/acknowledge", summary="Show the acknowledgement of HL7 messages", openapi_extra=BODY)
    async def acknowledge(request: Request, _: Who) -> dict[str, Any]:
        """The acknowledgement that a listener which validates first would send, in base64; nothing is stored."""
        bodies = _some(messages_in(request, await request.body()))
        now, names = clock.now(), [ids.new("msg") for _ in bodies]

        def work() -> list[dict[str, Any]]:
            answers = [acknowledged(body, message_id, now) for body, message_id in zip(bodies, names, strict=True)]
            return [
                {"acknowledgment_code": code, "acknowledgment": base64.b64encode(answer).decode()}
                for code, answer in answers
            ]

        return page_body(await asyncio.to_thread(work), None)


def _some(bodies: list[bytes]) -> list[bytes]:
    if not bodies:
        raise SuiteError("hl7.unparsable", "There is no message in it.")
    if len(bodies) > MESSAGES_MAX:
        raise SuiteError("request.too-large", f"At most {MESSAGES_MAX} messages at once.")
    return bodies
