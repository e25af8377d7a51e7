"""What comes from a source: a whole resource (FHIR) or what a message carries (HL7 v2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.models.records import Identifier, Record


class Origin(StrEnum):
    """The road a value came by; `origin` of versions and events."""

    FHIR = "fhir"
    HL7V2 = "hl7v2"


@dataclass(frozen=True, slots=True)
class Update:
    """What is to be changed: the values of `carried` fields are in `record`, `cleared` ones become absent.

    `groups`: of these list fields only the named groups are carried (core.merge.GROUPS); the rest of the list stays.
    """

    record: Record
    carried: frozenset[str]
    cleared: frozenset[str] = frozenset()
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    partial: bool = False
    """Of a message: what it leaves out inside a value stays as well."""
    retired: tuple[Identifier, ...] = ()
    """Identifiers that are this patient's from now on, out of use: whoever had them is merged into this record."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record of a source.

    `update` None: `record` is the whole resource, and what changed is found by comparing it with what was seen last.
    `position` is its place in the page or batch, `source_id` the run or message. `event_time` settles the order of HL7
    events. `with_previous`: it belongs to the last record before it that stands alone, and is not taken when that
    one was rejected.
    """

    position: int
    origin: Origin
    integration_id: str
    source_id: str
    record: Record
    external_id: str = ""
    source_key: str = ""
    """How its row is found in the quarantine, where that is neither its external id nor its message alone."""
    update: Update | None = None
    event_time: datetime | None = None
    with_previous: bool = False
