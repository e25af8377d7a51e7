"""A page of a run or a batch of messages against the records we hold: match, order, merge, link.

Pure: the caller loads what may be touched into a `Register`, and stores what the register says has changed. Items are
taken in order, so that two messages about one patient in one batch come out as two versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.models.records import Appointment, Participant, Record, Reference
from sync.core.fingerprint import Seen, seen_of
from sync.core.incoming import Incoming, Origin
from sync.core.matching import Match, MatchKind, decide
from sync.core.merge import merge, whole_update
from sync.core.patient_merge import merge_patients, refused_merge
from sync.core.register import (
    Key,
    Link,
    LinkKey,
    Register,
    Stored,
    key_of,
    keys_of,
    patient_references,
    store,
    survivor,
    with_patients,
)
from sync.core.rejection import CONFLICT, Rejection


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be loaded before a reconciliation."""

    links: frozenset[LinkKey]
    owners: frozenset[Key]
    retired: frozenset[Key] = frozenset()
    """Those of `owners` whose records are merged into others: what refers to these records is wanted too."""


def wanted_of(incoming: Sequence[Incoming]) -> Wanted:
    """Cross-references and identifiers that these rows name, those of the patients of appointments included."""
    links: set[LinkKey] = set()
    owners: set[Key] = set()
    retired: set[Key] = set()
    for item in incoming:
        kind = item.record.TYPE
        if item.update is not None:
            retired.update(key for one in item.update.retired if (key := key_of(kind, one)))
        if item.external_id:
            links.add((item.integration_id, kind, item.external_id))
        owners.update(keys_of(item.record))
        for reference in patient_references(item.record):
            if reference.external_id:
                links.add((item.integration_id, "patient", reference.external_id))
            named = reference.identifier.key if reference.identifier else None
            if named:
                owners.add(("patient", *named))
    return Wanted(frozenset(links), frozenset(owners | retired), frozenset(retired))


def reconcile(register: Register, incoming: Sequence[Incoming], new_id: Callable[[str], str]) -> None:
    """Take the rows into the register, in order. `new_id` makes an id of a prefix."""
    rejected_before = False
    for item in incoming:
        if item.with_previous and rejected_before:
            continue
        rejection = _take(register, item, new_id)
        if not item.with_previous:
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
    retired = item.update.retired if item.update is not None else ()
    if match.record_id is not None:
        rejection = refused_merge(register, match.record_id, item, retired)
        if rejection is not None:
            return rejection
    record_id = match.record_id
    if record_id is not None and _is_stale(register, item, record_id):
        register.counts.stale += 1
    else:
        record_id = _merge_in(register, item, link, record_id, new_id)
    if retired:
        merge_patients(register, item, record_id, new_id)
    return None


def _merge_in(
    register: Register, item: Incoming, link: Link | None, record_id: str | None, new_id: Callable[[str], str]
) -> str:
    """What a row says in its record, or a new one; the record's id."""
    stored = register.records[record_id] if record_id is not None else None
    seen = seen_of(item.record) if item.update is None else None
    if stored is not None and seen is not None and _names_retired(register, item, link, stored):
        # The source still has a patient who was merged into another one: it is told from that one no more, so what the
        # two say would overwrite each other.
        register.counts.unchanged += 1
        _note(register, item, link, link.record_id if link else stored.id, seen, new_id)
        return stored.id
    if stored is not None and link is not None and seen == link.seen and not patient_references(item.record):
        register.counts.unchanged += 1
        return stored.id
    update = item.update or whole_update(item.record, seen or Seen(), link.seen if link else None)
    if stored is not None and _names_retired(register, item, link, stored):
        carried = update.carried - {"identifiers"}
        groups = {name: names for name, names in update.groups.items() if name != "identifiers"}
        update = replace(update, carried=carried, groups=groups)
    record = merge(stored.record if stored else None, update).record
    # Also of an unchanged one: its patient may have become known since.
    record = _with_known_patients(register, item.integration_id, record, stored)
    record_id = store(register, item, stored, record, new_id)
    if seen is not None:
        _note(register, item, link, record_id, seen, new_id)
    if item.origin is Origin.HL7V2 and item.event_time is not None:
        key = (item.integration_id, record_id)
        register.event_times[key] = register.event_times_changed[key] = item.event_time
    return record_id


def _note(
    register: Register, item: Incoming, link: Link | None, record_id: str, seen: Seen, new_id: Callable[[str], str]
) -> None:
    """Keep what a whole resource said under its id, for the next comparison."""
    if item.external_id and (link is None or link.seen != seen):
        key = (item.integration_id, item.record.TYPE, item.external_id)
        _put_link(register, key, Link(link.id if link else new_id("xrf"), record_id, seen))


def _names_retired(register: Register, item: Incoming, link: Link | None, stored: Stored) -> bool:
    """Whether a row comes under an identifier, or the id of a record, that was merged into the record it found."""
    if link is not None and link.record_id != stored.id:
        return True
    in_use = keys_of(stored.record)
    return any(register.owners.get(key) == stored.id and key not in in_use for key in keys_of(item.record))


def _match(register: Register, item: Incoming, link: Link | None) -> Match:
    owners: set[str] = set()
    retired: set[str] = set()
    for key in keys_of(item.record):
        if key in register.owners:
            record_id = survivor(register, register.owners[key])
            owners.add(record_id)
            if key not in keys_of(register.records[record_id].record):
                retired.add(record_id)
    # Only a whole resource has an id of its own that could be another's already; of a patient who was merged into
    # another, both ids lead to one record.
    taken = {record_id for integration_id, record_id in register.linked if integration_id == item.integration_id}
    linked = survivor(register, link.record_id) if link else None
    return decide(linked, owners, taken - retired if item.external_id else ())


def _is_stale(register: Register, item: Incoming, record_id: str) -> bool:
    newest = register.event_times.get((item.integration_id, record_id))
    return item.event_time is not None and newest is not None and item.event_time < newest


def _put_link(register: Register, key: LinkKey, link: Link) -> None:
    register.links[key] = register.links_changed[key] = link
    register.linked.add((key[0], link.record_id))


def _with_known_patients(register: Register, integration_id: str, record: Record, stored: Stored | None) -> Record:
    """The record with our record of each of its patients; a patient who is the same as before stays as written."""

    def known(reference: Reference) -> Reference:
        record_id = _patient_of(register, integration_id, reference)
        if record_id is None or record_id == reference.record_id:
            return reference
        return reference.model_copy(update={"record_id": record_id})

    record = with_patients(record, known)
    if isinstance(record, Appointment) and stored is not None and isinstance(stored.record, Appointment):
        return _as_written_before(record, stored.record)
    return record


def _as_written_before(record: Appointment, stored: Appointment) -> Appointment:
    before = {one.actor.record_id: one for one in stored.participants if one.actor.record_id}
    # A message names the patient by identifier; the resource's own reference says more.
    listed = tuple(one if one.actor.external_id else _same_as(one, before) for one in record.participants)
    # The same participants in another order are no change.
    return record.model_copy(
        update={"participants": stored.participants if set(listed) == set(stored.participants) else listed}
    )


def _same_as(participant: Participant, before: Mapping[str, Participant]) -> Participant:
    known = before.get(participant.actor.record_id) if participant.actor.record_id else None
    return known if known is not None and participant.actor.type == "Patient" else participant


def _patient_of(register: Register, integration_id: str, reference: Reference) -> str | None:
    found = reference.record_id
    key = reference.identifier.key if reference.identifier else None
    link = register.links.get((integration_id, "patient", reference.external_id)) if reference.external_id else None
    if link:
        found = link.record_id
    elif key:
        found = register.owners.get(("patient", *key))
    return survivor(register, found) if found else None
