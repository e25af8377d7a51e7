"""Builds `hl7v2/standard_data/*.json.z` from published packages; SOURCES.md says which, and how to lay them out.

    python libs/hl7v2/tools/generate_standard.py --python FOLDER --node FOLDER [--check]

FOLDER of `--python` holds the packages hl7apy and hl7types, that of `--node` a `node_modules` with hl7v2-dictionary and
hl7-dictionary. `--check` writes nothing and exits with 1 when the data in the tree is not what the sources give.

Who is believed for what: structures, optionality and tables are hl7apy's; lengths, finite repetition limits, deprecated
fields and what a component is required for are hl7v2-dictionary's; sections are hl7types'; which trigger event has
which structure is table 0354 of hl7-dictionary, else the structure of the same name, else one that hl7v2-dictionary
describes alike. A field is required only when both say so. `corrections.py` has the last word.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import corrections

VERSIONS: Final = corrections.ANY
DATA: Final = Path(__file__).resolve().parents[1] / "src" / "hl7v2" / "standard_data"
LENGTH_UNLIMITED_MIN: Final = 65_536
"""Lengths from here on stand for "no limit" (v2.5.1 §2.5.3.2)."""
PRIMITIVES: Final = frozenset(
    {"ST", "TX", "FT", "ID", "IS", "SI", "NM", "DT", "TM", "DTM", "TN", "GTS", "CM", "varies", "TS"}
)
FIELD_PLACES: Final = {"type": 0, "required": 1, "length": 3}
COMPONENT_PLACES: Final = {"type": 0, "required": 1, "length": 2}
EXPORT: Final = """
import * as dictionary from 'hl7v2-dictionary';
import old from 'hl7-dictionary';
const data = {dictionaries: dictionary.dictionaries, tables: old.tables};
process.stdout.write(JSON.stringify(data, (key, value) => typeof value === 'function' ? undefined : value));
"""
_OPEN: Final = re.compile(r"\.\.\.|…|^_$|\d _|<integer>|< integer|^\?\?$|\(pad\)|For m|An [Ii]d|E\.g\.|Simi")


class Sources:
    """What the packages say, read once."""

    def __init__(self, python: Path, node: Path) -> None:
        sys.path.insert(0, str(python))
        self.sections = python / "hl7types" / "hl7"
        exported = subprocess.run(  # noqa: S603 - a program of the developer's own, with our script
            ["node", "--input-type=module", "-e", EXPORT],  # noqa: S607
            cwd=node, check=True, capture_output=True,
        )  # fmt: skip
        data = json.loads(exported.stdout)
        self.dictionaries: dict[str, Any] = data["dictionaries"]
        self.structure_events: dict[str, str] = data["tables"]["354"]["values"]

    def apy(self, version: str, module: str) -> Any:
        """A table of hl7apy, None where that version has none."""
        try:
            found = importlib.import_module(f"hl7apy.v{version.replace('.', '_')}.{module}")
        except ImportError:
            return None
        name = "DATATYPES_STRUCTS" if module == "datatypes" else module.upper()
        return getattr(found, name)

    def dictionary(self, version: str) -> dict[str, Any]:
        """hl7v2-dictionary of a version; it ends with 2.8."""
        found: dict[str, Any] = self.dictionaries.get(version) or self.dictionaries["2.8"]
        return found

    def section(self, version: str, segment: str) -> str:
        """The section in which a segment is defined, "" when the source does not say."""
        path = self.sections / f"v{version.replace('.', '_')}" / "segments" / f"{segment}.py"
        if not path.exists():
            return ""
        match = re.search(r'^    """.*\(S([0-9A-Z.]+)\)\.$', path.read_text(encoding="utf-8"), re.MULTILINE)
        return match[1] if match else ""


def number_of(table: str | None) -> str:
    """`HL70001` → `0001`, "" for none."""
    return table.removeprefix("HL7") if table else ""


def title(name: str) -> str:
    """`SET_ID_PID` → `Set Id Pid`, for the few fields that only hl7apy names."""
    return name.replace("_", " ").title()


def length_of(given: int | None) -> int:
    """A maximum length, 0 for none."""
    return given if given and given < LENGTH_UNLIMITED_MIN else 0


def type_of(name: str | None) -> str:
    """A data type's name; "" for a withdrawn field's."""
    return "" if name is None or name.upper() == "WD" else name


# ---- Segments


def segment_rows(definition: Any) -> list[Any]:
    """The field rows of a segment of hl7apy, which has two spellings for them."""
    rows = definition[1] if len(definition) == 2 and isinstance(definition[0], str) else definition
    return [row for row in rows if re.fullmatch(r"[A-Z0-9]{3}_[0-9]+", str(row[0])) and row[1] is not None]


def repetitions(ours: int, theirs: Any) -> int:
    """The limit: hl7apy's, or the finite one of the other source where hl7apy says "any"; the looser of a conflict."""
    if theirs == "infinite":
        return ours if ours > 1 else -1
    if ours == -1 and isinstance(theirs, int) and theirs > 1:
        return theirs
    return ours


def field_row(version: str, row: Any, other: dict[str, Any] | None, later: dict[str, Any] | None) -> list[Any]:
    """[type, required, repetitions (-1 any, 0 withdrawn), length (0 none), table, status, name]."""
    definition, (minimum, maximum) = row[1], row[2]
    kind, name, table = type_of(definition[2]), definition[3], number_of(definition[4])
    other = other or {}
    required = int(minimum > 0 and other.get("opt", "R") == "R")
    length = length_of(other.get("len"))
    primitive = kind in PRIMITIVES or other.get("type") in PRIMITIVES
    if version >= "2.7" and (kind not in PRIMITIVES or kind != other.get("type")):
        length = 0  # conformance lengths are of primitive types (v2.7 §2.5.5)
    if version < "2.4" and not primitive:
        length = max(length, length_of((later or {}).get("len")))  # v2.3 counted composites as if they were short
    if not table and version < "2.3" and other.get("table"):
        table = f"{other['table']:04}"
    status = "W" if maximum == 0 or not kind else "B" if other.get("opt") == "B" and version >= "2.7" else ""
    limit = 0 if status == "W" else repetitions(maximum, other.get("rep"))
    return [kind or "ST", required, limit, length, table, status, other.get("desc", "").strip() or title(name)]


def segments(sources: Sources, version: str) -> dict[str, Any]:
    """Segment → [section, name, fields]; a number without a definition is null."""
    dictionary, later = sources.dictionary(version)["segments"], sources.dictionaries["2.4"]["segments"]
    found: dict[str, Any] = {}
    for name, definition in sources.apy(version, "segments").items():
        if not re.fullmatch(r"[A-Y][A-Z0-9]{2}", name) or name == "HXX":
            continue
        others = dictionary.get(name, {}).get("fields", {})
        laters = later.get(name, {}).get("fields", {})
        fields: list[Any] = []
        for row in segment_rows(definition):
            number = row[0].split("_")[-1]
            fields += [None] * (int(number) - 1 - len(fields))
            fields.append(field_row(version, row, others.get(number), laters.get(number)))
        found[name] = [sources.section(version, name), dictionary.get(name, {}).get("desc", name).strip(), fields]
    return found


# ---- Data types


def component_row(version: str, row: Any, other: dict[str, Any] | None) -> list[Any]:
    """[type, required, length (0 none), table, name]."""
    definition = row[1]
    other = other or {}
    required = int(other.get("opt") == "R" and version >= "2.5")
    length = length_of(other.get("len")) if "2.5" <= version < "2.7" and definition[2] in PRIMITIVES else 0
    name = other.get("desc", "").strip() or title(definition[3])
    return [type_of(definition[2]) or "ST", required, length, number_of(definition[4]), name]


def types(sources: Sources, version: str) -> dict[str, Any]:
    """Composite data type → component rows."""
    dictionary = sources.dictionary(version)["types"]
    found: dict[str, Any] = {}
    for name, rows in sources.apy(version, "datatypes").items():
        if name.upper() == "WD":
            continue
        others = dictionary.get(name, {}).get("fields", {})
        found[name] = [component_row(version, row, others.get(str(place))) for place, row in enumerate(rows, start=1)]
    return found


# ---- Tables


def values_of(number: str, given: Any) -> tuple[list[str], bool]:
    """The values of a table as they are meant, and whether the list is open."""
    values: list[str] = []
    is_open = False
    for raw in given:
        value = raw.replace("\xc2\xa0", " ").replace("\xa0", " ").strip()
        value = re.sub(r" \((obsolete|deprecated)\)$", "", value)
        if value in corrections.LITERAL.get(number, ()):
            values.append(value)
        elif not value or _OPEN.search(value) or "<" in value or value.lower() == "not present":
            is_open = is_open or bool(value)
        else:
            values += [part.strip() for part in value.split(",")] if number == "0301" else [value]
    if number in {row.number for row in corrections.CLOSED}:
        is_open = False
    return sorted(set(values)), is_open


def references(found: dict[str, Any]) -> Iterator[tuple[list[Any], int, int]]:
    """(row, place of its table, place of its type) of every field and component."""
    for _, _, fields in found["segments"].values():
        for row in fields:
            if row is not None:
                yield row, 4, 0
    for rows in found["types"].values():
        for row in rows:
            yield row, 3, 0


def tables(sources: Sources, version: str, found: dict[str, Any]) -> dict[str, Any]:
    """Table → [kind, name, values] of the tables that a field or component of the version refers to."""
    given = sources.apy(version, "tables") or sources.apy("2.3.1", "tables")
    kinds: dict[str, set[str]] = {}
    for row, table, type_place in references(found):
        kinds.setdefault(row[table], set()).add(row[type_place])
    corrected = {row.number: row.kind for row in corrections.TABLES}
    result: dict[str, Any] = {}
    for key, entry in given.items():
        number = number_of(key)
        if number not in kinds or len(entry) < 2:
            continue
        values, is_open = values_of(number, entry[1])
        kind = corrected.get(number) or ("H" if kinds[number] & {"ID", "CNE"} else "U")
        if values:
            result[number] = ["O" if is_open else kind, entry[0], values]
    for row, table, _ in references(found):
        if row[table] not in result:
            row[table] = ""
    return result


def kinds_as_in(later: dict[str, Any], found: dict[str, Any]) -> None:
    """v2.1 and v2.2 have no type IS, and v2.3 types some user-defined tables ID: the kinds are as in v2.4."""
    for number, entry in found["tables"].items():
        if number in later["tables"]:
            entry[0] = later["tables"][number][0]


# ---- Message structures and trigger events


def items(definition: Any, structure: str) -> list[Any]:
    """The items of a structure or group; a group of nothing (v2.4 QBP_Q13) is left out."""
    return [item(part, structure) for part in definition[1] if part[3] != "GRP" or part[1][1]]


def item(part: Any, structure: str) -> list[Any]:
    """[name, minimum, maximum] of a segment; a group has its items as a fourth, a choice "choice" as a fifth."""
    name, definition, cardinality, kind = part
    row: list[Any] = ["*" if name in {"ANYHL7SEGMENT", "HXX", "ZXX"} else name, *cardinality]
    if kind == "GRP":
        row[0] = name.removeprefix(structure + "_")
        row.append(items(definition, structure))
        if definition[0] == "choice":
            row.append("choice")
    return row


def structures(sources: Sources, version: str) -> dict[str, Any]:
    """Message structure → items."""
    found = {
        name: items(definition, name)
        for name, definition in sources.apy(version, "messages").items()
        if "nn" not in name
    }
    for row in corrections.STRUCTURES:
        if version in row.versions:
            place = within(found[row.path[0]], row.path[1:])
            changed(place[1:3] != [row.minimum, row.maximum], row)
            place[1:3] = [row.minimum, row.maximum]
    for versions, path, names, reason in corrections.CHOICES:
        if version in versions:
            group = within(found[path[0]], path[1:])
            rest = [part for part in group[3] if part[0] not in names]
            changed(len(rest) < len(group[3]), reason)
            group[3] = [["CHOICE", 1, 1, [[name, 1, 1] for name in names], "choice"], *rest]
    return found


def within(parts: list[Any], path: tuple[str, ...]) -> list[Any]:
    """The item at the end of a path of names; `NTE#2` is the second of that name."""
    found: list[Any] = []
    for name in path:
        wanted, _, which = name.partition("#")
        found = [part for part in parts if part[0] == wanted][int(which or 1) - 1]
        parts = found[3] if len(found) > 3 else []
    return found


def changed(does: bool, row: object) -> None:
    """A correction that corrects nothing any more is taken out by a person."""
    if not does:
        raise SystemExit(f"this correction changes nothing: {row}")


def shape(parts: dict[str, Any]) -> list[Any]:
    """The structure of a message of hl7v2-dictionary, to compare with another."""
    ordered = sorted(parts.items(), key=lambda pair: int(pair[1]["idx"]))
    return [
        (name, part.get("min", 0), part.get("max", 0), shape(part["segments"]) if "segments" in part else None)
        for name, part in ordered
    ]


def listed_events(sources: Sources) -> dict[str, str]:
    """Event (`ADT_A04`) → structure, of table 0354."""
    return {
        f"{structure[:3]}_{event}": structure
        for structure, events in sources.structure_events.items()
        for event in re.findall(r"[A-Z0-9]{3}", events)
    }


def events(sources: Sources, version: str, known: dict[str, Any]) -> dict[str, str]:
    """Message type and trigger event (`ADT^A04`) → structure, of every event of the version."""
    messages = sources.dictionary(version)["messages"]
    shapes = {name: json.dumps(shape(message["segments"])) for name, message in messages.items()}
    listed = listed_events(sources)
    found: dict[str, str] = {}
    for event in sorted({*messages, *known, *(listed if version >= "2.3.1" else ())}):
        alike = [name for name in sorted(known) if shapes.get(name) == shapes.get(event, "")]
        own_kind = [name for name in alike if name[:3] == event[:3]]
        chosen = [name for name in (listed.get(event, ""), event, *own_kind, *alike) if name in known]
        if version < "2.3":
            chosen = [name for name in (event, *own_kind) if name in known]
        if chosen and re.fullmatch(r"[A-Z]{3}_[A-Z0-9]{3}", event):
            found[event] = chosen[0]
    for row in corrections.EVENTS:
        if version in row.versions:
            found.pop(row.event, None)
            if row.structure in known:
                found[row.event] = row.structure
    return {event.replace("_", "^"): structure for event, structure in sorted(found.items())}


# ---- All of it


def correct_fields(version: str, found: dict[str, Any]) -> None:
    """Apply the corrections of fields (`MSH-10`) and components (`XON.3`)."""
    for row in corrections.FIELDS:
        if version in row.versions:
            name, mark, number = re.split("([-.])", row.place)
            rows = found["segments"][name][2] if mark == "-" else found["types"][name]
            place = (FIELD_PLACES if mark == "-" else COMPONENT_PLACES)[row.attribute]
            changed(rows[int(number) - 1][place] != row.value, row)
            rows[int(number) - 1][place] = row.value


def build(sources: Sources) -> dict[str, dict[str, Any]]:
    """The data of every version."""
    found: dict[str, dict[str, Any]] = {}
    for version in VERSIONS:
        known = structures(sources, version)
        data: dict[str, Any] = {
            "version": version,
            "structures": known,
            "events": events(sources, version, known),
            "segments": segments(sources, version),
            "types": types(sources, version),
        }
        correct_fields(version, data)
        data["tables"] = tables(sources, version, data)
        found[version] = data
    for version in ("2.1", "2.2", "2.3", "2.3.1"):
        kinds_as_in(found["2.4"], found[version])
    every = {event for data in found.values() for event in data["events"]}
    for data in found.values():
        data["elsewhere"] = sorted(every - set(data["events"]))
    return found


def packed(data: dict[str, Any]) -> bytes:
    """The bytes of a version's file."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return zlib.compress(text.encode(), 9)


def main() -> int:
    """Exit status 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--node", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    differing = []
    for version, data in build(Sources(arguments.python, arguments.node)).items():
        path = DATA / f"{version}.json.z"
        if arguments.check:
            there = json.loads(zlib.decompress(path.read_bytes())) if path.exists() else None
            differing += [version] if there != json.loads(json.dumps(data)) else []
        else:
            path.write_bytes(packed(data))
    if differing:
        sys.stderr.write(f"not what the sources give: {', '.join(differing)}\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
