"""The pages of the systems hold every row, and say what is assumed."""

import pytest

from common.models.errors import catalogue_markdown
from common.models.integration import Vendor
from pms import ccl, cerner, epic, unity
from pms.capabilities import HABITS, resources_of
from pms.quirks import quirks_of
from pms.smart_launch import POWERCHART_MESSAGES
from pms.source import Source
from suite.system_documents import system_documents, system_markdown


@pytest.mark.parametrize("vendor", [Vendor.EPIC, Vendor.CERNER, Vendor.UNITY, Vendor.FHIR])
def test_every_row_of_a_vendor_is_on_its_page(vendor: Vendor) -> None:
    text = system_markdown(vendor)
    own: dict[Vendor, list[str]] = {
        Vendor.EPIC: list(epic.CODES),
        Vendor.CERNER: [
            *(row.name for row in (*cerner.TOKEN_URNS, *cerner.LAUNCH_URNS)),
            *(row.meaning for row in ccl.NUMBERS.values()),
            *(word for row in POWERCHART_MESSAGES for word in row.words),
        ],
        Vendor.UNITY: [*unity.ACTIONS, *(row.name for row in unity.ALL_ERRORS)],
    }
    named = [
        *own.get(vendor, []),
        *(row.resource for row in resources_of(vendor)),
        *(row.name for row in quirks_of(vendor)),
        *(row.name for row in HABITS if row.vendor is vendor),
    ]
    assert [name for name in named if name not in text] == []
    assumed = [row.name for row in HABITS if row.vendor is vendor and row.source is Source.ASSUMED]
    assert all(f"| {name} | 429 | **assumed** |" in text for name in assumed)


def test_the_error_catalogue_leads_to_every_page() -> None:
    text = catalogue_markdown()
    assert [name for name in system_documents() if f"]({name})" not in text] == []


def test_cells_do_not_break_their_table() -> None:
    for text in system_documents().values():
        tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
        assert tables
        for lines in tables:
            columns = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
            assert len(columns) == 1
