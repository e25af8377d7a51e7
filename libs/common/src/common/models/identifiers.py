"""Identifiers: TypeID 0.3, a readable prefix and a UUIDv7 (RFC 9562 §5.7) in Crockford base32.

`run_01jd3x8v6cf2kt6m5q0h1e9zan` says what it is, sorts by time of creation, and carries nothing about a patient.
"""

from __future__ import annotations

from typing import Final

from common.models.errors import SuiteError

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_PAIR_SHIFTS: Final = range(120, -1, -10)
_SUFFIX_CHARACTERS: Final = 26
_TIME_MS_MAX: Final = 2**48 - 1
_TIME_CHARACTERS: Final = 10
"""48 bits of time are the first ten characters exactly (the first one holds three bits): made once per millisecond."""
RANDOM_BYTES: Final = 16
# What a random byte becomes in its place: any character; the version 7 with a bit of rand_a; a bit of rand_a, the
# variant 10, two bits of rand_b (RFC 9562 §5.7).
_ANY: Final = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
_VERSION: Final = [_ALPHABET[0b01110 | byte & 1] for byte in range(256)]
_VARIANT: Final = [_ALPHABET[byte & 0b10000 | 0b01000 | byte & 0b11] for byte in range(256)]

PREFIXES: Final[dict[str, str]] = {
    "ten": "tenant",
    "off": "offboarding",
    "int": "integration",
    "run": "run",
    "rec": "record",
    "xrf": "cross-reference",
    "sch": "schedule",
    "msg": "HL7 message",
    "con": "HL7 connection",
    "obm": "outbound HL7 message",
    "rpl": "replay of HL7 messages",
    "alr": "alert",
    "acc": "access for a time",
    "whk": "webhook",
    "dlv": "delivery",
    "evt": "event",
    "exc": "exchange",
    "cts": "connection test",
    "ded": "dead letter",
    "aud": "audit entry",
    "opr": "operation",
    "qua": "quarantined record",
    "key": "key",
    "lau": "SMART launch",
    "chg": "change record",
    "jti": "token",
    "req": "request",
    "rep": "replica",
}


def uuid7(time_ms: int, random_bits: int) -> int:
    """A UUIDv7 as an integer, from milliseconds since 1970 and 74 random bits (RFC 9562 §5.7)."""
    if not 0 <= time_ms <= _TIME_MS_MAX:
        raise ValueError("time_ms does not fit 48 bits")
    random_a = (random_bits >> 62) & 0xFFF
    random_b = random_bits & (2**62 - 1)
    return (time_ms << 80) | (0x7 << 76) | (random_a << 64) | (0b10 << 62) | random_b


def type_id(prefix: str, uuid: int) -> str:
    """The TypeID text of a 128-bit UUID; raises ValueError for a prefix that `PREFIXES` does not hold."""
    if prefix not in PREFIXES:
        raise ValueError(f"unknown id prefix {prefix!r}")
    if not 0 <= uuid < 2**128:
        raise ValueError("a UUID has 128 bits")
    return f"{prefix}_{''.join([_PAIRS[(uuid >> shift) & 1023] for shift in _PAIR_SHIFTS])}"


def time_part(time_ms: int) -> str:
    """What every id of that millisecond since 1970 has behind its prefix: ten characters."""
    return type_id("msg", uuid7(time_ms, 0))[len("msg_") :][:_TIME_CHARACTERS]


def type_id_of(prefix: str, time: str, random: bytes) -> str:
    """The TypeID text of a UUIDv7 from its `time_part` and 16 random bytes, of which 74 bits are used.

    The same as `type_id(prefix, uuid7(…))`, several times as fast: every stored message needs one.
    Raises ValueError for a prefix that `PREFIXES` does not hold.
    """
    if prefix not in PREFIXES:
        raise ValueError(f"unknown id prefix {prefix!r}")
    text = random.translate(_ANY).decode("ascii")
    return f"{prefix}_{time}{_VERSION[random[0]]}{text[1:3]}{_VARIANT[random[3]]}{text[4:]}"


def parse_id(text: str) -> tuple[str, int]:
    """(prefix, UUID) of a TypeID; raises ValueError when it is none."""
    prefix, separator, suffix = text.partition("_")
    if not separator or prefix not in PREFIXES or len(suffix) != _SUFFIX_CHARACTERS or suffix[0] > "7":
        raise ValueError("not an id of this suite")
    uuid = 0
    for character in suffix:
        value = _VALUES.get(character)
        if value is None:
            raise ValueError("not an id of this suite")
        uuid = (uuid << 5) | value
    return prefix, uuid


def check_id(text: str, prefix: str) -> str:
    """The id itself when it has that prefix; raises SuiteError `request.invalid-id` (the text is not repeated)."""
    try:
        found, _ = parse_id(text)
    except ValueError:
        found = ""
    if found != prefix:
        raise SuiteError("request.invalid-id", f"An id of a {PREFIXES[prefix]} begins with `{prefix}_`.")
    return text
