"""HTTP of diagnostics: the exchange history and Connection Test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from common.runtime.idempotency import IdempotentRoute
from diagnostics.core.connection_test import ConnectionTest
from diagnostics.core.exchange import ExchangeFilter
from diagnostics.ports import ConnectionTestStore, ExchangeStore

TestConnection = Callable[[str, str, str | None, str], Awaitable[ConnectionTest]]
"""(tenant, integration id, channel or None, subject) → the test made."""


class NewConnectionTest(BaseModel):
    """Which channel to test."""

    model_config = ConfigDict(extra="forbid")

    integration_id: str = Field(max_length=40, description="the integration")
    channel: str | None = Field(
        default=None, max_length=63, description="its channel; by default the first with an endpoint"
    )


def router(exchanges: ExchangeStore, tests: ConnectionTestStore, test_connection: TestConnection) -> APIRouter:
    """The routes; paths begin after /diagnostics/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["diagnostics"])

    @api.get("/exchanges", summary="Exchange history (API calls and HL7 exchanges)")
    async def list_exchanges(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        kind: Annotated[str | None, Query(max_length=40, description="fhir, token, hl7v2, webhook, probe")] = None,
        outcome: Annotated[str | None, Query(pattern="^(ok|failed)$", description="ok or failed")] = None,
        operation: Annotated[
            str | None, Query(max_length=100, description="e.g. Appointment.search or ADT^A08")
        ] = None,
        after: Annotated[datetime | None, Query(description="from this instant on")] = None,
        before: Annotated[datetime | None, Query(description="before this instant")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Every API call and HL7 exchange, newest first: time, endpoint, status, duration, sizes; never contents."""
        wanted = ExchangeFilter(integration_id, kind, outcome, operation, after, before)
        page = await exchanges.search(caller.tenant, wanted, cursor, limit)
        return page_body([row.as_json() for row in page.items], page.next)

    @api.get("/exchanges/{exchange_id}", summary="One exchange")
    async def read_exchange(exchange_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """One exchange, with the trace id that leads to its spans."""
        return (await exchanges.get(caller.tenant, check_id(exchange_id, "exc"))).as_json()

    @api.post("/connection-tests", status_code=201, summary="Connection Test (Connection Tester)")
    async def make_test(body: NewConnectionTest, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """DNS, TCP, TLS, HTTP, clock, token and metadata of a channel's endpoint, each with evidence, cause and next
        step."""
        integration_id = check_id(body.integration_id, "int")
        return (await test_connection(caller.tenant, integration_id, body.channel, caller.subject)).as_json()

    @api.get("/connection-tests", summary="Connection tests made")
    async def list_tests(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str | None, Query(max_length=40, description="of one integration")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """The tests made so far, newest first."""
        page = await tests.list(caller.tenant, integration_id, cursor, limit)
        return page_body([test.as_json() for test in page.items], page.next)

    @api.get("/connection-tests/{test_id}", summary="One connection test")
    async def read_test(test_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """One test with all its stages."""
        return (await tests.get(caller.tenant, check_id(test_id, "cts"))).as_json()

    return api
