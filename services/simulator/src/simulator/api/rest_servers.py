"""The wire of Oracle Health and of plain FHIR servers: token endpoint and FHIR. Not in our OpenAPI: it is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from fastapi import APIRouter, Request, Response

from common.models.clock import Clock, Ids
from simulator.access import VENDOR_METHODS
from simulator.api.vendor import Addresses, call_below, guid, response_of
from simulator.core.answer import Answer, html_not_found
from simulator.core.cerner_dialect import CERNER, tenant_refusal
from simulator.core.cerner_dialect import TOKEN_LIFE_S as CERNER_TOKEN_LIFE_S
from simulator.core.clients import Client
from simulator.core.dialect import Site
from simulator.core.faults import Effect, Surface
from simulator.core.generic_dialect import GENERIC
from simulator.core.generic_dialect import TOKEN_LIFE_S as FHIR_TOKEN_LIFE_S
from simulator.core.open_search import Shelf
from simulator.core.rest_server import RestServer
from simulator.core.scopes import is_v1
from simulator.core.servers import Server, Vendor
from simulator.core.token_words import CernerWords, PlainWords
from simulator.core.world import World
from simulator.ports import KeySets, Pause
from simulator.use_cases.answer_vendor import Handle, answer_vendor
from simulator.use_cases.issue_rest_token import Endpoint, TokenCall, issue_rest_token

_TOKEN_PATH: Final = "tenants/{}/protocols/oauth2/profiles/smart-v1/token"  # noqa: S105 - a path


def site_of(server: Server, addresses: Addresses, request: Request) -> Site:
    """Where a server's FHIR and token endpoints are."""
    root = addresses.root(request, server.vendor.value, server.name)
    if server.vendor is Vendor.CERNER:
        token_url = f"{root}/{_TOKEN_PATH.format(server.millennium)}"
        return Site(f"{root}/r4/{server.millennium}", token_url, server.millennium)
    return Site(f"{root}/r4", f"{root}/token")


@dataclass(frozen=True, slots=True)
class _Wire:
    """What both vendors' routes answer with."""

    world: World
    keys: KeySets
    addresses: Addresses
    clock: Clock
    ids: Ids
    pause: Pause

    async def token(self, server: Server, endpoint: Endpoint, request: Request) -> Response:
        call = TokenCall(
            request.headers.get("authorization", ""), request.headers.get("content-type", ""), await request.body()
        )

        async def handle(now: datetime, effect: Effect) -> Answer:
            return await issue_rest_token(
                self.world, self.keys, endpoint, call, now=now, effect=effect, new_token=self.ids.token
            )

        return await self._answer(server, Surface.TOKEN_ENDPOINT, handle)

    async def fhir(self, server: Server, site: Site, request: Request, below: str, path: str) -> Response:
        call = await call_below(request, path, below)
        body = await request.body()
        dialect = CERNER if server.vendor is Vendor.CERNER else GENERIC
        shelf = Shelf(server.chart, server.written, dialect.dated, partial(dialect.dress, site))

        async def handle(now: datetime, effect: Effect) -> Answer:
            if call is None:
                return html_not_found()
            wire = RestServer(
                dialect, site, shelf, self.world.tokens, self.world.exports, partial(self.ids.token, 12), effect
            )
            return wire.answer(call, body, now)

        return await self._answer(server, Surface.API, handle)

    async def _answer(self, server: Server, surface: Surface, handle: Handle) -> Response:
        answer = await answer_vendor(server.faults, surface, handle, now=self.clock.now, pause=self.pause)
        return response_of(answer)


def add_routes(
    api: APIRouter, world: World, keys: KeySets, addresses: Addresses, clock: Clock, ids: Ids, pause: Pause
) -> None:
    """The routes; paths begin after /simulator/v1."""
    wire = _Wire(world, keys, addresses, clock, ids, pause)
    _cerner_routes(api, wire)
    _fhir_routes(api, wire)


def _cerner_routes(api: APIRouter, wire: _Wire) -> None:
    @api.post("/cerner/{name}/tenants/{millennium}/protocols/oauth2/profiles/smart-v1/token", include_in_schema=False)
    async def token(name: str, millennium: str, request: Request) -> Response:
        """Oracle Health's token endpoint; a wrong tenant is refused by name."""
        server = wire.world.servers.find(name, Vendor.CERNER)
        if server is None:
            return response_of(html_not_found())
        site = site_of(server, wire.addresses, request)
        words = CernerWords(millennium, "", guid(wire.ids))
        if millennium != server.millennium:
            return response_of(words.error("invalid-tenant"))
        endpoint = Endpoint(name, site.token_url, CERNER_TOKEN_LIFE_S, words, _registered_for_v2)
        return await wire.token(server, endpoint, request)

    @api.api_route("/cerner/{name}/{path:path}", methods=list(VENDOR_METHODS), include_in_schema=False)
    async def fhir(name: str, path: str, request: Request) -> Response:
        """Oracle Health's FHIR server; a tenant that is none is refused in plain text."""
        server = wire.world.servers.find(name, Vendor.CERNER)
        if server is None:
            return response_of(html_not_found())
        if path.startswith("r4/") and not f"{path}/".startswith(f"r4/{server.millennium}/"):
            return response_of(tenant_refusal())
        site = site_of(server, wire.addresses, request)
        return await wire.fhir(server, site, request, f"r4/{server.millennium}/", path)


def _fhir_routes(api: APIRouter, wire: _Wire) -> None:
    @api.post("/fhir/{name}/token", include_in_schema=False)
    async def token(name: str, request: Request) -> Response:
        """A plain token endpoint (RFC 6749)."""
        server = wire.world.servers.find(name, Vendor.FHIR)
        if server is None:
            return response_of(html_not_found())
        site = site_of(server, wire.addresses, request)
        return await wire.token(server, Endpoint(name, site.token_url, FHIR_TOKEN_LIFE_S, PlainWords()), request)

    @api.api_route("/fhir/{name}/{path:path}", methods=list(VENDOR_METHODS), include_in_schema=False)
    async def fhir(name: str, path: str, request: Request) -> Response:
        """A plain FHIR R4 server."""
        server = wire.world.servers.find(name, Vendor.FHIR)
        if server is None:
            return response_of(html_not_found())
        return await wire.fhir(server, site_of(server, wire.addresses, request), request, "r4/", path)


def _registered_for_v2(client: Client) -> bool:
    """An application that has SMART v2 scopes gets no v1 scope."""
    return not any(is_v1(scope) for scope in client.scopes)
