"""What one installation offers: its vendor's rows with what the practice's engineers know better.

Vendors ship the same product with other APIs switched on, other page limits, other searches. An override changes only
the parts that it names, so what is learnt of the vendor later still reaches the installation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from common.models.errors import FieldError
from common.models.integration import Vendor
from pms.capabilities import CursorKind, Interaction, ResourceCapability, resources_of
from pms.source import Source


@dataclass(frozen=True, slots=True)
class Offers:
    """The resources of one installation, by FHIR R4 type name, in the order of the vendor's rows."""

    vendor: Vendor
    by_resource: Mapping[str, ResourceCapability]

    def of(self, resource: str) -> ResourceCapability | None:
        """The row of a resource; None: not offered by API."""
        return self.by_resource.get(resource)

    @property
    def rows(self) -> tuple[ResourceCapability, ...]:
        """Every row."""
        return tuple(self.by_resource.values())


_BARE: Final[Mapping[str, Any]] = {"interactions": frozenset(), "cursor": CursorKind.NONE}


def offers_of(vendor: Vendor, overrides: Iterable[Mapping[str, Any]] = ()) -> Offers:
    """The vendor's rows with overrides applied.

    An override: {resource, offered (default true), interactions, cursor, search_any_of, reached_from, enumerable,
    page_records_max, ids_per_request_max, note}; what is absent or null stays the vendor's. The overrides have passed
    `override_findings`.
    """
    rows = {row.resource: row for row in resources_of(vendor)}
    for override in overrides:
        name = override["resource"]
        if not override.get("offered", True):
            rows.pop(name, None)
            continue
        rows[name] = _changed(rows.get(name), vendor, name, override)
    return Offers(vendor, rows)


def _changed(
    row: ResourceCapability | None, vendor: Vendor, resource: str, override: Mapping[str, Any]
) -> ResourceCapability:
    given = {name: value for name, value in override.items() if value is not None and name in _READ_AS}
    parts = {name: _READ_AS[name](value) for name, value in given.items()}
    if "page_records_max" in parts:
        default = row.page_records_default if row is not None else parts["page_records_max"]
        parts["page_records_default"] = min(default, parts["page_records_max"])
    if row is not None:
        # What somebody states of the installation is assumed no more.
        return replace(row, **parts, source=Source.INSTALLATION, assumed=row.assumed - parts.keys())
    return ResourceCapability(vendor, resource, source=Source.INSTALLATION, **{**_BARE, **parts})


_READ_AS: Final[Mapping[str, Any]] = {
    "interactions": lambda value: frozenset(Interaction(one) for one in value),
    "cursor": CursorKind,
    "search_any_of": lambda value: tuple(frozenset(one) for one in value),
    "reached_from": str,
    "enumerable": bool,
    "page_records_max": int,
    "ids_per_request_max": int,
    "note": str,
}


def override_findings(vendor: Vendor, overrides: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """What does not fit together, by JSON pointer into the list; empty: `offers_of` takes it."""
    found: list[FieldError] = []
    seen: set[str] = set()
    for index, override in enumerate(overrides):
        if override["resource"] in seen:
            found.append(FieldError(f"/{index}/resource", "twice", "One override per resource."))
        seen.add(override["resource"])
    if found:
        return found
    offers = offers_of(vendor, overrides)
    for index, override in enumerate(overrides):
        row = offers.of(override["resource"])
        if row is not None:
            found += _row_findings(index, row, offers)
    return found


def _row_findings(index: int, row: ResourceCapability, offers: Offers) -> Iterable[FieldError]:
    if not row.interactions:
        yield FieldError(f"/{index}/interactions", "missing", "Say what can be done with it, or `offered` false.")
    if row.cursor is not CursorKind.BY_REFERENCE:
        return
    if row.reached_from is None:
        yield FieldError(f"/{index}/reached_from", "missing", "Name the resource that its ids come from.")
    elif row.reached_from == row.resource or offers.of(row.reached_from) is None:
        expected = "Another resource that this installation offers."
        yield FieldError(f"/{index}/reached_from", "unknown", expected)
