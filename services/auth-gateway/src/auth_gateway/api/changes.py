"""Change records: Change Management of the guide."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from auth_gateway.api.why import checked_change
from auth_gateway.core.change_record import ChangeRecord, ChangeState, ChangeStep, wants_change_record
from auth_gateway.ports import Changes, Integrations, Versions
from common.models.clock import Clock, Ids
from common.models.identifiers import check_id
from common.models.integration import Environment
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from common.runtime.idempotency import IdempotentRoute

Who = Annotated[Caller, Depends(caller_of)]
_VERSIONS_MAX: Final = 200
_TEXT_MAX: Final = 4_000


class ChangeWords(BaseModel):
    """What people write of a change; no patient data."""

    model_config = ConfigDict(extra="forbid")

    what: str | None = Field(default=None, min_length=3, max_length=_TEXT_MAX)
    why: str | None = Field(default=None, min_length=3, max_length=_TEXT_MAX)
    expected_outcome: str | None = Field(default=None, max_length=_TEXT_MAX)
    tested_in: list[Environment] | None = Field(default=None, max_length=3, description="where it was tried before")
    vendor_notified_at: AwareDatetime | None = Field(default=None, description="when the PMS vendor was told")
    joint_test_at: AwareDatetime | None = Field(default=None, description="when both sides test together")
    roll_back_plan: str | None = Field(default=None, max_length=_TEXT_MAX)


class NewChange(ChangeWords):
    """A planned change of one integration."""

    integration_id: str = Field(max_length=40)
    what: str = Field(min_length=3, max_length=_TEXT_MAX)
    why: str = Field(min_length=3, max_length=_TEXT_MAX)


class StepBody(BaseModel):
    """How it went."""

    model_config = ConfigDict(extra="forbid")

    result: str = Field(min_length=3, max_length=_TEXT_MAX)


class Required(BaseModel):
    """Under which change record the caller is to change something."""

    model_config = ConfigDict(extra="forbid")

    change_id: str | None = Field(default=None, max_length=40)


def router(changes: Changes, integrations: Integrations, versions: Versions, clock: Clock, ids: Ids) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["auth-gateway: Change Management (change records)"])
    _records(api, changes, integrations, versions, clock, ids)
    _steps(api, changes, integrations, clock)
    _requirement(api, changes, integrations)
    return api


def _records(
    api: APIRouter, changes: Changes, integrations: Integrations, versions: Versions, clock: Clock, ids: Ids
) -> None:
    @api.post("/changes", status_code=201, summary="Plan a change")
    async def plan(body: NewChange, response: Response, caller: Who) -> dict[str, Any]:
        """What, why, what is expected, where it was tried, who was told, and the way back."""
        document = await integrations.get(caller.tenant, check_id(body.integration_id, "int"))
        now = clock.now()
        words = body.model_dump(mode="json", exclude={"integration_id"})
        words |= {"steps": [], "planned_by": caller.subject, "configuration_version": document.version}
        record = ChangeRecord(ids.new("chg"), caller.tenant, document.id, ChangeState.PLANNED, 1, now, now, words)
        await changes.add(caller, record)
        response.headers["Location"] = f"/auth/v1/changes/{record.id}"
        return _answer(record, response)

    @api.get("/changes", summary="Change records")
    async def list_changes(
        caller: Who,
        integration_id: Annotated[str | None, Query(max_length=40)] = None,
        state: ChangeState | None = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Newest first."""
        page = await changes.list(caller.tenant, integration_id, state.value if state else None, cursor, limit)
        return page_body([record.as_json() for record in page.items], page.next)

    @api.get("/changes/{change_id}", summary="One change record")
    async def read(change_id: str, response: Response, caller: Who) -> dict[str, Any]:
        """With every step: who, when, how it went, at which version of the configuration; and the versions that were
        saved under it."""
        record = await changes.get(caller.tenant, check_id(change_id, "chg"))
        made = await versions.under(caller.tenant, record.id, _VERSIONS_MAX)
        rows = [{"integration_id": one.integration_id, **one.as_json(whole=False)} for one in made]
        return {**_answer(record, response), "configuration_versions": rows}

    @api.patch("/changes/{change_id}", summary="Change its words")
    async def change(
        change_id: str, body: ChangeWords, request: Request, response: Response, caller: Who
    ) -> dict[str, Any]:
        """Until it is over."""
        before = await changes.get(caller.tenant, check_id(change_id, "chg"))
        if_match(request, before.version)
        after = before.changed(clock.now(), body.model_dump(mode="json", exclude_unset=True))
        await changes.save(caller, before, after, "change.reworded")
        return _answer(after, response)


def _requirement(api: APIRouter, changes: Changes, integrations: Integrations) -> None:
    @api.post(
        "/integrations/{integration_id}:require-change",
        status_code=204,
        summary="Whether a change record covers a change of the configuration (services)",
    )
    async def require(integration_id: str, body: Required, caller: Who) -> None:
        """Nothing when the system wants no change record, or this one covers a change now; else change.required."""
        document = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if wants_change_record(document.body):
            await changes.require(caller.tenant, document.id, checked_change(body.change_id))


def _steps(api: APIRouter, changes: Changes, integrations: Integrations, clock: Clock) -> None:
    async def move(change_id: str, step: ChangeStep, body: StepBody, response: Response, caller: Caller) -> Any:
        before = await changes.get(caller.tenant, check_id(change_id, "chg"))
        document = await integrations.get(caller.tenant, before.integration_id)
        after = before.moved(step, clock.now(), by=caller.subject, result=body.result, at_version=document.version)
        await changes.save(caller, before, after, f"change.{after.state}")
        return _answer(after, response)

    @api.post("/changes/{change_id}:apply", summary="It was made")
    async def apply(change_id: str, body: StepBody, response: Response, caller: Who) -> dict[str, Any]:
        """Notes the configuration's version as of now."""
        return dict(await move(change_id, ChangeStep.APPLY, body, response, caller))

    @api.post("/changes/{change_id}:verify", summary="It does what was expected")
    async def verify(change_id: str, body: StepBody, response: Response, caller: Who) -> dict[str, Any]:
        """Ends it well; it can still be rolled back later."""
        return dict(await move(change_id, ChangeStep.VERIFY, body, response, caller))

    @api.post("/changes/{change_id}:roll-back", summary="It was taken back")
    async def roll_back(change_id: str, body: StepBody, response: Response, caller: Who) -> dict[str, Any]:
        """The record only; the configuration goes back with :rollback of the integration."""
        return dict(await move(change_id, ChangeStep.ROLL_BACK, body, response, caller))

    @api.post("/changes/{change_id}:withdraw", summary="It will not be made")
    async def withdraw(change_id: str, body: StepBody, response: Response, caller: Who) -> dict[str, Any]:
        """Of a planned one."""
        return dict(await move(change_id, ChangeStep.WITHDRAW, body, response, caller))


def _answer(record: ChangeRecord, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = etag(record.version)
    return record.as_json()
