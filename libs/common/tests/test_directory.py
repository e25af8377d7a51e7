"""The read copy of integrations: follows the topic, forgets what is deleted, outlives auth-gateway's absence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.models.errors import SuiteError, problem
from common.models.events import Event
from common.models.integration import Integration
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.directory import IntegrationDirectory
from common.runtime.keyring import KeyEncryptionKey
from common.runtime.system import SystemClock, SystemIds
from common.testing import OTHER_TENANT, TENANT, TestPeers, TokenIssuer

WAIT_S = 20.0
EPIC, ORACLE = "int_01hf7yat00e008000000000001", "int_01hf7yat00e008000000000002"
CLOCK, IDS = SystemClock(), SystemIds()


@dataclass
class AuthGateway:
    """Documents of integrations; can be away, hold an answer back, or speak a newer language."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> Starlette:
        self.answering.set()
        return Starlette(routes=[Route("/auth/v1/integrations/{id}", self.read)])

    async def read(self, request: Request) -> Response:
        integration_id = request.path_params["id"]
        self.asked.append(integration_id)
        document = self.documents.get(integration_id)
        self.arrived.set()
        await self.answering.wait()
        if self.away:
            return Response(status_code=503)
        claims = TOKENS.claims(request.headers["authorization"])
        if document is None or document["tenant"] != claims["tenant"]:
            return JSONResponse(problem(SuiteError("integration.not-found"), request_id="req"), 404)
        return JSONResponse(document)

    def put(self, integration_id: str, version: int, tenant: str = TENANT, **changed: Any) -> Event:
        """Keep a version, and the event that announces it."""
        self.documents[integration_id] = {
            "id": integration_id, "tenant": tenant, "name": "Epic", "vendor": "epic", "product": "",
            "environment": "production", "state": "active", "write_back": "off", "version": version,
            "identifier_systems": [], "channels": {}, **changed,
        }  # fmt: skip
        return announce(integration_id, version, tenant)

    def remove(self, integration_id: str) -> Event:
        del self.documents[integration_id]
        return announce(integration_id, None)


class Tokens(TokenIssuer):
    def claims(self, authorization: str) -> dict[str, Any]:
        from joserfc import jwt

        return dict(jwt.decode(authorization.removeprefix("Bearer "), self.key, algorithms=["ES256"]).claims)


TOKENS = Tokens(CLOCK)


def announce(integration_id: str, version: int | None, tenant: str = TENANT) -> Event:
    return Event(
        id=IDS.new("evt"),
        type="ps.integration.changed",
        source="/auth-gateway/1",
        subject=integration_id,
        time=CLOCK.now(),
        tenant=tenant,
        key=integration_id,
        data={} if version is None else {"integration_id": integration_id, "version": version},
        deleted=version is None,
    )


@dataclass
class Told:
    """What the followers were told, in order: id and version, None for a deletion."""

    changes: list[tuple[str, int | None]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, copy: Integration | None, integration_id: str) -> None:
        async with self.changed:
            self.changes.append((integration_id, copy.version if copy else None))
            self.changed.notify_all()

    async def wait_for(self, *change: tuple[str, int | None]) -> None:
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(lambda: set(change) <= set(self.changes))


@pytest.fixture
def gateway() -> AuthGateway:
    return AuthGateway()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteBus]:
    made = SqliteBus(tmp_path, CLOCK, IDS, poll_s=0.02)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def directory(bus: SqliteBus, gateway: AuthGateway) -> AsyncIterator[IntegrationDirectory]:
    """Not started yet."""
    peers = TestPeers({}, KeyEncryptionKey(b"k" * 32), "service:test", CLOCK, IDS)
    peers.issuer = TOKENS
    peers.attach({"auth-gateway": gateway.app()})
    made = IntegrationDirectory(bus, peers)
    yield made
    await made.stop()
    await peers.close()


def follow(directory: IntegrationDirectory) -> Told:
    told = Told()
    directory.changed.append(told)
    return told


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the directory has no event for it
            await asyncio.sleep(0.005)


async def code_of(directory: IntegrationDirectory, integration_id: str, tenant: str = TENANT) -> str:
    with pytest.raises(SuiteError) as failed:
        await directory.get(tenant, integration_id)
    return failed.value.code


async def test_it_knows_what_was_announced_before_it_started(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    await bus.publish([gateway.put(EPIC, 1), gateway.put(ORACLE, 3, OTHER_TENANT), gateway.put(EPIC, 2)])
    told = follow(directory)
    assert not directory.settled
    await directory.start()
    await told.wait_for((EPIC, 2), (ORACLE, 3))
    await wait_until(lambda: directory.settled)
    assert sorted((copy.id, copy.tenant, copy.version) for copy in directory.all()) == [
        (EPIC, TENANT, 2),
        (ORACLE, OTHER_TENANT, 3),
    ]
    assert gateway.asked.count(EPIC) == 1  # the newest version once, not every version


async def test_a_copy_is_read_from_memory_until_a_newer_version_is_announced(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1)])
    await told.wait_for((EPIC, 1))
    for _ in range(5):
        assert (await directory.get(TENANT, EPIC)).version == 1
    assert gateway.asked == [EPIC]
    await bus.publish([gateway.put(EPIC, 2, state="paused")])
    await told.wait_for((EPIC, 2))
    assert (await directory.get(TENANT, EPIC)).state == "paused"
    await bus.publish([announce(EPIC, 1)])  # late, older
    await bus.publish([gateway.put(ORACLE, 1)])
    await told.wait_for((ORACLE, 1))
    assert gateway.asked == [EPIC, EPIC, ORACLE]


async def test_a_foreign_tenant_sees_nothing(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1)])
    await told.wait_for((EPIC, 1))
    assert await code_of(directory, EPIC, OTHER_TENANT) == "integration.not-found"
    gateway.put(ORACLE, 1)  # not announced yet: asked for with the foreign tenant's token
    assert await code_of(directory, ORACLE, OTHER_TENANT) == "integration.not-found"
    assert (await directory.get(TENANT, ORACLE)).version == 1


async def test_a_deletion_is_followed(directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1)])
    await told.wait_for((EPIC, 1))
    await bus.publish([gateway.remove(EPIC)])
    await told.wait_for((EPIC, None))
    assert directory.all() == []
    assert directory.settled
    assert await code_of(directory, EPIC) == "integration.not-found"


async def test_what_is_deleted_while_it_is_fetched_does_not_come_back(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(ORACLE, 1)])
    await told.wait_for((ORACLE, 1))
    gateway.answering.clear()
    gateway.arrived.clear()
    await bus.publish([gateway.put(EPIC, 1)])
    async with asyncio.timeout(WAIT_S):
        await gateway.arrived.wait()  # the answer is on its way
    await bus.publish([gateway.remove(EPIC), announce(ORACLE, None)])
    await told.wait_for((ORACLE, None))  # so the deletion of EPIC was read too
    gateway.answering.set()
    await bus.publish([gateway.put(ORACLE, 2)])
    await told.wait_for((ORACLE, 2))
    assert [copy.id for copy in directory.all()] == [ORACLE]
    assert (EPIC, 1) not in told.changes
    assert await code_of(directory, EPIC) == "integration.not-found"


async def test_what_auth_gateway_no_longer_has_is_forgotten_although_no_deletion_came(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1)])
    await told.wait_for((EPIC, 1))
    gateway.remove(EPIC)
    await bus.publish([announce(EPIC, 2)])
    await told.wait_for((EPIC, None))
    assert directory.all() == []


async def test_the_last_copy_serves_while_auth_gateway_is_away(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1)])
    await told.wait_for((EPIC, 1))
    gateway.away = True
    await bus.publish([gateway.put(EPIC, 2), gateway.put(ORACLE, 1)])
    await wait_until(lambda: gateway.asked[1:].count(EPIC) > 0 and ORACLE in gateway.asked)
    assert (await directory.get(TENANT, EPIC)).version == 1
    assert await code_of(directory, ORACLE) == "service.unavailable"
    assert not directory.settled
    gateway.away = False
    await told.wait_for((EPIC, 2), (ORACLE, 1))  # by itself
    await wait_until(lambda: directory.settled)


async def test_a_follower_that_fails_and_a_document_of_a_newer_version_stop_nothing(
    directory: IntegrationDirectory, bus: SqliteBus, gateway: AuthGateway
) -> None:
    async def failing(_: Integration | None, __: str) -> None:
        raise RuntimeError("a follower's own fault")

    directory.changed.append(failing)
    told = follow(directory)
    await directory.start()
    await bus.publish([gateway.put(EPIC, 1, vendor="a vendor of next year")])
    await wait_until(lambda: EPIC in gateway.asked)
    assert await code_of(directory, EPIC) == "service.unavailable"
    await bus.publish([gateway.put(ORACLE, 1)])
    await told.wait_for((ORACLE, 1))
    await bus.publish([gateway.remove(ORACLE), gateway.put(EPIC, 2)])
    await told.wait_for((ORACLE, None), (EPIC, 2))
