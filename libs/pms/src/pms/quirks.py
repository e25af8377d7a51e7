"""Where vendors leave the standard, or what one would expect: one row per quirk, and what the suite does about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.models.integration import Vendor
from pms.source import Source


@dataclass(frozen=True, slots=True)
class Quirk:
    """One peculiarity. `vendors`: where it was seen; it is handled wherever it is met."""

    name: str
    vendors: frozenset[Vendor]
    what: str
    handling: str
    source: Source


_E, _C, _U, _F = Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR
_LIVE, _CODE, _ASSUMED = Source.LIVE_CAPTURE, Source.CLIENT_CODE, Source.ASSUMED

QUIRKS: Final[tuple[Quirk, ...]] = (
    Quirk(
        "xml-without-accept", frozenset({_E}),
        "Without Accept, or with `*/*`, the answer is XML.",
        "Every request asks for application/fhir+json; XML that comes all the same is named `fhir.xml`.", _LIVE,
    ),
    Quirk(
        "html-404", frozenset({_E}),
        "A wrong path or resource type answers an HTML page, no OperationOutcome.",
        "Named `fhir.wrong-path`: the base URL is wrong, not the record missing.", _LIVE,
    ),
    Quirk(
        "total-is-page-size", frozenset({_E}),
        "Bundle.total may be the size of the page.",
        "Totals are shown, never used to stop: paging ends where there is no `next`.", _LIVE,
    ),
    Quirk(
        "short-page-with-next", frozenset({_E}),
        "A page may hold fewer entries than _count, or none, and still have a `next`.",
        "Only the missing `next` ends a search.", _LIVE,
    ),
    Quirk(
        "outcome-entry", frozenset({_E}),
        "An empty result carries an entry with search.mode=outcome.",
        "Such entries are issues, never records.", _LIVE,
    ),
    Quirk(
        "one-body-for-six-causes", frozenset({_E}),
        "invalid_client says the same for an expired, wrong, disabled or unknown client, a wrong aud or clock.",
        "The signature is marked ambiguous; the test tells them apart by what our side can check.", Source.SECOND_HAND,
    ),
    Quirk(
        "unknown-parameters-ignored", frozenset({_E}),
        "An unknown search parameter is ignored (code 59100), and more comes back than was asked for.",
        "The code is kept as a remark of the answer.", _LIVE,
    ),
    Quirk(
        "cause-in-error-uri", frozenset({_C}),
        "Why a token was refused stands only in the URN inside error_uri, in several spellings.",
        "URNs are compared by letters and digits; the instance id is kept for the vendor's support.", _LIVE,
    ),
    Quirk(
        "ids-repeat-across-pages", frozenset({_C}),
        "An id may come again on a later page.",
        "Records are taken once per search.", _LIVE,
    ),
    Quirk(
        "missing-field-is-500", frozenset({_C}),
        "A missing required field is answered with 500 fatal/required.",
        "Named `cerner.field-missing` and never repeated, unlike other 5xx.", _LIVE,
    ),
    Quirk(
        "v1-scopes-dropped", frozenset({_C}),
        "An app registered for SMART v2 has `.read` rejected or dropped silently.",
        "Granted scopes are compared with those asked for, and read in both versions.", _LIVE,
    ),
    Quirk(
        "errors-in-http-200", frozenset({_U, _C}),
        "Unity's errors and an MPage's failed calls come with HTTP 200.",
        "The body is read before the status is believed.", _CODE,
    ),
    Quirk(
        "bare-token", frozenset({_U}),
        "GetToken answers a GUID, quoted or not; its failures are text.",
        "Both are read; a text that begins with `error` is a refusal.", _CODE,
    ),
    Quirk(
        "server-local-times", frozenset({_U}),
        "Times carry no offset and are local to the server.",
        "GetServerInfo's offset places them.", _CODE,
    ),
    Quirk(
        "retry-after-three-forms", frozenset({_E, _C, _U, _F}),
        "Nobody documents the form of Retry-After for 429, 503 and 504.",
        "Seconds, an HTTP date and an absolute timestamp are read.", _ASSUMED,
    ),
    Quirk(
        "dstu2-conformance", frozenset({_E, _F}),
        "DSTU2 servers call their CapabilityStatement Conformance.",
        "Both are read; the version is compared with the channel's base path.", Source.STANDARD,
    ),
)  # fmt: skip


def quirks_of(vendor: Vendor) -> tuple[Quirk, ...]:
    """The quirks seen at a vendor, in the order of the rows."""
    return tuple(row for row in QUIRKS if vendor in row.vendors)
