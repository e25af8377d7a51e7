"""Who is hard to match in a synthetic practice: twins, people who moved, double registrations, merged records.

Patients come in blocks of a hundred by index; in each block so many stand in the later half as the shares say, and each
has its partner in the first half. So the role of a patient, and of who it belongs to, is a function of the seed and
the index alone, and a practice of less than fifty patients has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Final

from simulator.core.chance import below, percent

BLOCK: Final = 100
_HALF: Final = BLOCK // 2
SHARE_MAX: Final = 10


class Role(StrEnum):
    """What is special about a patient."""

    TWIN = "twin"
    MOVED = "moved"
    DUPLICATE = "duplicate"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of a hundred patients have each role, 0 to `SHARE_MAX`."""

    twins: int = 1
    moved: int = 1
    duplicates: int = 1
    merged: int = 1

    def roles(self) -> tuple[Role, ...]:
        """The roles of a block, one entry per patient that has one."""
        counts = (self.twins, self.moved, self.duplicates, self.merged)
        return tuple(role for role, count in zip(Role, counts, strict=True) for _ in range(count))


NO_SHARES: Final = Shares(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """The role of the patient `index`; `partner` is the index of the twin, of the first record, of the survivor.

    Who moved has no partner: it is its own.
    """

    role: Role
    index: int
    partner: int


@lru_cache(maxsize=4_096)
def _block(seed: int, shares: Shares, block: int) -> tuple[Place, ...]:
    first, later = (below(_HALF, seed, "population", half, block) for half in ("first", "later"))
    places = []
    for number, role in enumerate(shares.roles()):
        index = block * BLOCK + _HALF + (later + number) % _HALF
        partner = index if role is Role.MOVED else block * BLOCK + (first + number) % _HALF
        places.append(Place(role, index, partner))
    return tuple(places)


def place_of(seed: int, shares: Shares, index: int) -> Place | None:
    """The role of a patient, None: an ordinary one."""
    return next((place for place in _block(seed, shares, index // BLOCK) if place.index == index), None)


def partner_place(seed: int, shares: Shares, index: int, count: int) -> Place | None:
    """The place whose partner a patient is in a practice of `count`, None: nobody's."""
    return next(
        (
            place
            for place in _block(seed, shares, index // BLOCK)
            if place.partner == index and place.index != index and place.index < count
        ),
        None,
    )


def places(seed: int, shares: Shares, count: int) -> Iterator[Place]:
    """Every special patient of a practice of `count`, block by block."""
    for block in range((count + BLOCK - 1) // BLOCK):
        yield from (place for place in _block(seed, shares, block) if place.index < count)


def mistyped(family: str, born: date | None, seed: int, index: int) -> tuple[str, date | None]:
    """Family name and birth date as a clerk wrote them the second time: one of both is wrong."""
    swapped = born is not None and born.day <= 12 and born.day != born.month
    if born is not None and swapped and percent(50, seed, "mistyped", index):
        return family, born.replace(month=born.day, day=born.month)
    # Inside the name, and two different letters: else the typo would not be one.
    spots = [at for at in range(1, len(family) - 1) if family[at] != family[at + 1] and family[at : at + 2].isalpha()]
    if spots:
        at = spots[below(len(spots), seed, "typo", index)]
        return family[:at] + family[at + 1] + family[at] + family[at + 2 :], born
    if born is not None and swapped:
        return family, born.replace(month=born.day, day=born.month)
    return family, born.replace(day=born.day % 28 + 1) if born is not None else None
