"""`python -m bench sync-mapping`: how fast records are mapped by their rows.

The floor is the same fifteen fields written out by hand in the plainest Python there is, in the same run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.report import figure
from sync.core.fhir_mapping import map_resource
from sync.core.mapping.compiling import compile_mapping
from sync.core.mapping.defaults import FHIR_PATIENT
from sync.core.mapping.row import FieldMapping, MappingRow, SourceKind

ROUNDS = 9
RECORDS = 2_000
FIELDS_US_MAX = 15.0
_PATHS = (
    ("identifiers[0].system", "identifier[0].system"),
    ("identifiers[0].value", "identifier[0].value"),
    ("names[0].use", "name[0].use"),
    ("names[0].family", "name[0].family"),
    ("names[0].given", "name[0].given"),
    ("telecom[system=phone].value", "telecom.where(system='phone').value"),
    ("telecom[system=email].value", "telecom.where(system='email').value"),
    ("gender", "gender"),
    ("birth_date", "birthDate"),
    ("active", "active"),
    ("addresses[0].line", "address[0].line"),
    ("addresses[0].city", "address[0].city"),
    ("addresses[0].state", "address[0].state"),
    ("addresses[0].postal_code", "address[0].postalCode"),
    ("language", "communication[0].language.coding[0].code"),
)


def resource(number: int) -> dict[str, Any]:
    """A synthetic patient of 0.9 KB."""
    return {
        "resourceType": "Patient",
        "id": f"e{number}",
        "identifier": [{"use": "usual", "type": {"text": "MRN"}, "system": "urn:oid:1.2.3", "value": f"{number:08}"}],
        "active": True,
        "name": [
            {"use": "official", "text": f"Ana Núñez{number}", "family": f"Núñez{number}", "given": ["Ana", "María"]}
        ],
        "telecom": [
            {"system": "phone", "value": f"312-555-{number % 10_000:04}", "use": "home"},
            {"system": "email", "value": f"ana{number}@example.org"},
        ],
        "gender": "female",
        "birthDate": f"{1930 + number % 90}-05-17",
        "address": [{"use": "home", "line": ["1 Elm St"], "city": "Chicago", "state": "IL", "postalCode": "60601"}],
        "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}, "preferred": True}],
    }


def by_hand(source: dict[str, Any]) -> dict[str, Any]:
    """The floor: no checks, no findings."""
    identifier, name, address = source["identifier"][0], source["name"][0], source["address"][0]
    return {
        "identifiers": [{"system": identifier["system"], "value": identifier["value"]}],
        "names": [{"use": name["use"], "family": name["family"], "given": name["given"]}],
        "telecom": [{"system": point["system"], "value": point["value"]} for point in source["telecom"]],
        "gender": source["gender"],
        "birth_date": source["birthDate"],
        "active": source["active"],
        "addresses": [
            {
                "line": address["line"],
                "city": address["city"],
                "state": address["state"],
                "postal_code": address["postalCode"],
            }
        ],
        "language": source["communication"][0]["language"]["coding"][0]["code"],
    }


def microseconds(action: Callable[[dict[str, Any]], object], sources: list[dict[str, Any]]) -> float:
    """Of this process's own CPU time, the best mean of several rounds: what else runs only adds to it."""
    best = math.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        for source in sources:
            action(source)
        best = min(best, (time.process_time() - began) / len(sources))
    return best * 1e6


def figures() -> Iterator[dict[str, object]]:
    """All figures of this module."""
    sources = [resource(number) for number in range(RECORDS)]
    rows = tuple(MappingRow(target, source) for target, source in _PATHS)
    compiled = compile_mapping(FieldMapping("patient", SourceKind.FHIR, rows, "Patient"))
    assert compiled(sources[0]).document == by_hand(sources[0])
    how = f"{len(rows)} fields by native paths, {RECORDS} FHIR patients, best of {ROUNDS} rounds"
    spent = microseconds(compiled, sources)
    yield figure("mapping, 15 fields", spent, "µs/record", how, goal=FIELDS_US_MAX)
    yield figure("mapping, 15 fields, by hand", microseconds(by_hand, sources), "µs/record", "the floor: no checks")
    default = microseconds(compile_mapping(FHIR_PATIENT), sources)
    how = f"the default rows of a FHIR patient, all items of every list ({len(FHIR_PATIENT.rows)} rows)"
    yield figure("mapping, default rows", default, "µs/record", how)
    fixed = microseconds(lambda source: map_resource(source, "Patient"), sources)
    yield figure("mapping, written out with models", fixed, "µs/record", "core/fhir_mapping.py, the same patients")
