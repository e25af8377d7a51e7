"""Wiring of auth-gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from auth_gateway.access import ACCESS
from auth_gateway.adapters.access_store import SqlAccessStore
from auth_gateway.adapters.credential_store import SqlCredentialStore
from auth_gateway.adapters.expiry_store import SqlExpiryStore
from auth_gateway.adapters.fleet_store import SqlFleetStore
from auth_gateway.adapters.integration_store import SqlIntegrationStore
from auth_gateway.adapters.key_store import SqlKeyStore
from auth_gateway.adapters.launch_store import SqlLaunchStore
from auth_gateway.adapters.prober import NetworkProber
from auth_gateway.adapters.tables import Base
from auth_gateway.adapters.tenant_state_store import SqlTenantStates
from auth_gateway.adapters.tenant_store import SqlTenantStore
from auth_gateway.adapters.token_endpoint import HttpTokenEndpoint
from auth_gateway.api import accesses as accesses_api
from auth_gateway.api import credentials as credentials_api
from auth_gateway.api import expiries as expiries_api
from auth_gateway.api import fleet as fleet_api
from auth_gateway.api import integrations as integrations_api
from auth_gateway.api import keys as keys_api
from auth_gateway.api import launches as launches_api
from auth_gateway.api import platform as platform_api
from auth_gateway.api import tenant_states as tenant_states_api
from auth_gateway.api import vendor_tools
from auth_gateway.consumers import subscriptions
from auth_gateway.ports import AccessToken
from auth_gateway.settings import AuthGatewaySettings
from auth_gateway.use_cases.grant_access import AccessDesk
from auth_gateway.use_cases.issue_token import Exchange, issue_token
from auth_gateway.use_cases.obtain_token import Broker, obtain_token, refresh_token
from auth_gateway.use_cases.record_launch import record_launch
from auth_gateway.use_cases.test_credential import test_credential
from auth_gateway.use_cases.watch_credentials import watch_credentials
from auth_gateway.use_cases.watch_expiries import watch_expiries
from common.runtime.authentication import verify_service_assertion
from common.runtime.background import background
from common.runtime.database import Database
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load


def build(runtime: Runtime) -> Module:
    """The auth-gateway module on a runtime."""
    settings = load(AuthGatewaySettings)
    clock, ids = runtime.clock, runtime.ids
    database = runtime.database("auth-gateway", Base.metadata, Path(__file__).parent / "migrations")
    leases = Leases(database, clock, ids)
    tenants = SqlTenantStore(database, runtime.wrapper, clock)
    integrations = SqlIntegrationStore(database, clock, ids, runtime.source("auth-gateway"))
    moves = SqlTenantStates(database, integrations, clock, ids, runtime.source("auth-gateway"))
    credentials = SqlCredentialStore(database, tenants.keyring, leases, clock, ids, runtime.source("auth-gateway"))
    broker = Broker(
        credentials,
        tenants,
        HttpTokenEndpoint(runtime.outbound, clock, settings.token_timeout_s),
        leases,
        clock,
        ids,
        settings.refresh_at_share,
    )
    prober = NetworkProber(runtime.outbound, clock)

    async def test(tenant: str, integration_id: str, name: str) -> dict[str, object]:
        jwks_url = f"{runtime.settings.base_url}/auth/v1/tenants/{tenant}/jwks.json"
        return await test_credential(broker, integrations, prober, tenant, integration_id, name, jwks_url=jwks_url)

    router = APIRouter()
    router.include_router(platform_api.router(tenants, tenants, _issuing(runtime, tenants, settings), clock, ids))
    router.include_router(integrations_api.router(integrations, clock, ids))

    async def token(tenant: str, integration_id: str, name: str, rejected_sha256: str | None) -> AccessToken:
        await moves.admit(tenant)
        return await obtain_token(broker, tenant, integration_id, name, rejected_sha256)

    actions = credentials_api.Actions(test, partial(refresh_token, broker), token)
    router.include_router(credentials_api.router(integrations, credentials, actions, clock))
    launches = SqlLaunchStore(database, clock)
    router.include_router(launches_api.router(launches, partial(record_launch, launches, clock, ids)))
    router.include_router(vendor_tools.router())
    fleet = SqlFleetStore(database)
    router.include_router(_of_practices(runtime, database, tenants, moves, fleet))
    expiries = SqlExpiryStore(database, clock, ids, runtime.source("auth-gateway"))
    router.include_router(expiries_api.router(expiries, clock))

    async def watch() -> None:
        await leases.run_while_held("auth-gateway.watch", lambda: watch_credentials(broker, settings.watch_every_s))

    async def watch_ends() -> None:
        await leases.run_while_held(
            "auth-gateway.expiry", lambda: watch_expiries(expiries, clock, settings.expiry_every_s)
        )

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await tenants.ensure_platform()
        async with background("auth-gateway", watch, watch_ends):
            yield

    return Module(
        name="auth-gateway",
        prefix="/auth",
        router=router,
        access=ACCESS,
        database=database,
        subscriptions=subscriptions(fleet),
        lifespan=lifespan,
        stream_topics=("ps.credential.v1", "ps.integration.changed.v1"),
    )


def _of_practices(
    runtime: Runtime, database: Database, tenants: SqlTenantStore, moves: SqlTenantStates, fleet: SqlFleetStore
) -> APIRouter:
    """States of practices, rights for a time, keys, the fleet."""
    clock, ids = runtime.clock, runtime.ids
    accesses = SqlAccessStore(database, clock, ids, runtime.source("auth-gateway"))
    desk = AccessDesk(accesses, tenants.issue, runtime.settings.issuer, clock, ids)
    router = APIRouter()
    router.include_router(accesses_api.router(desk))
    router.include_router(tenant_states_api.router(moves))
    router.include_router(keys_api.router(SqlKeyStore(database, runtime.wrapper, clock)))
    router.include_router(fleet_api.router(fleet, clock))
    return router


def _issuing(
    runtime: Runtime, tenants: SqlTenantStore, settings: AuthGatewaySettings
) -> Callable[[Exchange], Awaitable[dict[str, Any]]]:
    """Token exchange."""
    return partial(
        issue_token,
        store=tenants,
        verify=lambda assertion, now: verify_service_assertion(assertion, runtime.kek, now),
        issuer=runtime.settings.issuer,
        service_life_s=settings.service_token_life_s,
        clock=runtime.clock,
        ids=runtime.ids,
    )
