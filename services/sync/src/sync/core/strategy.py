"""How a vendor's resource is synchronised: decided by its capability row, nothing else."""

from __future__ import annotations

from enum import StrEnum

from common.models.errors import SuiteError
from common.models.integration import Vendor
from pms.capabilities import CursorKind, Interaction, ResourceCapability, capability, resources_of
from sync.core.run import Resource


class Strategy(StrEnum):
    """The ways a page is made."""

    WINDOW = "window"
    """The resource itself, by a moving date window."""
    REFERENCED = "referenced"
    """The resources that the appointments of a window refer to, by id."""


def strategy_of(vendor: Vendor, resource: Resource) -> Strategy:
    """Raises SuiteError `run.resource-unsupported` naming what the vendor offers."""
    strategy = _strategy(capability(vendor, resource.fhir))
    if strategy is None:
        offered = [kind for kind in Resource if _strategy(capability(vendor, kind.fhir)) is not None]
        raise SuiteError("run.resource-unsupported", f"Offered: {', '.join(offered) or 'none'}.")
    return strategy


def _strategy(row: ResourceCapability | None) -> Strategy | None:
    if row is None or not row.offers(Interaction.SEARCH):
        return None
    if row.cursor is CursorKind.DATE_WINDOW and row.accepts_search(["date"]):
        return Strategy.WINDOW
    if row.cursor is CursorKind.BY_REFERENCE and row.reached_from is not None and row.accepts_search(["_id"]):
        source = capability(row.vendor, row.reached_from)
        return Strategy.REFERENCED if _strategy(source) is Strategy.WINDOW else None
    return None


def fetches_patients(vendor: Vendor) -> bool:
    """Whether patients are had by the ids that appointments name."""
    return any(row.resource == "Patient" and _strategy(row) is Strategy.REFERENCED for row in resources_of(vendor))
