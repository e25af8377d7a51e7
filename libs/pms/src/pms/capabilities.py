"""What each vendor's system offers, one row per vendor and resource, and its habits, one row per habit.

A resource type without a row is not offered. `source` founds the row as a whole; where one part of it has no source,
`assumed` names that part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.models.integration import Vendor
from pms.source import Source


class Interaction(StrEnum):
    """What can be done with a resource (FHIR R4 §3.1.0; for Unity the nearest action)."""

    READ = "read"
    SEARCH = "search"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"


class CursorKind(StrEnum):
    """How a change since the last run is found."""

    LAST_UPDATED = "last-updated"
    """`_lastUpdated` on the search."""
    DATE_WINDOW = "date-window"
    """A moving window over the resource's own date; a change is seen by the content hash."""
    BY_REFERENCE = "by-reference"
    """Not enumerable: the ids come from another resource (`reached_from`), then `_id` lists."""
    CHANGED_SINCE = "changed-since"
    """An action that lists what changed since an instant."""
    BULK_EXPORT = "bulk-export"
    """Group `$export`."""
    NONE = "none"
    """No way to find changes by API."""


@dataclass(frozen=True, slots=True)
class ResourceCapability:
    """One resource of one vendor.

    `search_any_of`: a search must carry all parameters of at least one of these sets (empty: anything goes).
    `ids_per_request_max` bounds an `_id` list; `page_records_max` bounds `_count`. `products`: those of the vendor that
    have it (empty: all).
    """

    vendor: Vendor
    resource: str
    interactions: frozenset[Interaction]
    cursor: CursorKind
    source: Source
    search_any_of: tuple[frozenset[str], ...] = ()
    reached_from: str | None = None
    page_records_default: int = 100
    page_records_max: int = 100
    ids_per_request_max: int = 50
    enumerable: bool = True
    assumed: frozenset[str] = frozenset()
    note: str = ""
    products: frozenset[str] = frozenset()

    def offers(self, interaction: Interaction) -> bool:
        """Whether the vendor offers the interaction."""
        return interaction in self.interactions

    def accepts_search(self, parameters: Iterable[str]) -> bool:
        """Whether a search with these parameter names (modifiers do not count) fulfils the vendor's demand."""
        given = {name.partition(":")[0] for name in parameters}
        return not self.search_any_of or any(wanted <= given for wanted in self.search_any_of)


def _sets(*alternatives: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(alternative.split()) for alternative in alternatives)


_READ_SEARCH: Final = frozenset({Interaction.READ, Interaction.SEARCH})
_READ_SEARCH_WRITE: Final = frozenset({Interaction.READ, Interaction.SEARCH, Interaction.CREATE, Interaction.PATCH})
_PAGES_ASSUMED: Final = frozenset({"page_records_default", "page_records_max"})
_EPIC_ASSUMED: Final = _PAGES_ASSUMED | {"search_any_of", "ids_per_request_max"}

RESOURCES: Final[tuple[ResourceCapability, ...]] = (
    ResourceCapability(
        Vendor.EPIC, "Appointment", _READ_SEARCH, CursorKind.DATE_WINDOW, Source.LIVE_CAPTURE,
        search_any_of=_sets("_id", "date", "patient", "identifier"), assumed=_EPIC_ASSUMED,
        note="No _lastUpdated and no meta.lastUpdated: a change is found by content hash inside the window.",
    ),
    ResourceCapability(
        Vendor.EPIC, "Patient", _READ_SEARCH, CursorKind.BY_REFERENCE, Source.LIVE_CAPTURE,
        search_any_of=_sets("_id", "identifier", "family given birthdate", "name birthdate", "family given telecom"),
        reached_from="Appointment", enumerable=False, assumed=_EPIC_ASSUMED,
        note="Cannot be enumerated: ids come from the appointments of a window, or from Group $export.",
    ),
    *(
        ResourceCapability(
            Vendor.EPIC, resource, _READ_SEARCH, CursorKind.BY_REFERENCE, Source.LIVE_CAPTURE,
            search_any_of=_sets("_id", *also), reached_from="Appointment", enumerable=False, assumed=_EPIC_ASSUMED,
        )
        for resource, also in (
            ("Practitioner", ("identifier", "family given", "name")),
            ("Location", ("identifier", "name")),
            ("Coverage", ("patient", "beneficiary")),
            ("Account", ("patient", "identifier")),
            ("Encounter", ("patient",)),
        )
    ),
    ResourceCapability(
        Vendor.CERNER, "Appointment", _READ_SEARCH_WRITE, CursorKind.DATE_WINDOW, Source.LIVE_CAPTURE,
        search_any_of=_sets("_id", "patient date", "practitioner date", "location date"), assumed=_PAGES_ASSUMED,
        note="date needs ge and lt. An id may repeat across pages.",
    ),
    ResourceCapability(
        Vendor.CERNER, "Patient", _READ_SEARCH_WRITE, CursorKind.BY_REFERENCE, Source.LIVE_CAPTURE,
        search_any_of=_sets(
            "_id", "identifier", "name", "family", "given", "birthdate", "phone", "email", "address-postalcode"
        ),
        reached_from="Appointment", enumerable=False, assumed=_PAGES_ASSUMED,
        note="No _lastUpdated on Patient, Appointment or Coverage.",
    ),
    ResourceCapability(
        Vendor.CERNER, "Slot", frozenset({Interaction.READ, Interaction.SEARCH, Interaction.PATCH}),
        CursorKind.DATE_WINDOW, Source.VENDOR_DOCUMENT,
        search_any_of=_sets("_id", "service-type start"), page_records_default=50, page_records_max=200,
        note="_count 5 to 200; start needs ge and lt.",
    ),
    ResourceCapability(
        Vendor.CERNER, "Encounter", _READ_SEARCH_WRITE, CursorKind.LAST_UPDATED, Source.LIVE_CAPTURE,
        search_any_of=_sets("_id", "patient", "subject", "account"),
        assumed=_PAGES_ASSUMED | {"search_any_of"},
    ),
    ResourceCapability(
        Vendor.CERNER, "Coverage", _READ_SEARCH, CursorKind.BY_REFERENCE, Source.VENDOR_DOCUMENT,
        search_any_of=_sets("_id", "patient"), reached_from="Patient", enumerable=False,
        assumed=_PAGES_ASSUMED | {"search_any_of"},
    ),
    *(
        ResourceCapability(
            Vendor.CERNER, resource, _READ_SEARCH, CursorKind.BY_REFERENCE, Source.SECOND_HAND,
            search_any_of=_sets("_id", *also), reached_from="Appointment", enumerable=False,
            assumed=_PAGES_ASSUMED | {"search_any_of"},
        )
        for resource, also in (("Practitioner", ("identifier", "family", "name")), ("Location", ("identifier", "name")))
    ),
    ResourceCapability(
        Vendor.UNITY, "Appointment", _READ_SEARCH, CursorKind.CHANGED_SINCE, Source.CLIENT_CODE,
        assumed=frozenset({"page_records_default", "page_records_max"}),
        note="GetSchedule (EHR: changedSince) or GetAppointmentsByChangeDTTM (PM). No paging.",
    ),
    ResourceCapability(
        Vendor.UNITY, "Patient", _READ_SEARCH, CursorKind.CHANGED_SINCE, Source.CLIENT_CODE,
        page_records_max=100, assumed=frozenset({"page_records_default"}),
        note="GetChangedPatients; SearchPatients on PM gives at most 100 rows. No ETag.",
    ),
    ResourceCapability(
        Vendor.UNITY, "Practitioner", frozenset({Interaction.SEARCH}), CursorKind.NONE, Source.CLIENT_CODE,
        assumed=_PAGES_ASSUMED | {"cursor"}, note="GetProviders: the whole list at once.",
    ),
    ResourceCapability(
        Vendor.UNITY, "Slot", frozenset({Interaction.SEARCH}), CursorKind.NONE, Source.CLIENT_CODE,
        assumed=_PAGES_ASSUMED | {"cursor"}, note="GetAvailableSchedule.", products=frozenset({"PM"}),
    ),
    *(
        ResourceCapability(
            Vendor.FHIR, resource, _READ_SEARCH, CursorKind.LAST_UPDATED, Source.STANDARD, assumed=_PAGES_ASSUMED,
            note="What the server's CapabilityStatement declares goes before this row.",
        )
        for resource in (
            "Appointment", "Patient", "Practitioner", "Location", "Coverage", "Encounter", "Account", "Schedule",
            "Slot",
        )
    ),
)  # fmt: skip

_BY_KEY: Final = {(row.vendor, row.resource): row for row in RESOURCES}


def capability(vendor: Vendor, resource: str) -> ResourceCapability | None:
    """The row of a vendor's resource (FHIR R4 type name); None: not offered by API."""
    return _BY_KEY.get((vendor, resource))


def resources_of(vendor: Vendor) -> tuple[ResourceCapability, ...]:
    """Every resource of a vendor, in the order of the rows."""
    return tuple(row for row in RESOURCES if row.vendor is vendor)


@dataclass(frozen=True, slots=True)
class Habit:
    """One thing a client has to know about a vendor's API."""

    vendor: Vendor
    name: str
    value: str | int | bool
    source: Source


HABITS: Final[tuple[Habit, ...]] = (
    Habit(Vendor.EPIC, "fhir-version", "4.0.1", Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "accept-required", True, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "bundle-total-is-page-size", True, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "short-page-may-have-next", True, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "last-updated-declared", False, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "unknown-parameters-ignored", True, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "token-life-s", 3600, Source.LIVE_CAPTURE),
    Habit(Vendor.EPIC, "assertion-jti-characters-max", 151, Source.VENDOR_DOCUMENT),
    Habit(Vendor.EPIC, "jwks-cache-s-max", 29 * 3600, Source.VENDOR_DOCUMENT),
    Habit(Vendor.EPIC, "registration-visible-after-s-max", 12 * 3600, Source.VENDOR_DOCUMENT),
    Habit(Vendor.EPIC, "group-export-gap-s", 24 * 3600, Source.VENDOR_DOCUMENT),
    Habit(Vendor.EPIC, "rate-limit-status", 429, Source.ASSUMED),
    Habit(Vendor.CERNER, "fhir-version", "4.0.1", Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "ids-repeat-across-pages", True, Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "token-life-s", 570, Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "refresh-gap-s-min", 60, Source.VENDOR_DOCUMENT),
    Habit(Vendor.CERNER, "correlation-header", "Cerner-Correlation-ID", Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "refresh-returns-refresh-token", False, Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "offline-idle-days-max", 90, Source.VENDOR_DOCUMENT),
    Habit(Vendor.CERNER, "patch-needs-if-match", True, Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "bulk-jobs-max", 1, Source.VENDOR_DOCUMENT),
    Habit(Vendor.CERNER, "bulk-retry-after-s", 600, Source.VENDOR_DOCUMENT),
    Habit(Vendor.CERNER, "bulk-files-redirect-status", 307, Source.VENDOR_DOCUMENT),
    Habit(Vendor.CERNER, "scope-version", 2, Source.LIVE_CAPTURE),
    Habit(Vendor.CERNER, "rate-limit-status", 429, Source.ASSUMED),
    Habit(Vendor.UNITY, "errors-in-http-200", True, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "token-idle-life-s", 20 * 60, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "paging", False, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "etag", False, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "times-are-server-local", True, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "search-rows-max", 100, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "service-credential-life-days", 183, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "user-password-life-days", 90, Source.CLIENT_CODE),
    Habit(Vendor.UNITY, "jwks-cache-s-max", 24 * 3600, Source.SECOND_HAND),
    Habit(Vendor.UNITY, "rate-limit-status", 429, Source.ASSUMED),
    Habit(Vendor.FHIR, "fhir-version", "4.0.1", Source.STANDARD),
    Habit(Vendor.FHIR, "rate-limit-status", 429, Source.STANDARD),
    Habit(Vendor.FHIR, "token-life-s", 300, Source.STANDARD),
)

_HABITS: Final = {(row.vendor, row.name): row for row in HABITS}


def habit(vendor: Vendor, name: str) -> Habit | None:
    """The row of a habit, None when nothing is known."""
    return _HABITS.get((vendor, name))
