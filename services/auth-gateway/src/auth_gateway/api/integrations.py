"""Integrations and their channels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.api.why import Said
from auth_gateway.core.configuration import Document, Step, check_channel, check_overrides, moved
from auth_gateway.ports import Integrations
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.models.integration import ChannelKind, Environment, IntegrationState, Vendor, WriteBack
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from common.runtime.idempotency import IdempotentRoute
from pms.capabilities import CursorKind, Interaction

Name = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,62}$", description="lower case letters, digits and hyphens")]
Who = Annotated[Caller, Depends(caller_of)]


class IdentifierSystemBody(BaseModel):
    """An HL7 assigning authority and the FHIR identifier system it stands for."""

    model_config = ConfigDict(extra="forbid")

    assigning_authority: str = Field(
        max_length=200, description="namespace id of CX-4; empty: identifiers that name none"
    )
    system: str = Field(min_length=1, max_length=500, description="FHIR Identifier.system, a URI")
    identifier_type: str = Field(default="", max_length=20, description="CX-5, e.g. MR; empty: any type")


class ContactBody(BaseModel):
    """Whom to ask."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["practice", "vendor", "network"] = Field(description="whose side they are on")
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(default="", max_length=200)
    phone: str = Field(default="", max_length=50)


class CapabilityOverride(BaseModel):
    """What this installation offers of one resource, where it differs from what its vendor's rows say (`/vendors`)."""

    model_config = ConfigDict(extra="forbid")

    resource: str = Field(pattern="^[A-Z][A-Za-z]{1,63}$", description="FHIR R4 type, e.g. Patient")
    offered: bool = Field(default=True, description="false: its API is not switched on here")
    interactions: list[Interaction] | None = Field(default=None, max_length=10)
    cursor: CursorKind | None = Field(default=None, description="how changes are found")
    search_any_of: list[list[Annotated[str, Field(min_length=1, max_length=64)]]] | None = Field(
        default=None, max_length=20, description="a search has all parameters of one of these; empty: any"
    )
    reached_from: str | None = Field(
        default=None, pattern="^[A-Z][A-Za-z]{1,63}$", description="the resource its ids come from (by-reference)"
    )
    enumerable: bool | None = None
    page_records_max: int | None = Field(default=None, ge=1, le=10_000, description="records per page (_count)")
    ids_per_request_max: int | None = Field(default=None, ge=1, le=1_000, description="ids in an _id list")
    note: str | None = Field(default=None, max_length=500, description="who said so, and when")


class NewIntegration(BaseModel):
    """A PMS system of this practice."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="how people call it; unique in the practice")
    vendor: Vendor
    product: str = Field(default="", max_length=200)
    environment: Environment = Environment.DEVELOPMENT
    identifier_systems: list[IdentifierSystemBody] = Field(default_factory=list, max_length=200)
    write_back: WriteBack = WriteBack.OFF
    tenant_domain: str = Field(
        default="", max_length=200, description="the practice's tenant at the vendor: Millennium domain, Epic site"
    )
    contacts: list[ContactBody] = Field(default_factory=list, max_length=20)
    capability_overrides: list[CapabilityOverride] = Field(default_factory=list, max_length=50)
    change_record_required: bool = Field(
        default=False, description="once it is no draft, its configuration changes only under a change record"
    )


class IntegrationChange(BaseModel):
    """What can be changed of an integration."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=200)
    product: str | None = Field(default=None, max_length=200)
    environment: Environment | None = None
    identifier_systems: list[IdentifierSystemBody] | None = Field(default=None, max_length=200)
    write_back: WriteBack | None = None
    tenant_domain: str | None = Field(default=None, max_length=200)
    contacts: list[ContactBody] | None = Field(default=None, max_length=20)
    capability_overrides: list[CapabilityOverride] | None = Field(default=None, max_length=50)
    change_record_required: bool | None = None


class SenderBody(BaseModel):
    """A sender of a hl7v2-in channel; an empty part stands for any."""

    model_config = ConfigDict(extra="forbid")

    application: str = Field(default="", max_length=227, description="MSH-3, first component")
    facility: str = Field(default="", max_length=227, description="MSH-4, first component")


class ChannelSettings(BaseModel):
    """What a kind of channel may set."""

    model_config = ConfigDict(extra="forbid")

    senders: list[SenderBody] = Field(
        default_factory=list, max_length=200, description="hl7v2-in: who may send; empty: any sender"
    )


class ChannelBody(BaseModel):
    """One way in or out."""

    model_config = ConfigDict(extra="forbid")

    kind: ChannelKind
    endpoint: str = Field(
        default="", max_length=2000, description="fhir, unity: base URL; hl7v2-out: host:port; hl7v2-in: empty"
    )
    time_zone: str = Field(max_length=64, description="the facility's IANA time zone, for times without an offset")
    credential: str | None = Field(
        default=None, pattern="^[a-z][a-z0-9-]{0,62}$", description="name of the credential it uses"
    )
    settings: ChannelSettings = Field(default_factory=ChannelSettings)


def router(integrations: Integrations, clock: Clock, ids: Ids) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["auth-gateway: PMS Systems (integrations)"])
    _documents(api, integrations, clock, ids)
    _states(api, integrations, clock)
    _channels(api, integrations, clock)
    return api


def _documents(api: APIRouter, integrations: Integrations, clock: Clock, ids: Ids) -> None:
    @api.post("/integrations", status_code=201, summary="Add a PMS system")
    async def create(body: NewIntegration, response: Response, caller: Who) -> dict[str, Any]:
        """A draft: give it channels and a credential, then `:resume` it."""
        check_overrides(body.vendor, body.model_dump(mode="json")["capability_overrides"])
        now = clock.now()
        document = Document(
            ids.new("int"),
            caller.tenant,
            1,
            now,
            now,
            {**body.model_dump(mode="json"), "state": IntegrationState.DRAFT.value, "channels": {}},
        )
        await integrations.add(caller, document)
        response.headers["Location"] = f"/auth/v1/integrations/{document.id}"
        return _answer(document, response)

    @api.get("/integrations", summary="PMS systems")
    async def list_integrations(caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None) -> dict[str, Any]:
        """All integrations of the practice, without secrets."""
        page = await integrations.list(caller.tenant, cursor, limit)
        return page_body([document.as_json() for document in page.items], page.next)

    @api.get("/integrations/{integration_id}", summary="One PMS system")
    async def read(integration_id: str, response: Response, caller: Who) -> dict[str, Any]:
        """One integration with its channels; its ETag is needed to change it."""
        return _answer(await integrations.get(caller.tenant, check_id(integration_id, "int")), response)

    @api.patch("/integrations/{integration_id}", summary="Change a PMS system")
    async def change(
        integration_id: str,
        body: IntegrationChange,
        request: Request,
        response: Response,
        caller: Who,
        why: Said,
    ) -> dict[str, Any]:
        """Replaces the parts that are given."""
        before = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if_match(request, before.version)
        parts = body.model_dump(mode="json", exclude_none=True)
        check_overrides(Vendor(before.body["vendor"]), parts.get("capability_overrides", ()))
        after = before.changed(clock.now(), **parts)
        await integrations.save(caller, before, after, "integration.changed", sorted(parts), why)
        return _answer(after, response)


def _states(api: APIRouter, integrations: Integrations, clock: Clock) -> None:
    async def move(integration_id: str, step: Step, response: Response, caller: Caller) -> dict[str, Any]:
        before = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        state = moved(before, step)
        if state == before.body["state"]:
            return _answer(before, response)
        after = before.changed(clock.now(), state=state.value)
        await integrations.save(caller, before, after, f"integration.{step}d", ["state"])
        return _answer(after, response)

    @api.post("/integrations/{integration_id}:pause", summary="Pause a PMS system")
    async def pause(integration_id: str, response: Response, caller: Who) -> dict[str, Any]:
        """Stops pulls and writes within 5 s; nothing is lost."""
        return await move(integration_id, Step.PAUSE, response, caller)

    @api.post("/integrations/{integration_id}:resume", summary="Resume or activate a PMS system")
    async def resume(integration_id: str, response: Response, caller: Who) -> dict[str, Any]:
        """Goes on where it stopped; a draft becomes active."""
        return await move(integration_id, Step.RESUME, response, caller)


def _channels(api: APIRouter, integrations: Integrations, clock: Clock) -> None:
    @api.put("/integrations/{integration_id}/channels/{name}", summary="Put a channel")
    async def put(
        integration_id: str,
        name: Name,
        body: ChannelBody,
        request: Request,
        response: Response,
        caller: Who,
        why: Said,
    ) -> dict[str, Any]:
        """Adds the channel, or replaces it (then If-Match with the integration's ETag)."""
        before = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if name in before.body["channels"]:
            if_match(request, before.version)
        channel = body.model_dump(mode="json")
        check_channel(Vendor(before.body["vendor"]), channel)
        after = before.changed(clock.now(), channels={**before.body["channels"], name: channel})
        await integrations.save(caller, before, after, "channel.changed", [f"channels.{name}"], why)
        response.headers["ETag"] = etag(after.version)
        return channel

    @api.get("/integrations/{integration_id}/channels/{name}", summary="One channel")
    async def read(integration_id: str, name: Name, response: Response, caller: Who) -> dict[str, Any]:
        """One channel; the ETag is the integration's."""
        document = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        response.headers["ETag"] = etag(document.version)
        return _channel(document, name)

    @api.delete("/integrations/{integration_id}/channels/{name}", status_code=204, summary="Remove a channel")
    async def remove(integration_id: str, name: Name, request: Request, caller: Who, why: Said) -> None:
        """What it did stops; records stay."""
        before = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        _channel(before, name)
        if_match(request, before.version)
        channels = {key: value for key, value in before.body["channels"].items() if key != name}
        after = before.changed(clock.now(), channels=channels)
        await integrations.save(caller, before, after, "channel.removed", [f"channels.{name}"], why)


def _channel(document: Document, name: str) -> dict[str, Any]:
    channel = document.body["channels"].get(name)
    if channel is None:
        raise SuiteError("channel.not-found")
    return dict(channel)


def _answer(document: Document, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = etag(document.version)
    return document.as_json()
