"""DFT^P03 → charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from common.models.identifier_systems import IdentifierSystem
from common.models.records import Charge
from sync.core.hl7_mapping import MappedMessage, map_message
from sync.core.hl7_message import parse, time_reader
from sync.core.rejection import Rejection

SYSTEMS = (IdentifierSystem("EPIC", "mrn"),)
FT1 = (
    "FT1|1|T-1||20260301093000|20260302|CG|99213^Office visit^C4|||2|160.00&USD|80.00&USD|CLINIC^Main||||||I10^Pressure"
)
PERFORMER = "|7^Quinn^Ada^^^^^^EPIC|||||25^Modified^C4"


def mapped(*segments: str) -> MappedMessage:
    head = r"MSH|^~\&|EPIC|CLINIC|PS|HERE|20260301120000-0600||DFT^P03^DFT_P03|M-1|P|2.5.1"
    body = "\r".join(
        (head, "PID|1||4711^^^EPIC^MR|||||||||||||||ACC-1^^^BILL", "PV1|1|O|||||||||||||||||V-9", *segments)
    )
    message = parse(body.encode())
    return map_message(message, "DFT", "P03", SYSTEMS, time_reader(ZoneInfo("America/Chicago")))


def test_a_transaction_becomes_a_charge_of_its_patient() -> None:
    (found,) = mapped(FT1 + PERFORMER).charges
    assert (found.row, found.external_id) == (1, "T-1")
    document = found.record.document()
    assert (document["kind"], document["status"]) == ("charge", "billable")
    assert document["code"] == {"coding": [{"code": "99213", "display": "Office visit"}]}
    assert (document["occurrence"], document["occurrence_offset"]) == ("2026-03-01T15:30:00.000Z", "-06:00")
    assert (document["entered_date"], document["quantity"]) == ("2026-03-02", "2")
    assert document["total"] == {"value": "160.00", "currency": "USD"}
    assert Decimal(document["unit_price"]["value"]) * 2 == Decimal(document["total"]["value"])
    assert document["subject"]["identifier"]["value"] == "4711"
    assert document["encounter"] == {"type": "Encounter", "identifier": {"value": "V-9"}}
    assert document["account"] == {"type": "Account", "identifier": {"value": "ACC-1", "assigner": "BILL"}}
    assert document["diagnoses"] == [{"coding": [{"code": "I10", "display": "Pressure"}]}]
    assert document["performers"][0]["display"] == "Ada Quinn"


def test_without_a_transaction_id_it_is_known_by_message_and_place() -> None:
    found = mapped(FT1.replace("T-1", ""), FT1.replace("T-1", "")).charges
    assert [one.external_id for one in found] == ["M-1:1", "M-1:2"]


@pytest.mark.parametrize(
    ("changed", "rule", "value_class"),
    [
        (("|CG|", "|ZZ|"), "FT1[1]-6", "text"),
        (("|CG|", "||"), "FT1[1]-6", "absent"),
        (("99213^Office visit^C4", ""), "FT1[1]-7", "absent"),
        (("20260301093000", ""), "FT1[1]-4", "absent"),
        (("20260301093000", "soon"), "FT1[1]-4", "text"),
        (("160.00&USD", "much"), "FT1[1]-11", "text"),
        (("160.00&USD", "160.00&DOLLARS"), "FT1[1] total.currency", "text"),
        (("|||2|", "|||two|"), "FT1[1]-10", "text"),
    ],
)
def test_a_bad_row_is_rejected_by_itself(changed: tuple[str, str], rule: str, value_class: str) -> None:
    found = mapped(FT1.replace(*changed, 1), FT1.replace("T-1", "T-2"))
    assert [one.external_id for one in found.charges] == ["T-2"]
    (rejected,) = found.rejected_rows
    assert rejected.row == 1
    assert (rejected.rejection.rule, rejected.rejection.value_class) == (rule, value_class)
    assert found.rejection is None


def test_a_mere_date_of_service_stays_a_date() -> None:
    (found,) = mapped(FT1.replace("20260301093000", "20260301")).charges
    assert isinstance(found.record, Charge)
    assert (found.record.occurrence, found.record.occurrence_date) == (None, "2026-03-01")


def test_a_message_without_transactions_is_rejected_but_for_its_patient() -> None:
    found = mapped()
    assert found.rejection == Rejection("hl7.field-missing", "FT1", "absent")
    assert len(found.updates) == 1


@pytest.mark.parametrize("text", ["^~", "|||", '""', "\\X0A\\", "é" * 500])
def test_whatever_stands_in_a_row_is_mapped_or_rejected(text: Any) -> None:
    found = mapped(f"FT1|1|{text}|{text}|{text}|{text}|CG|{text}|{text}||{text}|{text}")
    assert len(found.charges) + len(found.rejected_rows) == 1 or found.rejection is not None
