"""The shape of a feed without its contents: what is counted in messages, and never a value of theirs.

A shape holds message types, versions and character sets of HL7's own closed tables (whatever is not in them is counted
as "other"), segment names of the standard (site-defined ones as "ZZZ"), the order of segments, and of each field how
often it is filled or null, how often it repeats and how long it is, in classes of powers of two. Times are kept as the
classes of their distances. So a shape may leave a practice where its messages may not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

FORMAT: Final = "hl7-shape/1"
OTHER: Final = "other"
SITE_SEGMENT: Final = "ZZZ"
UNKNOWN_SEGMENT: Final = "???"
SEQUENCES_MAX: Final = 200
FIELDS_MAX: Final = 100
REPETITIONS_MAX: Final = 20
LENGTH_CLASSES_MAX: Final = 26
GAPS_S: Final = (0, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14_400)
"""Lower ends of the classes of inter-arrival times in seconds."""

VERSIONS: Final = frozenset({
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", "2.9",
})  # fmt: skip
CHARSETS: Final = frozenset({
    "", "ASCII", "UNICODE UTF-8", "UNICODE UTF-16", "UNICODE UTF-32", "UNICODE", "UTF-8", "BIG-5", "CNS 11643-1992",
    "GB 18030-2000", "ISO IR14", "ISO IR87", "ISO IR159", "KS X 1001",
    *(f"8859/{part}" for part in (*range(1, 10), 15)),
})  # fmt: skip
"""HL7 table 0211, and the spellings that are met."""
MESSAGE_TYPES: Final = frozenset({
    "ACK", "ADR", "ADT", "BAR", "BPS", "BRP", "BRT", "BTS", "CRM", "CSU", "DFT", "DOC", "EAC", "EAN", "EAR",
    "ESR", "ESU", "INR", "INU", "LSR", "LSU", "MDM", "MFK", "MFN", "NMD", "OMB", "OMD", "OMG", "OMI", "OML",
    "OMN", "OMP", "OMS", "ORB", "ORD", "ORF", "ORG", "ORI", "ORL", "ORM", "ORN", "ORP", "ORR", "ORS", "ORU",
    "OSR", "OUL", "PEX", "PGL", "PIN", "PMU", "PPG", "PPP", "PPR", "PPT", "PPV", "PRR", "PTR", "QBP", "QCK",
    "QCN", "QRY", "QVR", "RAR", "RAS", "RCI", "RCL", "RDE", "RDR", "RDS", "RDY", "REF", "RER", "RGR", "RGV",
    "ROR", "RPA", "RPI", "RPL", "RPR", "RQA", "RQC", "RQI", "RQP", "RRA", "RRD", "RRE", "RRG", "RRI", "RSP",
    "RTB", "SIU", "SQM", "SQR", "SRM", "SRR", "SSR", "SSU", "SUR", "TCR", "TCU", "UDM", "VXQ", "VXR", "VXU",
    "VXX",
})  # fmt: skip
"""HL7 table 0076."""
_EVENT_RANGES: Final = (
    ("A", 1, 62), ("B", 1, 8), ("C", 1, 12), ("I", 1, 22), ("K", 11, 34), ("M", 1, 17), ("N", 1, 2), ("O", 1, 54),
    ("P", 1, 12), ("Q", 1, 31), ("R", 1, 42), ("S", 1, 37), ("T", 1, 12), ("U", 1, 13), ("V", 1, 4), ("W", 1, 2),
)  # fmt: skip
EVENTS: Final = frozenset(f"{letter}{n:02d}" for letter, low, high in _EVENT_RANGES for n in range(low, high + 1))
"""HL7 table 0003."""
SEGMENTS: Final = frozenset({
    "ABS", "ACC", "ADD", "AFF", "AIG", "AIL", "AIP", "AIS", "AL1", "APR", "ARQ", "ARV", "AUT", "BLC", "BLG",
    "BPO", "BPX", "BTX", "CDM", "CER", "CM0", "CM1", "CM2", "CNS", "CON", "CSP", "CSR", "CSS", "CTD", "CTI",
    "DB1", "DG1", "DMI", "DRG", "DSC", "DSP", "ECD", "ECR", "EDU", "EQP", "EQU", "ERR", "EVN", "FAC", "FT1",
    "GOL", "GP1", "GP2", "GT1", "IAM", "IAR", "IIM", "ILT", "IN1", "IN2", "IN3", "INV", "IPC", "ISD", "ITM",
    "IVC", "IVT", "LAN", "LCC", "LCH", "LDP", "LOC", "LRL", "MFA", "MFE", "MFI", "MRG", "MSA", "MSH", "NCK",
    "NDS", "NK1", "NPU", "NSC", "NST", "NTE", "OBR", "OBX", "ODS", "ODT", "OM1", "OM2", "OM3", "OM4", "OM5",
    "OM6", "OM7", "ORC", "ORG", "PAC", "PCE", "PCR", "PD1", "PDA", "PDC", "PEO", "PES", "PID", "PKG", "PMT",
    "PR1", "PRA", "PRB", "PRC", "PRD", "PRT", "PSG", "PSH", "PSL", "PSS", "PTH", "PV1", "PV2", "PYE", "QAK",
    "QID", "QPD", "QRD", "QRF", "QRI", "RCP", "RDF", "RDT", "REL", "RF1", "RFI", "RGS", "RMI", "ROL", "RQ1",
    "RQD", "RXA", "RXC", "RXD", "RXE", "RXG", "RXO", "RXR", "RXV", "SAC", "SCD", "SCH", "SCP", "SDD", "SFT",
    "SID", "SLT", "SPM", "STF", "STZ", "TCC", "TCD", "TQ1", "TQ2", "TXA", "UAC", "UB1", "UB2", "URD", "URS",
    "VAR", "VND",
})  # fmt: skip
_USUAL: Final = "|^~\\&"


@dataclass(slots=True)
class FieldShape:
    """A field of a segment: of how many segments it was filled or null, and its repetitions and lengths."""

    filled: int = 0
    null: int = 0
    repetitions: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    components: int = 0


@dataclass(slots=True)
class SegmentShape:
    """A segment within a message type."""

    count: int = 0
    fields: dict[int, FieldShape] = field(default_factory=dict)


@dataclass(slots=True)
class TypeShape:
    """A message type: its sequences of segments (those over the bound under "other"), and its segments."""

    count: int = 0
    sequences: Counter[str] = field(default_factory=Counter)
    segments: dict[str, SegmentShape] = field(default_factory=dict)


@dataclass(slots=True)
class Shape:
    """See the module's text."""

    messages: int = 0
    delimiters: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    charsets: Counter[str] = field(default_factory=Counter)
    gaps_s: Counter[int] = field(default_factory=Counter)
    types: dict[str, TypeShape] = field(default_factory=dict)


def capture(messages: Iterable[bytes]) -> Shape:
    """The shape of messages in the order they came. Bytes that do not begin with MSH are left out."""
    shape = Shape()
    before: datetime | None = None
    for message in messages:
        instant = _add(shape, message)
        if instant is not None:
            if before is not None and instant >= before:
                shape.gaps_s[_gap_class((instant - before).total_seconds())] += 1
            before = instant
    return shape


def _gap_class(seconds: float) -> int:
    return max(lower for lower in GAPS_S if lower <= seconds)


def _add(shape: Shape, message: bytes) -> datetime | None:
    """Count one message; its MSH-7, to the second."""
    text = _text(message).replace("\r\n", "\r").replace("\n", "\r")
    rows = [row for row in text.split("\r") if row]
    if not rows or not rows[0].startswith("MSH") or len(rows[0]) < 8:
        return None
    separator, encoding = rows[0][3], rows[0].split(rows[0][3])[1]
    # As MSH-1 counts, so that numbers of fields are the standard's.
    header = ["MSH", separator, *rows[0].split(separator)[1:], *[""] * 20]
    component = encoding[:1] or "^"
    kind = _kind(header[9].split(component))
    shape.messages += 1
    shape.delimiters[_delimiters(separator + encoding)] += 1
    shape.versions[_known(header[12].split(component)[0], VERSIONS)] += 1
    shape.charsets[_known(header[18].split(encoding[1:2] or "~")[0], CHARSETS)] += 1
    row = shape.types.setdefault(kind, TypeShape())
    row.count += 1
    names = [_segment_name(each[:3]) for each in rows]
    sequence = " ".join(names)
    row.sequences[sequence if sequence in row.sequences or len(row.sequences) < SEQUENCES_MAX else OTHER] += 1
    for name, each in zip(names, rows, strict=True):
        _count_fields(row.segments.setdefault(name, SegmentShape()), name, each.split(separator), encoding)
    return _instant(header[7])


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message.decode("latin-1")


def _count_fields(segment: SegmentShape, name: str, fields: list[str], encoding: str) -> None:
    segment.count += 1
    component, repetition = encoding[:1] or "^", encoding[1:2] or "~"
    first = 2 if name == "MSH" else 1
    for number, value in enumerate(fields[1:FIELDS_MAX], first):
        if not value or (name == "MSH" and number == 2):
            continue
        row = segment.fields.setdefault(number, FieldShape())
        if value == '""':
            row.null += 1
            continue
        row.filled += 1
        parts = value.split(repetition)
        row.repetitions[min(len(parts), REPETITIONS_MAX)] += 1
        for part in parts:
            row.lengths[min(len(part).bit_length(), LENGTH_CLASSES_MAX)] += 1
            row.components = max(row.components, min(part.count(component) + 1, 30))


def _known(value: str, table: frozenset[str]) -> str:
    return value if value in table else OTHER


def _kind(parts: list[str]) -> str:
    message_type, event = _known(parts[0], MESSAGE_TYPES), parts[1] if len(parts) > 1 else ""
    return f"{message_type}^{_known(event, EVENTS)}" if event else message_type


def _segment_name(name: str) -> str:
    return name if name in SEGMENTS else SITE_SEGMENT if name.startswith("Z") else UNKNOWN_SEGMENT


def _is_delimiters(text: str) -> bool:
    return (
        len(text) in {4, 5, 6}
        and len(set(text)) == len(text)
        and all(32 < ord(each) < 127 and not each.isalnum() for each in text)
    )


def _delimiters(text: str) -> str:
    return text if _is_delimiters(text) else OTHER


def _instant(value: str) -> datetime | None:
    try:
        return datetime.strptime(value[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 - only its distance to the next one counts
    except ValueError:
        return None


def shape_json(shape: Shape) -> dict[str, Any]:
    """The document that `shape_from` reads."""
    return {
        "format": FORMAT,
        "messages": shape.messages,
        "delimiters": _sorted(shape.delimiters),
        "versions": _sorted(shape.versions),
        "charsets": _sorted(shape.charsets),
        "gaps_s": _sorted(shape.gaps_s),
        "types": {
            kind: {
                "count": row.count,
                "sequences": _sorted(row.sequences),
                "segments": {
                    name: {
                        "count": segment.count,
                        "fields": {
                            str(number): {
                                "filled": each.filled,
                                "null": each.null,
                                "repetitions": _sorted(each.repetitions),
                                "lengths": _sorted(each.lengths),
                                "components": each.components,
                            }
                            for number, each in sorted(segment.fields.items())
                        },
                    }
                    for name, segment in sorted(row.segments.items())
                },
            }
            for kind, row in sorted(shape.types.items())
        },
    }


def _sorted(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts)}


def shape_from(document: Any) -> Shape:
    """The shape of a document; raises ValueError, naming the place, for one that `capture` could not have made."""
    top = _object(document, "shape", {"format", "messages", "delimiters", "versions", "charsets", "gaps_s", "types"})
    if top["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT}")
    shape = Shape(
        messages=_number(top["messages"], "messages"),
        delimiters=_counts(top["delimiters"], "delimiters", lambda key: key == OTHER or _is_delimiters(key)),
        versions=_counts(top["versions"], "versions", (VERSIONS | {OTHER}).__contains__),
        charsets=_counts(top["charsets"], "charsets", (CHARSETS | {OTHER}).__contains__),
        gaps_s=_classes(top["gaps_s"], "gaps_s", GAPS_S),
    )
    if not isinstance(top["types"], dict) or not top["types"]:
        raise ValueError("types: expected one type or more")
    for kind, row in top["types"].items():
        parts = kind.split("^")
        known = parts[0] in MESSAGE_TYPES | {OTHER} and all(part in EVENTS | {OTHER} for part in parts[1:])
        if not known or len(parts) > 2:
            raise ValueError("types: expected types of HL7 tables 0076 and 0003, or other")
        shape.types[kind] = _type(row, f"types/{kind}")
    return shape


def _type(document: Any, place: str) -> TypeShape:
    row = _object(document, place, {"count", "sequences", "segments"})
    names = SEGMENTS | {SITE_SEGMENT, UNKNOWN_SEGMENT}

    def known(key: str) -> bool:
        return key == OTHER or (len(key) < 40_000 and key.startswith("MSH") and all(x in names for x in key.split(" ")))

    found = TypeShape(_number(row["count"], place), _counts(row["sequences"], f"{place}/sequences", known))
    if not isinstance(row["segments"], dict) or not names.issuperset(row["segments"]):
        raise ValueError(f"{place}/segments: expected segments of the standard, {SITE_SEGMENT} or {UNKNOWN_SEGMENT}")
    for name, segment in row["segments"].items():
        inner = _object(segment, f"{place}/{name}", {"count", "fields"})
        fields = inner["fields"] if isinstance(inner["fields"], dict) else {}
        found.segments[name] = SegmentShape(
            _number(inner["count"], f"{place}/{name}"),
            {
                _key(number, f"{place}/{name}", FIELDS_MAX): _field(each, f"{place}/{name}")
                for number, each in fields.items()
            },
        )
    return found


def _field(document: Any, place: str) -> FieldShape:
    row = _object(document, place, {"filled", "null", "repetitions", "lengths", "components"})
    return FieldShape(
        _number(row["filled"], place),
        _number(row["null"], place),
        _classes(row["repetitions"], place, range(1, REPETITIONS_MAX + 1)),
        _classes(row["lengths"], place, range(LENGTH_CLASSES_MAX + 1)),
        _number(row["components"], place),
    )


def _object(document: Any, place: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(document, dict) or set(document) != names:
        raise ValueError(f"{place}: expected an object with {', '.join(sorted(names))}")
    return document


def _number(value: Any, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{place}: expected a count")
    return value


def _key(text: Any, place: str, limit: int) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or not int(text) <= limit:
        raise ValueError(f"{place}: expected a number up to {limit}")
    return int(text)


def _counts(document: Any, place: str, known: Any) -> Counter[str]:
    if not isinstance(document, dict) or not all(isinstance(key, str) and known(key) for key in document):
        raise ValueError(f"{place}: expected counts by values of a closed table, or other")
    return Counter({key: _number(value, place) for key, value in document.items()})


def _classes(document: Any, place: str, classes: Iterable[int]) -> Counter[int]:
    known = set(classes)
    if not isinstance(document, dict):
        raise ValueError(f"{place}: expected counts")  # noqa: TRY004 - what a caller sent, as in the rest of the file
    found = Counter({_key(key, place, max(known)): _number(value, place) for key, value in document.items()})
    if not known.issuperset(found):
        raise ValueError(f"{place}: expected counts by class")
    return found


def messages_in(data: bytes) -> list[bytes]:
    """The messages of a file: an MLLP capture, a batch (FHS, BHS, BTS, FTS) or messages one after the other."""
    parts = [part.split(b"\x1c", 1)[0] for part in data.split(b"\x0b")[1:]] if b"\x0b" in data else [data]
    messages: list[bytes] = []
    for part in parts:
        rows: list[bytes] = []
        for row in part.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r"):
            if row.startswith(b"MSH") and rows:
                messages.append(b"\r".join(rows))
                rows = []
            if row and row[:3] not in {b"FHS", b"BHS", b"BTS", b"FTS"}:
                rows.append(row)
        if rows:
            messages.append(b"\r".join(rows))
    return [message.removeprefix(b"\xef\xbb\xbf") for message in messages]


GAP_LAST_S: Final = timedelta(days=1).total_seconds()
