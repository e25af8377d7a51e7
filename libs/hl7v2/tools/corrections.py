"""Reviewed corrections of the sources, each with the section of the standard that is the reason.

The generator applies them after the sources are merged, and refuses a row that does not change anything any more, so
that a corrected source makes its row go away.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ANY: Final = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")


class TableRow(NamedTuple):
    """A table whose kind, or whose list of values, the data type of its fields does not tell."""

    number: str
    kind: str
    """"H" HL7 table, "E" HL7 table that sites add to, "U" user-defined, "O" an open list: nothing to check."""
    reason: str


TABLES: Final = (
    TableRow("0003", "O", "v2.5.1 §2.15.9.9: events of a site begin with Z; the event is looked at in MSH-9"),
    TableRow("0053", "U", "v2.5.1 §6.5.2.2: user-defined table, though DG1-2 is of type ID"),
    TableRow("0061", "E", "v2.5.1 §2.A.14.3: check digit schemes are named by the assigning authority"),
    TableRow("0074", "E", "v2.5.1 §4.5.3.24: the list is for the sections known then; filler departments have others"),
    TableRow("0076", "O", "v2.5.1 §2.15.9.9: types of a site begin with Z; the type is looked at in MSH-9"),
    TableRow("0104", "O", "v2.5.1 §2.15.9.12: the version is looked at apart, whichever this is"),
    TableRow("0105", "E", "v2.5.1 §2.5.10.2: 'this table may be extended locally during implementation'"),
    TableRow("0125", "O", "v2.5.1 §7.4.2.2: checked against the data types of the version, which the list lags"),
    TableRow("0127", "U", "v2.4 §3.4.6.2: user-defined; v2.2 and v2.3 typed AL1-2 as ID"),
    TableRow("0190", "E", "v2.5.1 §2.A.1.7: address types of other realms are in use beside the list"),
    TableRow("0191", "E", "v2.5.1 §2.A.64.3: the main type of data may be any of the MIME types as well"),
    TableRow("0200", "E", "v2.5.1 §2.A.88.7: name types were added in every version"),
    TableRow("0201", "E", "v2.5.1 §2.A.89.2: telecommunication use codes were added in every version"),
    TableRow("0202", "E", "v2.5.1 §2.A.89.3: telecommunication equipment types were added in every version"),
    TableRow("0203", "E", "v2.5.1 §2.A.14.5: 'suggested values'; assigning authorities name their own types"),
    TableRow("0204", "U", "v2.3.1 §2.8.50.2: user-defined organisation name types"),
    TableRow("0207", "E", "v2.5.1 §2.A.53.2: the list is left to later versions"),
    TableRow("0211", "E", "v2.5.1 §2.15.9.18: implementations agree on further character sets"),
    TableRow("0291", "O", "v2.5.1 §2.A.64.4: any registered MIME subtype"),
    TableRow("0301", "E", "v2.5.1 §2.A.33.3: sites may use 'L', 'M', 'N' and schemes of their own"),
    TableRow("0354", "O", "v2.5.1 §2.15.9.9.3: the structure is checked against the trigger event, not the list"),
    TableRow("0357", "E", "v2.5.1 §2.15.5.3: codes of the application may be used"),
    TableRow(
        "0396",
        "O",
        "v2.5.1 §2.A.13.3: 99zzz, L and HL7nnnn beside the list, and more are registered any time",
    ),
    TableRow("0399", "O", "v2.5.1 §2.15.9.17: ISO 3166, not listed by HL7"),
    TableRow("0455", "O", "v2.5.1 §6.5.15.1: codes of the NUBC"),
    TableRow("0834", "E", "v2.6 §2.A.66.3: MIME types"),
)


class Placeholder(NamedTuple):
    """What a source lists as a value though it says only that there are more: the other values are the list."""

    number: str
    reason: str


CLOSED: Final = (
    Placeholder("0093", "v2.5.1 §6.5.6.27: Y, N and local values; a user-defined table is a warning anyway"),
    Placeholder("0200", "v2.8.2 §2.A.88.7"),
    Placeholder("0207", "v2.5.1 §2.A.53.2: 'not present' means an empty component"),
)

LITERAL: Final = {"0078": frozenset({"<", ">"}), "0255": frozenset({"*"}), "0505": frozenset({"*", "#"})}
"""Values that look like placeholders and are none (v2.5.1 §7.4.2.8, §7.4.2.2, §4.5.4.8)."""


class FieldRow(NamedTuple):
    """A field or component (`CX.1`) whose source is wrong: what it is instead."""

    versions: tuple[str, ...]
    place: str
    attribute: str
    value: str | int
    reason: str


FIELDS: Final = (
    FieldRow(("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1"), "MSH-10", "length", 199,
             "v2.6 §2.15.9.10: 20 was too short for the identifiers in use and was raised to 199"),
    FieldRow(("2.1", "2.2", "2.3", "2.4", "2.5", "2.5.1"), "OBX-2", "length", 3,
             "v2.6 §7.4.2.2: names of data types have three characters"),
    FieldRow(("2.3.1",), "OBX-2", "required", 0, "v2.3.1 §7.3.2.2: conditional, when there is a value in OBX-5"),
    FieldRow(("2.3",), "ORC-7", "required", 0, "v2.3.1 §4.3.1: optional, as it was before"),
    FieldRow(("2.3",), "OBR-27", "required", 0, "v2.3.1 §4.5.1: optional; results of v2.3 chapter 7 have none"),
    FieldRow(("2.3.1",), "OBX-4", "required", 0, "v2.3.1 §7.3.2.4: conditional, when an OBX-3 repeats within an OBR"),
    FieldRow(("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6"), "XON.3", "type", "ST",
             "v2.5 §2.A.89.3: NM was too narrow for organisation identifiers and was replaced by XON.10"),
    FieldRow(("2.5", "2.5.1", "2.6"), "XON.3", "length", 0, "as above"),
    FieldRow(("2.1", "2.2", "2.3", "2.3.1", "2.4"), "TS.1", "type", "DTM",
             "v2.4 §2.9.47: YYYY[MM[DD[HHMM[SS[.S[S[S[S]]]]]]]][+/-ZZZZ], the form that v2.5 named DTM"),
)  # fmt: skip


class StructureRow(NamedTuple):
    """An item of a message structure, by the names on the way to it: what its text in the data becomes."""

    versions: tuple[str, ...]
    path: tuple[str, ...]
    minimum: int
    maximum: int
    reason: str


STRUCTURES: Final = (
    StructureRow(("2.2",), ("ORM_O01", "ORDER", "ORDER_DETAIL", "NTE#2"), 0, -1, "v2.2 §4.2: [{NTE}] after [{OBX}]"),
)
CHOICES: Final = (
    (("2.1",), ("ORM_O01", "ORDER", "ORDER_DETAIL"), ("OBR", "ORO", "RX1"), "v2.1 §4.2: one order detail segment"),
)


class EventRow(NamedTuple):
    """A trigger event whose structure the sources do not tell."""

    versions: tuple[str, ...]
    event: str
    structure: str
    reason: str


EVENTS: Final = (
    EventRow(("2.4",), "ADT_A12", "ADT_A09", "v2.4 §3.3.12: the structure of A09"),
    EventRow(("2.3", "2.3.1"), "ADT_A37", "ADT_A37", "v2.3.1 §3.2.37"),
    EventRow(("2.3", "2.3.1"), "ADT_A60", "", "v2.4 §3.3.60: new in v2.4"),
    EventRow(("2.7", "2.8", "2.8.1", "2.8.2"), "VXX_V02", "", "v2.7 §4A.8: withdrawn"),
)
