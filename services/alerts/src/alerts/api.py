"""HTTP of alerts: rules, alerts, webhooks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl

from alerts.core.rules import RULES, rule_json
from alerts.core.webhook import message
from alerts.ports import AlertBook, Sender, Webhook, WebhookBook
from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from common.runtime.idempotency import IdempotentRoute

_TEST_EVENT: Final = "ps.alert.test"


class RuleChange(BaseModel):
    """What a tenant may set for a rule."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool | None = Field(default=None, description="false: the rule opens no alerts")
    threshold: float | None = Field(default=None, gt=0, le=1e9, description="in the rule's unit")


def _without_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.fragment:
        raise ValueError("a webhook's address holds no user, password or fragment; messages are signed instead")
    return url


WebhookUrl = Annotated[HttpUrl, AfterValidator(_without_credentials)]


class NewWebhook(BaseModel):
    """Who is to be told."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl = Field(max_length=2000, description="where alert events are posted; inside the allowed networks")
    description: str = Field(default="", max_length=200)


class WebhookChange(BaseModel):
    """What can be changed of a webhook."""

    model_config = ConfigDict(extra="forbid")

    url: WebhookUrl | None = Field(default=None, max_length=2000)
    description: str | None = Field(default=None, max_length=200)
    enabled: bool | None = None


def router(alerts: AlertBook, webhooks: WebhookBook, sender: Sender, clock: Clock, ids: Ids) -> APIRouter:
    """The routes; paths begin after /alerts/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["alerts"])
    _rules(api, alerts)
    _alerts(api, alerts)
    _webhooks(api, webhooks)
    _webhook_delivery(api, webhooks, sender, clock, ids)
    return api


def _rules(api: APIRouter, alerts: AlertBook) -> None:
    @api.get("/rules", summary="Alert rules (Monitoring > Alerts)")
    async def list_rules(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Every rule with what this practice has set."""
        overrides = await alerts.rule_overrides(caller.tenant)
        return page_body([rule_json(rule, overrides.get(rule.name, {})) for rule in RULES.values()], None)

    @api.get("/rules/{rule}", summary="One alert rule")
    async def read_rule(rule: str, response: Response, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """One rule; its ETag is needed to change it."""
        shown = rule_json(_known_rule(rule), (await alerts.rule_overrides(caller.tenant)).get(rule, {}))
        response.headers["ETag"] = etag(shown["version"])
        return shown

    @api.patch("/rules/{rule}", summary="Change an alert rule")
    async def change_rule(
        rule: str, body: RuleChange, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Switch a rule off or on, or set its threshold."""
        row = _known_rule(rule)
        version = (await alerts.rule_overrides(caller.tenant)).get(rule, {}).get("version", 1)
        if_match(request, version)
        override = await alerts.change_rule(caller, rule, body.model_dump(exclude_none=True), version)
        response.headers["ETag"] = etag(override["version"])
        return rule_json(row, override)


def _alerts(api: APIRouter, alerts: AlertBook) -> None:
    @api.get("/alerts", summary="Alerts")
    async def list_alerts(
        caller: Annotated[Caller, Depends(caller_of)],
        state: Annotated[
            str | None, Query(pattern="^(open|acknowledged|resolved)$", description="in this state")
        ] = None,
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Alerts that were opened, newest first."""
        page = await alerts.search(caller.tenant, state, integration_id, cursor, limit)
        return page_body([alert.as_json() for alert in page.items], page.next)

    @api.get("/alerts/{alert_id}", summary="One alert")
    async def read_alert(
        alert_id: str, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """One alert with its cause and next step."""
        alert = await alerts.get(caller.tenant, check_id(alert_id, "alr"))
        response.headers["ETag"] = etag(alert.version)
        return alert.as_json()

    @api.post("/alerts/{alert_id}:acknowledge", summary="Acknowledge an alert")
    async def acknowledge(alert_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Say that somebody has taken it on; it still resolves by itself."""
        return (await alerts.acknowledge(caller.tenant, check_id(alert_id, "alr"), caller)).as_json()


def _webhooks(api: APIRouter, webhooks: WebhookBook) -> None:
    @api.post("/webhooks", status_code=201, summary="Add a webhook")
    async def add(
        body: NewWebhook, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """The answer shows the signing secret (Standard Webhooks), once."""
        webhook, secret = await webhooks.add(caller, str(body.url), body.description)
        response.headers["ETag"] = etag(webhook.version)
        response.headers["Location"] = f"/alerts/v1/webhooks/{webhook.id}"
        return {**_webhook_json(webhook), "secret": secret}

    @api.get("/webhooks", summary="Webhooks")
    async def list_webhooks(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Who is told of alerts by HTTP."""
        return page_body([_webhook_json(webhook) for webhook in await webhooks.list(caller.tenant)], None)

    @api.get("/webhooks/{webhook_id}", summary="One webhook")
    async def read(
        webhook_id: str, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """One webhook, without its secret."""
        webhook = await webhooks.get(caller.tenant, check_id(webhook_id, "whk"))
        response.headers["ETag"] = etag(webhook.version)
        return _webhook_json(webhook)

    @api.patch("/webhooks/{webhook_id}", summary="Change a webhook")
    async def change(
        webhook_id: str,
        body: WebhookChange,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Its address, its description, or whether it is told at all."""
        webhook = await webhooks.get(caller.tenant, check_id(webhook_id, "whk"))
        if_match(request, webhook.version)
        changed = await webhooks.change(caller, webhook, body.model_dump(exclude_none=True, mode="json"))
        response.headers["ETag"] = etag(changed.version)
        return _webhook_json(changed)

    @api.delete("/webhooks/{webhook_id}", status_code=204, summary="Remove a webhook")
    async def remove(webhook_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> None:
        """What waits for it is dropped."""
        await webhooks.remove(caller, check_id(webhook_id, "whk"))


def _webhook_delivery(api: APIRouter, webhooks: WebhookBook, sender: Sender, clock: Clock, ids: Ids) -> None:
    @api.post("/webhooks/{webhook_id}:test", summary="Test a webhook")
    async def test(webhook_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Sends one signed message now and says whether the receiver took it."""
        webhook = await webhooks.get(caller.tenant, check_id(webhook_id, "whk"))
        body = orjson.dumps(message(_TEST_EVENT, clock.now(), {"webhook_id": webhook.id}))
        attempt = await sender.send(webhook, ids.new("dlv"), body, await webhooks.signing_key(webhook))
        delivered = attempt.status is not None and attempt.status // 100 == 2
        return {"delivered": delivered, "status": attempt.status, "error_code": attempt.error_code}

    @api.get("/webhooks/{webhook_id}/deliveries", summary="Deliveries to a webhook")
    async def deliveries(
        webhook_id: str,
        caller: Annotated[Caller, Depends(caller_of)],
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Each message with its attempts and how the last one ended, newest first."""
        page = await webhooks.deliveries(caller.tenant, check_id(webhook_id, "whk"), cursor, limit)
        return page_body([delivery.as_json() for delivery in page.items], page.next)


def _known_rule(name: str) -> Any:
    rule = RULES.get(name)
    if rule is None:
        raise SuiteError("rule.not-found")
    return rule


def _webhook_json(webhook: Webhook) -> dict[str, Any]:
    shown = asdict(webhook)
    del shown["tenant"]
    return {**shown, "created_at": instant_text(webhook.created_at)}
