"""The HL7 Validator: what the gateway makes of messages that somebody shows it; nothing is stored."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from common.models.clock import Clock, Ids
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from hl7_gateway.api.message_bodies import BODY, file_in, messages_in
from hl7_gateway.core.inspection import acknowledged, inspected, taken_apart
from hl7_gateway.core.remedy import remedy
from hl7_gateway.core.site_profile import STANDARD, SiteProfile
from hl7_gateway.ports import ConnectionBook, ProfileBook
from hl7_gateway.use_cases.enqueue_messages import MESSAGES_MAX

Who = Annotated[Caller, Depends(caller_of)]
ProfileName = Annotated[str | None, Query(max_length=100, description="a stored or built-in profile, by its name")]
OfConnection = Annotated[
    str | None, Query(max_length=40, description="a listener: by its profile and encoding; instead of profile")
]
Rules = tuple[SiteProfile, str | None]


def add_routes(api: APIRouter, profiles: ProfileBook, connections: ConnectionBook, clock: Clock, ids: Ids) -> None:
    """Paths begin after /hl7/v1."""

    async def rules(caller: Caller, profile: str | None, connection_id: str | None) -> Rules:
        """The profile and the encoding to check with."""
        if connection_id is None:
            return (STANDARD if profile is None else await profiles.find(caller.tenant, profile)), None
        if profile is not None:
            problem = FieldError("/profile", "one-of", "Name a profile or a connection_id.")
            raise SuiteError("request.invalid", fields=[problem])
        connection = await connections.get(caller.tenant, check_id(connection_id, "con"))
        if connection.configuration.direction != "listener":
            raise SuiteError("request.conflict", "A sender has no profile.")
        named = await profiles.find(caller.tenant, connection.listening.validation.profile)
        return named, connection.configuration.encoding

    @api.post("/validate", summary="Validate HL7 messages (HL7 Message Validator)", openapi_extra=BODY)
    async def validate(
        request: Request, caller: Who, profile: ProfileName = None, connection_id: OfConnection = None
    ) -> dict[str, Any]:
        """A message, a batch file, a capture of MLLP frames, or a JSON list in base64, against the standard of the
        version in MSH-12, or as a profile changes it.

        Each finding has its path, an HL7 error code (table 0357), severity, what is expected, the class of what was
        found (never the value), the place in the standard, and a remedy; `profile` in it says which profile loosened
        or tightened it. `loosened` is what the standard alone would tell. `around` is what is wrong around the
        messages: framing, batch headers, counts.
        """
        file = file_in(request, await request.body())
        bodies = list(file.messages) if file.findings and not file.messages else _some(list(file.messages))
        chosen, encoding = await rules(caller, profile, connection_id)
        # Beside the event loop: a large batch takes seconds.
        items = await asyncio.to_thread(lambda: [inspected(body, chosen, encoding) for body in bodies])
        around = [{**asdict(finding), "remedy": remedy(finding)} for finding in file.findings]
        return {**page_body(items, None), "around": around}

    @api.post("/parse", summary="Show what HL7 messages hold", openapi_extra=BODY)
    async def parse(request: Request, _: Who) -> dict[str, Any]:
        """Each message in JSON form, decoded; bytes that are no message say so. Nothing is stored."""
        bodies = _some(messages_in(request, await request.body()))
        return page_body(await asyncio.to_thread(lambda: [taken_apart(body) for body in bodies]), None)

    @api.post("/acknowledge", summary="Show the acknowledgement of HL7 messages", openapi_extra=BODY)
    async def acknowledge(
        request: Request, caller: Who, profile: ProfileName = None, connection_id: OfConnection = None
    ) -> dict[str, Any]:
        """The acknowledgement that a listener which validates first would send, in base64; nothing is stored."""
        bodies = _some(messages_in(request, await request.body()))
        chosen, encoding = await rules(caller, profile, connection_id)
        now, names = clock.now(), [ids.new("msg") for _ in bodies]

        def work() -> list[dict[str, Any]]:
            answers = [
                acknowledged(body, message_id, now, chosen, encoding)
                for body, message_id in zip(bodies, names, strict=True)
            ]
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
