"""Messages of a captured shape, filled with synthetic values: where the simulated practice knows a field's value, that
one (identifiers stay consistent), else filler of the shape's lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeVar

from simulator.core.chance import below
from simulator.core.hl7_feed import CHARACTER_SET, USUAL_DELIMITERS, VERSION, with_delimiters
from simulator.core.hl7_messages import FEED_KINDS, Scene, compose_kind
from simulator.core.shape import GAP_LAST_S, GAPS_S, OTHER, UNKNOWN_SEGMENT, FieldShape, SegmentShape, Shape

T = TypeVar("T")
_NEAREST: Final = "ADT^A08"
_FILLER: Final = "Synthetic filler of a captured shape. "
_CODECS: Final = {"ASCII": "ascii", "": "ascii", **{f"8859/{n}": f"iso8859-{n}" for n in (*range(1, 10), 15)}}
_HEADER_ANEW: Final = frozenset({1, 2, 3, 4, 7, 9, 10, 11, 12, 18})


@dataclass(frozen=True, slots=True)
class Shaped:
    """A message, and MSH-9 as the shape knows it."""

    kind: str
    body: bytes


def compose_shaped(shape: Shape, scene: Scene) -> Shaped:
    """One message of a shape."""
    kind = drawn({name: row.count for name, row in shape.types.items()}, scene.seed, "type") or OTHER
    row = shape.types[kind]
    sequences = {key: count for key, count in row.sequences.items() if key != OTHER}
    names = (drawn(sequences, scene.seed, "sequence") or "MSH").split(" ")
    version = drawn(shape.versions, scene.seed, "version") or VERSION
    charset = drawn(shape.charsets, scene.seed, "charset")
    charset = CHARACTER_SET if charset is None or charset == OTHER else charset
    known = _known(kind, scene)
    rows = []
    for place, name in enumerate(names):
        segment = row.segments.get(name, SegmentShape())
        given = known.get(name, [])
        if name == "MSH":
            rows.append(_header(segment, given, scene, kind, VERSION if version == OTHER else version, charset))
        else:
            label = "X00" if name == UNKNOWN_SEGMENT else name
            rows.append("|".join([label, *_fields(segment, given, scene, place)]).rstrip("|"))
    body = "".join(f"{each}\r" for each in rows).encode(_CODECS.get(charset, "utf-8"), "replace")
    delimiters = drawn(shape.delimiters, scene.seed, "delimiters") or USUAL_DELIMITERS
    usable = delimiters != OTHER and len(delimiters) >= len(USUAL_DELIMITERS)
    return Shaped(kind, with_delimiters(body, delimiters[:5]) if usable else body)


def gap_of(shape: Shape, seed: int) -> float:
    """The seconds to the next message, by the shape's classes; one second when it knows none."""
    lower = drawn(shape.gaps_s, seed, "gap")
    if lower is None:
        return 1.0
    upper = next((edge for edge in GAPS_S if edge > lower), GAP_LAST_S)
    return lower + (upper - lower) * below(1000, seed, "within-gap") / 1000


def drawn(counts: Mapping[T, int], seed: int, *purpose: object) -> T | None:
    """One of the keys, by their counts; None without any."""
    total = sum(counts.values())
    if not total:
        return None
    number = below(total, seed, *purpose)
    return next(key for key, edge in zip(counts, accumulate(counts.values()), strict=True) if number < edge)


def _known(kind: str, scene: Scene) -> dict[str, list[str]]:
    """The practice's own values by segment: fields by number less one, in the usual delimiters."""
    message = compose_kind(FEED_KINDS.get(kind, FEED_KINDS[_NEAREST]), scene).decode()
    found: dict[str, list[str]] = {}
    for row in message.split("\r"):
        found.setdefault(row[:3], row.split("|")[1:])
    return found


def _header(segment: SegmentShape, given: list[str], scene: Scene, kind: str, version: str, charset: str) -> str:
    """MSH: the fields that make it this message anew, the others by the shape."""
    fields = ["^~\\&", *_fields(segment, [], scene, 0)[2:], *[""] * 20]
    structure = FEED_KINDS[kind].structure if kind in FEED_KINDS else ""
    anew = {3: given[1], 4: given[2], 7: scene.at, 9: "^".join(filter(None, (kind, structure))).replace(OTHER, "ZZZ"),
            10: scene.control_id, 11: "P", 12: version, 18: charset}  # fmt: skip
    for number in _HEADER_ANEW - {1, 2}:
        fields[number - 2] = anew[number]
    return "|".join(["MSH", *fields]).rstrip("|")


def _fields(segment: SegmentShape, given: list[str], scene: Scene, place: int) -> list[str]:
    last = max(segment.fields, default=0)
    values = []
    for number in range(1, last + 1):
        row = segment.fields.get(number)
        value = given[number - 1] if number <= len(given) else ""
        values.append(_value(row, value, segment.count, scene, (place, number)) if row is not None else "")
    return values


def _value(row: FieldShape, known: str, segments: int, scene: Scene, where: tuple[int, int]) -> str:
    number = below(max(segments, 1), scene.seed, "filled", *where)
    if number >= row.filled + row.null:
        return ""
    if number >= row.filled:
        return '""'
    if known:
        return known
    times = drawn(row.repetitions, scene.seed, "repetitions", *where) or 1
    return "~".join(_filler(row, scene.seed, (*where, time)) for time in range(times))


def _filler(row: FieldShape, seed: int, where: tuple[int, ...]) -> str:
    bits = drawn(row.lengths, seed, "length", *where) or 0
    low = 1 << (bits - 1) if bits else 0
    length = low + below(max(low, 1), seed, "within-length", *where)
    return (_FILLER * (length // len(_FILLER) + 1))[:length].rstrip() or "x"
