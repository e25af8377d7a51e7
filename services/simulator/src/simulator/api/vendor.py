"""The simulated vendor's own interface: token endpoint and FHIR server. Not in our OpenAPI: it is the vendor's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Request, Response

from common.models.clock import Clock, Ids
from simulator.access import VENDOR_METHODS
from simulator.core.answer import Answer, html_not_found
from simulator.core.faults import Effect, Surface
from simulator.core.fhir_server import FhirCall, FhirServer
from simulator.core.servers import Vendor
from simulator.core.world import World
from simulator.ports import KeySets, Pause
from simulator.use_cases.answer_vendor import answer_vendor
from simulator.use_cases.issue_granted_token import issue_granted_token
from simulator.use_cases.issue_rest_token import TokenCall
from simulator.use_cases.issue_token import issue_token

FHIR_PATH: Final = "api/FHIR/R4/"
_FORM: Final = "application/x-www-form-urlencoded"
_FORM_FIELDS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the simulator's vendor interface lies; `public_url` empty: where the request came to."""

    prefix: str
    public_url: str

    def of(self, request: Request, practice: str) -> tuple[str, str]:
        """(FHIR base URL without a trailing slash, token URL) of a practice."""
        root = self.root(request, "epic", practice)
        return f"{root}/{FHIR_PATH.rstrip('/')}", f"{root}/oauth2/token"

    def root(self, request: Request, vendor: str, name: str) -> str:
        """The base URL of a vendor's server, without a trailing slash."""
        base = (self.public_url or str(request.base_url)).rstrip("/")
        return f"{base}{self.prefix}/{vendor}/{name}"


def add_routes(
    api: APIRouter, world: World, keys: KeySets, addresses: Addresses, clock: Clock, ids: Ids, pause: Pause
) -> None:
    """The vendor's routes; paths begin after /simulator/v1."""
    answer = partial(answer_vendor, now=clock.now, pause=pause)

    @api.post("/epic/{tenant}/oauth2/token", include_in_schema=False)
    @api.post("/epic/{tenant}/oauth2/site/token", include_in_schema=False)
    async def token(tenant: str, request: Request) -> Response:
        """RFC 6749 token endpoint with SMART's asymmetric client authentication."""
        if world.epic_chart(tenant) is None:
            return response_of(html_not_found())
        body = await request.body()
        content_type = request.headers.get("content-type", "")
        call = TokenCall(request.headers.get("authorization", ""), content_type, body)

        async def issue(now: datetime, effect: Effect) -> Answer:
            token_url = _token_url(addresses.of(request, tenant)[1], effect)
            granted = await issue_granted_token(
                world, keys, practice=tenant, token_url=token_url, call=call, now=now, effect=effect,
                new_token=ids.token,
            )  # fmt: skip
            if granted is not None:
                return granted
            return await issue_token(
                world,
                keys,
                practice=tenant,
                token_url=token_url,
                content_type=content_type,
                body=body,
                now=now,
                effect=effect,
                new_token=ids.token,
            )

        return response_of(await answer(world.faults_at(tenant, Vendor.EPIC), Surface.TOKEN_ENDPOINT, issue))

    @api.api_route("/epic/{tenant}/{path:path}", methods=list(VENDOR_METHODS), include_in_schema=False)
    async def fhir(tenant: str, path: str, request: Request) -> Response:
        """The FHIR server; everything that is not its own answers as a web server's missing page."""
        chart = world.epic_chart(tenant)
        if chart is None:
            return response_of(html_not_found())
        base_url, token_url = addresses.of(request, tenant)
        call = await call_below(request, path, FHIR_PATH)

        async def handle(now: datetime, effect: Effect) -> Answer:
            server = FhirServer(chart, world.tokens, world.exports, base_url, _token_url(token_url, effect), effect)
            return html_not_found() if call is None else server.answer(call, now)

        return response_of(await answer(world.faults_at(tenant, Vendor.EPIC), Surface.API, handle))


def _token_url(usual: str, effect: Effect) -> str:
    """The token URL that the vendor goes by: both are served, one is the audience that is taken."""
    return usual.removesuffix("/token") + "/site/token" if effect.has("audience-differs") else usual


async def call_below(request: Request, path: str, below: str) -> FhirCall | None:
    """The FHIR call of a request; None when its path is not below the FHIR base."""
    if not path.startswith(below):
        return None
    parameters = list(request.query_params.multi_items())
    if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip() == _FORM:
        parameters += _form(await request.body())
    headers = {name.lower(): value for name, value in request.headers.items()}
    return FhirCall(request.method, path.removeprefix(below), parameters, headers, str(request.url))


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX)
    except (UnicodeDecodeError, ValueError):
        return []


def response_of(answer: Answer) -> Response:
    """The answer as it leaves."""
    return Response(answer.body, answer.status, headers=dict(answer.headers))


def guid(ids: Ids) -> str:
    """An unguessable token in the form that Unity's have."""
    return str(UUID(bytes=hashlib.blake2b(ids.token().encode(), digest_size=16).digest(), version=4))
