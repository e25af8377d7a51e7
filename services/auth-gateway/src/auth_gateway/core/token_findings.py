"""Why a token was refused, as far as our side can tell.

Epic answers one body for at least six causes (`invalid_client`), so the causes are told apart by what we can check
ourselves; the checks that speak for a cause come first, the others are named as not excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pms.cerner import TOKEN_URNS
from pms.unity import ALL_ERRORS as UNITY_ERRORS

REGISTRATION_TRAVELS: Final = timedelta(hours=12)
CLOCK_OFFSET_MS_MAX: Final = 30_000


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """What our side knows; None: not checked, or unknown."""

    oauth_error: str | None
    http_status: int | None
    clock_offset_ms: int | None
    secret_expires_at: datetime | None
    credential_changed_at: datetime
    worked_before: bool
    worked_since_change: bool
    key_published: bool | None
    uses_our_key: bool
    signature: str | None = None
    audience_differs: bool = False
    key_read: bool | None = None
    other_environment: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """A possible cause: `supported` when something we checked speaks for it."""

    code: str
    text: str
    next_step: str
    supported: bool


def causes(evidence: TokenEvidence, now: datetime) -> Sequence[Cause]:
    """Causes of a refused token request, supported ones first."""
    ends = evidence.secret_expires_at
    expired = ends is not None and ends <= now
    skewed = evidence.clock_offset_ms is not None and abs(evidence.clock_offset_ms) > CLOCK_OFFSET_MS_MAX
    fresh = now - evidence.credential_changed_at < REGISTRATION_TRAVELS and not evidence.worked_before
    # Something else explains it; what is only a matter of time or of guessing then does not go first.
    no_key = evidence.uses_our_key and False in (evidence.key_published, evidence.key_read)
    explained = expired or skewed or no_key or evidence.other_environment is not None
    found = [
        Cause(
            "clock.skew",
            "The PMS's clock and ours differ.",
            "Correct ours with NTP, or tell the PMS administrator.",
            skewed,
        ),
        Cause(
            "secret.expired",
            "The client's secret or registration has expired.",
            "Renew it in the vendor's portal and put the credential again.",
            expired or (evidence.worked_since_change and ends is None),
        ),
        Cause(
            "client.other-environment",
            f"The same client id serves {evidence.other_environment}: it may be registered there alone.",
            "Register the application for this environment, and put the client id that it has here.",
            evidence.other_environment is not None,
        ),
        Cause(
            "registration.fresh",
            "The registration has not reached the site yet (up to 12 h at Epic).",
            "Wait, then test again.",
            fresh and not explained,
        ),
        Cause(
            "client.wrong",
            "Client id, secret or audience is not what the PMS knows.",
            "Compare client id and token URL with the vendor's portal.",
            not evidence.worked_since_change and not fresh and not explained,
        ),
        Cause(
            "client.disabled",
            "The PMS has disabled the client, or knows its secret or key no more: this very credential has worked.",
            "Ask the PMS administrator whether the app is enabled and which secret or key it holds.",
            evidence.worked_since_change and not explained,
        ),
        *_about_our_key(evidence),
    ]
    return [*_settled(evidence), *sorted(found, key=lambda cause: not cause.supported)]


def _about_our_key(evidence: TokenEvidence) -> Sequence[Cause]:
    if not evidence.uses_our_key:
        return ()
    return (
        Cause(
            "key.unpublished",
            "The vendor cannot read our public key.",
            "Make our JWKS URL reachable for the vendor and registered there.",
            evidence.key_published is False,
        ),
        Cause(
            "key.unread",
            "Nobody has read our key set since the signing key was made: the vendor has another URL, or no way.",
            "Compare the JWKS URL in the vendor's portal with GET /auth/v1/signing-keys, and test it from outside.",
            evidence.key_read is False,
        ),
    )


_UNITY: Final = {row.name: row for row in UNITY_ERRORS if row.error == "credential.rejected"}
_URNS: Final = {f"cerner.{row.name}": row for row in TOKEN_URNS}


def _settled(evidence: TokenEvidence) -> Sequence[Cause]:
    """What the answer itself names, or the server's own configuration contradicts."""
    found = []
    unity = _UNITY.get(evidence.oauth_error or "")
    if unity is not None:
        found.append(Cause(f"unity.{unity.name}", unity.meaning, unity.next_step, supported=True))
    row = _URNS.get(evidence.signature or "")
    if row is not None:
        found.append(Cause(f"cerner.{row.name}", row.meaning, row.next_step, supported=True))
    if evidence.audience_differs:
        found.append(
            Cause(
                "audience.wrong",
                "The token URL is not the one that the server's SMART configuration names.",
                "Put the token_endpoint of the SMART configuration as the credential's token URL.",
                supported=True,
            )
        )
    return found
