"""How a resource is synchronised: decided by the installation's capability row, nothing else."""

from __future__ import annotations

from enum import StrEnum

from common.models.errors import SuiteError
from pms.capabilities import CursorKind, Interaction, ResourceCapability
from pms.offers import Offers
from sync.core.run import Resource


class Strategy(StrEnum):
    """The ways a page is made."""

    WINDOW = "window"
    """The resource itself, by a moving date window."""
    REFERENCED = "referenced"
    """The resources that the appointments of a window refer to, by id."""


def strategy_of(offers: Offers, resource: Resource) -> Strategy:
    """Raises SuiteError `run.resource-unsupported` naming what is offered."""
    strategy = _strategy(offers, offers.of(resource.fhir))
    if strategy is None:
        offered = [kind for kind in Resource if _strategy(offers, offers.of(kind.fhir)) is not None]
        raise SuiteError("run.resource-unsupported", f"Offered: {', '.join(offered) or 'none'}.")
    return strategy


def _strategy(offers: Offers, row: ResourceCapability | None) -> Strategy | None:
    if row is None or not row.offers(Interaction.SEARCH):
        return None
    if row.cursor is CursorKind.DATE_WINDOW and row.accepts_search(["date"]):
        return Strategy.WINDOW
    if row.cursor is CursorKind.BY_REFERENCE and row.reached_from is not None and row.accepts_search(["_id"]):
        source = offers.of(row.reached_from)
        return Strategy.REFERENCED if _strategy(offers, source) is Strategy.WINDOW else None
    return None


def fetches_patients(offers: Offers) -> bool:
    """Whether patients are had by the ids that appointments name."""
    return _strategy(offers, offers.of(Resource.PATIENT.fhir)) is Strategy.REFERENCED
