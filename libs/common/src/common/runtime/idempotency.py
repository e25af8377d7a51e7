"""Idempotency-Key on POST: the same request twice is done once (draft-ietf-httpapi-idempotency-key-header).

The first request claims its key for 60 s and is handled; its answer is kept for 24 h, sealed with the tenant's keys,
and given again to the same request. A key belongs to the caller and the path: two callers never meet. Not kept, so
that a repetition is handled anew: answers of 500 and above, raised failures (their transaction was rolled back), and
streams. A process that dies between its commit and keeping the answer leaves a claim that runs out; what then is
handled a second time must still be refused by the use case's own constraints (names, ids, states).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import Row, delete, select, update

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import TenantKeys
from common.runtime.tables import IDEMPOTENCY

HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
KEY_CHARACTERS_MAX: Final = 128
CLAIM: Final = timedelta(seconds=60)
KEPT: Final = timedelta(hours=24)
PRUNE_ROWS_MAX: Final = 20
STARTED: Final = "started"
FINISHED: Final = "finished"
_FIELD: Final = "idempotent-response"
_HEADERS_KEPT: Final = ("content-type", "etag", "location")
_CLAIM_BYTES: Final = 16

_log = logging.getLogger("common.idempotency")

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class IdempotentRoute(APIRoute):
    """Route class: `APIRouter(route_class=IdempotentRoute)`. Other methods, and POSTs without the header, just run."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            database = _database(request)
            caller: Caller | None = getattr(request.state, "caller", None)
            if request.method != "POST" or key is None or database is None or caller is None:
                return await handle(request)
            check_key(key)
            runtime = request.app.state.runtime
            keys = await runtime.keyring.tenant(caller.tenant)
            parts = (caller.tenant, caller.subject, "POST", request.scope.get("ps.route", ""), request.url.path, key)
            digest = hashlib.sha256(await request.body()).hexdigest()
            claim = Claim(_scope(parts), caller.tenant, digest, runtime.ids.token(_CLAIM_BYTES))
            return await handle_once(database, runtime.clock, keys, claim, lambda: handle(request))

        return once


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's hold on its key: where it counts, the body's hash, and a token that only this request knows."""

    scope: str
    tenant: str
    request_sha256: str
    token: str


def check_key(key: str) -> None:
    """Raises SuiteError `idempotency.invalid-key` for anything but 1 to 128 printable ASCII characters."""
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not all(" " <= character <= "~" for character in key):
        raise SuiteError("idempotency.invalid-key")


async def handle_once(
    database: Database, clock: Clock, keys: TenantKeys, claim: Claim, handle: Callable[[], Awaitable[Response]]
) -> Response:
    """The kept answer, or the handler's, which is then kept.

    Raises SuiteError `idempotency.body-differs` or `idempotency.in-progress`, and what the handler raises.
    """
    kept = await _claim(database, clock.now(), claim)
    if kept is not None:
        return _again(kept, keys)
    try:
        response = await handle()
    except Exception:
        await _let_go(database, claim)
        raise
    body = getattr(response, "body", None)
    if response.status_code >= 500 or not isinstance(body, bytes):
        await _let_go(database, claim)
        return response
    sealed = keys.seal(body, record=claim.scope, field=_FIELD)
    headers = {name: response.headers[name] for name in _HEADERS_KEPT if name in response.headers}
    await _keep(database, clock.now(), claim, {"status": response.status_code, "headers": headers, "body": sealed})
    return response


async def _claim(database: Database, now: datetime, claim: Claim) -> Row[Any] | None:
    """None when the request may go on; the kept answer when it was handled before."""
    row = {
        "scope": claim.scope,
        "tenant": claim.tenant,
        "state": STARTED,
        "request_sha256": claim.request_sha256,
        "claim": claim.token,
        "claimed_until": now + CLAIM,
        "expires_at": now + KEPT,
    }
    expired = select(IDEMPOTENCY.c.scope).where(IDEMPOTENCY.c.expires_at <= now).limit(PRUNE_ROWS_MAX)
    async with database.write() as session:
        await session.execute(
            delete(IDEMPOTENCY).where(IDEMPOTENCY.c.scope == claim.scope, IDEMPOTENCY.c.expires_at <= now)
        )
        await session.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.scope.in_(expired)))
        added = database.insert(IDEMPOTENCY).values(**row).on_conflict_do_nothing()
        if (await session.execute(added.returning(IDEMPOTENCY.c.scope))).first() is not None:
            return None
        there = select(IDEMPOTENCY).where(IDEMPOTENCY.c.scope == claim.scope).with_for_update()
        found = (await session.execute(there)).first()
        if found is None:  # given up by the other request between our two statements
            raise SuiteError("idempotency.in-progress", headers={"Retry-After": "1"})
        if found.request_sha256 != claim.request_sha256:
            raise SuiteError("idempotency.body-differs")
        if found.state == FINISHED:
            return found
        if found.claimed_until > now:
            raise SuiteError("idempotency.in-progress", headers={"Retry-After": "1"})
        await session.execute(update(IDEMPOTENCY).where(IDEMPOTENCY.c.scope == claim.scope).values(**row))
        return None


async def _keep(database: Database, now: datetime, claim: Claim, answer: dict[str, Any]) -> None:
    changed = update(IDEMPOTENCY).where(*_ours(claim)).values(state=FINISHED, expires_at=now + KEPT, **answer)
    try:
        async with database.write() as session:
            await session.execute(changed)
    except SuiteError as error:  # the request was done: that is what its caller is told
        _log.warning("answer not kept", extra={"code": error.code})


async def _let_go(database: Database, claim: Claim) -> None:
    try:
        async with database.write() as session:
            await session.execute(delete(IDEMPOTENCY).where(*_ours(claim)))
    except SuiteError as error:  # the claim runs out by itself
        _log.warning("claim not given back", extra={"code": error.code})


def _ours(claim: Claim) -> tuple[Any, Any]:
    return IDEMPOTENCY.c.scope == claim.scope, IDEMPOTENCY.c.claim == claim.token


def _again(kept: Row[Any], keys: TenantKeys) -> Response:
    body = keys.open(kept.body, record=kept.scope, field=_FIELD)
    return Response(body, kept.status, {**kept.headers, REPLAYED_HEADER: "true"})


def _database(request: Request) -> Database | None:
    module = request.scope.get("ps.module")
    return None if module is None else module.database


def _scope(parts: tuple[str, ...]) -> str:
    """One hash of all that a key counts for; each part with its length, so that no two look alike."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()
