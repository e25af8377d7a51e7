"""DFT^P03, detail financial transactions → charges (HL7 v2.5.1 §6.3.3, FT1 §6.5.1).

Each FT1 is a charge of its own: one that breaks a rule is rejected by itself, and the others are taken. A transaction
without an id (FT1-2) is known by its message and its place in it, so that the message sent again makes no second one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from common.models.clock import offset_text
from common.models.identifier_systems import IdentifierSystem, system_of
from common.models.records import Charge, Record
from sync.core.hl7_reading import FIELD_MISSING, Message, ReadTime, RejectedError, Segment, concept, first, present
from sync.core.rejection import INVALID, Rejection, rejection_of, value_class


@dataclass(frozen=True, slots=True)
class MappedCharge:
    """A charge; `row` counts the FT1 segments from 1, `external_id` names it among its integration's charges."""

    row: int
    external_id: str
    record: Charge


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """An FT1 that was not taken."""

    row: int
    external_id: str
    rejection: Rejection


# Table 0017, transaction type.
_KINDS: Final = {"CG": "charge", "CD": "credit", "PY": "payment", "AJ": "adjustment", "CO": "co-payment"}
_DATE: Final = re.compile(r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2}))?)?")
_MONEY: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")


def charges_of(
    message: Message, patient: Record, systems: Sequence[IdentifierSystem], read_time: ReadTime
) -> tuple[tuple[MappedCharge, ...], tuple[RejectedRow, ...]]:
    """Every FT1 of a message about a patient (who has a mapped identifier). Raises RejectedError when there is none."""
    rows = message.segments("FT1")
    if not rows:
        raise RejectedError(Rejection(FIELD_MISSING, "FT1", "absent"))
    subject = next(identifier for identifier in patient.identifiers if identifier.key)
    shared = present(
        subject={"type": "Patient", "identifier": subject},
        encounter=_visit(message, systems),
        account=_account(message, systems),
    )
    taken: list[MappedCharge] = []
    rejected: list[RejectedRow] = []
    for number, ft1 in enumerate(rows, start=1):
        external_id = ft1.text(2) or f"{first(message, 'MSH', 10)}:{number}"
        try:
            record = Charge.model_validate(_charge(ft1, systems, read_time) | shared)
            taken.append(MappedCharge(number, external_id, record))
        except RejectedError as error:
            rejected.append(RejectedRow(number, external_id, _placed(error.rejection, number)))
        except ValidationError as error:
            rejected.append(RejectedRow(number, external_id, _placed(rejection_of(error), number)))
    return tuple(taken), tuple(rejected)


def _placed(rejection: Rejection, number: int) -> Rejection:
    """With the segment's number in the rule: `FT1[2]-6`."""
    place = f"FT1[{number}]"
    rule = rejection.rule.removeprefix("FT1")
    return replace(rejection, rule=f"{place}{rule}" if rule != rejection.rule else f"{place} {rule}")


def _charge(ft1: Segment, systems: Sequence[IdentifierSystem], read_time: ReadTime) -> dict[str, Any]:
    kind = _KINDS.get(ft1.text(6).upper())
    if kind is None:
        raise RejectedError(Rejection(INVALID if ft1.text(6) else FIELD_MISSING, "FT1-6", value_class(ft1.text(6))))
    code = concept(ft1, 7)
    if not code:
        raise RejectedError(Rejection(FIELD_MISSING, "FT1-7", "absent"))
    return present(
        status="billable" if kind in {"charge", "credit"} else "billed",
        kind=kind,
        code=code,
        procedures=[concept(ft1, 25)] if ft1.repetitions(25) else [],
        diagnoses=_concepts(ft1, 19),
        description=ft1.text(8) or ft1.text(9),
        entered_date=_date(ft1, 5),
        quantity=_number(ft1, 10),
        total=_money(ft1, 11),
        unit_price=_money(ft1, 12),
        performers=[_person(ft1, 20, systems)] if ft1.repetitions(20) else [],
        requesting_organization=_department(ft1),
        **_occurrence(ft1, read_time),
    )


def _occurrence(ft1: Segment, read_time: ReadTime) -> dict[str, Any]:
    """FT1-4: a date, or an instant; a range (DR) counts from its start."""
    text = ft1.text(4, 1) or ft1.text(4, 1, subcomponent=1)
    if not text:
        raise RejectedError(Rejection(FIELD_MISSING, "FT1-4", "absent"))
    instant = read_time(text)
    if instant is not None:
        return {"occurrence": instant, "occurrence_offset": offset_text(instant)}
    return {"occurrence_date": _date_of(text, "FT1-4")}


def _date(ft1: Segment, number: int) -> str | None:
    text = ft1.text(number)
    return _date_of(text[:8], f"FT1-{number}") if text else None


def _date_of(text: str, rule: str) -> str:
    match = _DATE.fullmatch(text)
    if match is None:
        raise RejectedError(Rejection(INVALID, rule, value_class(text)))
    return "-".join(part for part in match.groups() if part)


def _number(ft1: Segment, number: int) -> str | None:
    text = ft1.text(number)
    if text and not _MONEY.fullmatch(text):
        raise RejectedError(Rejection(INVALID, f"FT1-{number}", value_class(text)))
    return text or None


def _money(ft1: Segment, number: int) -> dict[str, Any] | None:
    """CP: the price is a MO, quantity and ISO 4217 denomination (§2.A.13, §2.A.41)."""
    amount = ft1.text(number, 1, subcomponent=1)
    if not amount:
        return None
    if not _MONEY.fullmatch(amount):
        raise RejectedError(Rejection(INVALID, f"FT1-{number}", value_class(amount)))
    return present(value=amount, currency=ft1.text(number, 1, subcomponent=2).upper())


def _concepts(ft1: Segment, number: int) -> list[dict[str, Any]]:
    found = []
    for repetition in range(1, ft1.repetitions(number) + 1):
        code, text = (ft1.text(number, component, repetition=repetition) for component in (1, 2))
        if code or text:
            found.append(present(coding=[present(code=code, display=text)]) if code else {"text": text})
    return found


def _person(ft1: Segment, number: int, systems: Sequence[IdentifierSystem]) -> dict[str, Any]:
    """XCN: id, family, given, …, assigning authority (9), …, identifier type (13) (§2.A.88)."""
    value, family, given, kind = (ft1.text(number, component) for component in (1, 2, 3, 13))
    namespace, universal_id, universal_type = (ft1.text(number, 9, subcomponent=part) for part in (1, 2, 3))
    named = namespace or universal_id
    system = system_of(systems, namespace, universal_id, universal_type, kind) if named else None
    identifier = present(type=kind, system=system, value=value, assigner=None if system else named) if value else None
    return present(
        type="Practitioner", identifier=identifier, display=" ".join(part for part in (given, family) if part)
    )


def _department(ft1: Segment) -> dict[str, Any] | None:
    code, text = ft1.text(13, 1), ft1.text(13, 2)
    if not code and not text:
        return None
    return present(type="Organization", identifier={"value": code} if code else None, display=text)


def _visit(message: Message, systems: Sequence[IdentifierSystem]) -> dict[str, Any] | None:
    return _numbered(message, "PV1", 19, "Encounter", systems)


def _account(message: Message, systems: Sequence[IdentifierSystem]) -> dict[str, Any] | None:
    return _numbered(message, "PID", 18, "Account", systems)


def _numbered(
    message: Message, segment: str, number: int, kind: str, systems: Sequence[IdentifierSystem]
) -> dict[str, Any] | None:
    """PV1-19 or PID-18, CX: what the number's assigning authority makes of it; without one it is this source's own."""
    value = first(message, segment, number, 1)
    if not value:
        return None
    namespace = first(message, segment, number, 4)
    system = system_of(systems, namespace) if namespace else None
    assigner = namespace if namespace and not system else None
    return {"type": kind, "identifier": present(system=system, value=value, assigner=assigner)}
