"""Stages of Test Connection behind the network: what metadata, SMART configuration, a read and the scopes say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from auth_gateway.core.peer_answers import Probe, Reply, SmartConfiguration, token_url_differs
from common.models.errors import ERRORS
from common.models.integration import Vendor
from common.runtime.connection_probe import StageResult, failed, skipped
from pms.capabilities import Interaction
from pms.fhir import AnswerKind, parse_answer, parse_metadata
from pms.offers import Offers
from pms.permissions import ProbeResult, parse_scope, scopes_lacking

# Base paths name their version (Epic: /api/FHIR/R4); without a name the suite reads R4.
_VERSIONS: Final = {"dstu2": "1.0", "stu3": "3.0", "r4": "4.0", "r4b": "4.3", "r5": "5.0"}
_VERSION_DEFAULT: Final = "4.0"
_CODES: Final = {401: "peer.unauthorized", 403: "peer.allow-list", 429: "peer.rate-limited"}
_LARGE_STALLS: Final = (
    "Short answers of this host come, the large one stalls: large packets are lost on the way (MTU, often a VPN), or "
    "this path of the server hangs."
)
_LARGE_STALLS_STEP: Final = (
    "Ask the network team to check the path MTU to this host (a ping of 1472 bytes that may not be fragmented), and "
    "the PMS administrator whether its metadata answer elsewhere."
)
# A longer wait is no pace that we have to keep but an allowance that is used up.
_QUOTA_S_MIN: Final = 1800.0
_ADDRESS_REFUSED: Final = (
    "Something before the PMS refuses our address: it answers 403 before anybody has said who we are (no allow-list "
    "entry for us)."
)
_PAUSE_CAUSES: Final = {
    True: "The quota is used up: the PMS takes no calls until it begins anew.",
    False: "We, or others with the same client, call more often than the PMS's limit allows.",
}
_WRONG_PATH: Final = "The base URL leads to no FHIR server: path or FHIR version is wrong."


def expected_version(base: str) -> str:
    """The FHIR version (major.minor) that a base path stands for."""
    segments = [segment.lower() for segment in urlsplit(base).path.split("/")]
    return next((_VERSIONS[segment] for segment in reversed(segments) if segment in _VERSIONS), _VERSION_DEFAULT)


def metadata_stage(base: str, reply: Reply) -> StageResult:
    """`metadata`: a CapabilityStatement of the version that the base path names (B11, B14, F3)."""
    status, duration_ms = reply.status, reply.duration_ms
    if status is None:
        return failed("metadata", reply.error or "peer.unavailable", duration_ms)
    if status >= 500:
        cause = "The server is down: even its metadata, which need no permission, cannot be had."
        return failed("metadata", "peer.unavailable", duration_ms, cause=cause, http_status=status)
    if status in _CODES:
        return _refused_metadata(status, reply)
    answer = parse_answer(reply.content_type, reply.body)
    found = parse_metadata(answer.resource) if answer.resource is not None and status == 200 else None
    if found is None:
        wrong = status == 404 or answer.kind in {AnswerKind.HTML, AnswerKind.NOT_FHIR, AnswerKind.NOT_JSON}
        code = "peer.unreadable" if status in {200, 404} else "peer.rejected"
        why = _WRONG_PATH if wrong else None
        return failed("metadata", code, duration_ms, cause=why, http_status=status, body=answer.kind.value)
    expected = expected_version(base)
    evidence = {
        "fhir_version": found.fhir_version,
        "expected_version": expected,
        "software": found.software[:200],
        "software_version": found.software_version[:200],
    }
    if found.fhir_version and not found.fhir_version.startswith(expected):
        stage = failed("metadata", "metadata.version-differs", duration_ms, **evidence)
        return replace(
            stage,
            likely_cause=f"The server speaks FHIR {found.fhir_version[:20]}, the channel's base path {expected}.",
            next_step="Put the base URL of the version that the mapping is made for, R4 unless stated otherwise.",
        )
    return StageResult("metadata", "passed", duration_ms, evidence=evidence)


def _refused_metadata(status: int, reply: Reply) -> StageResult:
    """Metadata need no permission: what is refused here is refused to everybody, to our address, or for our pace."""
    evidence: dict[str, Any] = {"http_status": status}
    cause = _ADDRESS_REFUSED if status == 403 else None
    if status == 429:
        wait_s = reply.retry_after_s
        cause = _PAUSE_CAUSES[wait_s is not None and wait_s >= _QUOTA_S_MIN]
        evidence["retry_after_s"] = round(wait_s, 1) if wait_s is not None else None
    return failed("metadata", _CODES[status], reply.duration_ms, cause=cause, **evidence)


def token_cause(code: str, http_status: int | None) -> str | None:
    """The likely cause of a token request that failed without a word about the client."""
    if code == "peer.allow-list":
        return _ADDRESS_REFUSED
    if code == "credential.reconnect-needed":
        return "The refresh token is of no use any more: revoked, at its end, or used by somebody else first."
    if http_status is not None and http_status >= 500:
        return "The authorization server is down: it answers with server errors."
    if http_status == 429:
        return "The token endpoint limits how often tokens may be asked for."
    return None


def explained(stage: StageResult, network: Sequence[StageResult]) -> StageResult:
    """A stage that got no answer, with the network stage of its host that fails, when one does."""
    failing = next((row for row in network if row.status == "failed" and row.stage != "clock"), None)
    if failing is None and stage.code == "peer.timeout":
        # The same host answers a short question at once: what stalls is length (B15), or this path alone.
        return replace(stage, likely_cause=_LARGE_STALLS, next_step=_LARGE_STALLS_STEP)
    if failing is None:
        return stage
    return replace(
        stage,
        code=failing.code,
        evidence={**stage.evidence, "network_stage": failing.stage, **failing.evidence},
        likely_cause=failing.likely_cause,
        next_step=failing.next_step,
    )


def smart_stage(found: SmartConfiguration, *, token_url: str, method: str, algorithm: str, works: bool) -> StageResult:
    """`smart-configuration`: token endpoint, method and algorithm as the server names them.

    `works`: a token was had; then what contradicts the configuration is shown and does not fail.
    """
    if found.error is not None:
        return failed("smart-configuration", found.error, found.duration_ms)
    if not found.offered:
        return skipped("smart-configuration", "the server offers none")
    differs = token_url_differs(found, token_url)
    evidence: dict[str, Any] = {
        "token_url_differs": differs,
        "methods": list(found.methods),
        "algorithms": list(found.algorithms),
    }
    wrong = None
    if differs:
        wrong = (
            "smart.token-url-differs",
            "The server names another token URL.",
            "Put its token_endpoint as token URL.",
        )
    elif found.methods and method not in found.methods:
        wrong = ("smart.method-not-offered", f"The server does not offer {method}.", "Choose a method of `methods`.")
    elif method == "private_key_jwt" and found.algorithms and algorithm not in found.algorithms:
        wrong = ("smart.algorithm-not-offered", f"The server does not take {algorithm}.", "Choose one of `algorithms`.")
    if wrong is None:
        return StageResult("smart-configuration", "passed", found.duration_ms, evidence=evidence)
    code, cause, step = wrong
    status = "passed" if works else "failed"
    return StageResult("smart-configuration", status, found.duration_ms, None if works else code, evidence, cause, step)


def read_resource(offers: Offers, scopes: Sequence[str]) -> str:
    """The resource to read in a test: the first that the scopes name and the installation lets be searched."""
    for word in scopes:
        scope = parse_scope(word)
        row = offers.of(scope.resource) if scope is not None else None
        if row is not None and row.offers(Interaction.SEARCH):
            return row.resource
    offered = [row.resource for row in offers.rows]
    return "Patient" if "Patient" in offered or not offered else offered[0]


def read_stages(resource: str, probe: Probe) -> tuple[StageResult, StageResult]:
    """(`identity`, `read`): a 401 is about who we are, everything else about what may be read."""
    evidence: dict[str, Any] = {
        "resource": resource,
        "http_status": probe.http_status,
        "signature": probe.signature,
        "result": probe.result.value,
    }
    identity = StageResult("identity", "passed", evidence={"http_status": probe.http_status})
    if probe.error is None or probe.result is ProbeResult.GRANTED:
        return identity, StageResult("read", "passed", probe.duration_ms, evidence=evidence)
    if probe.error == "peer.unauthorized":
        cause = "The token is granted and not accepted: the client or its user is disabled, or it is another tenant's."
        return (
            failed("identity", probe.error, probe.duration_ms, cause=cause, **evidence),
            skipped("read", "the token is not accepted"),
        )
    if probe.http_status is None:
        identity = skipped("identity", "the server did not answer")
    why = None
    if probe.result is ProbeResult.REFUSED:
        why = f"The account may not search {resource}: the scope is missing, or the API is not enabled for the app."
    return identity, failed("read", probe.error, probe.duration_ms, cause=why, **evidence)


_V1_ON_V2: Final = (
    "Scopes of SMART v1 (.read) were asked of an app that is registered for v2: they are dropped silently."
)
_V1_NEXT_STEP: Final = "Ask for v2 scopes: .r to read, .s to search, .rs for both."


def permissions_stage(vendor: Vendor, asked: Sequence[str], granted: Sequence[str]) -> StageResult:
    """`permissions`: scopes that were asked for and not granted, read in both versions (A11, F8)."""
    if not granted:
        return skipped("permissions", "the token's answer names no scopes")
    lacking = scopes_lacking(asked, granted)
    evidence: dict[str, Any] = {"asked": len(asked), "granted": len(granted), "missing": list(lacking)}
    if not lacking:
        return StageResult("permissions", "passed", evidence=evidence)
    next_step = "Send the text of POST /auth/v1/integrations/{id}/permissions:check to the PMS administrator."
    cause = "Scopes that were asked for are not granted."
    old = any((scope := parse_scope(word)) is not None and scope.version == 1 for word in lacking)
    if vendor is Vendor.CERNER and old:
        cause, next_step = _V1_ON_V2, _V1_NEXT_STEP
    stage = failed("permissions", "peer.forbidden", 0.0, cause=cause, **evidence)
    return replace(stage, next_step=next_step)


def disabled_stage(signature: str | None, oauth_error: str | None) -> StageResult:
    """`identity` of a refused token: failed when the answer says that the client is disabled (A12)."""
    if signature == "cerner.client-terminated" or oauth_error in {"unauthorized_client", "access_denied"}:
        stage = failed("identity", "credential.rejected", 0.0, cause="The PMS has disabled the client.")
        return replace(stage, next_step=ERRORS["credential.rejected"].next_step)
    return skipped("identity", "there is no token")
