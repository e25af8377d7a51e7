"""Wiring of diagnostics."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from common.runtime.background import background
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load
from diagnostics.access import ACCESS
from diagnostics.adapters.connection_test_store import SqlConnectionTestStore
from diagnostics.adapters.exchange_store import SqlExchangeStore
from diagnostics.adapters.prober import NetworkProber
from diagnostics.adapters.tables import Base
from diagnostics.adapters.tenant_parts import tenant_parts
from diagnostics.api import router
from diagnostics.consumers import subscriptions
from diagnostics.settings import DiagnosticsSettings
from diagnostics.use_cases.prune_exchanges import prune_exchanges
from diagnostics.use_cases.test_connection import test_connection


def build(runtime: Runtime) -> Module:
    """The diagnostics module on a runtime."""
    settings = load(DiagnosticsSettings)
    database = runtime.database("diagnostics", Base.metadata, Path(__file__).parent / "migrations")
    exchanges = SqlExchangeStore(database)
    tests = SqlConnectionTestStore(database)
    test = partial(
        test_connection,
        integrations=runtime.directory,
        prober=NetworkProber(runtime.outbound, runtime.peers, runtime.clock),
        store=tests,
        clock=runtime.clock,
        ids=runtime.ids,
    )

    prune = partial(
        prune_exchanges,
        exchanges,
        runtime.clock,
        retention_days=settings.exchange_retention_days,
        every_s=settings.prune_every_s,
    )
    return Module(
        name="diagnostics",
        prefix="/diagnostics",
        router=router(exchanges, tests, test),
        access=ACCESS,
        database=database,
        subscriptions=subscriptions(exchanges),
        lifespan=lambda: background("diagnostics", prune),
        tenant_parts=tenant_parts(),
        stream_topics=("ps.exchange.v1",),
    )
