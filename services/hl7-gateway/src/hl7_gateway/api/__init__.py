"""HTTP of the HL7 gateway: a file per resource."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from common.models.clock import Clock, Ids
from common.runtime.idempotency import IdempotentRoute
from hl7_gateway.api import (
    connection_tests,
    connections,
    edits,
    messages,
    outbound,
    profiles,
    replays,
    unmatched_senders,
    validator,
)
from hl7_gateway.api.messages import Backlog, Encodings, message_json
from hl7_gateway.core.unmatched import UnmatchedSenders
from hl7_gateway.ports import ConnectionBook, EditBook, Listener, MessageBook, OutboundBook, ProfileBook, ReplayBook
from hl7_gateway.use_cases.configure_connection import ConfigureConnection
from hl7_gateway.use_cases.configure_profile import ConfigureProfile
from hl7_gateway.use_cases.edit_messages import EditMessages
from hl7_gateway.use_cases.enqueue_messages import EnqueueMessages
from hl7_gateway.use_cases.replay_messages import ReplayMessages
from hl7_gateway.use_cases.run_listeners import Listeners
from hl7_gateway.use_cases.search_messages import PatientKeys
from hl7_gateway.use_cases.try_connection import TryConnection
from hl7_gateway.use_cases.try_profile import TryProfile

__all__ = ["Again", "Checking", "Sending", "message_json", "router"]


@dataclass(frozen=True, slots=True)
class Checking:
    """What the routes of profiles and of the validator need; `encodings` of connections, by id."""

    profiles: ProfileBook
    configure: ConfigureProfile
    trial: TryProfile
    encodings: Encodings


@dataclass(frozen=True, slots=True)
class Sending:
    """What the routes of connections and of sending need."""

    connections: ConnectionBook
    configure: ConfigureConnection
    book: OutboundBook
    enqueue: EnqueueMessages
    patients: PatientKeys
    test: TryConnection
    checking: Checking


@dataclass(frozen=True, slots=True)
class Again:
    """What the routes of replays and edits need."""

    replay_book: ReplayBook
    replay: ReplayMessages
    edit_book: EditBook
    edit: EditMessages


def router(
    book: MessageBook,
    listeners: Sequence[Listener],
    backlog: Backlog,
    sending: Sending,
    configured: Listeners,
    unmatched: UnmatchedSenders,
    clock: Clock,
    ids: Ids,
    again: Again,
) -> APIRouter:
    """The routes; paths begin after /hl7/v1."""
    api = messages.router(book, sending.patients, listeners, backlog, sending.checking.encodings)
    mine = APIRouter(route_class=IdempotentRoute, tags=["hl7: Connections"])
    connections.add_routes(mine, sending.connections, sending.configure, sending.book, configured)
    unmatched_senders.add_routes(mine, unmatched)
    outbound.add_routes(mine, sending.connections, sending.book, sending.enqueue, sending.patients)
    connection_tests.add_routes(mine, sending.connections, sending.test)
    checking = sending.checking
    profiles.add_routes(mine, checking.profiles, checking.configure, checking.trial, backlog)
    api.include_router(mine)
    store = APIRouter(route_class=IdempotentRoute, tags=["hl7: Replays"])
    replays.add_routes(store, again.replay_book, again.replay, sending.patients, backlog)
    edits.add_routes(store, again.edit, again.edit_book, book, sending.book)
    api.include_router(store)
    tools = APIRouter(tags=["hl7: Validator"])
    validator.add_routes(tools, checking.profiles, sending.connections, clock, ids)
    api.include_router(tools)
    return api
