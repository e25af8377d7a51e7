"""What is known of the records that a page or a batch may touch, and what is changed about them.

Pure: the caller loads a `Register` and stores what it says has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from common.models.records import (
    Appointment,
    Charge,
    Identifier,
    Participant,
    Patient,
    Record,
    Reference,
    changed_fields,
)
from sync.core.fingerprint import Seen
from sync.core.incoming import Incoming, Origin
from sync.core.rejection import Rejection

Key = tuple[str, str, str]
"""(record type, identifier system, value)."""
LinkKey = tuple[str, str, str]
"""(integration, record type, external id)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in its newest version."""

    id: str
    version: int
    record: Record


@dataclass(frozen=True, slots=True)
class Link:
    """A cross-reference: a source's id, our record, and what the source's resource was when it was seen last."""

    id: str
    record_id: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Version:
    """A new version of a record; version 1 is a new record."""

    record_id: str
    version: int
    record: Record
    changed: tuple[str, ...]
    origin: Origin
    integration_id: str
    source_id: str
    event_time: datetime | None


@dataclass(slots=True)
class Counts:
    """What became of the rows."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0


@dataclass(slots=True)
class Register:
    """What is known of the records that may be touched, and what the reconciliation changes about it."""

    records: dict[str, Stored] = field(default_factory=dict)
    owners: dict[Key, str] = field(default_factory=dict)
    links: dict[LinkKey, Link] = field(default_factory=dict)
    linked: set[tuple[str, str]] = field(default_factory=set)
    """(integration, record) that have a cross-reference."""
    event_times: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """(integration, record) → the newest HL7 event applied."""

    versions: list[Version] = field(default_factory=list)
    links_changed: dict[LinkKey, Link] = field(default_factory=dict)
    event_times_changed: dict[tuple[str, str], datetime] = field(default_factory=dict)
    owners_added: dict[Key, str] = field(default_factory=dict)
    owners_removed: set[Key] = field(default_factory=set)
    rejected: list[tuple[Incoming, Rejection]] = field(default_factory=list)
    accepted: list[Incoming] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


def keys_of(record: Record) -> set[Key]:
    """The identifiers by which a record can be found."""
    return {(record.TYPE, *identifier.key) for identifier in record.identifiers if identifier.key}


def key_of(record_type: str, identifier: Identifier) -> Key | None:
    """What an identifier finds a record by; None when it has no system or is out of use."""
    return (record_type, *identifier.key) if identifier.key else None


def survivor(register: Register, record_id: str) -> str:
    """The record that is in use: itself, or the one it was merged into."""
    seen = {record_id}
    while True:
        stored = register.records.get(record_id)
        following = stored.record.replaced_by if stored and isinstance(stored.record, Patient) else None
        if following is None or following in seen or following not in register.records:
            return record_id
        seen.add(following)
        record_id = following


def store(
    register: Register, item: Incoming, stored: Stored | None, record: Record, new_id: Callable[[str], str]
) -> str:
    """A new version where something changed; the record's id."""
    changed = changed_fields(stored.record if stored else None, record)
    if stored is not None and not changed:
        register.counts.unchanged += 1
        return stored.id
    record_id = stored.id if stored else new_id("rec")
    after = Stored(record_id, stored.version + 1 if stored else 1, record)
    _own(register, record_id, keys_of(stored.record) if stored else set(), keys_of(record))
    register.records[record_id] = after
    register.versions.append(
        Version(
            record_id,
            after.version,
            record,
            changed,
            item.origin,
            item.integration_id,
            item.source_id,
            item.event_time,
        )
    )
    if stored is None:
        register.counts.created += 1
    else:
        register.counts.updated += 1
    return record_id


def _own(register: Register, record_id: str, before: set[Key], after: set[Key]) -> None:
    for key in before - after:
        if register.owners.pop(key, None) is not None:
            register.owners_removed.add(key)
            register.owners_added.pop(key, None)
    for key in after - before:
        register.owners[key] = register.owners_added[key] = record_id


def patient_references(record: Record) -> list[Reference]:
    """Where a record says whom it concerns."""
    if isinstance(record, Appointment):
        return [one.actor for one in record.participants if one.actor.type == "Patient"]
    return [record.subject] if isinstance(record, Charge) and record.subject is not None else []


def with_patients(record: Record, changed: Callable[[Reference], Reference]) -> Record:
    """The record with the reference to each of its patients as `changed` makes it."""
    if isinstance(record, Appointment):
        participants = tuple(_changed_actor(one, changed) for one in record.participants)
        return record.model_copy(update={"participants": participants})
    if isinstance(record, Charge) and record.subject is not None:
        return record.model_copy(update={"subject": changed(record.subject)})
    return record


def _changed_actor(participant: Participant, changed: Callable[[Reference], Reference]) -> Participant:
    if participant.actor.type != "Patient":
        return participant
    actor = changed(participant.actor)
    return participant if actor is participant.actor else participant.model_copy(update={"actor": actor})
