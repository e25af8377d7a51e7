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
    key_published: bool | None
    uses_our_key: bool
    signature: str | None = None
    audience_differs: bool = False


@dataclass(frozen=True, slots=True)
class Cause:
    """A possible cause: `supported` when something we checked speaks for it."""

    code: str
    text: str
    next_step: str
    supported: bool


def causes(evidence: TokenEvidence, now: datetime) -> Sequence[Cause]:
    """Causes of a refused token request, supported ones first."""
    expired = evidence.secret_expires_at is not None and evidence.secret_expires_at <= now
    skewed = evidence.clock_offset_ms is not None and abs(evidence.clock_offset_ms) > CLOCK_OFFSET_MS_MAX
    fresh = now - evidence.credential_changed_at < REGISTRATION_TRAVELS and not evidence.worked_before
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
            expired or evidence.worked_before,
        ),
        Cause(
            "registration.fresh",
            "The registration has not reached the site yet (up to 12 h at Epic).",
            "Wait, then test again.",
            fresh,
        ),
        Cause(
            "client.wrong",
            "Client id, secret or audience is not what the PMS knows.",
            "Compare client id and token URL with the vendor's portal.",
            not evidence.worked_before and not fresh,
        ),
        Cause(
            "client.disabled",
            "The PMS has disabled the client.",
            "Ask the PMS administrator whether the app is enabled.",
            supported=False,
        ),
    ]
    if evidence.uses_our_key:
        unpublished = evidence.key_published is False
        found.append(
            Cause(
                "key.unpublished",
                "The vendor cannot read our public key.",
                "Make our JWKS URL reachable for the vendor and registered there.",
                unpublished,
            )
        )
    return [*_settled(evidence), *sorted(found, key=lambda cause: not cause.supported)]


_URNS: Final = {f"cerner.{row.name}": row for row in TOKEN_URNS}


def _settled(evidence: TokenEvidence) -> Sequence[Cause]:
    """What the answer itself names, or the server's own configuration contradicts."""
    found = []
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
