"""People who are easily taken for one another: twins, one person registered twice, records merged away, and who moved.

A register holds such people, so a matching that was tried on strangers only says little. Who is what is a function of
the seed and the index alone: an odd index may be kin of the even one before it, so partners never form chains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from simulator.core.chance import below, choice
from simulator.core.names import CITIES, NAMES, STREETS

if TYPE_CHECKING:
    from simulator.core.practice import Patient


class Kinship(StrEnum):
    """What somebody is to the patient before them."""

    TWIN = "twin"
    """Another person: same birth date, address, telephone and family name, another given name."""
    DUPLICATE = "duplicate"
    """The same person under a second record number, with a slip of the pen; both records are in use."""
    MERGED = "merged"
    """The same person's other record, merged into the one before: inactive, without appointments."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of a thousand patients are of each kind."""

    twins: int = 0
    duplicates: int = 0
    merged: int = 0
    moved: int = 0


NOBODY: Final = Shares()
USUAL: Final = Shares(twins=10, duplicates=10, merged=10, moved=30)
SHARE_MAX: Final = 100
_MOVED_DAYS_MAX: Final = 3 * 365
_BEFORE_NOW: Final = date(2024, 1, 1)


def kinship(seed: int, shares: Shares, index: int) -> Kinship | None:
    """What the patient of an index is to the one before."""
    if index % 2 == 0:
        return None
    # Only every other patient can be kin, so twice the share of them is.
    drawn = below(1_000, seed, "kin", index)
    for kind, share in (
        (Kinship.TWIN, shares.twins),
        (Kinship.DUPLICATE, shares.duplicates),
        (Kinship.MERGED, shares.merged),
    ):
        drawn -= 2 * share
        if drawn < 0:
            return kind
    return None


def has_moved(seed: int, shares: Shares, index: int) -> bool:
    """Whether the patient of an index has a former address."""
    return below(1_000, seed, "moved", index) < shares.moved


def related(kind: Kinship, own: Patient, base: Patient, seed: int, index: int) -> Patient:
    """The patient of an index as kin of the one before; `own` is who they would be otherwise."""
    if kind is Kinship.TWIN:
        return replace(
            own,
            family=base.family,
            given=(_other_name(base, own.sex, seed, index),),
            birth_date=base.birth_date,
            phone=base.phone,
            address=base.address,
            practitioner=base.practitioner,
        )
    same = replace(
        base, id=own.id, mrn=own.mrn, email=None, given=base.given[:1], former_address=None, moved_on=None, replaces=()
    )
    same = _with_slip(same, seed, index)
    return replace(same, active=False, replaced_by=base.id) if kind is Kinship.MERGED else same


def moved(patient: Patient, seed: int, index: int) -> Patient:
    """The patient with the address and the day that they left it."""
    if patient.address is None:
        return patient
    city, state, zip_prefix = choice(CITIES, seed, "former-city", index)
    line = f"{1 + below(9800, seed, 'former-house', index)} {choice(STREETS, seed, 'former-street', index)}"
    postal_code = f"{zip_prefix}{below(100, seed, 'former-zip', index):02d}"
    former = replace(patient.address, line=line, city=city, state=state, postal_code=postal_code)
    left = _BEFORE_NOW - timedelta(days=below(_MOVED_DAYS_MAX, seed, "left", index))
    return replace(patient, former_address=former, moved_on=left)


def _other_name(base: Patient, sex: str, seed: int, index: int) -> str:
    """A given name of the base's language that is not the base's."""
    row = next(row for row in NAMES if base.family in row[0])
    names = [name for name in (row[1] if sex == "female" else row[2]) if name != base.given[0]]
    return choice(tuple(names), seed, "twin", index)


def _with_slip(patient: Patient, seed: int, index: int) -> Patient:
    """The same person as a hurried hand wrote them: day and month exchanged where that is a date, else two letters."""
    born = patient.birth_date
    if born is not None and born.day <= 12 and born.day != born.month and below(2, seed, "slip", index):
        return replace(patient, birth_date=born.replace(month=born.day, day=born.month))
    return replace(patient, family=_exchanged(patient.family, below(1_000, seed, "letter", index)))


def _exchanged(name: str, where: int) -> str:
    """Two neighbouring letters, never the first, change places; a name too short for that stays."""
    places = [at for at in range(1, len(name) - 1) if name[at] != name[at + 1] and name[at : at + 2].isalpha()]
    if not places:
        return name
    at = places[where % len(places)]
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]
