"""Keys under which the records that could be one person are found.

A key is text, so that a table of (key, record id) can hold an index; the adapter that stores it puts a keyed hash in
its place. Each pass is a row: what two records of one person would have in common if something else went wrong. A
record is compared with all that share a key, so that a key must be rare: one that is not is split by a second value,
and what is still too large is left out and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync.core.linkage.person import Person

BLOCK_RECORDS_MAX: Final = 100
FORMS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Pass:
    """A row: what two records under a key with `prefix` have in common."""

    prefix: str
    about: str


PASSES: Final = (
    Pass("i", "identifier: system and value"),
    Pass("b", "birth date, day and month in either order, and the initial of either name"),
    Pass("n", "family and given name, in either order, and year of birth or postal code"),
    Pass("f", "a form of the family name, year of birth, initial of the given name"),
    Pass("g", "given name, day, month and decade of birth"),
    Pass("p", "telephone number"),
    Pass("e", "e-mail address"),
    Pass("h", "house number, street and postal code or city"),
)


def blocking_keys(person: Person) -> list[str]:
    """The keys of a record, each with the prefix of its pass; plain values, to be hashed before they are stored."""
    family, given, birth = person.family, person.given, person.birth
    keys = []
    if len(birth) == 8:
        month, day = birth[4:6], birth[6:]
        # Day and month in order of size, so that an exchanged date meets its like.
        date = f"b|{birth[:4]}{month}{day}|" if month < day else f"b|{birth[:4]}{day}{month}|"
        if given:
            keys.append(date + given[0])
            keys.append(f"g|{given}|{birth[4:]}|{birth[2]}")
        if family and (not given or family[0] != given[0]):
            keys.append(date + family[0])
        elif not family and not given:
            keys.append(date)
    if family and given:
        # In order of the alphabet, so that an exchanged name meets its like.
        names = f"n|{family}|{given}|" if family < given else f"n|{given}|{family}|"
        if birth:
            keys.append(names + birth[:4])
        keys += [names + one.postal for one in person.places if one.postal]
    if family and birth:
        keys.append(f"f|{family}|{birth[:4]}|{given[:1]}")
        if person.family_forms:
            keys += [f"f|{form}|{birth[:4]}|{given[:1]}" for form in sorted(person.family_forms)[:FORMS_MAX]]
    keys += [f"i|{system}|{value}" for system, value in person.identifiers]
    keys += ["p|" + phone for phone in person.phones]
    keys += ["e|" + email for email in person.emails]
    keys += [
        f"h|{one.number}|{one.street}|{one.postal or one.city}" for one in person.places if one.street and one.number
    ]
    return keys


@dataclass(frozen=True, slots=True)
class Oversize:
    """A block with too many records: how many, and whether it was split or (still too large, or without a second
    value) left out. The key itself is a patient's value and is not named, only its pass."""

    prefix: str
    records: int
    left_out: int


@dataclass(slots=True)
class Index:
    """Keys and the numbers of the records that have them, in two plain tables: the first record of a key, and of keys
    that have more all of their records. Most keys have one, and a list for each would be most of the memory.
    """

    block_records_max: int = BLOCK_RECORDS_MAX
    people: list[Person] = field(default_factory=list, repr=False)
    first: dict[str, int] = field(default_factory=dict, repr=False)
    blocks: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def add(self, person: Person) -> None:
        """Put a record into all of its blocks."""
        number = len(self.people)
        self.people.append(person)
        first = self.first
        for key in blocking_keys(person):
            before = first.setdefault(key, number)
            if before != number:
                block = self.blocks.get(key)
                if block is None:
                    self.blocks[key] = [before, number]
                elif block[-1] != number:
                    block.append(number)

    def rows(self) -> Iterator[tuple[str, str]]:
        """(key, record id), as a table would hold them."""
        for key, number in self.first.items():
            for one in self.blocks.get(key, (number,)):
                yield key, self.people[one].record_id

    def settle(self) -> list[Oversize]:
        """Split the blocks that are too large; call once all records are in. What was found, largest first."""
        found = []
        for key in [key for key, block in self.blocks.items() if len(block) > self.block_records_max]:
            # An empty block under the key says that it was split: who looks it up asks for the part of its own.
            block, self.blocks[key] = self.blocks[key], []
            parts: dict[str, list[int]] = {}
            for number in block:
                parts.setdefault(second_key(key, self.people[number]), []).append(number)
            kept = {part: numbers for part, numbers in parts.items() if len(numbers) <= self.block_records_max}
            for part, numbers in kept.items():
                self.first[part], self.blocks[part] = numbers[0], numbers
            left_out = len(block) - sum(map(len, kept.values()))
            found.append(Oversize(key.partition("|")[0], len(block), left_out))
        return sorted(found, key=lambda one: (-one.records, one.prefix))

    def near(self, person: Person) -> set[int]:
        """Numbers of the records that share a key with a person."""
        found: set[int] = set()
        first, blocks = self.first, self.blocks
        for key in blocking_keys(person):
            number = first.get(key)
            if number is None:
                continue
            block = blocks.get(key)
            if block is None:
                found.add(number)
            else:
                found.update(block or blocks.get(second_key(key, person), ()))
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
