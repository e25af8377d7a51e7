"""HTTP of the HL7 gateway: a file per resource."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from common.runtime.idempotency import IdempotentRoute
from hl7_gateway.api import connections, messages
from hl7_gateway.api.messages import Integrations, message_json
from hl7_gateway.ports import ConnectionBook, KeySource, Listener, MessageBook
from hl7_gateway.use_cases.configure_connection import ConfigureConnection

__all__ = ["message_json", "router"]


def router(
    book: MessageBook,
    keys: KeySource,
    integrations: Integrations,
    listeners: Sequence[Listener],
    connection_book: ConnectionBook,
    configure: ConfigureConnection,
) -> APIRouter:
    """The routes; paths begin after /hl7/v1."""
    api = messages.router(book, keys, integrations, listeners)
    mine = APIRouter(route_class=IdempotentRoute, tags=["hl7: Connections"])
    connections.add_routes(mine, connection_book, configure)
    api.include_router(mine)
    return api
