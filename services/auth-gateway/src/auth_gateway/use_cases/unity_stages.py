"""Stages of Test Connection behind the network for Unity: session, user, server, a harmless action, licences.

Everything is answered with HTTP 200, so that stages are told apart by what the answers say (`pms.unity.ALL_ERRORS`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final

from auth_gateway.core.peer_answers import UnityReply
from common.runtime.connection_probe import CLOCK_OFFSET_MS_MAX, StageResult, failed, skipped
from pms.unity import (
    ALL_ERRORS,
    USER_INVALID,
    AnswerKind,
    Product,
    ServerInfo,
    Session,
    UnityError,
    UnityRequest,
    dictionaries,
    magic,
    parse_server_info,
    patient,
    product_of,
    schedule,
    server_info,
)

# Errors that are about who we are, whichever action met them.
IDENTITY_ERRORS: Final = {
    row.name: row
    for row in ALL_ERRORS
    if row.name in {"logged-out", "user-not-authenticated", "token-invalid", USER_INVALID.name}
}
_UNLICENSED: Final = "not-licensed"
# Long ago and nobody: probes that a licensed server answers without a patient.
_NOBODY: Final = "0"
_LONG_AGO: Final = date(1901, 1, 1)
_NO_TEXT: Final = "zzzzzzzzzz"


Ask = Callable[[UnityRequest], Awaitable[UnityReply]]
"""Sends a request to the server; never raises for what the peer does."""


async def unity_stages(ask: Ask, session: Session, configured: str, now: Callable[[], datetime]) -> list[StageResult]:
    """`identity`, `metadata`, `smart-configuration`, `read`, `permissions`; `configured`: the integration's product."""
    told = await ask(server_info(session))
    asked_at = now()
    listed = await ask(dictionaries(session))
    smart = skipped("smart-configuration", "Unity has none")
    errors = (row for reply in (told, listed) if (row := _error(reply)) is not None)
    refused = next((row for row in errors if row.name in IDENTITY_ERRORS), None)
    if refused is not None:
        reason = "the session is not accepted"
        return [
            unity_failed("identity", refused, told.duration_ms), skipped("metadata", reason), smart,
            skipped("read", reason), skipped("permissions", reason),
        ]  # fmt: skip
    identity = StageResult("identity", "passed", evidence={"user_authenticated": _rows(listed) is not None})
    metadata, found = _metadata(told, configured, asked_at)
    read = _read("GetListOfDictionaries", listed)
    if read.status == "failed":
        return [identity, metadata, smart, read, skipped("permissions", "the harmless action failed")]
    product = found.product if found is not None else product_of(configured)
    return [identity, metadata, smart, read, await _permissions(ask, session, product)]


def unity_failed(stage: str, row: UnityError, duration_ms: float, **evidence: Any) -> StageResult:
    """A stage that failed with one of Unity's errors."""
    result = failed(stage, row.error, duration_ms, cause=row.meaning, unity_error=row.name, **evidence)
    return replace(result, next_step=row.next_step)


def _error(reply: UnityReply) -> UnityError | None:
    return reply.answer.error if reply.answer is not None else None


def _rows(reply: UnityReply) -> Sequence[Any] | None:
    return reply.answer.rows if reply.answer is not None and reply.answer.kind is AnswerKind.ROWS else None


def _metadata(reply: UnityReply, configured: str, now: datetime) -> tuple[StageResult, ServerInfo | None]:
    row = _error(reply)
    if row is not None:
        return unity_failed("metadata", row, reply.duration_ms, action="GetServerInfo"), None
    found = parse_server_info(reply.answer) if reply.answer is not None else None
    if found is None:
        return failed("metadata", reply.error or "peer.unreadable", reply.duration_ms, action="GetServerInfo"), None
    expected = product_of(configured)
    offset_ms = _offset_ms(found, now)
    evidence: dict[str, Any] = {
        "system": found.system,
        "product": found.product.value if found.product else None,
        "configured_product": configured[:200],
        "product_version": found.version,
        "server_time_zone": found.time_zone,
        "clock_offset_ms": offset_ms,
    }
    if expected is not None and found.product is not None and found.product is not expected:
        stage = failed("metadata", "metadata.product-differs", reply.duration_ms, **evidence)
        cause = f"{found.product.value} answers, the integration says {expected.value}: their actions differ."
        step = "Put the product that answers, or the base URL of the one that is meant."
        return replace(stage, likely_cause=cause, next_step=step), found
    if offset_ms is not None and abs(offset_ms) > CLOCK_OFFSET_MS_MAX:
        cause = "The server's own clock (GetServerInfo) and ours differ: changes are missed or come twice."
        return failed("metadata", "clock.skew", reply.duration_ms, cause=cause, **evidence), found
    return StageResult("metadata", "passed", reply.duration_ms, evidence=evidence), found


def _offset_ms(found: ServerInfo, now: datetime) -> int | None:
    """The server's clock minus ours; None when its time bears no offset."""
    if found.server_time is None or found.server_time.tzinfo is None:
        return None
    return round((found.server_time - now).total_seconds() * 1000)


def _read(action: str, reply: UnityReply) -> StageResult:
    row = _error(reply)
    if row is not None:
        return unity_failed("read", row, reply.duration_ms, action=action)
    rows = _rows(reply)
    if rows is None:
        return failed("read", reply.error or "peer.unreadable", reply.duration_ms, action=action)
    return StageResult("read", "passed", reply.duration_ms, evidence={"action": action, "rows": len(rows)})


def _probes(session: Session, product: Product | None) -> Sequence[UnityRequest]:
    """Actions that synchronisation needs, asked so that no patient is in the answer."""
    common = [
        magic("GetProviders", session),
        patient(session, _NOBODY),
        magic("SearchPatients", session, ("<x/>" if product is Product.PM else _NO_TEXT,)),
        magic("GetDictionary", session, ("Sex",)),
    ]
    return common if product is Product.PM else [*common, schedule(session, _LONG_AGO, _LONG_AGO)]


async def _permissions(ask: Ask, session: Session, product: Product | None) -> StageResult:
    requests = _probes(session, product)
    replies = await asyncio.gather(*(ask(request) for request in requests))
    evidence: dict[str, Any] = {"asked": [request.operation for request in requests]}
    refused = [
        request.operation
        for request, reply in zip(requests, replies, strict=True)
        if (row := _error(reply)) is not None and row.name == _UNLICENSED
    ]
    evidence["missing"] = refused
    duration_ms = max(reply.duration_ms for reply in replies)
    if not refused:
        return StageResult("permissions", "passed", duration_ms, evidence=evidence)
    cause = f"Not licensed on this server: {', '.join(refused)}."
    stage = failed("permissions", "peer.forbidden", duration_ms, cause=cause, **evidence)
    return replace(stage, next_step="Ask the vendor to license the actions named for the application.")
