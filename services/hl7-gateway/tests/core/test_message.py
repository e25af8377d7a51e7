"""What is kept of a message beside its body."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from common.models.identifier_systems import IdentifierSystem
from common.models.identifiers import type_id, uuid7
from hl7_gateway.core.message import (
    acknowledgment_id,
    patient_name,
    read_header,
)
from hl7_gateway.core.message_types import TAKEN, unsupported


def test_the_header_is_read(message: Callable[..., bytes]) -> None:
    header = read_header(hl7v2.parse(message("ctl-9", modes="AL|NE")))
    assert (header.application, header.facility, header.control_id) == ("EPIC", "CLINIC", "ctl-9")
    assert (header.operation, header.version, header.timestamp) == ("ADT^A08", "2.5.1", "20260301093000")
    assert (header.accept_condition, header.application_condition) == ("AL", "NE")


def test_what_is_no_type_is_not_passed_on(message: Callable[..., bytes]) -> None:
    header = read_header(hl7v2.parse(message(kind="DOE JOHN^19700101")))
    assert header.operation == ""


@given(text=st.text(max_size=300).filter(lambda text: not set(text) & set("|\r\n\x0b\x1c^~\\&")))
def test_whatever_stands_in_the_header_can_be_stored(text: str) -> None:
    data = f"MSH|^~\\&|{text}|{text}|||20260301||ADT^A01|{text}|P|2.5".encode("utf-8", "surrogatepass")
    header = read_header(hl7v2.parse(data))
    for value in (header.application, header.facility, header.control_id):
        assert len(value) <= 199
        assert "\x00" not in value
        assert value.encode().decode() == value


def test_a_patient_is_named_by_system_or_authority(message: Callable[..., bytes]) -> None:
    rows = (IdentifierSystem("EPIC", "urn:oid:1.2.3"),)
    assert patient_name(hl7v2.parse(message()), rows) == "urn:oid:1.2.3|4711"
    assert patient_name(hl7v2.parse(message()), ()) == "EPIC|4711"
    assert patient_name(hl7v2.parse(message(patient="")), rows) is None


def test_our_control_id_fits_and_follows_from_the_message() -> None:
    ids = {acknowledgment_id(type_id("msg", uuid7(1_700_000_000_000, number))) for number in range(100)}
    assert len(ids) == 100
    assert {len(one) for one in ids} == {20}


@pytest.mark.parametrize(("kind", "event"), sorted(TAKEN))
def test_what_is_listed_is_taken(kind: str, event: str) -> None:
    assert unsupported(kind, event) is None


@pytest.mark.parametrize(
    ("kind", "event", "path", "code"),
    [("BAR", "P01", "MSH-9.1", "200"), ("", "", "MSH-9.1", "200"), ("ADT", "A37", "MSH-9.2", "201")],
)
def test_what_is_not_listed_is_told_where(kind: str, event: str, path: str, code: str) -> None:
    why = unsupported(kind, event)
    assert why is not None
    assert (why.path, why.code) == (path, code)
