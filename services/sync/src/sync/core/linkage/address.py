"""Postal addresses as they are compared: number, street, unit, place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sync.core.linkage.letters import fold

# Street types and directions with their usual short forms (USPS Publication 28, appendix C1, and everyday usage).
_SHORT: Final = {
    "street": "st", "str": "st", "strasse": "st", "avenue": "ave", "av": "ave", "road": "rd", "drive": "dr",
    "drv": "dr", "lane": "ln", "court": "ct", "crt": "ct", "place": "pl", "boulevard": "blvd", "bvd": "blvd",
    "boul": "blvd", "circle": "cir", "circuit": "cct", "crct": "cct", "crescent": "cres", "cr": "cres", "close": "cl",
    "terrace": "ter", "tce": "ter", "terr": "ter", "parkway": "pkwy", "highway": "hwy", "square": "sq", "trail": "trl",
    "way": "wy", "parade": "pde", "grove": "gr", "gardens": "gdns", "mount": "mt", "saint": "st", "fort": "ft",
    "north": "n", "south": "s", "east": "e", "west": "w", "northeast": "ne", "northwest": "nw", "southeast": "se",
    "southwest": "sw", "calle": "c", "avenida": "ave", "rue": "r", "route": "rte", "expressway": "expy", "alley": "aly",
    "ridge": "rdg", "point": "pt", "heights": "hts", "loop": "lp", "turnpike": "tpke", "plaza": "plz",
}  # fmt: skip
_UNIT: Final = re.compile(r"\b(?:apartment|apt|unit|suite|ste|flat|room|rm|floor|fl|no|wohnung|piso)\b\s*(\w{1,6})?")
_HOUSE: Final = re.compile(r"^(?:(\w{1,5})\s+(?=\d))?(\d+[a-z]?)\s+(.*)$")
_HOUSE_LAST: Final = re.compile(r"^(.*\D)\s+(\d+[a-z]?)$")
_BOX: Final = re.compile(r"\b(?:p\s?o\s?box|post\s?box|postfach|apartado|gpo box)\s*(\w+)")
_HASH: Final = re.compile(r"#\s*(?=\w)")
_GERMAN: Final = re.compile(r"(?<=\w{2})(strasse|str)\b")
ADDRESSES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person lives: `street` in short forms without number and unit; `postal` without its extension."""

    number: str
    street: str
    unit: str
    postal: str
    city: str


@lru_cache(65_536)
def street_words(text: str) -> tuple[str, str, str]:
    """(number, street, unit) of the lines of an address."""
    folded = fold(_HASH.sub(" unit ", text) if "#" in text else text)
    box = _BOX.search(folded)
    if box is not None:
        return box[1], "pobox", ""
    unit = ""
    found = _UNIT.search(folded)
    if found is not None:
        unit = found[1] or ""
        folded = f"{folded[: found.start()]} {folded[found.end() :]}".strip()
    number = ""
    if (house := _HOUSE.match(folded)) is not None:
        # 3/12 High Street: unit 3 of number 12.
        unit, number, folded = unit or house[1] or "", house[2], house[3]
    elif (last := _HOUSE_LAST.match(folded)) is not None:
        folded, number = last[1], last[2]
    if "str" in folded:
        folded = _GERMAN.sub(" st", folded)
    return number, " ".join([_SHORT.get(word, word) for word in folded.split()]), unit


@lru_cache(65_536)
def postal_key(text: str) -> str:
    """`62701-1234` → 62701, `K1A 0B1` → k1a0b1."""
    folded = text.lower().replace(" ", "")
    if folded.isascii() and len(folded) == 10 and folded[5] == "-":
        return folded[:5]
    return fold(folded).replace(" ", "")


@lru_cache(65_536)
def city_key(text: str) -> str:
    """`Saint Louis` → stlouis."""
    return "".join([_SHORT.get(word, word) for word in fold(text).split()])


def place_of(lines: Sequence[str], postal: str | None, city: str | None) -> Place:
    """An address; every part may be empty."""
    number, street, unit = street_words(" ".join(lines)) if lines else ("", "", "")
    return Place(number, street, unit, postal_key(postal) if postal else "", city_key(city) if city else "")
