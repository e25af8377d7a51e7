"""The runtime: the pieces of the chassis that a module is built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy import MetaData

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.authentication import Authenticator, FetchKeys
from common.runtime.bus import Bus
from common.runtime.bus_sqlite import SqliteBus
from common.runtime.database import Database
from common.runtime.directory import IntegrationDirectory
from common.runtime.exchanges import Exchanges, TelemetryEvents
from common.runtime.keyring import (
    KeyEncryptionKey,
    KeyRing,
    KeyWrapper,
    LocalKeyWrapper,
    WrappedKeyRing,
    load_key_encryption_key,
)
from common.runtime.outbound import AddressPolicy, Outbound
from common.runtime.peers import PeerKeySource, Peers
from common.runtime.settings import RuntimeSettings
from common.runtime.stream import Tickets
from common.runtime.telemetry import Telemetry
from common.runtime.tenant_states import TenantStates
from common.runtime.transit import Transit, TransitKeyWrapper

_ISSUER_TIMEOUT_S: Final = 5.0


@dataclass
class Runtime:
    """Everything a module may use; made once per process."""

    settings: RuntimeSettings
    service: str
    replica: str
    clock: Clock
    ids: Ids
    kek: KeyEncryptionKey
    wrapper: KeyWrapper
    telemetry: Telemetry
    bus: Bus
    peers: Peers
    keyring: KeyRing
    authenticator: Authenticator
    directory: IntegrationDirectory
    tenants: TenantStates
    exchanges: Exchanges
    telemetry_events: TelemetryEvents
    outbound: Outbound
    tickets: Tickets
    databases: list[Database] = field(default_factory=list)

    def database(self, module: str, metadata: MetaData, migrations: Path | None) -> Database:
        """The database of one module, opened by the host."""
        url = self.settings.database_url or f"sqlite:///{self.settings.data}"
        database = Database(
            url, module, metadata, migrations, pool_connections_max=self.settings.database_connections_max
        )
        self.databases.append(database)
        return database

    def source(self, module: str) -> str:
        """`source` of the events that a module of this replica publishes."""
        return f"/{module}/{self.replica}"


def prepare_data(data: Path) -> None:
    """Make the data directory; raises SuiteError `start.directory-unwritable` naming it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / ".writable"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another process of the same directory may look at the same time
    except OSError as error:
        raise SuiteError("start.directory-unwritable", f"{data}: {error.strerror or 'cannot be written'}") from error


def make_runtime(
    settings: RuntimeSettings,
    *,
    service: str,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry | None = None,
    keyring: KeyRing | None = None,
) -> Runtime:
    """Put the chassis together from its settings; nothing is connected yet.

    Raises SuiteError `start.*` for what can not work.
    """
    prepare_data(settings.data)
    replica = ids.new("rep")
    kek = load_key_encryption_key(
        key=settings.key,
        key_file=settings.key_file,
        data=settings.data,
        others=settings.other_keys,
        other_files=settings.other_key_files,
    )
    telemetry = telemetry or Telemetry(settings, service=service, replica=replica)
    bus = _bus(settings, service, clock, ids)
    peers = Peers(settings.peers, kek, f"service:{service}", clock, ids)
    events = TelemetryEvents(bus, telemetry)
    exchanges = Exchanges(events, clock, ids, f"/{service}/{replica}")
    outbound = Outbound(
        AddressPolicy(settings.allowed_networks),
        exchanges,
        telemetry,
        clock,
        response_bytes_max=settings.response_bytes_max,
    )
    wrapper = _wrapper(settings, kek, outbound)
    ring = WrappedKeyRing(wrapper, PeerKeySource(peers), clock)
    tenants = TenantStates(bus)
    tenants.left.append(ring.forget)
    return Runtime(
        settings=settings,
        service=service,
        replica=replica,
        clock=clock,
        ids=ids,
        kek=kek,
        wrapper=wrapper,
        telemetry=telemetry,
        bus=bus,
        peers=peers,
        keyring=keyring or ring,
        authenticator=Authenticator(settings.issuer, settings.oidc_issuers, _fetch_keys(peers), clock),
        directory=IntegrationDirectory(bus, peers),
        tenants=tenants,
        exchanges=exchanges,
        telemetry_events=events,
        outbound=outbound,
        tickets=Tickets(kek, clock, ids),
    )


def _wrapper(settings: RuntimeSettings, kek: KeyEncryptionKey, outbound: Outbound) -> KeyWrapper:
    local = LocalKeyWrapper(kek)
    if not settings.kms_url:
        return local
    if not settings.kms_token_file:
        raise SuiteError(
            "start.bad-setting", "PS_KMS_TOKEN_FILE: expected a file with the token, since PS_KMS_URL is set"
        )
    place = Transit(
        settings.kms_url,
        settings.kms_mount,
        settings.kms_key,
        Path(settings.kms_token_file),
        settings.kms_namespace,
        settings.kms_timeout_s,
    )
    return TransitKeyWrapper(place, outbound, former=local)


def _bus(settings: RuntimeSettings, service: str, clock: Clock, ids: Ids) -> Bus:
    if not settings.bus_url:
        return SqliteBus(settings.data, clock, ids)
    # Imported when asked for: the Kafka client costs memory that the embedded default does not spend.
    from common.runtime.bus_kafka import KafkaBus

    return KafkaBus(
        settings.bus_url.removeprefix("kafka://").rstrip("/"),
        service,
        clock,
        ids,
        replication_factor=settings.bus_replication_factor,
    )


def _fetch_keys(peers: Peers) -> FetchKeys:
    async def fetch(url: str) -> Mapping[str, object]:
        if url:
            return await fetch_document(url)
        return dict((await peers.public("auth-gateway", "GET", "/auth/v1/issuer/jwks.json")).json())

    return fetch


async def fetch_document(url: str) -> Mapping[str, object]:
    """The JSON object an issuer publishes there; raises SuiteError `auth.issuer-unavailable`."""
    try:
        async with httpx.AsyncClient(timeout=_ISSUER_TIMEOUT_S, trust_env=False) as client:
            response = await client.get(url)
            response.raise_for_status()
            return dict(response.json())
    except (httpx.HTTPError, httpx.InvalidURL, TypeError, ValueError) as error:
        raise SuiteError("auth.issuer-unavailable") from error
