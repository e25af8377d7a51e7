"""How each vendor lets a client in: one row per vendor and method.

The method names are those of the credentials that auth-gateway keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.models.integration import Vendor
from pms.source import Source


@dataclass(frozen=True, slots=True)
class AuthenticationMethod:
    """One way in. `token_life_s` is what the vendor grants (None: the answer says); `note` what is peculiar to it."""

    vendor: Vendor
    method: str
    grant: str
    source: Source
    token_life_s: int | None = None
    note: str = ""


_EPIC_ASSERTION: Final = (
    "exp at most 5 min ahead, jti of at most 151 characters, key found by a JWKS URL; a new or changed registration "
    "reaches a site within 12 h."
)
_CERNER_TOKEN: Final = "…/tenants/{tenant}/protocols/oauth2/profiles/smart-v1/token"  # noqa: S105 - a path

METHODS: Final[tuple[AuthenticationMethod, ...]] = (
    AuthenticationMethod(
        Vendor.EPIC, "private_key_jwt", "client_credentials", Source.VENDOR_DOCUMENT, 3600, _EPIC_ASSERTION
    ),
    AuthenticationMethod(
        Vendor.EPIC, "private_key_jwt", "authorization_code", Source.VENDOR_DOCUMENT, 3600,
        "SMART launch; aud is required; rolling refresh tokens keep the first one's expiry.",
    ),
    AuthenticationMethod(
        Vendor.CERNER, "private_key_jwt", "client_credentials", Source.LIVE_CAPTURE, 570, _CERNER_TOKEN
    ),
    AuthenticationMethod(
        Vendor.CERNER, "client_secret_basic", "client_credentials", Source.LIVE_CAPTURE, 570, _CERNER_TOKEN
    ),
    AuthenticationMethod(
        Vendor.CERNER, "client_secret_basic", "authorization_code", Source.LIVE_CAPTURE, 570,
        "A refresh brings no new refresh token: the old one is kept. Offline access ends after three idle months.",
    ),
    AuthenticationMethod(
        Vendor.UNITY, "unity", "unity-session", Source.CLIENT_CODE, 20 * 60,
        "GetToken with the service user, then GetUserAuthentication with the EHR user; the life is idle time.",
    ),
    AuthenticationMethod(
        Vendor.UNITY, "private_key_jwt", "client_credentials", Source.SECOND_HAND, None,
        "FHIR R4, read only, no Appointment; the JWKS is read once a night.",
    ),
    AuthenticationMethod(
        Vendor.FHIR, "private_key_jwt", "client_credentials", Source.STANDARD, 300,
        "SMART App Launch 2.2, Backend Services; expires_in should be at most 300 s.",
    ),
    AuthenticationMethod(Vendor.FHIR, "private_key_jwt", "authorization_code", Source.STANDARD, None, "SMART launch."),
    *(
        AuthenticationMethod(Vendor.FHIR, method, "client_credentials", Source.STANDARD, None, "RFC 6749 §2.3.1.")
        for method in ("client_secret_basic", "client_secret_post")
    ),
)  # fmt: skip


def methods_of(vendor: Vendor) -> tuple[AuthenticationMethod, ...]:
    """The ways in that a vendor offers, in the order of the rows; none for HL7 v2 and files."""
    return tuple(row for row in METHODS if row.vendor is vendor)


def offers(vendor: Vendor, method: str) -> bool:
    """Whether a vendor's API can be entered by a method."""
    return any(row.method == method for row in methods_of(vendor))
