"""Connections: listeners and senders as configuration (HL7 > Connections)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, etag, if_match, page_body
from hl7_gateway.core.connection_configuration import Connection, ConnectionDocument, Step
from hl7_gateway.ports import ConnectionBook, ConnectionVersion, Live, OutboundBook
from hl7_gateway.use_cases.configure_connection import ConfigureConnection
from hl7_gateway.use_cases.run_listeners import Listeners

Who = Annotated[Caller, Depends(caller_of)]
Reason = Annotated[str, Field(min_length=3, max_length=500, description="why; kept with the version and in the audit")]


class NewConnection(BaseModel):
    """A connection to make."""

    model_config = ConfigDict(extra="forbid")

    configuration: ConnectionDocument
    reason: Reason = "created"


class ConnectionChange(BaseModel):
    """What a connection shall be from now on: the whole document."""

    model_config = ConfigDict(extra="forbid")

    configuration: ConnectionDocument
    reason: Reason


class Move(BaseModel):
    """Why a connection is paused, resumed or disabled."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


def add_routes(
    api: APIRouter,
    book: ConnectionBook,
    configure: ConfigureConnection,
    outbound: OutboundBook,
    listeners: Listeners,
) -> None:
    """Paths begin after /hl7/v1."""
    _documents(api, book, configure)
    _one(api, book, outbound, listeners)
    _changes(api, book, configure)
    _steps(api, book, configure)


def _documents(api: APIRouter, book: ConnectionBook, configure: ConfigureConnection) -> None:
    @api.post("/connections", status_code=201, summary="Add an HL7 connection (HL7 > Connections)")
    async def create(body: NewConnection, response: Response, caller: Who) -> dict[str, Any]:
        """It is active at once. PEM texts are sealed and never come back."""
        connection = await configure.create(caller, body.configuration, body.reason)
        response.headers["Location"] = f"/hl7/v1/connections/{connection.id}"
        return answer(connection, response)

    @api.get("/connections", summary="HL7 connections (HL7 > Connections)")
    async def list_connections(caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None) -> dict[str, Any]:
        """All connections of the practice."""
        page = await book.list(caller.tenant, cursor, limit)
        return page_body([connection.as_json() for connection in page.items], page.next)

    @api.get("/connections/{connection_id}/versions", summary="What an HL7 connection was")
    async def versions(
        connection_id: str, caller: Who, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """Every version with its author and reason, newest first; a removed connection's too."""
        page = await book.versions(caller.tenant, check_id(connection_id, "con"), cursor, limit)
        return page_body([version_json(version) for version in page.items], page.next)


def _one(api: APIRouter, book: ConnectionBook, outbound: OutboundBook, listeners: Listeners) -> None:
    @api.get("/connections/{connection_id}", summary="One HL7 connection, and where it stands")
    async def read(connection_id: str, response: Response, caller: Who) -> dict[str, Any]:
        """Its configuration (its ETag is needed to change it), and live: of a sender the link, the queue and what was
        counted; of a listener its port on this replica, open connections and what was counted since it opened."""
        connection = await book.get(caller.tenant, check_id(connection_id, "con"))
        shown = answer(connection, response)
        if connection.configuration.direction == "sender":
            shown["live"] = live_json(await outbound.live(connection))
        else:
            shown["live"] = listeners.state(connection.id)
        return shown


def _changes(api: APIRouter, book: ConnectionBook, configure: ConfigureConnection) -> None:
    @api.put("/connections/{connection_id}", summary="Change an HL7 connection")
    async def change(
        connection_id: str, body: ConnectionChange, request: Request, response: Response, caller: Who
    ) -> dict[str, Any]:
        """Replaces the document (If-Match with its ETag); PEM texts that are left out are kept."""
        before = await book.get(caller.tenant, check_id(connection_id, "con"))
        if_match(request, before.version)
        return answer(await configure.change(caller, before, body.configuration, body.reason), response)

    @api.delete("/connections/{connection_id}", status_code=204, summary="Remove an HL7 connection")
    async def remove(
        connection_id: str,
        request: Request,
        caller: Who,
        reason: Annotated[str, Query(min_length=3, max_length=500, description="kept in the audit log")] = "removed",
    ) -> None:
        """With If-Match; refused while messages of it are not settled. Its history stays."""
        before = await book.get(caller.tenant, check_id(connection_id, "con"))
        if_match(request, before.version)
        await book.remove(caller, before, reason)


def _steps(api: APIRouter, book: ConnectionBook, configure: ConfigureConnection) -> None:
    async def move(connection_id: str, step: Step, why: Move, response: Response, caller: Caller) -> dict[str, Any]:
        before = await book.get(caller.tenant, check_id(connection_id, "con"))
        return answer(await configure.move(caller, before, step, why.reason), response)

    @api.post("/connections/{connection_id}:pause", summary="Pause an HL7 connection")
    async def pause(connection_id: str, why: Move, response: Response, caller: Who) -> dict[str, Any]:
        """What is in flight is finished; a sender keeps taking messages into its queue."""
        return await move(connection_id, Step.PAUSE, why, response, caller)

    @api.post("/connections/{connection_id}:resume", summary="Resume an HL7 connection")
    async def resume(connection_id: str, why: Move, response: Response, caller: Who) -> dict[str, Any]:
        """Goes on where it stopped."""
        return await move(connection_id, Step.RESUME, why, response, caller)

    @api.post("/connections/{connection_id}:disable", summary="Disable an HL7 connection")
    async def disable(connection_id: str, why: Move, response: Response, caller: Who) -> dict[str, Any]:
        """As paused, and a sender takes no messages either."""
        return await move(connection_id, Step.DISABLE, why, response, caller)


def answer(connection: Connection, response: Response) -> dict[str, Any]:
    """The connection, with its ETag."""
    response.headers["ETag"] = etag(connection.version)
    return connection.as_json()


def version_json(version: ConnectionVersion) -> dict[str, Any]:
    """A version as the API shows it."""
    return {
        "version": version.version,
        "state": version.state,
        "configuration": dict(version.configuration),
        "tls_facts": dict(version.tls_facts),
        "author": version.author,
        "reason": version.reason,
        "changed_at": instant_text(version.changed_at),
    }


def live_json(live: Live) -> dict[str, Any]:
    """Where a sender stands, as the API shows it; a link that nobody owns is down, whatever was noted of it."""
    link: Mapping[str, Any] = live.link if live.owned and live.link is not None else {"state": "down"}
    oldest = live.oldest_queued_at
    return {
        "link": {
            "state": link["state"],
            "error_code": link.get("code"),
            "since": instant_text(link["since"]) if "since" in link else None,
            "replica": link.get("replica"),
        },
        "queue": {
            "depth": live.depth,
            "parked": live.parked,
            "held": live.held,
            "oldest_queued_at": None if oldest is None else instant_text(oldest),
            "oldest_age_s": live.oldest_age_s,
        },
        "counters": dict(live.counters),
    }
