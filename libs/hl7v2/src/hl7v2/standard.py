"""The tables of HL7 v2, version by version: structures, trigger events, segments, data types, tables, lengths.

`standard("2.5.1")` reads the data of that version once, when first asked for: importing this module reads nothing.
Where the data comes from stands in `libs/hl7v2/tools/SOURCES.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

VERSIONS: Final = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
ALIKE: Final[Mapping[str, str]] = {"2.7.1": "2.7"}
"""Versions without data of their own whose rules are those of another."""
ANY: Final = -1
"""No limit to repetitions."""
PRIMITIVES: Final = frozenset(
    {"ST", "TX", "FT", "ID", "IS", "SI", "NM", "DT", "TM", "DTM", "TN", "GTS", "CM", "SNM", "varies"}
)
"""Data types without components of their own. What `CM` consists of is said with each field, and `varies` elsewhere."""


class FieldRow(NamedTuple):
    """A field of a segment. `length` is in characters, 0 for none; `repetitions` is -1 for any number."""

    type: str
    required: int
    repetitions: int
    length: int
    table: str
    status: str
    """"B" kept for backward compatibility only, "W" withdrawn, "" neither."""
    name: str


class ComponentRow(NamedTuple):
    """A component of a data type. `length` is in characters, 0 for none."""

    type: str
    required: int
    length: int
    table: str
    name: str


class Segment(NamedTuple):
    """A segment: the section that defines it ("" unknown), its name, its fields in order (None: there is no such)."""

    section: str
    name: str
    fields: tuple[FieldRow | None, ...]


class Table(NamedTuple):
    """A table of codes. `kind`: "H" HL7's, "E" HL7's and added to by sites, "U" user-defined, "O" an open list."""

    number: str
    kind: str
    name: str
    values: frozenset[str]


class Item(NamedTuple):
    """A segment of a structure (`name` is `*` for any), a group of items or a choice between them."""

    name: str
    minimum: int
    maximum: int
    items: tuple[Item, ...] = ()
    is_choice: bool = False


class Standard:
    """One version. Rows are made when they are asked for; unknown names are None."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.version: str = data["version"]
        self.events: Mapping[str, str] = data["events"]
        """Message type and trigger event (`ADT^A04`) → structure."""
        self.events_elsewhere: frozenset[str] = frozenset(data["elsewhere"])
        """Events that other versions have."""
        self.structures: Mapping[str, Any] = data["structures"]
        self.segments: Mapping[str, Any] = data["segments"]
        self.types: Mapping[str, Any] = data["types"]
        self.tables: Mapping[str, Any] = data["tables"]

    def structure(self, name: str) -> tuple[Item, ...] | None:
        """The items of a message structure, e.g. of `ADT_A01`."""
        found = self.structures.get(name)
        return None if found is None else tuple(map(_item, found))

    def segment(self, name: str) -> Segment | None:
        """A segment, e.g. `PID`."""
        found = self.segments.get(name)
        if found is None:
            return None
        section, title, fields = found
        return Segment(section, title, tuple(None if row is None else FieldRow(*row) for row in fields))

    def type(self, name: str) -> tuple[ComponentRow, ...] | None:
        """The components of a composite data type; None of a primitive one."""
        found = self.types.get(name)
        return None if found is None else tuple(ComponentRow(*row) for row in found)

    def table(self, number: str) -> Table | None:
        """A table by its four digits."""
        found = self.tables.get(number)
        return None if found is None else Table(number, found[0], found[1], frozenset(found[2]))


def _item(row: list[Any]) -> Item:
    name, minimum, maximum = row[:3]
    items = tuple(map(_item, row[3])) if len(row) > 3 else ()
    return Item(name, minimum, maximum, items, len(row) > 4)


@lru_cache(maxsize=len(VERSIONS))
def standard(version: str) -> Standard:
    """The standard's tables for a version of `VERSIONS`. Raises ValueError for any other."""
    if version not in VERSIONS:
        raise ValueError(f"no tables for HL7 version {version!r} (there are: {', '.join(VERSIONS)})")
    import json
    import pkgutil
    import zlib

    data = pkgutil.get_data("hl7v2", f"standard_data/{version}.json.z")
    assert data is not None  # it is part of the package
    return Standard(json.loads(zlib.decompress(data)))


def nearest(version: str) -> str:
    """The version whose tables serve for one that has none: the last before it, the first; 2.5.1 for no number."""
    if version in VERSIONS:
        return version
    if version in ALIKE:
        return ALIKE[version]
    wanted = _numbers(version)
    if not wanted:
        return "2.5.1"
    below = [one for one in VERSIONS if _numbers(one) <= wanted]
    return below[-1] if below else VERSIONS[0]


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if len(parts) > 4 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        return ()
    return tuple(map(int, parts))
