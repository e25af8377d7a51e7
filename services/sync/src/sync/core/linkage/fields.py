"""The fields that are compared and the levels at which they agree: rows, in the order of a comparison vector.

A vector is a tuple with the number of a level for each field; 0 says that one side has no value, which is evidence for
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MISSING: Final = 0
SAME: Final = 1

Vector = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A compared field; `levels[0]` is always `missing`."""

    name: str
    levels: tuple[str, ...]


FIELDS: Final = (
    Field("identifier", ("missing", "same", "slip", "differs", "other-person", "proves", "contradicts")),
    Field("family", ("missing", "same", "form", "close", "similar", "transposed", "differs")),
    Field("given", ("missing", "same", "form", "close", "similar", "transposed", "differs")),
    Field("birth", ("missing", "same", "partial", "swapped", "slip", "near", "differs")),
    Field("sex", ("missing", "same", "differs")),
    Field("phone", ("missing", "same", "slip", "differs")),
    Field("email", ("missing", "same", "differs")),
    Field("street", ("missing", "same", "close", "other-number", "differs")),
    Field("place", ("missing", "same", "close", "differs")),
    Field("generation", ("missing", "same", "differs")),
    Field("life", ("missing", "same", "differs")),
)
"""identifier: `same` and `slip` of a system that is typed in, `proves` of one that is not, `other-person` two values
of a system in which a person has one, `contradicts` both of these at once. family and given: `form` is another form
of the name (one half of a double name, a maiden name; a nickname, a middle name, an initial), `transposed` the one
in the place of the other. birth: `partial` is known less exactly on one side, `near` has two of year, month and
day. place: postal code or city."""

LEVEL_OF: Final = {(field.name, level): number for field in FIELDS for number, level in enumerate(field.levels)}
"""(field, level) → number."""
