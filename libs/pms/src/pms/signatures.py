"""A failed answer → its signature: a code, the evidence for it, and what a repetition can do.

Rows are tried in order and the first that fits is taken: vendor rows before general ones, a code in the body before the
status alone. Evidence holds codes and numbers of the answer, never its text. `error` is the suite's own code for it
(common.models.errors), `ambiguous` that the vendor uses this one answer for several causes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.models.errors import Retry
from common.models.integration import Vendor
from pms import cerner, epic, fhir, unity
from pms.challenge import parse_challenge
from pms.retry_after import retry_after_s
from pms.source import Source

_TEXT_CHARACTERS_MAX: Final = 20_000


class Surface(StrEnum):
    """Which part of a vendor's system answered."""

    TOKEN = "token"  # noqa: S105 - a surface, no secret
    RESOURCE = "resource"
    UNITY = "unity"


@dataclass(frozen=True, slots=True)
class Signature:
    """A recognised failure. `retry_after_s` is the wait the peer asked for."""

    code: str
    error: str
    retry: Retry
    source: Source
    evidence: Mapping[str, str | int | float] = field(default_factory=dict)
    retry_after_s: float | None = None
    ambiguous: bool = False


# RFC 6749 §5.2, and the IANA registry "OAuth Extensions Error" as far as a token endpoint or a resource may answer it.
# Any other word is the peer's free text, and may hold anything.
OAUTH_ERRORS: Final = frozenset({
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "access_denied", "server_error", "temporarily_unavailable", "invalid_token", "insufficient_scope",
    "interaction_required", "login_required", "account_selection_required", "consent_required", "invalid_target",
    "authorization_pending", "slow_down", "expired_token", "unsupported_token_type", "invalid_client_metadata",
    "invalid_software_statement", "unapproved_software_statement", "invalid_dpop_proof", "use_dpop_nonce",
    "insufficient_user_authentication",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, read once: what the rows look at."""

    surface: Surface
    vendor: Vendor
    status: int
    content_type: str
    challenge: str
    oauth_error: str
    urn: cerner.Urn | None
    instance: str | None
    text: str
    body: fhir.FhirAnswer
    unity: unity.UnityAnswer


@dataclass(frozen=True, slots=True)
class SignatureRow:
    """One signature: it fits when surface, vendor (None: any), status (empty: any) and `when` all fit."""

    code: str
    error: str
    retry: Retry
    surface: Surface
    source: Source
    vendor: Vendor | None = None
    statuses: frozenset[int] = frozenset()
    when: Callable[[Reading], bool] | None = None
    ambiguous: bool = False

    def fits(self, reading: Reading) -> bool:
        """Whether an answer has this signature."""
        return (
            self.surface is reading.surface
            and self.vendor in {None, reading.vendor}
            and (not self.statuses or reading.status in self.statuses)
            and (self.when is None or self.when(reading))
        )


def _oauth(error: str) -> Callable[[Reading], bool]:
    return lambda reading: reading.oauth_error == error


def _says(*parts: str) -> Callable[[Reading], bool]:
    return lambda reading: any(part in reading.text for part in parts)


def _challenge(*parts: str) -> Callable[[Reading], bool]:
    return lambda reading: all(part in reading.challenge for part in parts)


def _kind(*kinds: fhir.AnswerKind) -> Callable[[Reading], bool]:
    return lambda reading: reading.body.kind in kinds


def _by_gate(reading: Reading) -> bool:
    """A page for browsers, no challenge, no OAuth error: what stands before the PMS said no, not the PMS."""
    return "html" in reading.content_type and not reading.challenge and not reading.oauth_error


_T, _A, _N = Retry.TRANSIENT, Retry.AMBIGUOUS, Retry.PERMANENT
_TOKEN, _RESOURCE, _UNITY = Surface.TOKEN, Surface.RESOURCE, Surface.UNITY
_5XX: Final = frozenset(range(500, 600))
_REJECTED: Final = "credential.rejected"
_REFRESH: Final = "credential.refresh-failed"

_EPIC_CODES: Final = tuple(
    SignatureRow(
        f"epic.{row.name}",
        {"id-not-found": "peer.rejected", "not-authorized": "peer.forbidden", "internal-error": "peer.unavailable"}.get(
            row.name, "peer.rejected"
        ),
        row.retry,
        _RESOURCE,
        row.source,
        Vendor.EPIC,
        when=lambda reading, code=row.code: any(  # type: ignore[misc]
            issue.has_code(code) and epic.code_of(issue) is not None for issue in reading.body.issues
        ),
    )
    for row in epic.CODES.values()
    if row.refuses
)

ROWS: Final[tuple[SignatureRow, ...]] = (
    # token endpoints
    SignatureRow("token.rate-limited", _REFRESH, _T, _TOKEN, Source.ASSUMED, statuses=frozenset({429})),
    SignatureRow("token.unavailable", _REFRESH, _T, _TOKEN, Source.STANDARD, statuses=_5XX),
    SignatureRow(
        "epic.invalid-client",
        _REJECTED,
        _N,
        _TOKEN,
        Source.SECOND_HAND,
        Vendor.EPIC,
        statuses=frozenset({400, 401}),
        when=_oauth("invalid_client"),
        ambiguous=True,
    ),
    *(
        SignatureRow(
            f"cerner.{row.name}",
            _REJECTED,
            _N,
            _TOKEN,
            row.source,
            Vendor.CERNER,
            when=lambda reading, row=row: reading.urn is row,  # type: ignore[misc]
        )
        for row in (*cerner.TOKEN_URNS, *cerner.LAUNCH_URNS)
    ),
    *(
        SignatureRow(f"token.{error.replace('_', '-')}", _REJECTED, _N, _TOKEN, Source.STANDARD, when=_oauth(error))
        for error in (
            "invalid_client",
            "invalid_grant",
            "invalid_scope",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_request",
        )
    ),
    SignatureRow(
        "token.temporarily-unavailable", _REFRESH, _T, _TOKEN, Source.STANDARD, when=_oauth("temporarily_unavailable")
    ),
    SignatureRow(
        "token.allow-list", "peer.allow-list", _N, _TOKEN, Source.ASSUMED, statuses=frozenset({403}), when=_by_gate
    ),
    SignatureRow("token.wrong-path", _REJECTED, _N, _TOKEN, Source.LIVE_CAPTURE, statuses=frozenset({404, 405})),
    SignatureRow("token.refused", _REJECTED, _N, _TOKEN, Source.STANDARD, statuses=frozenset({400, 401, 403})),
    SignatureRow("token.unreadable", _REFRESH, _A, _TOKEN, Source.STANDARD),
    # FHIR servers
    SignatureRow("fhir.rate-limited", "peer.rate-limited", _T, _RESOURCE, Source.ASSUMED, statuses=frozenset({429})),
    SignatureRow(
        "fhir.insufficient-scope",
        "peer.forbidden",
        _N,
        _RESOURCE,
        Source.LIVE_CAPTURE,
        statuses=frozenset({403}),
        when=_challenge("insufficient_scope"),
    ),
    SignatureRow(
        "cerner.tenant-not-accessible",
        "peer.forbidden",
        _N,
        _RESOURCE,
        Source.LIVE_CAPTURE,
        Vendor.CERNER,
        statuses=frozenset({403}),
        when=_says("tenant not valid or accessible"),
    ),
    SignatureRow(
        "cerner.token-issuer",
        "peer.unauthorized",
        _N,
        _RESOURCE,
        Source.LIVE_CAPTURE,
        Vendor.CERNER,
        statuses=frozenset({401}),
        when=_challenge("invalid issuer"),
    ),
    SignatureRow("fhir.token-refused", "peer.unauthorized", _N, _RESOURCE, Source.STANDARD, statuses=frozenset({401})),
    *_EPIC_CODES,
    SignatureRow(
        "fhir.allow-list", "peer.allow-list", _N, _RESOURCE, Source.ASSUMED, statuses=frozenset({403}), when=_by_gate
    ),
    SignatureRow("fhir.forbidden", "peer.forbidden", _N, _RESOURCE, Source.STANDARD, statuses=frozenset({403})),
    SignatureRow(
        "fhir.version-conflict", "peer.rejected", _N, _RESOURCE, Source.LIVE_CAPTURE, statuses=frozenset({409, 412})
    ),
    SignatureRow("fhir.locked", "peer.rejected", _T, _RESOURCE, Source.LIVE_CAPTURE, statuses=frozenset({423})),
    SignatureRow(
        "cerner.field-missing",
        "peer.rejected",
        _N,
        _RESOURCE,
        Source.LIVE_CAPTURE,
        Vendor.CERNER,
        statuses=frozenset({500}),
        when=lambda reading: any(issue.code == "required" for issue in reading.body.issues),
    ),
    *(
        SignatureRow(
            f"cerner.{row.name}",
            "peer.rejected",
            _N,
            _RESOURCE,
            Source.LIVE_CAPTURE,
            Vendor.CERNER,
            statuses=frozenset({row.status}),
        )
        for row in cerner.PATCH_REFUSALS
        if row.status in {422, 424}
    ),
    SignatureRow("fhir.unavailable", "peer.unavailable", _T, _RESOURCE, Source.STANDARD, statuses=_5XX),
    SignatureRow(
        "fhir.wrong-path",
        "peer.unreadable",
        _N,
        _RESOURCE,
        Source.LIVE_CAPTURE,
        statuses=frozenset({404}),
        when=_kind(fhir.AnswerKind.HTML, fhir.AnswerKind.NOT_JSON, fhir.AnswerKind.NOT_FHIR),
    ),
    SignatureRow("fhir.not-found", "peer.rejected", _N, _RESOURCE, Source.STANDARD, statuses=frozenset({404, 410})),
    SignatureRow(
        "fhir.redirected", "peer.rejected", _N, _RESOURCE, Source.STANDARD, statuses=frozenset(range(300, 400))
    ),
    SignatureRow("fhir.refused", "peer.rejected", _N, _RESOURCE, Source.STANDARD, statuses=frozenset(range(400, 500))),
    SignatureRow(
        "fhir.outcome-error", "peer.rejected", _N, _RESOURCE, Source.STANDARD, when=_kind(fhir.AnswerKind.OUTCOME)
    ),
    SignatureRow("fhir.xml", "peer.unreadable", _N, _RESOURCE, Source.LIVE_CAPTURE, when=_kind(fhir.AnswerKind.XML)),
    SignatureRow("fhir.html", "peer.unreadable", _N, _RESOURCE, Source.LIVE_CAPTURE, when=_kind(fhir.AnswerKind.HTML)),
    SignatureRow("fhir.empty", "peer.unreadable", _N, _RESOURCE, Source.STANDARD, when=_kind(fhir.AnswerKind.EMPTY)),
    SignatureRow(
        "fhir.not-json",
        "peer.unreadable",
        _N,
        _RESOURCE,
        Source.STANDARD,
        when=_kind(fhir.AnswerKind.NOT_JSON, fhir.AnswerKind.NOT_FHIR),
    ),
    # Unity: errors come with HTTP 200
    *(
        SignatureRow(
            f"unity.{row.name}",
            row.error,
            row.retry,
            _UNITY,
            row.source,
            when=lambda reading, row=row: reading.unity.error is row,  # type: ignore[misc]
        )
        for row in unity.ALL_ERRORS
    ),
    SignatureRow("unity.rate-limited", "peer.rate-limited", _T, _UNITY, Source.ASSUMED, statuses=frozenset({429})),
    SignatureRow("unity.unavailable", "peer.unavailable", _T, _UNITY, Source.STANDARD, statuses=_5XX),
    SignatureRow("unity.wrong-path", "peer.unreadable", _N, _UNITY, Source.ASSUMED, statuses=frozenset({404, 405})),
    SignatureRow("unity.refused", "peer.rejected", _N, _UNITY, Source.STANDARD, statuses=frozenset(range(400, 500))),
    SignatureRow(
        "unity.unreadable",
        "peer.unreadable",
        _N,
        _UNITY,
        Source.STANDARD,
        when=lambda reading: reading.unity.kind in {unity.AnswerKind.HTML, unity.AnswerKind.NOT_UNITY},
    ),
)


def signature_of(
    vendor: Vendor, surface: Surface, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Signature | None:
    """The signature of an answer, None when it is a usable one. Header names may be in any case.

    On the resource surface a usable answer is 2xx with FHIR JSON, or with no body where the status says so (202, 204).
    """
    named = {name.lower(): value for name, value in headers.items()}
    reading = _read(vendor, surface, status, named, body)
    if _usable(reading):
        return None
    row = next((row for row in ROWS if row.fits(reading)), None)
    if row is None:
        return None
    evidence: dict[str, str | int | float] = {"http_status": status, "body": reading.body.kind.value}
    if reading.oauth_error:
        evidence["oauth_error"] = reading.oauth_error if reading.oauth_error in OAUTH_ERRORS else "not registered"
    codes = sorted({code for issue in reading.body.issues for _, code in issue.codes if _is_code(code)})
    if codes:
        evidence["outcome_codes"] = ",".join(codes[:10])
    evidence.update(_vendor_evidence(reading, named))
    wait_s = retry_after_s(named.get("retry-after"), now)
    if wait_s is not None:
        evidence["retry_after_s"] = wait_s
    return Signature(row.code, row.error, row.retry, row.source, evidence, wait_s, row.ambiguous)


# What a challenge may say beyond a registered error.
_SUBCODES: Final = frozenset({"no_scope_for_resource_path", "insufficient-scopes"})
_CORRELATION: Final = re.compile(r"[0-9A-Za-z-]{8,64}")


def _vendor_evidence(reading: Reading, headers: Mapping[str, str]) -> dict[str, str | int | float]:
    """Names of rows and registered words only, and the id under which the vendor finds the failure."""
    found: dict[str, str | int | float] = {}
    if reading.urn is not None:
        found["urn"] = reading.urn.name
    challenge = parse_challenge(reading.challenge)
    if challenge.get("error", "") in OAUTH_ERRORS:
        found["challenge_error"] = challenge["error"]
    if challenge.get("subcode", "") in _SUBCODES:
        found["challenge_subcode"] = challenge["subcode"]
    if reading.vendor is Vendor.CERNER:
        correlation = headers.get(cerner.CORRELATION_HEADER.lower(), "")
        one = correlation if _CORRELATION.fullmatch(correlation) else reading.instance
        if one:
            found["correlation_id"] = one
    if reading.surface is Surface.UNITY:
        found["body"] = reading.unity.kind.value
        if reading.unity.action in _UNITY_ACTIONS:
            found["unity_action"] = _UNITY_ACTIONS[reading.unity.action]
    return found


_UNITY_ACTIONS: Final = {name.lower(): name for name in unity.ACTIONS}


def _read(vendor: Vendor, surface: Surface, status: int, headers: Mapping[str, str], body: bytes) -> Reading:
    content_type = headers.get("content-type", "")
    answer = fhir.parse_answer(content_type, body)
    oauth = _oauth_document(body) if surface is Surface.TOKEN else {}
    error, uri = oauth.get("error"), oauth.get("error_uri")
    return Reading(
        surface,
        vendor,
        status,
        content_type,
        headers.get("www-authenticate", "").lower(),
        error if isinstance(error, str) and _is_code(error) else "",
        cerner.urn_of(uri) if isinstance(uri, str) and vendor is Vendor.CERNER else None,
        cerner.instance_of(uri) if isinstance(uri, str) and vendor is Vendor.CERNER else None,
        body[:_TEXT_CHARACTERS_MAX].decode("utf-8", "replace").lower(),
        answer,
        unity.parse_answer(body) if surface is Surface.UNITY else unity.UnityAnswer(unity.AnswerKind.EMPTY),
    )


def _oauth_document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_code(text: str) -> bool:
    """Only what looks like a code may go into evidence: a peer's free text may hold anything."""
    return re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", text) is not None


_FHIR_KINDS: Final = frozenset({fhir.AnswerKind.BUNDLE, fhir.AnswerKind.RESOURCE, fhir.AnswerKind.OUTCOME})


def _usable(reading: Reading) -> bool:
    if not 200 <= reading.status < 300:
        return False
    if reading.surface is Surface.TOKEN:
        return '"access_token"' in reading.text and not reading.oauth_error
    if reading.surface is Surface.RESOURCE:
        bodiless = reading.status in {202, 204} and reading.body.kind is fhir.AnswerKind.EMPTY
        return bodiless or (reading.body.kind in _FHIR_KINDS and not _refused(reading))
    return False


def _refused(reading: Reading) -> bool:
    """A lone OperationOutcome that says error or fatal is a refusal, whatever the status was."""
    return reading.body.kind is fhir.AnswerKind.OUTCOME and any(
        issue.severity in {"error", "fatal"} for issue in reading.body.issues
    )
