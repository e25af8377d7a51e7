"""Wiring of auth-gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter

from auth_gateway.access import ACCESS
from auth_gateway.adapters.access_store import SqlAccessStore
from auth_gateway.adapters.authorization_store import SqlAuthorizationStore
from auth_gateway.adapters.change_store import SqlChangeStore
from auth_gateway.adapters.credential_history import SqlCredentialHistory
from auth_gateway.adapters.credential_store import SqlCredentialStore
from auth_gateway.adapters.expiry_store import SqlExpiryStore
from auth_gateway.adapters.fleet_store import SqlFleetStore
from auth_gateway.adapters.integration_store import SqlIntegrationStore
from auth_gateway.adapters.key_set_readings import KeySetReadings
from auth_gateway.adapters.key_store import SqlKeyStore
from auth_gateway.adapters.launch_store import SqlLaunchStore
from auth_gateway.adapters.offboarding_peers import OffboardingPeers
from auth_gateway.adapters.offboarding_store import SqlOffboardings
from auth_gateway.adapters.prober import NetworkProber
from auth_gateway.adapters.readiness_peers import ReadinessPeers
from auth_gateway.adapters.sync_schedules import PeerSchedules
from auth_gateway.adapters.tables import Base
from auth_gateway.adapters.tenant_parts import tenant_parts
from auth_gateway.adapters.tenant_state_store import SqlTenantStates
from auth_gateway.adapters.tenant_store import SqlTenantStore
from auth_gateway.adapters.token_endpoint import HttpTokenEndpoint
from auth_gateway.adapters.version_store import SqlVersionStore
from auth_gateway.api import accesses as accesses_api
from auth_gateway.api import authorizations as authorizations_api
from auth_gateway.api import changes as changes_api
from auth_gateway.api import credentials as credentials_api
from auth_gateway.api import expiries as expiries_api
from auth_gateway.api import fleet as fleet_api
from auth_gateway.api import integrations as integrations_api
from auth_gateway.api import keys as keys_api
from auth_gateway.api import launches as launches_api
from auth_gateway.api import offboarding as offboarding_api
from auth_gateway.api import permissions as permissions_api
from auth_gateway.api import platform as platform_api
from auth_gateway.api import readiness as readiness_api
from auth_gateway.api import signing_keys as signing_keys_api
from auth_gateway.api import tenant_states as tenant_states_api
from auth_gateway.api import vendor_tools
from auth_gateway.api import vendors as vendors_api
from auth_gateway.api import versions as versions_api
from auth_gateway.consumers import subscriptions
from auth_gateway.core.refresh import TokenTiming
from auth_gateway.settings import AuthGatewaySettings
from auth_gateway.use_cases.authorize_credential import AuthorizeCredential
from auth_gateway.use_cases.check_permissions import Checker, Question, check_permissions
from auth_gateway.use_cases.check_readiness import CheckReadiness
from auth_gateway.use_cases.grant_access import AccessDesk
from auth_gateway.use_cases.issue_token import issue_token
from auth_gateway.use_cases.lend_credential import lend_credential
from auth_gateway.use_cases.obtain_token import Broker, obtain_token, refresh_token
from auth_gateway.use_cases.offboard_tenant import OffboardTenant
from auth_gateway.use_cases.put_credential import put_credential
from auth_gateway.use_cases.record_launch import record_launch
from auth_gateway.use_cases.test_credential import Tester, test_credential
from auth_gateway.use_cases.watch_credentials import watch_credentials
from auth_gateway.use_cases.watch_expiries import watch_expiries
from common.models.integration import Environment
from common.runtime.authentication import verify_service_assertion
from common.runtime.background import background
from common.runtime.database import Database
from common.runtime.keyring import PLATFORM
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.outbound import ExchangeContext
from common.runtime.random_bytes import random_bytes
from common.runtime.runtime import Runtime
from common.runtime.settings import load

JWKS_TIMEOUT_S: Final = 5.0


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
        TokenTiming(settings.refresh_at_share, settings.refresh_margins_s, settings.token_lives_s_max),
        moves.admit,
    )
    issue = partial(
        issue_token,
        store=tenants,
        verify=lambda assertion, now: verify_service_assertion(assertion, runtime.kek, now),
        issuer=runtime.settings.issuer,
        service_life_s=settings.service_token_life_s,
        clock=clock,
        ids=ids,
    )
    router = APIRouter()
    readings = KeySetReadings(database, clock)
    router.include_router(platform_api.router(tenants, tenants, issue, readings.note, clock, ids))
    router.include_router(integrations_api.router(integrations, clock, ids))
    _change_routes(router, runtime, settings, database, integrations, credentials, tenants)
    history = SqlCredentialHistory(database, tenants, readings, clock)
    _credential_routes(router, runtime, settings, broker, integrations, tenants, database, history)
    launches = SqlLaunchStore(database, clock)
    router.include_router(launches_api.router(launches, partial(record_launch, launches, clock, ids)))
    router.include_router(vendor_tools.router())
    fleet = SqlFleetStore(database)
    _practice_routes(router, runtime, database, tenants, moves, fleet)
    offboardings, offboard = _offboarding(router, runtime, settings, database, tenants, moves)
    expiries = SqlExpiryStore(database, clock, ids, runtime.source("auth-gateway"))
    router.include_router(expiries_api.router(expiries, clock))

    works = [
        partial(leases.run_while_held, f"auth-gateway.{name}", work)
        for name, work in (
            ("watch", lambda: watch_credentials(broker, settings.watch_every_s)),
            ("expiry", lambda: watch_expiries(expiries, clock, settings.expiry_every_s)),
            ("offboarding", lambda: offboard.work(settings.offboarding_every_s)),
        )
    ]

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await tenants.ensure_platform()
        async with background("auth-gateway", *works):
            yield

    return Module(
        name="auth-gateway",
        prefix="/auth",
        router=router,
        access=ACCESS,
        database=database,
        subscriptions=subscriptions(fleet, offboardings),
        lifespan=lifespan,
        tenant_parts=tenant_parts(),
        stream_topics=("ps.credential.v1", "ps.integration.changed.v1"),
    )


def _change_routes(
    router: APIRouter,
    runtime: Runtime,
    settings: AuthGatewaySettings,
    database: Database,
    integrations: SqlIntegrationStore,
    credentials: SqlCredentialStore,
    tenants: SqlTenantStore,
) -> None:
    clock, ids = runtime.clock, runtime.ids
    versions = SqlVersionStore(database, clock, ids, runtime.source("auth-gateway"))

    async def confirm(tenant: str, text: str) -> str:
        return (await tenants.keyring.tenant(tenant)).pseudonym("delete-integration", text)

    router.include_router(versions_api.router(integrations, versions, credentials, confirm, clock, ids))
    router.include_router(changes_api.router(SqlChangeStore(database, clock), integrations, versions, clock, ids))
    router.include_router(vendors_api.router(integrations, credentials, settings.egress_addresses))


def _credential_routes(
    router: APIRouter,
    runtime: Runtime,
    settings: AuthGatewaySettings,
    broker: Broker,
    integrations: SqlIntegrationStore,
    tenants: SqlTenantStore,
    database: Database,
    history: SqlCredentialHistory,
) -> None:
    prober = NetworkProber(runtime.outbound, broker.clock)
    tester = Tester(broker, integrations, prober, history, settings.test_timeout_s)

    def jwks_url(tenant: str, environment: Environment) -> str:
        return f"{runtime.settings.base_url}/auth/v1/tenants/{tenant}/{environment}/jwks.json"

    async def test(tenant: str, integration_id: str, name: str) -> dict[str, object]:
        return await test_credential(tester, tenant, integration_id, name, jwks_url=jwks_url)

    async def served_keys(tenant: str, environment: Environment) -> Sequence[str] | None:
        exchange = ExchangeContext(tenant, "", "", "probe", "jwks")
        return await prober.key_ids(jwks_url(tenant, environment), exchange, timeout_s=JWKS_TIMEOUT_S)

    router.include_router(signing_keys_api.router(tenants, served_keys, broker.clock, jwks_url))

    actions = credentials_api.Actions(
        test,
        partial(refresh_token, broker),
        partial(obtain_token, broker),
        partial(lend_credential, broker.credentials, broker.clock),
        partial(put_credential, broker),
        SqlChangeStore(database, broker.clock).require,
    )
    authorize = AuthorizeCredential(
        broker,
        SqlAuthorizationStore(database, tenants.keyring, broker.clock),
        random_bytes,
        f"{runtime.settings.base_url}/auth/v1{authorizations_api.CALLBACK}",
    )
    router.include_router(authorizations_api.router(broker.credentials, authorize))
    router.include_router(credentials_api.router(integrations, broker.credentials, actions, broker.clock))
    checker = Checker(broker, integrations, prober, PeerSchedules(runtime.peers))
    router.include_router(permissions_api.router(partial(check_permissions, checker)))

    async def permissions(tenant: str, integration_id: str) -> dict[str, Any]:
        return await check_permissions(checker, tenant, integration_id, Question(None, None, probe=True))

    ready = CheckReadiness(integrations, broker.credentials, ReadinessPeers(runtime.peers), permissions)
    router.include_router(readiness_api.router(ready, integrations, broker.clock))


def _offboarding(
    router: APIRouter,
    runtime: Runtime,
    settings: AuthGatewaySettings,
    database: Database,
    tenants: SqlTenantStore,
    moves: SqlTenantStates,
) -> tuple[SqlOffboardings, OffboardTenant]:
    clock, ids, kept = runtime.clock, runtime.ids, timedelta(days=settings.export_kept_days)
    store = SqlOffboardings(database, moves, runtime.wrapper, clock, ids, runtime.source("auth-gateway"), kept)
    runtime.tenants.left.append(tenants.keyring.forget)

    async def confirm(text: str) -> str:
        return (await tenants.keyring.tenant(PLATFORM)).pseudonym("offboard-tenant", text)

    holders = OffboardingPeers(runtime.peers)
    offboard = OffboardTenant(store, holders, moves.get, confirm, settings.offboarding_services, clock)
    router.include_router(offboarding_api.router(offboard))
    return store, offboard


def _practice_routes(
    router: APIRouter,
    runtime: Runtime,
    database: Database,
    tenants: SqlTenantStore,
    moves: SqlTenantStates,
    fleet: SqlFleetStore,
) -> None:
    """States of practices, rights for a time, keys, the fleet."""
    clock, ids = runtime.clock, runtime.ids
    accesses = SqlAccessStore(database, clock, ids, runtime.source("auth-gateway"))
    desk = AccessDesk(accesses, tenants.issue, runtime.settings.issuer, clock, ids)
    router.include_router(accesses_api.router(desk))
    router.include_router(tenant_states_api.router(moves))
    router.include_router(keys_api.router(SqlKeyStore(database, runtime.wrapper, clock)))
    router.include_router(fleet_api.router(fleet, clock))
