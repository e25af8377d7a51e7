"""A patient in the form in which patients are compared: made once, compared often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from common.models.records import Address, ContactPoint, HumanName, Patient
from sync.core.linkage.address import ADDRESSES_MAX, Place, place_of
from sync.core.linkage.contact import email_key, phone_key
from sync.core.linkage.dates import birth_digits
from sync.core.linkage.identifiers import identifier_value
from sync.core.linkage.names import family_name, generation, given_words

CONTACTS_MAX: Final = 6
_NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Person:
    """Comparable values of one record; what is not known is empty. `repr` shows the id alone."""

    record_id: str
    family: str = field(default="", repr=False)
    family_forms: frozenset[str] = field(default=_NOTHING, repr=False)
    given: str = field(default="", repr=False)
    given_forms: frozenset[str] = field(default=_NOTHING, repr=False)
    generation: str = field(default="", repr=False)
    birth: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    deceased: bool | None = field(default=None, repr=False)
    phones: tuple[str, ...] = field(default=(), repr=False)
    emails: tuple[str, ...] = field(default=(), repr=False)
    places: tuple[Place, ...] = field(default=(), repr=False)
    identifiers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def person_of(record_id: str, patient: Patient, region: str) -> Person:
    """The comparable form; `region` (ISO 3166, `US`) reads telephone numbers without a country code."""
    family, family_forms, given, given_forms, suffix = _names(patient.names)
    phones, emails = _contacts(patient.telecom, region)
    return Person(
        record_id,
        family,
        family_forms,
        given,
        given_forms,
        suffix,
        birth_digits(patient.birth_date),
        patient.gender[0] if patient.gender in {"male", "female"} else "",
        patient.deceased,
        phones,
        emails,
        _places(patient.addresses),
        tuple(
            (one.system, value)
            for one in patient.identifiers
            if one.system and one.use != "old" and (value := identifier_value(one.value))
        ),
    )


def _names(names: Sequence[HumanName]) -> tuple[str, frozenset[str], str, frozenset[str], str]:
    family = given = suffix = ""
    family_forms: set[str] = set()
    given_forms: set[str] = set()
    # A name that is out of use is another form of the one in use, also when a source lists it first.
    for name in sorted(names, key=_out_of_use) if len(names) > 1 else names:
        if name.family:
            found = family_name(name.family)
            if found.key and not family:
                family = found.key
            elif found.key:
                family_forms.add(found.key)
            family_forms |= found.forms
        for text in name.given:
            words = given_words(text)
            if words and not given:
                given, words = words[0], words[1:]
            given_forms.update(words)
        suffix = suffix or next((one for one in map(generation, name.suffix) if one), "")
        suffix = suffix or _last_word_generation(name.family)
    family_forms.discard(family)
    given_forms.discard(given)
    return family, frozenset(family_forms), given, frozenset(given_forms), suffix


def _last_word_generation(family: str | None) -> str:
    last = family.rpartition(" ")[2] if family and " " in family else ""
    return generation(last) if len(last) > 1 else ""


def _out_of_use(name: HumanName) -> bool:
    return name.use in {"old", "maiden", "temp", "nickname", "anonymous"}


def _contacts(telecom: Sequence[ContactPoint], region: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    phones: list[str] = []
    emails: list[str] = []
    for point in telecom[:CONTACTS_MAX]:
        if point.system == "email":
            key, found = email_key(point.value), emails
        elif point.system in {"phone", "sms", None}:
            key, found = phone_key(point.value, region), phones
        else:
            continue
        if key and key not in found:
            found.append(key)
    return tuple(phones), tuple(emails)


def _places(addresses: Sequence[Address]) -> tuple[Place, ...]:
    places = [place_of(one.line, one.postal_code, one.city) for one in addresses[:ADDRESSES_MAX]]
    return tuple(dict.fromkeys(place for place in places if place.street or place.postal or place.city))
