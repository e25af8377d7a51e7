"""Site profiles: how a sender's messages are checked, stored by name (HL7 > Connections)."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from hl7_gateway.api.connections import Reason
from hl7_gateway.api.messages import CATCH_UP_S, Backlog
from hl7_gateway.core.connection_configuration import STANDARD_PROFILE
from hl7_gateway.core.profile_text import TEXT_CHARACTERS_MAX
from hl7_gateway.core.site_profile import SiteProfile
from hl7_gateway.ports import ProfileBook
from hl7_gateway.use_cases.configure_profile import ConfigureProfile
from hl7_gateway.use_cases.try_profile import LAST_MAX, TryProfile

Who = Annotated[Caller, Depends(caller_of)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX, description="the profile in YAML or JSON")]
Last = Annotated[int, Field(ge=1, le=LAST_MAX, description="how many of its newest messages")]
GIVEN_MAX = 500


class NewProfile(BaseModel):
    """A profile to store."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=63, description="lower case letters, digits, hyphens; connections name it")
    text: Text
    reason: Reason = "created"


class ProfileChange(BaseModel):
    """What a profile shall be from now on."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    reason: Reason


class ProfileTrial(BaseModel):
    """What a profile is tried on: messages in base64, or the last ones of a connection."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(default=None, description="a draft that is tried in the profile's place")
    messages: list[str] | None = Field(default=None, min_length=1, max_length=GIVEN_MAX, description="in base64")
    connection_id: str | None = Field(default=None, description="a listener, whose profile is in force")
    last: Last = 100
    against: str = Field(default=STANDARD_PROFILE, description="with messages: the profile that is compared with")


class ProfileSuggestion(BaseModel):
    """Whose traffic a profile is made from."""

    model_config = ConfigDict(extra="forbid")

    connection_id: str
    last: Last = 200


def add_routes(
    api: APIRouter, book: ProfileBook, configure: ConfigureProfile, trial: TryProfile, backlog: Backlog
) -> None:
    """Paths begin after /hl7/v1."""
    _documents(api, book, configure)
    _changes(api, book, configure)
    _trials(api, trial, backlog)


def _documents(api: APIRouter, book: ProfileBook, configure: ConfigureProfile) -> None:
    @api.post("/profiles", status_code=201, summary="Store a site profile of HL7 messages")
    async def create(body: NewProfile, response: Response, caller: Who) -> dict[str, Any]:
        """Every mistake is named with its line. A listener's `validation.profile` may name it from now on."""
        profile = await configure.create(caller, body.name, body.text, body.reason)
        response.headers["Location"] = f"/hl7/v1/profiles/{profile.name}"
        return _answer(profile, response)

    @api.get("/profiles", summary="Site profiles of HL7 messages")
    async def list_profiles(caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None) -> dict[str, Any]:
        """Those that come with the gateway, and those of the practice, by name."""
        page = await book.list(caller.tenant, cursor, limit)
        return page_body([profile.as_json() for profile in page.items], page.next)

    @api.get("/profiles/{name}", summary="One site profile, and who uses it")
    async def read(name: str, response: Response, caller: Who) -> dict[str, Any]:
        """Its text as it was written, its document, and the listeners that name it; the ETag is needed to change it."""
        shown = _answer(await book.find(caller.tenant, name), response)
        used = await book.used_by(caller.tenant, name)
        return {**shown, "used_by": [{"connection_id": id_, "name": connection} for id_, connection in used]}

    @api.get("/profiles/{name}/versions", summary="What a site profile was")
    async def versions(
        name: str, caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """Every version with its author and reason, newest first; a removed profile's too."""
        page = await book.versions(caller.tenant, name, cursor, limit)
        items = [
            {
                "version": one.version,
                "text": one.text,
                "document": dict(one.document),
                "author": one.author,
                "reason": one.reason,
                "changed_at": instant_text(one.changed_at),
            }
            for one in page.items
        ]
        return page_body(items, page.next)


def _changes(api: APIRouter, book: ProfileBook, configure: ConfigureProfile) -> None:
    @api.put("/profiles/{name}", summary="Change a site profile")
    async def change(
        name: str, body: ProfileChange, request: Request, response: Response, caller: Who
    ) -> dict[str, Any]:
        """With If-Match. Running listeners that name it apply it with their next message."""
        before = await book.find(caller.tenant, name)
        if_match(request, before.version)
        return _answer(await configure.change(caller, before, body.text, body.reason), response)

    @api.delete("/profiles/{name}", status_code=204, summary="Remove a site profile")
    async def remove(
        name: str,
        request: Request,
        caller: Who,
        reason: Annotated[str, Query(min_length=3, max_length=500, description="kept in the audit log")] = "removed",
    ) -> None:
        """With If-Match; refused while a listener names it. Its history stays."""
        before = await book.find(caller.tenant, name)
        if_match(request, before.version)
        await configure.remove(caller, before, reason)


def _trials(api: APIRouter, trial: TryProfile, backlog: Backlog) -> None:
    @api.post("/profiles/{name}:test", summary="Try a site profile on messages")
    async def test(name: str, body: ProfileTrial, caller: Who) -> dict[str, Any]:
        """Counts of findings by place and code, and the difference to the profile in force; no values, nothing is
        kept. `text` tries a draft, which need not be stored. Reading stored messages is audited."""
        if (body.messages is None) == (body.connection_id is None):
            raise SuiteError(
                "request.invalid", fields=[FieldError("/messages", "one-of", "Send messages or a connection_id.")]
            )
        if body.connection_id is None:
            return await trial.on_messages(caller, name, body.text, _decoded(body.messages or []), body.against)
        await backlog.caught_up(CATCH_UP_S)
        return await trial.on_connection(caller, name, body.text, check_id(body.connection_id, "con"), body.last)

    @api.post("/profiles:suggest", summary="Suggest a site profile from a connection's traffic")
    async def suggest(body: ProfileSuggestion, caller: Who) -> dict[str, Any]:
        """A profile that loosens what the connection's newest messages break, each change with its reason and the
        number of messages; for a person to review and store. No values of messages are in it."""
        await backlog.caught_up(CATCH_UP_S)
        return await trial.suggest(caller, check_id(body.connection_id, "con"), body.last)


def _decoded(messages: list[str]) -> list[bytes]:
    found = []
    for index, text in enumerate(messages):
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            field = FieldError(f"/messages/{index}", "base64", "Expected a message in base64.")
            raise SuiteError("request.invalid", fields=[field]) from error
    return found


def _answer(profile: SiteProfile, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = etag(profile.version)
    return profile.as_json()
