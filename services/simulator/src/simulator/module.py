"""Wiring of the simulator."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter

from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load
from simulator.access import ACCESS
from simulator.adapters.authority import Authority, root_of
from simulator.adapters.drop_folder import DropFolder
from simulator.adapters.key_sets import PublishedKeySets
from simulator.adapters.mllp_receiver import MllpReceiver
from simulator.adapters.mllp_sender import MllpSender
from simulator.adapters.tcp_proxy import TcpProxy
from simulator.api import (
    days,
    faults,
    hl7_traffic,
    launches,
    operator,
    population,
    proxies,
    rest_servers,
    servers,
    vendor,
)
from simulator.core.chance import below
from simulator.core.fault_row import Surface
from simulator.core.population import Shares
from simulator.core.world import World
from simulator.settings import SimulatorSettings
from simulator.use_cases.keep_proxies import Proxies
from simulator.use_cases.run_days import Days
from simulator.use_cases.run_feeds import Feeds

PREFIX: Final = "/simulator"
_DRAWS: Final = 1_000_000


def build(runtime: Runtime) -> Module:
    """The simulator on a runtime. It keeps no database: a vendor's state is not the suite's to store."""
    settings = load(SimulatorSettings)
    world = World(
        settings.practices,
        seed=settings.seed,
        patients=settings.patients,
        token_life_s=settings.token_life_s,
        export_takes_s=settings.export_takes_s,
        shares=Shares(
            settings.twins_percent, settings.moved_percent, settings.duplicates_percent, settings.merged_percent
        ),
    )
    policy = runtime.outbound.policy
    keys = PublishedKeySets(policy, runtime.telemetry, runtime.clock)
    addresses = vendor.Addresses(f"{PREFIX}/v1", settings.public_url)
    router = APIRouter(tags=["simulator"])
    sender = MllpSender(policy, runtime.telemetry)
    feeds = Feeds(world, sender, runtime.clock, asyncio.sleep)
    receiver = MllpReceiver(
        settings.receiver_host,
        settings.receiver_port,
        runtime.clock,
        lambda: world.faults.on(Surface.HL7_RECEIVER, runtime.clock.now()),
    )
    operator.add_routes(router, world, sender, addresses, runtime.clock, runtime.ids)
    now = runtime.clock.now()
    authority = Authority(root_of(settings.authority_file, now), now)
    drawn = itertools.count()

    def chance() -> float:
        return below(_DRAWS, settings.seed, "toxic", next(drawn)) / _DRAWS

    network = Proxies(
        policy.resolve,
        lambda port, target, toxics: TcpProxy(settings.proxy_host, port, target, toxics, chance, authority.context),
        runtime.clock,
    )
    proxies.add_routes(router, network, authority.pem)
    faults.add_routes(router, world, runtime.clock)
    hl7_traffic.add_routes(router, world, feeds, receiver, runtime.clock)
    population.add_routes(router, world)
    folder = DropFolder(settings.drop_folder) if settings.drop_folder is not None else None
    running_days = Days(sender, runtime.clock, asyncio.sleep, folder)
    days.add_routes(router, world, running_days, runtime.clock)
    servers.add_routes(router, world, addresses, runtime.clock, runtime.ids, asyncio.sleep)
    launches.add_routes(router, world, addresses, runtime.clock, runtime.ids, asyncio.sleep)
    rest_servers.add_routes(router, world, keys, addresses, runtime.clock, runtime.ids, asyncio.sleep)
    vendor.add_routes(router, world, keys, addresses, runtime.clock, runtime.ids, asyncio.sleep)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await receiver.start()
        try:
            yield
        finally:
            await running_days.close()
            await feeds.stop()
            await network.stop()
            await receiver.stop()
            await keys.close()

    return Module(name="simulator", prefix=PREFIX, router=router, access=ACCESS, lifespan=lifespan)
