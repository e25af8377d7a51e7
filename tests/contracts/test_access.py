"""The role × route matrix, on every route of every service: who may, who may not, and what a stranger sees."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from common.models.access import Access, Role, expand
from common.runtime.gate import GuardedRoute
from common.runtime.host import PROCESS_ACCESS, guarded_routes
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running
from suite.composition import SERVICES

ID_OF = {
    "integration_id": "int", "exchange_id": "exc", "test_id": "cts", "alert_id": "alr", "webhook_id": "whk",
    "dead_letter_id": "ded", "message_id": "msg", "run_id": "run", "record_id": "rec", "schedule_id": "sch",
    "tenant_id": "ten", "access_id": "acc",
}  # fmt: skip
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSuite]:
    folder: Path = tmp_path_factory.mktemp("access")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PS_HL7_LISTEN_PORT", "0")
        runtime = make_test_runtime(folder, "suite")
        async with running(runtime, *SERVICES.values()) as up:
            yield up


def routes_of(suite: RunningSuite) -> list[GuardedRoute]:
    gate = next(row for row in suite.host.app.user_middleware if row.cls.__name__ == "Gate")
    routes: list[GuardedRoute] = gate.kwargs["routes"]
    return routes


def path_of(route: GuardedRoute) -> str:
    def value(match: re.Match[str]) -> str:
        prefix = ID_OF.get(match[1])
        return f"{prefix}_01hf7yat00e008000000000009" if prefix else "unknown"

    return PARAMETER.sub(value, route.path)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_route_refuses_whom_its_row_does_not_name(suite: RunningSuite) -> None:
    wrong: list[str] = []
    for route in routes_of(suite):
        if not route.access.roles:
            continue
        async with suite.client() as nobody:
            response = await nobody.request(route.method, path_of(route))
            if (response.status_code, response.json()["code"]) != (401, "auth.token-missing"):
                wrong.append(f"{route.method} {route.path} without a token: {response.status_code}")
        for role in Role:
            allowed = bool(expand([role]) & route.access.roles)
            async with suite.client(role) as client:
                response = await client.request(route.method, path_of(route))
            refused = response.status_code in {401, 403}
            if refused == allowed:
                wrong.append(f"{route.method} {route.path} as {role}: {response.status_code}")
    assert wrong == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_forged_token_and_a_foreign_tenant_see_nothing(suite: RunningSuite) -> None:
    wrong: list[str] = []
    good = suite.issuer.token(TENANT, Role.TENANT_ADMIN)
    header, claims, signature = good.split(".")
    forged = ".".join((header, claims, signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")))
    for route in routes_of(suite):
        if not route.access.roles:
            continue
        async with suite.client(token=forged) as client:
            if (await client.request(route.method, path_of(route))).status_code != 401:
                wrong.append(f"{route.method} {route.path} with a forged token")
        if "{" in route.path:
            async with suite.client(Role.TENANT_ADMIN, Role.SERVICE, tenant=OTHER_TENANT) as client:
                status = (await client.request(route.method, path_of(route), json={})).status_code
            if status not in {403, 404, 422, 428}:
                wrong.append(f"{route.method} {route.path} for a foreign tenant: {status}")
    assert wrong == []


@pytest.mark.asyncio(loop_scope="module")
async def test_open_routes_are_few_and_have_reasons(suite: RunningSuite) -> None:
    routes = [route for route in routes_of(suite) if not route.access.roles]
    assert all(len(route.access.reason) > 10 for route in routes)
    allowed = re.compile(
        r"/(livez|readyz|metrics|openapi\.json|docs)$|/readyz$|/stream$|jwks\.json$|/auth/v1/token$|/auth/v1/launch$"
        r"|/auth/v1/oauth/callback$"
        r"|/simulator/v1/(epic|unity|cerner|fhir)/"
    )
    assert [route.path for route in routes if not allowed.search(route.path)] == []


def test_a_route_without_a_row_stops_the_start(tmp_path: Path) -> None:
    from fastapi import FastAPI

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/surprise", lambda: None)
    with pytest.raises(RuntimeError, match="GET /surprise has no access row"):
        guarded_routes(app, {})
    with pytest.raises(RuntimeError, match="without a route"):
        guarded_routes(
            FastAPI(openapi_url=None, docs_url=None, redoc_url=None), {("GET", "/livez"): (PROCESS_ACCESS[0], None)}
        )


def test_an_open_route_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Access("GET", "/x", frozenset())
