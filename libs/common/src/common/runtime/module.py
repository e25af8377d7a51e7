"""What a module is: a router with its access rows, a database, subscriptions and background work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from fastapi import APIRouter

from common.models.access import Access
from common.runtime.database import Database
from common.runtime.inbox import Subscription
from common.runtime.tenant_data import TenantPart


@asynccontextmanager
async def no_lifespan() -> AsyncIterator[None]:
    """The lifespan of a module without background work."""
    yield


async def always_ready() -> list[str]:
    """Readiness of a module that needs nothing but its database."""
    return []


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """One concern of the suite; see docs/chassis.md. Paths of router and access rows begin after `prefix + "/v1"`."""

    name: str
    prefix: str
    router: APIRouter
    access: Sequence[Access]
    database: Database | None = None
    subscriptions: Sequence[Subscription] = ()
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = field(default=no_lifespan)
    tenant_parts: Sequence[TenantPart] | None = None
    """What it holds of practices, to be exported and erased; None: nothing."""
    stream_topics: Sequence[str] = ()
    ready: Callable[[], Awaitable[list[str]]] = field(default=always_ready)
