"""Who may connect, and as which sender."""

from typing import Any

import pytest

from hl7_gateway.core.allowed_peers import Certificate, admission
from hl7_gateway.core.connection_configuration import AllowedPeer

EPIC = Certificate("epic.example", "a" * 64)


def rows(*given: dict[str, Any]) -> list[AllowedPeer]:
    return [AllowedPeer.model_validate(row) for row in given]


@pytest.mark.parametrize(
    ("row", "address", "certificate", "admitted"),
    [
        ({"network": "10.1.0.0/16"}, "10.1.2.3", None, True),
        ({"network": "10.1.0.0/16"}, "10.2.0.1", None, False),
        ({"network": "10.1.0.0/16"}, "::ffff:10.1.2.3", None, True),
        ({"network": "10.1.2.3"}, "10.1.2.3", None, True),
        ({"network": "fe80::/10"}, "fe80::1%eth0", None, True),
        ({"network": "fe80::/10"}, "10.1.2.3", None, False),
        ({"certificate_subject": "epic.example"}, "10.1.2.3", EPIC, True),
        ({"certificate_subject": "other.example"}, "10.1.2.3", EPIC, False),
        ({"certificate_subject": "epic.example"}, "10.1.2.3", None, False),
        ({"certificate_sha256": "a" * 64}, "10.1.2.3", EPIC, True),
        ({"certificate_sha256": "b" * 64, "certificate_subject": "epic.example"}, "10.1.2.3", EPIC, False),
        ({"certificate_sha256": "a" * 64, "network": "10.9.0.0/16"}, "10.1.2.3", EPIC, False),
    ],
)
def test_a_row_holds_when_all_it_names_holds(
    row: dict[str, Any], address: str, certificate: Certificate | None, admitted: bool
) -> None:
    assert (admission(rows(row), address, certificate) is not None) is admitted


def test_without_rows_everybody_is_admitted_and_may_send_as_anybody() -> None:
    found = admission([], "10.1.2.3", None)
    assert found is not None
    assert found.may_send_as("ANY", "WHERE")


def test_a_peer_may_send_as_what_its_rows_say() -> None:
    given = rows(
        {"network": "10.1.0.0/16", "application": "EPIC", "facility": "NORTH"},
        {"network": "10.1.0.0/16", "application": "LAB"},
        {"network": "10.2.0.0/16", "application": "OTHER"},
    )
    found = admission(given, "10.1.2.3", None)
    assert found is not None
    for application, facility, may in (
        ("epic", "north", True),
        ("EPIC", "SOUTH", False),
        ("LAB", "SOUTH", True),
        ("OTHER", "", False),
    ):
        assert found.may_send_as(application, facility) is may
