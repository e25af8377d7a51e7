"""What a row of the fault catalogue says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Surface(StrEnum):
    """What of the simulated vendor a call or a message meets."""

    TOKEN_ENDPOINT = "token-endpoint"  # noqa: S105 - a surface, no secret
    API = "api"
    HL7_SENDER = "hl7-sender"
    HL7_RECEIVER = "hl7-receiver"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that shapes a fault; the unit ends the name."""

    name: str
    default: int
    low: int
    high: int
    what: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A word that shapes a fault: one of `values`; the first is the default."""

    name: str
    values: tuple[str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault. `cause` is its id in the catalogue of causes, `expected` what the suite should show.

    `vendors`: whose servers know it; empty: all.
    """

    name: str
    title: str
    surfaces: frozenset[Surface]
    cause: str
    expected: str
    parameters: tuple[Parameter, ...] = ()
    choices: tuple[Choice, ...] = ()
    vendors: frozenset[str] = frozenset()
