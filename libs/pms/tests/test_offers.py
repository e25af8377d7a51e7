"""What an installation offers: only what is named changes."""

from __future__ import annotations

import pytest

from common.models.integration import Vendor
from pms.capabilities import CursorKind, Interaction, capability
from pms.offers import offers_of, override_findings
from pms.source import Source


def test_without_overrides_it_is_the_vendor() -> None:
    offers = offers_of(Vendor.CERNER)
    assert offers.of("Patient") is capability(Vendor.CERNER, "Patient")
    assert offers.of("Unheard") is None


def test_only_what_is_named_changes() -> None:
    before = capability(Vendor.EPIC, "Appointment")
    override = {"resource": "Appointment", "page_records_max": 40, "cursor": None, "note": "IT said so on 2026-11-02"}
    after = offers_of(Vendor.EPIC, [override]).of("Appointment")
    assert before is not None
    assert after is not None
    assert (after.page_records_max, after.page_records_default, after.cursor) == (40, 40, CursorKind.DATE_WINDOW)
    assert after.search_any_of == before.search_any_of
    assert after.source is Source.INSTALLATION
    assert "page_records_max" in before.assumed
    assert "page_records_max" not in after.assumed


def test_an_api_can_be_off_or_be_there_beyond_the_vendors_rows() -> None:
    added = {"resource": "Slot", "interactions": ["search"], "cursor": "date-window", "search_any_of": [["start"]]}
    offers = offers_of(Vendor.EPIC, [{"resource": "Encounter", "offered": False}, added])
    assert offers.of("Encounter") is None
    slot = offers.of("Slot")
    assert slot is not None
    assert slot.interactions == {Interaction.SEARCH}
    assert slot.accepts_search(["start"])
    assert not slot.accepts_search(["date"])


@pytest.mark.parametrize(
    ("overrides", "pointer", "code"),
    [
        ([{"resource": "Patient"}, {"resource": "Patient"}], "/1/resource", "twice"),
        ([{"resource": "Slot"}], "/0/interactions", "missing"),
        ([{"resource": "Patient", "interactions": []}], "/0/interactions", "missing"),
        ([{"resource": "Slot", "interactions": ["read"], "cursor": "by-reference"}], "/0/reached_from", "missing"),
        ([{"resource": "Patient", "reached_from": "Patient"}], "/0/reached_from", "unknown"),
        (
            [{"resource": "Patient", "note": "x"}, {"resource": "Appointment", "offered": False}],
            "/0/reached_from",
            "unknown",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(overrides: list[dict[str, object]], pointer: str, code: str) -> None:
    found = override_findings(Vendor.EPIC, overrides)
    assert [(one.pointer, one.code) for one in found] == [(pointer, code)]
    assert all(one.detail for one in found)
