"""Identifiers as evidence: which systems give a person one value, and which of them a clerk typed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sync.core.linkage.letters import fold


@dataclass(frozen=True, slots=True)
class IdentifierRule:
    """A row: what a system's values say of persons.

    `unique`: a person has one value, so that two different ones are two persons. `typed`: copied by hand, sometimes
    with a slip, sometimes from the wrong person (a guarantor's), so that an equal value is strong evidence and a
    different one evidence against, but neither is proof.
    """

    system: str
    unique: bool = True
    typed: bool = False


US_SSN: Final = "http://hl7.org/fhir/sid/us-ssn"
DEFAULT_RULES: Final = (
    IdentifierRule(US_SSN, typed=True),
    IdentifierRule("http://hl7.org/fhir/sid/us-medicare", typed=True),
    IdentifierRule("https://fhir.nhs.uk/Id/nhs-number"),
    IdentifierRule("http://ns.electronichealth.net.au/id/hi/ihi/1.0"),
)
RULES_BY_SYSTEM: Final[Mapping[str, IdentifierRule]] = {rule.system: rule for rule in DEFAULT_RULES}
"""Systems without a row: an equal value identifies, a different one says nothing."""


@lru_cache(65_536)
def identifier_value(value: str) -> str:
    """Letters and digits alone, without leading zeros; empty for what stands for no value (000…, 999…, 123456789)."""
    plain = fold(value).replace(" ", "").lstrip("0")
    if not plain or plain in {"123456789", "unknown", "none", "na"} or (len(plain) > 3 and len(set(plain)) == 1):
        return ""
    return plain
