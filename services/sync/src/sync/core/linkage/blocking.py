"""Keys under which the records that could be one person are found.

A key is text, so that a table of (key, record id) can hold an index; the adapter that stores it puts a keyed hash in
its place. Each pass is a row: what two records of one person would have in common if something else went wrong. A
record is compared with all that share a key, so that a key must be rare: one that is not is split by a second value,
and what is still too large is left out and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync.core.linkage.person import Person

BLOCK_RECORDS_MAX: Final = 100
FORMS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Pass:
    """A row: `keys` makes what stands behind `prefix`."""

    prefix: str
    about: str
    keys: Callable[[Person], Iterable[str]]


def _birth_key(birth: str) -> str:
    """A date with day and month in order of size, so that an exchanged one meets its like; the year in full."""
    month, day = birth[4:6], birth[6:]
    return birth[:4] + (month + day if month < day else day + month)


def _identifiers(person: Person) -> Iterable[str]:
    return [f"{system}|{value}" for system, value in person.identifiers]


def _birth(person: Person) -> Iterable[str]:
    return (_birth_key(person.birth),) if len(person.birth) == 8 else ()


def _names(person: Person) -> Iterable[str]:
    family, given = person.family, person.given
    if not family or not given:
        return ()
    # In order of the alphabet, so that an exchanged name meets its like.
    return (f"{family}|{given}" if family < given else f"{given}|{family}",)


def _forms(person: Person) -> Iterable[str]:
    """Each form of the family name with the year of birth."""
    if len(person.birth) < 4 or not person.family:
        return ()
    year = person.birth[:4]
    if not person.family_forms:
        return (f"{person.family}|{year}",)
    return [f"{form}|{year}" for form in (person.family, *sorted(person.family_forms)[:FORMS_MAX])]


def _given_day(person: Person) -> Iterable[str]:
    """The given name with day and month, for another family name or another year."""
    birth = person.birth
    return (f"{person.given}|{birth[4:]}|{birth[2]}",) if len(birth) == 8 and person.given else ()


def _phones(person: Person) -> Iterable[str]:
    return person.phones


def _emails(person: Person) -> Iterable[str]:
    return person.emails


def _homes(person: Person) -> Iterable[str]:
    return [f"{one.number}|{one.street}|{one.postal or one.city}" for one in person.places if one.street and one.number]


PASSES: Final = (
    Pass("i", "identifier", _identifiers),
    Pass("b", "birth date, day and month in either order", _birth),
    Pass("n", "family and given name in either order", _names),
    Pass("f", "a form of the family name and the year of birth", _forms),
    Pass("g", "given name, day, month and decade of birth", _given_day),
    Pass("p", "telephone number", _phones),
    Pass("e", "e-mail address", _emails),
    Pass("h", "house number, street and postal code or city", _homes),
)


def blocking_keys(person: Person) -> list[str]:
    """The keys of a record, each with the prefix of its pass; plain values, to be hashed before they are stored."""
    return [f"{one.prefix}|{key}" for one in PASSES for key in one.keys(person)]


@dataclass(frozen=True, slots=True)
class Oversize:
    """A block with too many records: how many, and whether it was split or (still too large, or without a second
    value) left out. The key itself is a patient's value and is not named, only its pass."""

    prefix: str
    records: int
    left_out: int


@dataclass(slots=True)
class Index:
    """Key → numbers of records. `add` as they come; a block over `block_records_max` is split when it is looked up."""

    block_records_max: int = BLOCK_RECORDS_MAX
    blocks: dict[str, list[int]] = field(default_factory=dict, repr=False)
    people: list[Person] = field(default_factory=list, repr=False)

    def add(self, person: Person) -> None:
        """Put a record into all of its blocks."""
        number = len(self.people)
        self.people.append(person)
        blocks = self.blocks
        for key in blocking_keys(person):
            if key in blocks:
                blocks[key].append(number)
            else:
                blocks[key] = [number]

    def rows(self) -> Iterator[tuple[str, str]]:
        """(key, record id), as a table would hold them."""
        return ((key, self.people[number].record_id) for key, block in self.blocks.items() for number in block)

    def settle(self) -> list[Oversize]:
        """Split the blocks that are too large; call once all records are in. What was found, largest first."""
        found = []
        for key in [key for key, block in self.blocks.items() if len(block) > self.block_records_max]:
            block = self.blocks.pop(key)
            parts: dict[str, list[int]] = {}
            for number in block:
                parts.setdefault(second_key(key, self.people[number]), []).append(number)
            kept = {part: numbers for part, numbers in parts.items() if len(numbers) <= self.block_records_max}
            self.blocks.update(kept)
            # Marks the key as split: who looks it up asks for the part of its own.
            self.blocks[key] = []
            left_out = len(block) - sum(map(len, kept.values()))
            found.append(Oversize(key.partition("|")[0], len(block), left_out))
        return sorted(found, key=lambda one: (-one.records, one.prefix))

    def near(self, person: Person) -> set[int]:
        """Numbers of the records that share a key with a person."""
        found: set[int] = set()
        blocks = self.blocks
        for key in blocking_keys(person):
            block = blocks.get(key)
            if block:
                found.update(block)
            elif block is not None:
                found.update(blocks.get(second_key(key, person), ()))
        return found


def second_key(key: str, person: Person) -> str:
    """The key of a part of a block that is too large: year of birth and the initials of both names, in either order."""
    initials = "".join(sorted((person.family[:1], person.given[:1])))
    return f"{key}||{person.birth[:4]}|{initials}"


def candidates(person: Person, index: Mapping[str, Sequence[str]]) -> list[str]:
    """Ids of the records to compare a new one with, those that share most keys first; `index` is any mapping of key to
    record ids (a table's rows, grouped)."""
    shared: dict[str, int] = {}
    for key in blocking_keys(person):
        for record_id in index.get(key, ()):
            if record_id != person.record_id:
                shared[record_id] = shared.get(record_id, 0) + 1
    return sorted(shared, key=lambda record_id: (-shared[record_id], record_id))
