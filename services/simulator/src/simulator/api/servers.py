"""Vendor servers by name: made, listed and removed by a tenant; and the wire of those that are not FHIR."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from simulator.access import VENDOR_METHODS
from simulator.api.population import PopulationShares, counts_of
from simulator.api.rest_servers import site_of
from simulator.api.vendor import Addresses, guid, response_of
from simulator.core.answer import Answer, html_not_found
from simulator.core.chance import number
from simulator.core.chart import Chart
from simulator.core.faults import Effect, Surface
from simulator.core.practice import Practice, make_practice
from simulator.core.servers import Server, Servers, ServersFullError, ServerTakenError, Vendor
from simulator.core.unity_actions import ACTIONS
from simulator.core.unity_server import SERVICE_PATH, SYSTEMS, Accounts, Product, UnityServer, UnityState
from simulator.core.unity_session import IDLE_LIFE_S_DEFAULT, UnitySessions
from simulator.core.world import World
from simulator.ports import Pause
from simulator.use_cases.answer_vendor import answer_vendor

CallerOf = Annotated[Caller, Depends(caller_of)]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Secret = Annotated[SecretStr, Field(min_length=1, max_length=200)]
_TOKEN_OPERATION: Final = f"{SERVICE_PATH}GetToken"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UnitySettings(_Body):
    """How a Unity server is: what stands behind it, and who may come."""

    product: Product = Field(default=Product.TOUCHWORKS, description="decides which actions there are")
    service_username: _Name = Field(description="user of GetToken")
    service_password: _Secret = Field(description="its password; never shown again")
    application: _Name = Field(description="the licensed Appname")
    user: _Name = Field(description="EHR user of GetUserAuthentication")
    user_password: _Secret = Field(description="its password; never shown again")
    idle_life_s: int = Field(default=IDLE_LIFE_S_DEFAULT, ge=1, le=86_400, description="a session ends after so long")
    unlicensed: tuple[_Name, ...] = Field(default=(), max_length=20, description="actions that are not licensed")

    @model_validator(mode="after")
    def _actions(self) -> Self:
        unknown = [name for name in self.unlicensed if name.lower() not in ACTIONS]
        if unknown:
            raise ValueError(f"unlicensed: expected names of {', '.join(row.name for row in ACTIONS.values())}")
        return self


class ServerCreate(_Body):
    """A vendor server with a synthetic practice."""

    name: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$", description="part of its URLs")
    vendor: Vendor
    patients: int = Field(default=200, ge=1, le=100_000, description="synthetic patients")
    seed: int = Field(default=1, ge=0, le=2**63, description="the same name and seed make the same practice")
    population: PopulationShares = Field(default_factory=PopulationShares, description="who is hard to match")
    unity: UnitySettings | None = Field(default=None, description="for vendor unity, and only then")

    @model_validator(mode="after")
    def _vendor(self) -> Self:
        if (self.unity is not None) != (self.vendor is Vendor.UNITY):
            raise ValueError("unity is given for vendor unity, and only then")
        if self.name == Vendor.UNITY.value:
            # A base URL may end in /Unity, which clients then leave out.
            raise ValueError("name: unity is part of the service's own path")
        return self


def add_routes(api: APIRouter, world: World, addresses: Addresses, clock: Clock, ids: Ids, pause: Pause) -> None:
    """The routes; paths begin after /simulator/v1."""
    _server_routes(api, world.servers, addresses, clock)
    answer = partial(answer_vendor, now=clock.now, pause=pause)

    @api.api_route("/unity/{name}/{path:path}", methods=list(VENDOR_METHODS), include_in_schema=False)
    async def unity(name: str, path: str, request: Request) -> Response:
        """Unity's service; everything that is not its own answers as a web server's missing page."""
        server = world.servers.find(name, Vendor.UNITY)
        if server is None or server.unity is None:
            return response_of(html_not_found())
        wire = UnityServer(server.unity, ACTIONS, partial(guid, ids))
        body = await request.body()

        async def handle(now: datetime, effect: Effect) -> Answer:
            return wire.answer(request.method, path, body, now, effect)

        surface = Surface.TOKEN_ENDPOINT if path == _TOKEN_OPERATION else Surface.API
        return response_of(await answer(server.faults, surface, handle))


def _server_routes(api: APIRouter, servers: Servers, addresses: Addresses, clock: Clock) -> None:
    @api.get("/servers", summary="Integration Simulator: vendor servers")
    async def list_servers(caller: CallerOf, request: Request) -> dict[str, Any]:
        """The vendor servers that this tenant made, with their addresses."""
        return page_body([_json(row, addresses, request) for row in servers.owned(caller.tenant)], None)

    @api.post("/servers", status_code=201, summary="Integration Simulator: make a vendor server")
    async def create(body: ServerCreate, caller: CallerOf, request: Request) -> dict[str, Any]:
        """Make a vendor server with a synthetic practice. It lives in memory and ends with the process."""
        try:
            servers.check_room(body.name, body.patients)
            # A hundred thousand patients take about a second: other calls go on meanwhile.
            shares = body.population.shares()
            practice = await asyncio.to_thread(
                make_practice, body.name, body.seed, patients=body.patients, shares=shares
            )
            chart = Chart(practice)
            millennium = str(UUID(int=number_of(practice), version=4)) if body.vendor is Vendor.CERNER else ""
            server = Server(body.name, caller.tenant, body.vendor, chart, clock.now(), _unity(body, chart), millennium)
            servers.add(server)
        except ServerTakenError:
            raise SuiteError("request.conflict", "That name is taken.") from None
        except ServersFullError:
            raise SuiteError("request.conflict", "No room for it; remove servers that are not used.") from None
        return _json(server, addresses, request)

    @api.get("/servers/{name}", summary="Integration Simulator: one vendor server")
    async def read(name: str, caller: CallerOf, request: Request) -> dict[str, Any]:
        """One vendor server."""
        return _json(_server(servers, caller, name), addresses, request)

    @api.delete("/servers/{name}", status_code=204, summary="Integration Simulator: remove a vendor server")
    async def remove(name: str, caller: CallerOf) -> Response:
        """Remove a vendor server with all that it holds."""
        servers.remove(_server(servers, caller, name))
        return Response(status_code=204)


def _unity(body: ServerCreate, chart: Chart) -> UnityState | None:
    wanted = body.unity
    if wanted is None:
        return None
    accounts = Accounts(
        wanted.service_username,
        wanted.service_password.get_secret_value(),
        wanted.application,
        wanted.user,
        wanted.user_password.get_secret_value(),
    )
    unlicensed = frozenset(ACTIONS[name.lower()].name for name in wanted.unlicensed)
    return UnityState(chart, wanted.product, accounts, UnitySessions(wanted.idle_life_s), unlicensed)


def _server(servers: Servers, caller: Caller, name: str) -> Server:
    server = servers.of(caller.tenant, name)
    if server is None:
        raise SuiteError("simulator.not-found", "There is no vendor server of that name.")
    return server


def _json(row: Server, addresses: Addresses, request: Request) -> dict[str, Any]:
    practice = row.chart.practice
    shown: dict[str, Any] = {
        "name": row.name,
        "vendor": row.vendor.value,
        "patients": len(practice.patients),
        "population": counts_of(practice),
        "time_zone": practice.zone.key,
        "created_at": instant_text(row.created_at),
    }
    if row.vendor in {Vendor.CERNER, Vendor.FHIR}:
        site = site_of(row, addresses, request)
        tenant = {"tenant": row.millennium} if row.millennium else {}
        return shown | tenant | {"fhir_base": site.base_url, "token_url": site.token_url, "group_id": practice.group}
    if row.unity is None:
        base_url, token_url = addresses.of(request, row.name)
        return shown | {"fhir_base": base_url, "token_url": token_url, "group_id": practice.group}
    state = row.unity
    return shown | {
        "unity_base": addresses.root(request, "unity", row.name),
        "unity": {
            "product": state.product.value,
            "system": SYSTEMS[state.product],
            "service_username": state.accounts.service_username,
            "application": state.accounts.application,
            "user": state.accounts.user,
            "idle_life_s": state.sessions.idle_life_s,
            "unlicensed": sorted(state.unlicensed),
        },
    }


def number_of(practice: Practice) -> int:
    """A number of 128 bits that belongs to the practice's seed: the same practice has the same tenant id."""
    return number(practice.seed, "tenant", 1) << 64 | number(practice.seed, "tenant", 2)
