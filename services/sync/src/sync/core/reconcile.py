"""A page of a run or a batch of messages against the records we hold: match, order, merge, link.

Pure: the caller loads what may be touched into a `Register`, and stores what the register says has changed. Items are
taken in order, so that two messages about one patient in one batch come out as two versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from common.models.records import Appointment, Participant, Record, changed_fields
from sync.core.fingerprint import Seen, seen_of
from sync.core.incoming import Incoming, Origin
from sync.core.matching import Match, MatchKind, decide
from sync.core.merge import merge, whole_update
from sync.core.rejection import CONFLICT, Rejection

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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be loaded before a reconciliation."""

    links: frozenset[LinkKey]
    owners: frozenset[Key]


def wanted_of(incoming: Sequence[Incoming]) -> Wanted:
    """Cross-references and identifiers that these rows name, those of the patients of appointments included."""
    links: set[LinkKey] = set()
    owners: set[Key] = set()
    for item in incoming:
        kind = item.record.TYPE
        if item.external_id:
            links.add((item.integration_id, kind, item.external_id))
        owners.update(keys_of(item.record))
        for participant in _patients(item.record):
            if participant.actor.external_id:
                links.add((item.integration_id, "patient", participant.actor.external_id))
            key = participant.actor.identifier.key if participant.actor.identifier else None
            if key:
                owners.add(("patient", *key))
    return Wanted(frozenset(links), frozenset(owners))


def keys_of(record: Record) -> set[Key]:
    """The identifiers by which a record can be found."""
    return {(record.TYPE, *identifier.key) for identifier in record.identifiers if identifier.key}


def reconcile(register: Register, incoming: Sequence[Incoming], new_id: Callable[[str], str]) -> None:
    """Take the rows into the register, in order. `new_id` makes an id of a prefix."""
    rejected_before = False
    for item in incoming:
        if item.with_previous and rejected_before:
            continue
        rejection = _take(register, item, new_id)
        rejected_before = rejection is not None
        if rejection is None:
            register.accepted.append(item)
        else:
            register.rejected.append((item, rejection))


def _take(register: Register, item: Incoming, new_id: Callable[[str], str]) -> Rejection | None:
    link_key = (item.integration_id, item.record.TYPE, item.external_id)
    link = register.links.get(link_key) if item.external_id else None
    match = _match(register, item, link)
    if match.kind is MatchKind.CONFLICT:
        return Rejection(CONFLICT, "identifiers", "list")
    if match.record_id is not None and _is_stale(register, item, match.record_id):
        register.counts.stale += 1
        return None
    stored = register.records[match.record_id] if match.record_id is not None else None
    seen = seen_of(item.record) if item.update is None else None
    if link is not None and seen == link.seen and not isinstance(item.record, Appointment):
        register.counts.unchanged += 1
        return None
    update = item.update or whole_update(item.record, seen or Seen(), link.seen if link else None)
    record = merge(stored.record if stored else None, update).record
    if isinstance(record, Appointment):
        # Also of an unchanged one: its patient may have become known since.
        record = _with_known_patients(register, item.integration_id, record, stored)
    record_id = _store(register, item, stored, record, new_id)
    if seen is not None and (link is None or link.seen != seen):
        _put_link(register, link_key, Link(link.id if link else new_id("xrf"), record_id, seen))
    if item.origin is Origin.HL7V2 and item.event_time is not None:
        key = (item.integration_id, record_id)
        register.event_times[key] = register.event_times_changed[key] = item.event_time
    return None


def _match(register: Register, item: Incoming, link: Link | None) -> Match:
    owners = {register.owners[key] for key in keys_of(item.record) if key in register.owners}
    # Only a whole resource has an id of its own that could be another's already.
    taken = {record_id for integration_id, record_id in register.linked if integration_id == item.integration_id}
    return decide(link.record_id if link else None, owners, taken if item.external_id else ())


def _is_stale(register: Register, item: Incoming, record_id: str) -> bool:
    newest = register.event_times.get((item.integration_id, record_id))
    return item.event_time is not None and newest is not None and item.event_time < newest


def _store(
    register: Register, item: Incoming, stored: Stored | None, record: Record, new_id: Callable[[str], str]
) -> str:
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


def _put_link(register: Register, key: LinkKey, link: Link) -> None:
    register.links[key] = register.links_changed[key] = link
    register.linked.add((key[0], link.record_id))


def _patients(record: Record) -> list[Participant]:
    if not isinstance(record, Appointment):
        return []
    return [participant for participant in record.participants if participant.actor.type == "Patient"]


def _with_known_patients(
    register: Register, integration_id: str, record: Appointment, stored: Stored | None
) -> Appointment:
    """The appointment with our record of each patient in it; a patient who is the same as before stays as written."""
    before = {
        participant.actor.record_id: participant
        for participant in (_patients(stored.record) if stored else ())
        if participant.actor.record_id
    }
    participants = []
    for participant in record.participants:
        record_id = _patient_of(register, integration_id, participant)
        if record_id in before and participant.actor.external_id is None:
            # A message names the patient by identifier; the resource's own reference says more.
            participants.append(before[record_id])
        elif record_id is not None and record_id != participant.actor.record_id:
            actor = participant.actor.model_copy(update={"record_id": record_id})
            participants.append(participant.model_copy(update={"actor": actor}))
        else:
            participants.append(participant)
    listed = tuple(participants)
    if stored is not None and isinstance(stored.record, Appointment):
        # The same participants in another order are no change.
        listed = stored.record.participants if set(listed) == set(stored.record.participants) else listed
    return record.model_copy(update={"participants": listed})


def _patient_of(register: Register, integration_id: str, participant: Participant) -> str | None:
    actor = participant.actor
    if actor.type != "Patient":
        return None
    if actor.external_id:
        link = register.links.get((integration_id, "patient", actor.external_id))
        if link:
            return link.record_id
    key = actor.identifier.key if actor.identifier else None
    return register.owners.get(("patient", *key)) if key else actor.record_id
