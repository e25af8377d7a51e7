"""Launches and authorizations of simulated vendors: what an EHR does in a browser, PowerChart templates, MPages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import Caller, caller_of
from simulator.api.vendor import Addresses, response_of
from simulator.core.answer import Answer, html_not_found, json_answer
from simulator.core.fault_row import Surface
from simulator.core.faults import Effect
from simulator.core.grants import CODE_LIFE, Grant
from simulator.core.servers import Server, Vendor
from simulator.core.world import World
from simulator.ports import Pause
from simulator.use_cases.answer_vendor import answer_vendor

CallerOf = Annotated[Caller, Depends(caller_of)]
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_TEMPLATE: Final = {"tenant": "tenantId=$TENANT$", "username": "username=$USR_Username$"}
_CCL: Final = "%CCL-{letter}-{number}-PS_SIMULATOR(12,3)S0L1.a12 {{token}}the script failed"


class Launch(BaseModel):
    """What is in context when the application is opened from the chart."""

    model_config = ConfigDict(extra="forbid")

    launch_url: str = Field(max_length=500, pattern=r"^https?://", description="the application's launch URL")
    patient: _Id | None = None
    encounter: _Id | None = None
    location: _Id | None = None
    appointment: _Id | None = None


def add_routes(api: APIRouter, world: World, addresses: Addresses, clock: Clock, ids: Ids, pause: Pause) -> None:
    """The routes; paths begin after /simulator/v1."""
    _operator_routes(api, world, addresses, clock, ids)
    _authorize_route(api, world, clock, ids)
    _mpage_route(api, world, clock, pause)


def _operator_routes(api: APIRouter, world: World, addresses: Addresses, clock: Clock, ids: Ids) -> None:
    @api.post("/servers/{name}/launches", status_code=201, summary="Integration Simulator: open an application")
    async def launch(name: str, body: Launch, caller: CallerOf, request: Request) -> dict[str, Any]:
        """The URL that the EHR's browser would open (SMART App Launch 2.2 §4.1): `iss` and a launch value, once."""
        server = _server(world, caller, name, Vendor.EPIC)
        value = ids.token()
        context = body.model_dump(exclude_none=True, exclude={"launch_url"})
        world.grants.launch(value, server.name, context)
        base_url, _ = addresses.of(request, name)
        query = urlencode({"iss": base_url, "launch": value})
        return {"url": f"{body.launch_url}{'&' if '?' in body.launch_url else '?'}{query}", "iss": base_url}

    @api.get("/servers/{name}/launch-template", summary="Integration Simulator: a PowerChart launch template")
    async def template(name: str, caller: CallerOf) -> dict[str, Any]:
        """The template of an application in PowerChart as a site has set it; a fault leaves a value out."""
        server = _server(world, caller, name, Vendor.CERNER)
        lacks = server.faults.effect(Surface.API, clock.now()).word("launch-template", "lacks")
        rest = "&".join(text for word, text in _TEMPLATE.items() if word != lacks)
        return {"template": f"https://app.invalid/launch?launch=$LAUNCH$&{rest}"}


def _authorize_route(api: APIRouter, world: World, clock: Clock, ids: Ids) -> None:
    @api.get("/epic/{tenant}/oauth2/authorize", include_in_schema=False)
    async def authorize(tenant: str, request: Request) -> Response:
        """RFC 6749 §4.1.1 with PKCE; the simulated person agrees at once."""
        asked = dict(request.query_params)
        client = world.clients.find(asked.get("client_id", ""))
        redirect_uri = asked.get("redirect_uri", "")
        # What cannot be sent back to where the client registered is shown here (RFC 6749 §4.1.2.1).
        if world.epic_chart(tenant) is None or client is None or redirect_uri not in client.redirect_uris:
            return response_of(Answer(400, b"<h1>Invalid OAuth 2.0 request</h1>", {"Content-Type": "text/html"}))
        state = {"state": asked["state"]} if "state" in asked else {}
        launched = world.grants.launched(asked["launch"], tenant) if "launch" in asked else {}
        wrong = asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256"
        if wrong or not asked.get("code_challenge") or not asked.get("aud") or launched is None:
            return RedirectResponse(f"{redirect_uri}?{urlencode({'error': 'invalid_request', **state})}", 302)
        code = ids.token()
        grant = Grant(
            client.client_id,
            tenant,
            tuple(asked.get("scope", "").split()),
            redirect_uri,
            asked["code_challenge"],
            launched,
            clock.now() + CODE_LIFE,
        )
        world.grants.authorize(code, grant)
        return RedirectResponse(f"{redirect_uri}?{urlencode({'code': code, **state})}", 302)


def _mpage_route(api: APIRouter, world: World, clock: Clock, pause: Pause) -> None:
    @api.get("/cerner/{name}/mpage/{script}", include_in_schema=False)
    async def mpage(name: str, script: str) -> Response:
        """A CCL script behind an MPage: HTTP 200 also where it failed."""
        server = world.servers.find(name, Vendor.CERNER)
        if server is None:
            return response_of(html_not_found())

        async def run(_: datetime, effect: Effect) -> Answer:
            failed = effect.word("ccl-error", "message")
            if failed is None:
                return json_answer(200, {"RECORD_DATA": {"STATUS_DATA": {"STATUS": "S"}, "ROWS": []}})
            letter, __, number = failed.partition("-")
            text = _CCL.format(letter=letter, number=number)
            return json_answer(200, {"RECORD_DATA": {"STATUS_DATA": {"STATUS": "F", "MESSAGE": text}}})

        return response_of(await answer_vendor(server.faults, Surface.API, run, now=clock.now, pause=pause))


def _server(world: World, caller: Caller, name: str, vendor: Vendor) -> Server:
    server = world.servers.of(caller.tenant, name)
    if server is None:
        raise SuiteError("simulator.not-found", "There is no vendor server of that name.")
    if server.vendor is not vendor:
        raise SuiteError("request.conflict", f"That server is none of vendor {vendor.value}.")
    return server
