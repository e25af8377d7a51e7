"""The vendor rows hold together, and say what the search of each vendor needs."""

import pytest

from common.models.integration import Vendor
from pms.capabilities import HABITS, RESOURCES, CursorKind, Interaction, capability, habit, resources_of
from pms.source import Source

API_VENDORS = (Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR)


@pytest.mark.parametrize("vendor", API_VENDORS)
def test_every_api_vendor_has_patients_and_appointments(vendor: Vendor) -> None:
    assert {"Patient", "Appointment"} <= {row.resource for row in resources_of(vendor)}


def test_keys_are_unique() -> None:
    assert len({(row.vendor, row.resource) for row in RESOURCES}) == len(RESOURCES)
    assert len({(row.vendor, row.name) for row in HABITS}) == len(HABITS)


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: f"{row.vendor}-{row.resource}")
def test_rows_are_whole(row) -> None:
    assert 1 <= row.page_records_default <= row.page_records_max
    assert row.ids_per_request_max >= 1
    assert row.assumed <= set(type(row).__dataclass_fields__)
    assert (row.cursor is CursorKind.BY_REFERENCE) == (row.reached_from is not None)
    if row.reached_from is not None:
        assert not row.enumerable
        assert capability(row.vendor, row.reached_from) is not None


def test_epic_patients_come_from_appointments() -> None:
    row = capability(Vendor.EPIC, "Patient")
    assert row is not None
    assert row.reached_from == "Appointment"
    assert row.accepts_search(["_id", "_count"])
    assert row.accepts_search(["family:exact", "given", "birthdate"])
    assert not row.accepts_search(["family", "_count"])
    assert not row.accepts_search([])
    assert not row.offers(Interaction.CREATE)


def test_epic_has_no_slot_and_no_last_updated() -> None:
    assert capability(Vendor.EPIC, "Slot") is None
    assert all(row.cursor is not CursorKind.LAST_UPDATED for row in resources_of(Vendor.EPIC))
    found = habit(Vendor.EPIC, "bundle-total-is-page-size")
    assert found is not None
    assert found.value is True


def test_cerner_appointment_search_needs_someone_and_a_date() -> None:
    row = capability(Vendor.CERNER, "Appointment")
    assert row is not None
    assert row.accepts_search(["patient", "date", "date"])
    assert not row.accepts_search(["date"])


def test_what_has_no_source_says_so() -> None:
    rate_limit = habit(Vendor.EPIC, "rate-limit-status")
    assert rate_limit is not None
    assert rate_limit.source is Source.ASSUMED
    assert habit(Vendor.EPIC, "no such habit") is None
