"""What a new integration of a vendor begins with: channels, a credential, and what has to be asked of the vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.models.integration import ChannelKind, Vendor


@dataclass(frozen=True, slots=True)
class Template:
    """One vendor's beginning. `to_ask`: what only the vendor or the practice's administrator knows."""

    vendor: Vendor
    title: str
    products: Sequence[str] = ()
    channels: Mapping[str, ChannelKind] = field(default_factory=dict)
    credential: Mapping[str, Any] = field(default_factory=dict)
    to_ask: Sequence[str] = ()


_HL7: Final = {"hl7-in": ChannelKind.HL7V2_IN}
_READ: Final = ("Patient", "Appointment", "Practitioner", "Location", "Coverage", "Encounter")
TEMPLATES: Final[Mapping[Vendor, Template]] = {
    row.vendor: row
    for row in (
        Template(
            Vendor.EPIC, "Epic", ("R4", "STU3", "DSTU2"), {"fhir": ChannelKind.FHIR, **_HL7},
            {"method": "private_key_jwt", "algorithm": "RS384", "scopes": [f"system/{one}.read" for one in _READ]},
            ("FHIR base URL of the site (…/api/FHIR/R4)", "token URL (…/oauth2/token)", "client id of the backend app",
             "our JWKS URL registered with the app", "assigning authorities of PID-3 for the HL7 feed"),
        ),
        Template(
            Vendor.CERNER, "Oracle Health (Cerner) Millennium", ("Millennium",), {"fhir": ChannelKind.FHIR, **_HL7},
            {"method": "client_secret_basic", "scopes": [f"system/{one}.rs" for one in _READ]},
            ("tenant id (Millennium domain)", "FHIR base URL with the tenant in it", "token URL with the tenant in it",
             "client id and secret", "whether the app was registered for SMART v1 or v2 scopes"),
        ),
        Template(
            Vendor.UNITY, "Allscripts / Veradigm Unity", ("TouchWorks", "Professional", "PM"),
            {"unity": ChannelKind.UNITY, **_HL7}, {"method": "unity"},
            ("Unity base URL", "application name", "service user and password (expire every 6 months)",
             "EHR user and password (expire about every 90 days)", "which product it is: TouchWorks, Professional, PM"),
        ),
        Template(
            Vendor.FHIR, "FHIR R4 server", ("R4",), {"fhir": ChannelKind.FHIR},
            {"method": "private_key_jwt", "scopes": [f"system/{one}.rs" for one in _READ]},
            ("FHIR base URL", "token URL, or /.well-known/smart-configuration", "client id"),
        ),
        Template(
            Vendor.HL7V2, "HL7 v2 sender", (), _HL7, {},
            ("application and facility (MSH-3, MSH-4)", "assigning authorities of PID-3", "the facility's time zone"),
        ),
        Template(
            Vendor.FILES, "Files", (), {"files-in": ChannelKind.FILES_IN}, {"method": "sftp_key"},
            ("host, port and fingerprint of the SFTP server", "user name", "folder and names of the files"),
        ),
    )
}  # fmt: skip
