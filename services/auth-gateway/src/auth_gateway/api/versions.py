"""Versions of an integration: look, compare, go back, promote, and delete with its consequences shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.api.why import ChangeId, Said, checked_change
from auth_gateway.core.change_record import Why
from auth_gateway.core.configuration import Document
from auth_gateway.core.versions import configuration_of, differences, missing_credentials, promoted, restored
from auth_gateway.ports import Credentials, Integrations, Versions
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.models.integration import Environment
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, page_body
from common.runtime.idempotency import IdempotentRoute

Who = Annotated[Caller, Depends(caller_of)]
Confirm = Callable[[str, str], Awaitable[str]]
"""A text that only we can make of a tenant and another text."""


class Comparison(BaseModel):
    """Two versions."""

    model_config = ConfigDict(extra="forbid")

    earlier: int = Field(ge=1)
    later: int = Field(ge=1)


class RollBack(BaseModel):
    """Which version, why, and whether it is only to be rehearsed."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)
    reason: str = Field(min_length=3, max_length=500)
    rehearse: bool = Field(default=False, description="show what would change, and change nothing")


class Promotion(BaseModel):
    """Into the next environment: development → test → production."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=3, max_length=500)
    name: str | None = Field(default=None, min_length=1, max_length=200, description="name of the counterpart")
    endpoints: dict[str, Annotated[str, Field(max_length=2000)]] = Field(
        default_factory=dict, max_length=50, description="channel → its endpoint in the next environment"
    )


def router(
    integrations: Integrations, versions: Versions, credentials: Credentials, confirm: Confirm, clock: Clock, ids: Ids
) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["auth-gateway: Change Management (versions)"])
    _history(api, integrations, versions)
    _roll_back(api, integrations, versions, credentials, clock)
    _promotion(api, integrations, versions, credentials, clock, ids)
    _deletion(api, integrations, versions, confirm)
    return api


def _history(api: APIRouter, integrations: Integrations, versions: Versions) -> None:
    @api.get("/integrations/{integration_id}/versions", summary="Versions of a PMS system's configuration")
    async def list_versions(
        integration_id: str, caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """Newest first: who changed what, when and why. Those of a deleted integration stay."""
        page = await versions.list(caller.tenant, check_id(integration_id, "int"), cursor, limit)
        if not page.items:
            await integrations.get(caller.tenant, integration_id)
        return page_body([one.as_json(whole=False) for one in page.items], page.next)

    @api.get("/integrations/{integration_id}/versions/{version}", summary="One version")
    async def read(integration_id: str, version: int, caller: Who) -> dict[str, Any]:
        """The configuration as it was."""
        return (await versions.get(caller.tenant, check_id(integration_id, "int"), version)).as_json(whole=True)

    @api.post("/integrations/{integration_id}/versions:compare", summary="Compare two versions")
    async def compare(integration_id: str, body: Comparison, caller: Who) -> dict[str, Any]:
        """What differs, by JSON pointer."""
        check_id(integration_id, "int")
        earlier, later = [
            configuration_of((await versions.get(caller.tenant, integration_id, number)).body)
            for number in (body.earlier, body.later)
        ]
        return {**body.model_dump(), "differences": list(differences(earlier, later))}


def _roll_back(
    api: APIRouter, integrations: Integrations, versions: Versions, credentials: Credentials, clock: Clock
) -> None:
    @api.post("/integrations/{integration_id}:rollback", summary="Go back to an earlier version, or rehearse it")
    async def roll_back(
        integration_id: str, body: RollBack, response: Response, caller: Who, change_id: ChangeId = None
    ) -> dict[str, Any]:
        """The earlier configuration becomes the next version; state and credentials stay as they are."""
        present = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        wanted = await versions.get(caller.tenant, integration_id, body.version)
        after = restored(present, wanted, clock.now())
        held = {row.name for row in await credentials.list(caller.tenant, integration_id)}
        changes = list(differences(configuration_of(present.body), configuration_of(after.body)))
        told = {
            "from": present.version,
            "to": body.version,
            "differences": changes,
            "missing_credentials": missing_credentials(after.body, held),
            "rehearsed": body.rehearse,
        }
        if body.rehearse or not changes:
            return {**told, "version": present.version}
        names = sorted({change["pointer"].split("/")[1] for change in changes})
        why = Why(body.reason, checked_change(change_id))
        await integrations.save(caller, present, after, "integration.rolled-back", names, why)
        response.headers["ETag"] = etag(after.version)
        return {**told, "version": after.version}


def _promotion(
    api: APIRouter, integrations: Integrations, versions: Versions, credentials: Credentials, clock: Clock, ids: Ids
) -> None:
    @api.post("/integrations/{integration_id}:promote", summary="Promote to the next environment")
    async def promote(integration_id: str, body: Promotion, caller: Who, change_id: ChangeId = None) -> dict[str, Any]:
        """Makes or brings up to date the counterpart in the next environment; its endpoints, credentials and state are
        its own."""
        source = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        present = await versions.counterpart(caller.tenant, integration_id)
        after = promoted(
            source, present, new_id=ids.new("int"), name=body.name, endpoints=body.endpoints, now=clock.now()
        )
        why = Why(body.reason, checked_change(change_id))
        if present is None:
            await integrations.add(caller, after, why)
        else:
            names = sorted(name for name in after.body if after.body[name] != present.body.get(name))
            await integrations.save(caller, present, after, "integration.promoted", names, why)
        held = {row.name for row in await credentials.list(caller.tenant, after.id)}
        environment = Environment(after.body["environment"])
        return {
            "integration": after.as_json(),
            "environment": environment.value,
            "to_fill": {"credentials": missing_credentials(after.body, held)},
        }


def _deletion(api: APIRouter, integrations: Integrations, versions: Versions, confirm: Confirm) -> None:
    async def preview_of(caller: Caller, document: Document) -> dict[str, Any]:
        counts = dict(await versions.counts(caller.tenant, document.id))
        told = f"{document.id}/{document.version}/{counts['credentials']}"
        return {
            "integration_id": document.id,
            "name": document.body["name"],
            "state": document.body["state"],
            "goes": {
                "channels": sorted(document.body["channels"]),
                "credentials": counts["credentials"],
                "what": "Pulls, writes and feeds of this system end; its secrets and tokens are destroyed.",
            },
            "stays": {"versions": counts["versions"], "what": "Records, messages, the audit log and these versions."},
            "confirmation": await confirm(caller.tenant, told),
        }

    @api.post("/integrations/{integration_id}:delete-preview", summary="What deleting a PMS system would do")
    async def preview(integration_id: str, caller: Who) -> dict[str, Any]:
        """Everything that goes and stays, and the confirmation that DELETE wants, good until something changes."""
        return await preview_of(caller, await integrations.get(caller.tenant, check_id(integration_id, "int")))

    @api.delete("/integrations/{integration_id}", status_code=204, summary="Delete a PMS system")
    async def delete(
        integration_id: str,
        caller: Who,
        why: Said,
        confirmation: Annotated[str, Query(max_length=200, description="of :delete-preview")] = "",
    ) -> None:
        """Ends the integration everywhere, with its credentials."""
        document = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if confirmation != (await preview_of(caller, document))["confirmation"]:
            raise SuiteError("integration.delete-unconfirmed")
        await versions.remove(caller, document, why)
