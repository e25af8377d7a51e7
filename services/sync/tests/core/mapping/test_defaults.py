"""The default rows give what the mappings by hand give, over what the simulator sends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from common.models.identifier_systems import IdentifierSystem
from simulator.core.hl7_messages import FEED_KINDS, Scene, compose_kind
from simulator.core.practice import make_practice
from simulator.core.resources import appointment_resource, patient_resource
from sync.core.fhir_mapping import Mapped, map_resource
from sync.core.hl7_mapping import map_message
from sync.core.hl7_message import parse, time_reader
from sync.core.mapping.checking import check_mapping
from sync.core.mapping.compiling import compile_mapping
from sync.core.mapping.defaults import DEFAULTS, FHIR_APPOINTMENT, FHIR_PATIENT, HL7_PATIENT, default_mapping
from sync.core.mapping.row import FieldMapping, SourceKind
from sync.core.mapping.transform import Surroundings

NOW = datetime(2026, 3, 6, 15, 0, 1, tzinfo=UTC)
PRACTICE = make_practice("demo", 7, patients=120)
PATIENTS = list(PRACTICE.patients.values())
SYSTEMS = (IdentifierSystem("EPIC", "urn:oid:1.2.3"), IdentifierSystem("", "urn:oid:1.2.3"))
READ_TIME = time_reader(ZoneInfo("America/Chicago"))
SURROUNDINGS = Surroundings(SYSTEMS, READ_TIME)


def by_hand(resource: dict[str, Any]) -> dict[str, Any]:
    found = map_resource(resource, resource["resourceType"])
    assert isinstance(found, Mapped), found
    return found.record.document()


@pytest.mark.parametrize("mapping", DEFAULTS.values(), ids=lambda mapping: mapping.source_type)
def test_the_defaults_pass_their_own_checks(mapping: FieldMapping) -> None:
    assert check_mapping(mapping, SURROUNDINGS) == ()
    assert default_mapping(mapping.source_kind, mapping.record_type) is mapping
    assert default_mapping(SourceKind.FILE, mapping.record_type) is None


def test_patients_of_fhir_are_mapped_as_by_hand() -> None:
    compiled = compile_mapping(FHIR_PATIENT)
    for patient in PATIENTS:
        resource = patient_resource(PRACTICE, patient)
        found = compiled(resource)
        assert (found.document, found.findings) == (by_hand(resource), ())


def test_a_patient_with_everything_is_mapped_as_by_hand() -> None:
    resource = {
        "resourceType": "Patient",
        "id": "e1",
        "identifier": [
            {"use": "usual", "type": {"coding": [{"code": "MR"}]}, "system": "urn:oid:1.2", "value": " 4711 "},
            {"type": {"text": "Old"}, "value": "5", "assigner": {"display": "Elsewhere"}},
            {"system": "urn:oid:9", "value": ""},
        ],
        "active": False,
        "name": [
            {"use": "official", "text": "Ana María Núñez", "family": "Núñez", "given": ["Ana", None, "María"]},
            {"text": "Anita", "given": ["Ana"], "prefix": ["Dr"], "suffix": ["PhD"]},
        ],
        "telecom": [{"system": "phone", "value": "(312) 555-0100", "use": "home", "rank": 1}, {"system": "email"}],
        "gender": "female",
        "birthDate": "1970-05",
        "address": [{"use": "home", "line": ["1 Elm St", " "], "city": "Chicago", "postalCode": "60601"}],
        "maritalStatus": {"coding": [{"system": "s", "code": "M"}], "text": " "},
        "communication": [{"language": {"coding": [{"code": "es"}]}, "preferred": True}, {"language": {"text": "en"}}],
        "generalPractitioner": [{"reference": "https://host/R4/Practitioner/p1", "display": "A Doctor"}, {}],
        "deceasedDateTime": "2020-01-01",
    }
    assert compile_mapping(FHIR_PATIENT)(resource).document == by_hand(resource)
    del resource["deceasedDateTime"]
    resource |= {"deceasedBoolean": False, "communication": [{"language": {"text": "Spanish"}}]}
    assert compile_mapping(FHIR_PATIENT)(resource).document == by_hand(resource)


def test_appointments_of_fhir_are_mapped_as_by_hand() -> None:
    compiled, compared = compile_mapping(FHIR_APPOINTMENT), 0
    for day in range(14):
        for row in PRACTICE.appointments_on((NOW + timedelta(days=day)).date()):
            resource = appointment_resource(PRACTICE, row, PRACTICE.patients[row.patient], NOW)
            found = compiled(resource)
            assert (found.document, found.findings) == (by_hand(resource), ())
            compared += 1
    assert compared > 20


def message_of(name: str, patient_number: int) -> bytes:
    patient = PATIENTS[patient_number]
    day = NOW.date()
    rows = [row for ahead in range(35) for row in PRACTICE.appointments_on(day + timedelta(days=ahead))]
    appointment = next(row for row in rows if row.patient == patient.id)
    return compose_kind(FEED_KINDS[name], Scene(PRACTICE, patient, appointment, 7, NOW, "c1"))


@pytest.mark.parametrize("name", ["ADT^A01", "ADT^A08", "ADT^A31"])
def test_patients_of_hl7_messages_are_mapped_as_by_hand(name: str) -> None:
    compiled = compile_mapping(HL7_PATIENT, SURROUNDINGS)
    for number in range(0, len(PATIENTS), 4):
        message = parse(message_of(name, number))
        (update,) = map_message(message, "ADT", name[-3:], SYSTEMS, READ_TIME).updates
        found = compiled(message)
        assert (found.document, found.findings) == (update.record.document(), ())


def test_a_pid_with_everything_is_mapped_as_by_hand() -> None:
    body = (
        "MSH|^~\\&|EPIC|DEMO|PS|HERE|20260301093000-0500||ADT^A08|1|P|2.5.1|||||||UNICODE UTF-8\r"
        "PID|1||4711^^^EPIC^MR~99^^^OTHER^AN~7^^^&1.2.9&ISO^PI||Núñez^Ana^María Luz^Jr^Dr^MD^L||197005171230|F"
        "|||1 Elm^Apt 2^Chicago^IL^60601^USA^H^^Cook"
        "||555-0100^PRN^PH~^NET^Internet^ana@example.org~^PRN^CP^^1^312^5550123^9|555-0200^WPN^PH~5^^FX"
        "|es|M^Married||||||||||||||Y\r"
    )
    message = parse(body.encode())
    (update,) = map_message(message, "ADT", "A08", SYSTEMS, READ_TIME).updates
    found = compile_mapping(HL7_PATIENT, SURROUNDINGS)(message)
    assert (found.document, found.findings) == (update.record.document(), ())
