"""HL7 v2 ADT, SIU and DFT → what they carry about a patient, an appointment and charges (v2.5.1, chapters 3, 6, 10; the
choice of fields follows HL7's v2-to-FHIR mapping).

An empty field carries nothing, `""` clears. An identifier whose assigning authority no row of the integration names is
kept for people to see, but matches nobody; a message without any mapped identifier is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from common.models.clock import offset_text
from common.models.identifier_systems import IdentifierSystem, system_of
from common.models.records import Appointment, Identifier, Patient, Record
from sync.core.hl7_charges import MappedCharge, RejectedRow, charges_of
from sync.core.hl7_reading import (
    AUTHORITY_UNMAPPED,
    FIELD_MISSING,
    Message,
    ReadTime,
    RejectedError,
    Segment,
    concept,
    first,
    present,
)
from sync.core.incoming import Update
from sync.core.merge import GROUPS
from sync.core.rejection import INVALID, Rejection, rejection_of


@dataclass(frozen=True, slots=True)
class MappedMessage:
    """What a message carries, in the order in which it is to be applied, and what had to be rejected.

    `written_at` is MSH-7, else EVN-2; None when the message names neither. `charges` belong to the patient in
    `updates`; of several, each is taken or rejected (`rejected_rows`) by itself.
    """

    updates: tuple[Update, ...]
    rejection: Rejection | None = None
    written_at: datetime | None = None
    charges: tuple[MappedCharge, ...] = ()
    rejected_rows: tuple[RejectedRow, ...] = ()


@dataclass(slots=True)
class _Carried:
    """A document in the making."""

    values: dict[str, Any] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)
    groups: dict[str, set[str]] = field(default_factory=dict)

    def put(self, name: str, value: Any) -> None:
        """Carry a value; None and empty lists are none."""
        if value not in (None, [], {}):
            self.values[name] = value
            self.carried.add(name)

    def update(self, kind: type[Record]) -> Update:
        """The update; raises ValidationError when a value breaks the model's rules."""
        record = kind.model_validate(self.values)
        groups = {name: frozenset(names | _groups_of(record, name)) for name, names in self.groups.items()}
        carried = frozenset(self.carried | set(self.groups))
        return Update(record, carried, frozenset(self.cleared) - carried, groups, partial=True)


def supported(message_type: str, trigger_event: str) -> bool:
    """Whether messages of that type are applied to records."""
    return (message_type, trigger_event) in _MAPPINGS or (message_type, trigger_event) in _MERGES


def map_message(
    message: Message,
    message_type: str,
    trigger_event: str,
    systems: Sequence[IdentifierSystem],
    read_time: ReadTime,
) -> MappedMessage:
    """What a supported message carries. Never raises for what stands in it."""
    written_at = next(
        (at for at in (read_time(first(message, "MSH", 7)), read_time(first(message, "EVN", 2))) if at is not None),
        None,
    )
    updates: list[Update] = []
    try:
        if (message_type, trigger_event) in _MERGES:
            return MappedMessage(tuple(_merges(message, systems)), None, written_at)
        for mapping in _MAPPINGS[message_type, trigger_event]:
            update = mapping(message, trigger_event, systems, read_time)
            if update is not None:
                updates.append(update)
        if message_type == "DFT":
            charges, rejected = charges_of(message, updates[0].record, systems, read_time)
            return MappedMessage(tuple(updates), None, written_at, charges, rejected)
    except RejectedError as error:
        return MappedMessage(tuple(updates), error.rejection, written_at)
    except ValidationError as error:
        return MappedMessage(tuple(updates), rejection_of(error), written_at)
    return MappedMessage(tuple(updates), None, written_at)


# ---- patient (PID) ----


def _patient(message: Message, _: str, systems: Sequence[IdentifierSystem], __: ReadTime) -> Update:
    found = message.segments("PID")
    if not found:
        raise RejectedError(Rejection(FIELD_MISSING, "PID", "absent"))
    return _patient_update(found[0], systems)


def _patient_if_named(message: Message, _: str, systems: Sequence[IdentifierSystem], __: ReadTime) -> Update | None:
    """The patient group of SIU is optional (a blocked slot has none)."""
    found = message.segments("PID")
    return _patient_update(found[0], systems) if found else None


def _patient_update(pid: Segment, systems: Sequence[IdentifierSystem]) -> Update:
    carried = _Carried()
    identifiers = _mapped_identifiers(pid, "PID", 3, systems)
    carried.put("identifiers", identifiers)
    carried.groups["identifiers"] = set()
    for name, number, read in _PID_FIELDS:
        if pid.is_null(number):
            carried.cleared.add(name)
        elif pid.repetitions(number):
            carried.put(name, read(pid, number))
    points = []
    for number, group in ((13, "personal"), (14, "work")):
        if pid.repetitions(number):
            carried.groups.setdefault("telecom", set()).add(group)
            points += [] if pid.is_null(number) else _contact_points(pid, number)
    carried.put("telecom", points)
    return carried.update(Patient)


def _merges(message: Message, systems: Sequence[IdentifierSystem]) -> list[Update]:
    """A40 repeats a group of PID and MRG, A34 has one: the identifiers of MRG-1 are the PID's from now on (§3.3.34,
    §3.3.40). A group that cannot be read rejects the message: half of it applied would hide the other half."""
    pids, retired = message.segments("PID"), message.segments("MRG")
    if not pids:
        raise RejectedError(Rejection(FIELD_MISSING, "PID", "absent"))
    if len(pids) != len(retired):
        raise RejectedError(Rejection(FIELD_MISSING, "MRG", "absent" if len(retired) < len(pids) else "list"))
    found = []
    for pid, mrg in zip(pids, retired, strict=True):
        update = _patient_update(pid, systems)
        merged = [Identifier.model_validate(one) for one in _mapped_identifiers(mrg, "MRG", 1, systems)]
        named = {identifier.key for identifier in update.record.identifiers}
        if any(identifier.key in named for identifier in merged if identifier.key):
            raise RejectedError(Rejection(INVALID, "MRG-1", "text"))
        found.append(replace(update, retired=tuple(identifier for identifier in merged if identifier.key)))
    return found


def _mapped_identifiers(
    segment: Segment, name: str, number: int, systems: Sequence[IdentifierSystem]
) -> list[dict[str, Any]]:
    """Identifiers of which at least one has a system."""
    identifiers = _patient_identifiers(segment, systems, number)
    if not identifiers:
        raise RejectedError(Rejection(FIELD_MISSING, f"{name}-{number}", "absent"))
    if not any("system" in identifier for identifier in identifiers):
        raise RejectedError(Rejection(AUTHORITY_UNMAPPED, f"{name}-{number}.4", "text"))
    return identifiers


def _patient_identifiers(
    pid: Segment, systems: Sequence[IdentifierSystem], field_number: int = 3
) -> list[dict[str, Any]]:
    """PID-3 or MRG-1, CX: id, check digit, scheme, assigning authority (HD), type (§2.A.14)."""
    found = []
    for repetition in range(1, pid.repetitions(field_number) + 1):
        value = pid.text(field_number, 1, repetition=repetition)
        if not value or pid.is_null(field_number):
            continue
        namespace, universal_id, universal_type = (
            pid.text(field_number, 4, repetition=repetition, subcomponent=number) for number in (1, 2, 3)
        )
        kind = pid.text(field_number, 5, repetition=repetition)
        system = system_of(systems, namespace, universal_id, universal_type, kind)
        assigner = None if system else (namespace or universal_id)
        found.append(present(type=kind, system=system, value=value, assigner=assigner))
    return found


def _names(pid: Segment, number: int) -> list[dict[str, Any]]:
    """XPN: family, given, further given names, suffix, prefix, degree, type (§2.A.88)."""
    found = []
    for repetition in range(1, pid.repetitions(number) + 1):
        part = [pid.text(number, component, repetition=repetition) for component in range(1, 8)]
        name = present(
            family=part[0],
            given=[given for given in (part[1], *part[2].split()) if given],
            prefix=[part[4]] if part[4] else [],
            suffix=[suffix for suffix in (part[3], part[5]) if suffix],
        )
        if name:
            found.append(name | present(use=_NAME_USES.get(part[6])))
    return found


_NAME_USES: Final = {"L": "official", "D": "usual", "N": "nickname", "M": "maiden", "S": "anonymous"}


_TIME_OF_DAY: Final = re.compile(r"([0-9]{2,6}(\.[0-9]+)?)?([+-][0-9]{4})?")


def _birth_date(pid: Segment, number: int) -> str:
    """TS with a precision of at least a year; a time of day is left out."""
    text = pid.text(number)
    digits, time_of_day = text[:8], text[8:]
    if not digits.isdecimal() or len(digits) not in {4, 6, 8} or not _TIME_OF_DAY.fullmatch(time_of_day):
        raise RejectedError(Rejection(INVALID, "PID-7", "text"))
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


def _gender(pid: Segment, number: int) -> str:
    """Table 0001."""
    gender = _GENDERS.get(pid.text(number).upper())
    if gender is None:
        raise RejectedError(Rejection(INVALID, "PID-8", "text"))
    return gender


_GENDERS: Final = {"F": "female", "M": "male", "O": "other", "A": "other", "N": "other", "U": "unknown"}


def _deceased(pid: Segment, number: int) -> bool:
    """Table 0136."""
    answer = {"Y": True, "N": False}.get(pid.text(number).upper())
    if answer is None:
        raise RejectedError(Rejection(INVALID, "PID-30", "text"))
    return answer


def _addresses(pid: Segment, number: int) -> list[dict[str, Any]]:
    """XAD: street, other designation, city, state, ZIP, country, type, …, county (§2.A.86)."""
    found = []
    for repetition in range(1, pid.repetitions(number) + 1):
        part = [pid.text(number, component, repetition=repetition) for component in range(1, 10)]
        address = present(
            line=[line for line in part[:2] if line],
            city=part[2],
            state=part[3],
            postal_code=part[4],
            country=part[5],
            district=part[8],
        )
        if address:
            found.append(address | present(use=_ADDRESS_USES.get(part[6])))
    return found


_ADDRESS_USES: Final = {"H": "home", "B": "work", "O": "work", "C": "temp", "BI": "billing"}


def _contact_points(pid: Segment, number: int) -> list[dict[str, Any]]:
    """XTN: number, use code, equipment, e-mail, country, area, local number, extension, …, unformatted (§2.A.89)."""
    found = []
    for repetition in range(1, pid.repetitions(number) + 1):
        part = [pid.text(number, component, repetition=repetition) for component in range(1, 13)]
        use_code, equipment = part[1].upper(), part[2].upper()
        if use_code == "NET" or equipment in {"INTERNET", "X.400"}:
            point = present(system="email", value=part[3] or part[0])
        else:
            point = present(system=_EQUIPMENT.get(equipment, "phone"), value=_phone_number(part))
        use = "mobile" if equipment == "CP" else _POINT_USES.get(use_code, "work" if number == 14 else None)
        if "value" in point:
            found.append(point | present(use=use))
    return found


_EQUIPMENT: Final = {"FX": "fax", "BP": "pager"}
_POINT_USES: Final = {"PRN": "home", "ORN": "home", "VHN": "home", "WPN": "work"}


def _phone_number(part: Sequence[str]) -> str:
    if part[0] or part[11]:
        return part[0] or part[11]
    number = " ".join(piece for piece in (f"+{part[4].lstrip('+')}" if part[4] else "", part[5], part[6]) if piece)
    return f"{number} x{part[7]}" if number and part[7] else number


_PID_FIELDS: Final[tuple[tuple[str, int, Callable[[Segment, int], Any]], ...]] = (
    ("names", 5, _names),
    ("birth_date", 7, _birth_date),
    ("gender", 8, _gender),
    ("addresses", 11, _addresses),
    ("language", 15, lambda pid, number: pid.text(number)),
    ("marital_status", 16, concept),
    ("deceased", 30, _deceased),
)


# ---- appointment (SCH, AIS, AIL, AIP) ----


def _appointment(
    message: Message, trigger_event: str, systems: Sequence[IdentifierSystem], read_time: ReadTime
) -> Update:
    found = message.segments("SCH")
    if not found:
        raise RejectedError(Rejection(FIELD_MISSING, "SCH", "absent"))
    sch, carried = found[0], _Carried()
    carried.put("identifiers", _appointment_identifiers(sch, systems))
    carried.groups["identifiers"] = set()
    carried.put("status", _status(sch, trigger_event))
    for name, number in (("reason_codes", 7), ("appointment_type", 8)):
        listed = name == "reason_codes"
        if sch.is_null(number):
            carried.cleared.add(name)
        elif sch.repetitions(number):
            value = concept(sch, number)
            carried.put(name, [value] if listed and value else value)
    if trigger_event in _ENDED:
        carried.put("cancelation_reason", concept(sch, 6) or None)
    _put_times(message, sch, carried, read_time)
    _put_participants(message, carried, systems)
    return carried.update(Appointment)


def _appointment_identifiers(sch: Segment, systems: Sequence[IdentifierSystem]) -> list[dict[str, Any]]:
    """SCH-2 (filler) and SCH-1 (placer), EI: id, namespace, universal id, its type (§2.A.28)."""
    found: list[dict[str, Any]] = []
    for number in (2, 1):
        value, namespace, universal_id, universal_type = (sch.text(number, component) for component in range(1, 5))
        if not value:
            continue
        # The row for identifiers without an authority speaks of patients, not of appointments.
        system = system_of(systems, namespace, universal_id, universal_type) if namespace or universal_id else None
        identifier = present(system=system, value=value, assigner=None if system else (namespace or universal_id))
        if identifier not in found:
            found.append(identifier)
    if not found:
        raise RejectedError(Rejection(FIELD_MISSING, "SCH-2", "absent"))
    if not any("system" in identifier for identifier in found):
        raise RejectedError(Rejection(AUTHORITY_UNMAPPED, "SCH-2.2", "text"))
    return found


def _status(sch: Segment, trigger_event: str) -> str | None:
    """SCH-25 by table 0278; where it says nothing we know, what the trigger event itself says."""
    return _STATUSES.get(sch.text(25).casefold()) or _STATUS_OF_TRIGGER.get(trigger_event)


_STATUSES: Final = {
    "booked": "booked", "overbook": "booked", "pending": "pending", "waitlist": "waitlist", "started": "arrived",
    "complete": "fulfilled", "noshow": "noshow", "cancelled": "cancelled", "canceled": "cancelled", "dc": "cancelled",
    "deleted": "entered-in-error",
}  # fmt: skip
_STATUS_OF_TRIGGER: Final = {
    "S12": "booked", "S13": "booked", "S15": "cancelled", "S16": "cancelled", "S17": "entered-in-error",
    "S26": "noshow",
}  # fmt: skip


def _put_times(message: Message, sch: Segment, carried: _Carried, read_time: ReadTime) -> None:
    """Start and end: SCH-11 (TQ.4, TQ.5), TQ1-7 and -8, or the first resource's own start and duration."""
    starts = [sch.text(11, 4), first(message, "TQ1", 7), first(message, "AIS", 4)]
    starts += [first(message, "AIL", 6), first(message, "AIP", 6)]
    start = _instant(starts, read_time, "SCH-11.4")
    end = _instant([sch.text(11, 5), first(message, "TQ1", 8)], read_time, "SCH-11.5")
    minutes = _minutes(sch.text(9), sch.text(10)) or _minutes(first(message, "AIS", 7), first(message, "AIS", 8))
    if start is not None and end is None and minutes is not None:
        end = start + timedelta(minutes=minutes)
    if start is not None and end is not None and end < start:
        raise RejectedError(Rejection(INVALID, "SCH-11.5", "text"))
    carried.put("minutes_duration", minutes)
    for name, instant in (("start", start), ("end", end)):
        if instant is not None:
            carried.put(name, instant)
            carried.put(f"{name}_offset", offset_text(instant))


def _instant(texts: Sequence[str], read_time: ReadTime, rule: str) -> datetime | None:
    text = next((text for text in texts if text), None)
    if text is None:
        return None
    instant = read_time(text)
    if instant is None:
        raise RejectedError(Rejection(INVALID, rule, "text"))
    return instant


def _minutes(amount: str, unit: str) -> int | None:
    """A duration whose unit is named; without a unit it says nothing."""
    factor = _MINUTES.get(unit.casefold())
    if factor is None or not amount.isdecimal() or int(amount) == 0:
        return None
    return int(amount) * factor


_MINUTES: Final = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 60),
}


def _put_participants(message: Message, carried: _Carried, systems: Sequence[IdentifierSystem]) -> None:
    participants: list[dict[str, Any]] = []
    for name, kind, action_field, read in _RESOURCES:
        found = message.segments(name)
        if not found:
            continue
        carried.groups.setdefault("participants", set()).add(kind)
        kept = [segment for segment in found if action_field is None or segment.text(action_field).upper() != "D"]
        actors = [read(segment, systems) for segment in kept]
        participants += [{"actor": {"type": kind, **actor}} for actor in actors if actor]
    carried.put("participants", participants)


def _patient_actor(pid: Segment, systems: Sequence[IdentifierSystem]) -> dict[str, Any]:
    mapped = [identifier for identifier in _patient_identifiers(pid, systems) if "system" in identifier]
    return {"identifier": mapped[0]} if mapped else {}


def _practitioner(segment: Segment, systems: Sequence[IdentifierSystem]) -> dict[str, Any]:
    """AIP-3, XCN: id, family, given, …, assigning authority (9), …, identifier type (13) (§2.A.88)."""
    value, family, given = (segment.text(3, component) for component in (1, 2, 3))
    display = " ".join(part for part in (given, family) if part)
    if not value:
        return present(display=display)
    namespace, universal_id, universal_type = (segment.text(3, 9, subcomponent=number) for number in (1, 2, 3))
    kind = segment.text(3, 13)
    system = system_of(systems, namespace, universal_id, universal_type, kind) if namespace or universal_id else None
    assigner = None if system else (namespace or universal_id)
    return present(identifier=present(type=kind, system=system, value=value, assigner=assigner), display=display)


def _location(segment: Segment, _: Sequence[IdentifierSystem]) -> dict[str, Any]:
    """AIL-3, PL: point of care, …, facility (4), …, description (9) (§2.A.53)."""
    value, description = segment.text(3, 1), segment.text(3, 9)
    identifier = present(value=value, assigner=segment.text(3, 4)) if value else None
    return present(identifier=identifier, display=description)


_ReadActor = Callable[[Segment, Sequence[IdentifierSystem]], dict[str, Any]]
# Segment, FHIR type, where its action code stands (table 0206: D takes the resource away), how it is read.
_RESOURCES: Final[tuple[tuple[str, str, int | None, _ReadActor], ...]] = (
    ("PID", "Patient", None, _patient_actor),
    ("AIP", "Practitioner", 2, _practitioner),
    ("AIL", "Location", 2, _location),
)

_ENDED: Final = frozenset({"S15", "S16", "S17"})
"""Their SCH-6 says why there is no appointment any more (§10.3.5 to §10.3.7)."""

# Of visits too: each says who the patient is as of then (§3.3); the visit itself (PV1) is not kept.
_VISITS: Final = {"A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A11", "A12", "A13"}
_PERSONS: Final = {"A28", "A31"}
_APPOINTMENTS: Final = ("S12", "S13", "S14", "S15", "S16", "S17", "S26")

_Mapping = Callable[[Message, str, Sequence[IdentifierSystem], ReadTime], Update | None]
_MAPPINGS: Final[Mapping[tuple[str, str], tuple[_Mapping, ...]]] = {
    **{("ADT", trigger): (_patient,) for trigger in _VISITS | _PERSONS},
    **{("SIU", trigger): (_patient_if_named, _appointment) for trigger in _APPOINTMENTS},
    ("DFT", "P03"): (_patient,),
}
_MERGES: Final = frozenset({("ADT", "A34"), ("ADT", "A40")})


def _groups_of(record: Record, name: str) -> set[str]:
    return {GROUPS[name](item) for item in getattr(record, name)}
