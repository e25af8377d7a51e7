"""Idempotency-Key: the same request is done once, on whatever replica it arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import func, select
from starlette.types import ASGIApp, Receive, Scope, Send

from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.runtime import http_errors
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.idempotency import IdempotentRoute
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemIds
from common.runtime.tables import IDEMPOTENCY
from contracts.conftest import NewDatabase
from contracts.recorded_bus import AT, TENANT


class Order(BaseModel):
    name: str


@dataclass
class Service:
    """A small service; `done` counts what it did, `gate` holds its work up."""

    database: Database
    clock: FixedClock = field(default_factory=lambda: FixedClock(AT))
    done: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[Exception] = field(default_factory=list)

    def client(self, subject: str = "dr-who", tenant: str = TENANT) -> httpx.AsyncClient:
        app = FastAPI()
        app.state.runtime = SimpleNamespace(keyring=StaticKeyRing(), clock=self.clock, ids=SystemIds())
        http_errors.install(app)
        app.include_router(self._router(), prefix="/v1")
        caller = Caller(tenant, subject, frozenset({Role.OPERATOR}))
        guarded = admitted(app, caller, SimpleNamespace(database=self.database))
        return httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://suite.test/v1")

    def _router(self) -> APIRouter:
        api = APIRouter(route_class=IdempotentRoute)

        @api.post("/orders", status_code=201)
        async def make(order: Order, response: Response) -> dict[str, Any]:
            self.begun.set()
            await self.gate.wait()
            if self.failures:
                raise self.failures.pop(0)
            self.done.append(order.name)
            response.headers["Location"] = f"/v1/orders/{len(self.done)}"
            return {"number": len(self.done), "name": order.name}

        @api.post("/broken")
        async def broken(request: Request) -> Response:
            self.done.append("broken")
            return Response(b"no", 503)

        @api.post("/stream")
        async def stream() -> StreamingResponse:
            self.done.append("stream")
            return StreamingResponse(iter([b"a", b"b"]))

        @api.get("/orders")
        async def read() -> dict[str, Any]:
            self.done.append("read")
            return {"count": len(self.done)}

        return api


def admitted(app: ASGIApp, caller: Caller, module: Any) -> ASGIApp:
    """What the gate does before a handler runs."""

    async def admit(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update({"ps.module": module, "ps.route": scope["path"]})
        scope.setdefault("state", {}).update(caller=caller, request_id="req_1")
        await app(scope, receive, send)

    return admit


@pytest.fixture
def service(database: Database) -> Service:
    service = Service(database)
    service.gate.set()
    return service


def key(text: str = "one") -> dict[str, str]:
    return {"Idempotency-Key": text}


async def rows(database: Database) -> int:
    async with database.read() as session:
        return int((await session.execute(select(func.count()).select_from(IDEMPOTENCY))).scalar_one())


class TestIdempotency:
    async def test_the_same_request_is_done_once(self, service: Service) -> None:
        client = service.client()
        first = await client.post("/orders", json={"name": "a"}, headers=key())
        again = await client.post("/orders", json={"name": "a"}, headers=key())
        assert service.done == ["a"]
        assert (
            (first.status_code, first.json()) == (again.status_code, again.json()) == (201, {"number": 1, "name": "a"})
        )
        assert again.headers["location"] == first.headers["location"] == "/v1/orders/1"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"

    async def test_without_a_key_or_as_another_method_it_just_runs(self, service: Service) -> None:
        client = service.client()
        for _ in range(2):
            await client.post("/orders", json={"name": "a"})
            await client.get("/orders", headers=key())
        assert service.done == ["a", "read", "a", "read"]

    async def test_a_key_belongs_to_caller_tenant_and_path(self, service: Service) -> None:
        for client in (service.client(), service.client("dr-no"), service.client(tenant="ten_other")):
            await client.post("/orders", json={"name": "a"}, headers=key())
            await client.post("/stream", headers=key())
        assert service.done == ["a", "stream"] * 3

    async def test_another_body_under_the_same_key_is_refused(self, service: Service) -> None:
        client = service.client()
        await client.post("/orders", json={"name": "a"}, headers=key())
        answer = await client.post("/orders", json={"name": "b"}, headers=key())
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency.body-differs")
        assert service.done == ["a"]

    @pytest.mark.parametrize("text", ["", "x" * 129, "tab\tbed", "na\u00efve".encode("latin-1").decode("latin-1")])
    async def test_a_key_that_can_not_be_used(self, service: Service, text: str) -> None:
        headers = [(b"idempotency-key", text.encode("latin-1")), (b"content-type", b"application/json")]
        answer = await service.client().post("/orders", content=b'{"name": "a"}', headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency.invalid-key")
        assert service.done == []

    async def test_while_the_first_runs_the_second_is_told_to_wait(
        self, service: Service, new_database: NewDatabase
    ) -> None:
        other = Service(new_database())
        await other.database.open()
        service.gate.clear()
        first = asyncio.create_task(service.client().post("/orders", json={"name": "a"}, headers=key()))
        await service.begun.wait()
        answer = await other.client().post("/orders", json={"name": "a"}, headers=key())
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency.in-progress")
        assert answer.headers["retry-after"] == "1"
        service.gate.set()
        assert (await first).status_code == 201
        again = await other.client().post("/orders", json={"name": "a"}, headers=key())
        assert again.headers["idempotency-replayed"] == "true"
        assert (service.done, other.done) == (["a"], [])
        await other.database.close()

    async def test_of_many_at_once_one_is_done(self, service: Service) -> None:
        client = service.client()
        answers = await asyncio.gather(*(client.post("/orders", json={"name": "a"}, headers=key()) for _ in range(12)))
        assert service.done == ["a"]
        assert {answer.status_code for answer in answers} <= {201, 409}

    @pytest.mark.parametrize(
        "failure", [SuiteError("request.conflict"), SuiteError("database.unavailable")], ids=lambda error: error.code
    )
    async def test_a_request_that_failed_is_handled_anew(self, service: Service, failure: SuiteError) -> None:
        client = service.client()
        service.failures = [failure]
        first = await client.post("/orders", json={"name": "a"}, headers=key())
        assert first.json()["code"] == failure.code
        assert (await client.post("/orders", json={"name": "a"}, headers=key())).status_code == 201
        assert service.done == ["a"]

    @pytest.mark.parametrize("path", ["/broken", "/stream"])
    async def test_server_errors_and_streams_are_not_kept(self, service: Service, path: str) -> None:
        client = service.client()
        for _ in range(2):
            await client.post(path, headers=key())
        assert len(service.done) == 2
        assert await rows(service.database) == 0

    async def test_a_claim_of_a_process_that_died_runs_out(self, service: Service) -> None:
        client = service.client()
        service.gate.clear()
        dying = asyncio.create_task(client.post("/orders", json={"name": "a"}, headers=key()))
        await service.begun.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        service.gate.set()
        assert (await client.post("/orders", json={"name": "a"}, headers=key())).status_code == 409
        service.clock.advance(61)
        assert (await client.post("/orders", json={"name": "a"}, headers=key())).status_code == 201
        assert service.done == ["a"]

    async def test_after_a_day_the_key_is_new(self, service: Service) -> None:
        client = service.client()
        await client.post("/orders", json={"name": "a"}, headers=key())
        await client.post("/orders", json={"name": "b"}, headers=key("two"))
        service.clock.advance(24 * 3600 + 1)
        answer = await client.post("/orders", json={"name": "c"}, headers=key())
        assert answer.json()["number"] == 3
        assert await rows(service.database) == 1

    async def test_neither_key_nor_answer_is_readable_in_the_database(self, service: Service) -> None:
        await service.client().post("/orders", json={"name": "canary-name"}, headers=key("canary-key"))
        async with service.database.read() as session:
            row = (await session.execute(select(IDEMPOTENCY))).one()
        assert row.status == 201
        assert "canary" not in repr(row)
