"""Canonical records: what Practice Studio keeps of a patient, an appointment and a charge, whichever road it came by.

Names follow FHIR R4 (snake_case; plural where R4 has a list under a singular name). Nothing is guessed: what a source
does not say is absent, and absent things are left out of the document. An instant is UTC; the offset its source gave
stands beside it, because 09:00 in Chicago is lost otherwise.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
)

from common.models.clock import instant_text

TEXT_CHARACTERS_MAX: Final = 4_000
_ITEMS_MAX: Final = 200
_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
_OFFSET: Final = r"^[+-][0-9]{2}:[0-9]{2}$"


def _partial_date(text: str) -> str:
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("a date is YYYY, YYYY-MM or YYYY-MM-DD")
    date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    return text


def _instant(value: Any) -> datetime:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    # A number is no instant: nobody says which epoch and unit it counts.
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise ValueError("an instant is RFC 3339 text with an offset")
    # Milliseconds, as everywhere in the suite: an instant that was stored equals the one it came from.
    return instant.astimezone(UTC).replace(microsecond=instant.microsecond // 1000 * 1000)


Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
PartialDate = Annotated[str, AfterValidator(_partial_date)]
"""A FHIR `date`: `1970`, `1970-05` or `1970-05-17`; the precision is the source's."""
Instant = Annotated[
    datetime, BeforeValidator(_instant), PlainSerializer(instant_text, return_type=str, when_used="json")
]
Offset = Annotated[str, Field(pattern=_OFFSET)]
"""The source's offset from UTC, `-06:00`."""


class Part(BaseModel):
    """A part of a record; immutable, and nothing that is not named here can be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Identifier(Part):
    """FHIR Identifier. Without a `system` it identifies nobody; `assigner` then says who gave it, as the source did."""

    use: Literal["usual", "official", "temp", "secondary", "old"] | None = None
    type: Text | None = None
    system: Text | None = None
    value: Text
    assigner: Text | None = None

    @property
    def key(self) -> tuple[str, str] | None:
        """(system, value) when it can identify: it has a system and is not marked old."""
        return None if self.system is None or self.use == "old" else (self.system, self.value)


class HumanName(Part):
    """FHIR HumanName. `text` only where it says more than the parts."""

    use: Literal["usual", "official", "temp", "nickname", "anonymous", "old", "maiden"] | None = None
    text: Text | None = None
    family: Text | None = None
    given: tuple[Text, ...] = Field(default=(), max_length=_ITEMS_MAX)
    prefix: tuple[Text, ...] = Field(default=(), max_length=_ITEMS_MAX)
    suffix: tuple[Text, ...] = Field(default=(), max_length=_ITEMS_MAX)


class ContactPoint(Part):
    """FHIR ContactPoint."""

    system: Literal["phone", "fax", "email", "pager", "url", "sms", "other"] | None = None
    value: Text
    use: Literal["home", "work", "temp", "old", "mobile"] | None = None
    rank: Annotated[StrictInt, Field(ge=1)] | None = None


class Address(Part):
    """FHIR Address."""

    use: Literal["home", "work", "temp", "old", "billing"] | None = None
    text: Text | None = None
    line: tuple[Text, ...] = Field(default=(), max_length=_ITEMS_MAX)
    city: Text | None = None
    district: Text | None = None
    state: Text | None = None
    postal_code: Text | None = None
    country: Text | None = None


class Coding(Part):
    """FHIR Coding."""

    system: Text | None = None
    code: Text | None = None
    display: Text | None = None


class CodeableConcept(Part):
    """FHIR CodeableConcept."""

    coding: tuple[Coding, ...] = Field(default=(), max_length=_ITEMS_MAX)
    text: Text | None = None


class Reference(Part):
    """FHIR Reference: `external_id` is the id at the source, `record_id` our record where it is known."""

    type: Text
    external_id: Text | None = None
    record_id: Text | None = None
    identifier: Identifier | None = None
    display: Text | None = None


class Participant(Part):
    """FHIR Appointment.participant."""

    actor: Reference
    required: Literal["required", "optional", "information-only"] | None = None
    status: Literal["accepted", "declined", "tentative", "needs-action"] | None = None


class Record(Part):
    """A canonical record: every field may be absent."""

    TYPE: ClassVar[str]

    identifiers: tuple[Identifier, ...] = Field(default=(), max_length=_ITEMS_MAX)

    def document(self) -> dict[str, Any]:
        """JSON without what is absent; the form that is stored, hashed and shown."""
        return self.model_dump(mode="json", exclude_defaults=True)


class PatientLink(Part):
    """FHIR Patient.link: another record that is the same person; of two, the `replaced-by` one is out of use."""

    other: Reference
    type: Literal["replaced-by", "replaces", "refer", "seealso"]


class Patient(Record):
    """FHIR R4 Patient."""

    TYPE: ClassVar[str] = "patient"

    active: StrictBool | None = None
    names: tuple[HumanName, ...] = Field(default=(), max_length=_ITEMS_MAX)
    telecom: tuple[ContactPoint, ...] = Field(default=(), max_length=_ITEMS_MAX)
    gender: Literal["male", "female", "other", "unknown"] | None = None
    birth_date: PartialDate | None = None
    deceased: StrictBool | None = None
    addresses: tuple[Address, ...] = Field(default=(), max_length=_ITEMS_MAX)
    marital_status: CodeableConcept | None = None
    language: Text | None = None
    general_practitioners: tuple[Reference, ...] = Field(default=(), max_length=_ITEMS_MAX)
    links: tuple[PatientLink, ...] = Field(default=(), max_length=_ITEMS_MAX)

    @property
    def replaced_by(self) -> str | None:
        """The record that this one was merged into, None for one in use."""
        return next((link.other.record_id for link in self.links if link.type == "replaced-by"), None)


AppointmentStatus = Literal[
    "proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error", "checked-in",
    "waitlist",
]  # fmt: skip
"""FHIR R4 value set appointmentstatus."""


class Appointment(Record):
    """FHIR R4 Appointment. `start_offset` and `end_offset` are the offsets in which the source wrote the instants."""

    TYPE: ClassVar[str] = "appointment"

    status: AppointmentStatus | None = None
    cancelation_reason: CodeableConcept | None = None
    service_types: tuple[CodeableConcept, ...] = Field(default=(), max_length=_ITEMS_MAX)
    appointment_type: CodeableConcept | None = None
    reason_codes: tuple[CodeableConcept, ...] = Field(default=(), max_length=_ITEMS_MAX)
    description: Text | None = None
    start: Instant | None = None
    start_offset: Offset | None = None
    end: Instant | None = None
    end_offset: Offset | None = None
    minutes_duration: Annotated[StrictInt, Field(ge=1, le=60 * 24 * 366)] | None = None
    created: Instant | None = None
    comment: Text | None = None
    participants: tuple[Participant, ...] = Field(default=(), max_length=_ITEMS_MAX)


class Money(Part):
    """FHIR Money: the amount as decimal text, because a binary fraction is no sum of money; ISO 4217 currency."""

    value: Annotated[str, Field(pattern=r"^-?[0-9]{1,15}(\.[0-9]{1,6})?$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None


ChargeStatus = Literal["planned", "billable", "not-billable", "aborted", "billed", "entered-in-error", "unknown"]
"""FHIR R4 value set chargeitem-status."""


class Charge(Record):
    """FHIR R4 ChargeItem. `kind` is what HL7 table 0017 tells apart: a credit or payment lowers what is owed.

    `occurrence` is the date of service, `entered_date` when it was posted; `diagnoses` are the codes it is charged for.
    """

    TYPE: ClassVar[str] = "charge"

    status: ChargeStatus | None = None
    kind: Literal["charge", "credit", "payment", "adjustment", "co-payment"] | None = None
    code: CodeableConcept | None = None
    procedures: tuple[CodeableConcept, ...] = Field(default=(), max_length=_ITEMS_MAX)
    diagnoses: tuple[CodeableConcept, ...] = Field(default=(), max_length=_ITEMS_MAX)
    description: Text | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    account: Reference | None = None
    occurrence: Instant | None = None
    occurrence_offset: Offset | None = None
    occurrence_date: PartialDate | None = None
    entered_date: PartialDate | None = None
    quantity: Annotated[str, Field(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$")] | None = None
    unit_price: Money | None = None
    total: Money | None = None
    performers: tuple[Reference, ...] = Field(default=(), max_length=_ITEMS_MAX)
    requesting_organization: Reference | None = None


RECORD_TYPES: Final[dict[str, type[Record]]] = {kind.TYPE: kind for kind in (Patient, Appointment, Charge)}


def record_of(record_type: str, document: dict[str, Any]) -> Record:
    """The record of a stored document; raises KeyError for an unknown type, ValueError for what does not fit it."""
    return RECORD_TYPES[record_type].model_validate(document)


def changed_fields(old: Record | None, new: Record) -> tuple[str, ...]:
    """Names of the top-level fields whose values differ, in the model's order; of a new record those it has."""
    before = old if old is not None else type(new)()
    return tuple(name for name in type(new).model_fields if getattr(before, name) != getattr(new, name))
