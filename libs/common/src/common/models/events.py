"""What the services tell each other: topics, event types, and the envelope.

Rules. Events are thin: ids, versions, names of changed fields, codes, counts; never a body, never patient data. An
event's `data` holds only the fields of its type's row, so that a body can not slip in. Schemas only grow: a field is
never removed or given another meaning; that would be a new version of the topic.

Envelope: CloudEvents 1.0 (JSON data, Kafka binding in binary mode), with the extensions `tenant`, `traceparent`
(W3C Trace Context), `partitionkey` and `generation` (0, or the number of the replay).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

_DAY_MS: Final = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with its partitions, retention and cleanup; `keyed` says what the partition key is."""

    name: str
    partitions: int
    retention_ms: int
    key: str
    compacted: bool = False
    broadcast: bool = False
    dead_letters: bool = True
    loss_tolerated: bool = False


TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic("ps.integration.changed.v1", 1, -1, "integration", compacted=True, broadcast=True, dead_letters=False),
        Topic("ps.tenant.changed.v1", 1, -1, "tenant", compacted=True, broadcast=True, dead_letters=False),
        Topic("ps.tenant.offboarding.v1", 6, 14 * _DAY_MS, "tenant"),
        Topic("ps.access.v1", 6, 14 * _DAY_MS, "tenant"),
        Topic("ps.credential.v1", 6, 14 * _DAY_MS, "integration"),
        Topic("ps.hl7.received.v1", 12, 14 * _DAY_MS, "HMAC(tenant, patient)"),
        Topic("ps.hl7.rejected.v1", 6, 14 * _DAY_MS, "HMAC(tenant, patient)"),
        Topic("ps.hl7.delivery.v1", 12, 14 * _DAY_MS, "HMAC(tenant, patient)"),
        Topic("ps.sync.run.v1", 6, 14 * _DAY_MS, "integration"),
        Topic("ps.sync.conflict.v1", 6, 14 * _DAY_MS, "integration"),
        Topic("ps.file.transfer.v1", 6, 14 * _DAY_MS, "integration"),
        Topic("ps.record.changed.v1", 12, 14 * _DAY_MS, "record"),
        Topic("ps.measurement.v1", 6, 1 * _DAY_MS, "", dead_letters=False, loss_tolerated=True),
        Topic("ps.exchange.v1", 6, 2 * _DAY_MS, "", dead_letters=False, loss_tolerated=True),
        Topic("ps.log.v1", 6, 1 * _DAY_MS, "", dead_letters=False, loss_tolerated=True),
        Topic("ps.control.v1", 1, -1, "name", compacted=True, broadcast=True, dead_letters=False),
        Topic("ps.diagnosis.v1", 6, 14 * _DAY_MS, "integration"),
        Topic("ps.alert.v1", 6, 30 * _DAY_MS, "alert"),
    )
}

DEAD_LETTER_SUFFIX: Final = ".dlq"
EVENT_BYTES_MAX: Final = 64 * 1024
"""An event's data as JSON. Events are thin, so a larger one is a mistake; no broker's limit is ever met."""
DEAD_LETTER_RETENTION_MS: Final = 30 * _DAY_MS


def dead_letter_topic(topic: str) -> Topic:
    """The dead-letter topic of a topic: as many partitions, so that a key keeps its place."""
    return Topic(
        topic + DEAD_LETTER_SUFFIX,
        TOPICS[topic].partitions,
        DEAD_LETTER_RETENTION_MS,
        TOPICS[topic].key,
        dead_letters=False,
    )


def all_topics() -> tuple[Topic, ...]:
    """Every topic with its dead-letter topic: what is created or checked at start."""
    listed = list(TOPICS.values())
    return (*listed, *(dead_letter_topic(topic.name) for topic in listed if topic.dead_letters))


class AlertEvent(StrEnum):
    """The life of an alert, as `ps.alert.v1` tells it: a published contract."""

    OPENED = "ps.alert.opened"
    UPDATED = "ps.alert.updated"
    ACKNOWLEDGED = "ps.alert.acknowledged"
    SNOOZED = "ps.alert.snoozed"
    MUTED = "ps.alert.muted"
    ESCALATED = "ps.alert.escalated"
    RESOLVED = "ps.alert.resolved"
    WATCHDOG = "ps.alert.watchdog"


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event: its topic, schema version, and the fields its data may hold (name → JSON type)."""

    name: str
    topic: str
    title: str
    fields: Mapping[str, str]
    version: int = 1


_RUN_FIELDS: Final = {
    "run_id": "string", "integration_id": "string", "resource": "string", "direction": "string", "mode": "string",
    "state": "string", "pages": "integer", "records_read": "integer", "created": "integer", "updated": "integer",
    "unchanged": "integer", "quarantined": "integer", "error_code": "string", "fault": "string",
    "duration_ms": "integer", "trigger": "string",
}  # fmt: skip
_CREDENTIAL_FIELDS: Final = {
    "integration_id": "string", "credential": "string", "method": "string", "error_code": "string", "fault": "string",
    "stage": "string", "expires_at": "string", "http_status": "integer", "clock_offset_ms": "integer",
    "trigger": "string", "notice_days": "integer",
}  # fmt: skip
_ACCESS_FIELDS: Final = {
    "access_id": "string", "role": "string", "opened_at": "string", "expires_at": "string", "outcome": "string",
}  # fmt: skip
_ALERT_FIELDS: Final = {
    "alert_id": "string", "rule": "string", "severity": "string", "state": "string", "integration_id": "string",
    "subject": "string", "cause_code": "string", "title": "string", "next_step": "string", "count": "integer",
    "value": "number", "threshold": "number", "unit": "string", "opened_at": "string", "updated_at": "string",
    "resolved_at": "string", "version": "integer",
}  # fmt: skip

EVENT_TYPES: Final[dict[str, EventType]] = {
    row.name: row
    for row in (
        EventType(
            "ps.integration.changed", "ps.integration.changed.v1", "An integration, its channels or its state changed",
            {"integration_id": "string", "version": "integer", "state": "string", "changed": "array"},
        ),
        EventType("ps.tenant.changed", "ps.tenant.changed.v1", "A practice was created, suspended, resumed or offboarded", {"state": "string"}),
        EventType("ps.tenant.access-ended", "ps.tenant.changed.v1", "An access for a time ended before its time", {"expires_at": "string"}),
        EventType(
            "ps.tenant.erase", "ps.tenant.offboarding.v1", "What is held of an offboarded practice is to be deleted",
            {"offboarding_id": "string", "module": "string", "rows": "integer"},
        ),
        EventType(
            "ps.tenant.erased", "ps.tenant.offboarding.v1", "A module holds nothing of a practice any more",
            {"offboarding_id": "string", "module": "string", "rows": "integer"},
        ),
        EventType("ps.access.break-glass-opened", "ps.access.v1", "Somebody took rights in an emergency", _ACCESS_FIELDS),
        EventType("ps.access.break-glass-reviewed", "ps.access.v1", "The use of emergency rights was reviewed", _ACCESS_FIELDS),
        EventType("ps.credential.refreshed", "ps.credential.v1", "A token was obtained", _CREDENTIAL_FIELDS),
        EventType("ps.credential.refresh-failed", "ps.credential.v1", "No token could be had; tried again", _CREDENTIAL_FIELDS),
        EventType("ps.credential.rejected", "ps.credential.v1", "The PMS refused the credential", _CREDENTIAL_FIELDS),
        EventType("ps.credential.expiring", "ps.credential.v1", "A credential expires soon", _CREDENTIAL_FIELDS),
        EventType("ps.credential.renewed", "ps.credential.v1", "What was to expire soon does no longer", _CREDENTIAL_FIELDS),
        EventType(
            "ps.hl7.received", "ps.hl7.received.v1", "An HL7 message is stored and was acknowledged",
            {
                "message_id": "string", "integration_id": "string", "channel": "string", "message_type": "string",
                "trigger_event": "string", "hl7_version": "string", "patient_key": "string", "size_bytes": "integer",
                "received_at": "string", "duplicate": "boolean", "replay_id": "string",
            },
        ),
        EventType(
            "ps.hl7.rejected", "ps.hl7.rejected.v1", "An HL7 message was answered with a negative acknowledgement",
            {
                "message_id": "string", "integration_id": "string", "channel": "string", "message_type": "string",
                "trigger_event": "string", "acknowledgment_code": "string", "error_code": "string",
                "size_bytes": "integer", "received_at": "string",
            },
        ),
        EventType(
            "ps.hl7.delivery", "ps.hl7.delivery.v1", "An outbound HL7 message changed state",
            {
                "message_id": "string", "integration_id": "string", "channel": "string", "state": "string",
                "acknowledgment_code": "string", "error_code": "string", "attempt": "integer",
                "connection_id": "string", "message_type": "string", "trigger_event": "string",
            },
        ),
        EventType("ps.sync.run.started", "ps.sync.run.v1", "A synchronisation run began", _RUN_FIELDS),
        EventType("ps.sync.run.progressed", "ps.sync.run.v1", "A page of a run was committed", _RUN_FIELDS),
        EventType("ps.sync.run.finished", "ps.sync.run.v1", "A run ended well", _RUN_FIELDS),
        EventType("ps.sync.run.failed", "ps.sync.run.v1", "A run ended with an error", _RUN_FIELDS),
        EventType("ps.sync.run.cancelled", "ps.sync.run.v1", "A run was cancelled", _RUN_FIELDS),
        EventType(
            "ps.sync.conflict.opened", "ps.sync.conflict.v1", "A conflict waits for a person",
            {"conflict_id": "string", "integration_id": "string", "record_id": "string", "changed": "array"},
        ),
        EventType(
            "ps.file.transferred", "ps.file.transfer.v1", "A file was transferred",
            {"transfer_id": "string", "integration_id": "string", "state": "string", "size_bytes": "integer", "error_code": "string"},
        ),
        EventType(
            "ps.record.changed", "ps.record.changed.v1", "A record has a new version",
            {
                "record_id": "string", "record_type": "string", "version": "integer", "changed": "array",
                "origin": "string", "integration_id": "string", "deleted": "boolean",
            },
        ),
        EventType(
            "ps.measurement.taken", "ps.measurement.v1", "Queue depths, lag, outbox age, resources of one replica",
            {"module": "string", "replica": "string", "name": "string", "value": "number", "unit": "string"},
        ),
        EventType(
            "ps.exchange.recorded", "ps.exchange.v1", "One API call, HL7 exchange or file",
            {
                "exchange_id": "string", "integration_id": "string", "channel": "string", "kind": "string",
                "direction": "string", "operation": "string", "endpoint": "string", "method": "string",
                "status": "integer", "outcome": "string", "error_code": "string", "duration_ms": "number",
                "request_bytes": "integer", "response_bytes": "integer", "clock_offset_ms": "integer",
                "retry_after_s": "number", "started_at": "string", "module": "string", "trace_id": "string",
            },
        ),
        EventType(
            "ps.log.recorded", "ps.log.v1", "One log line, allow-listed",
            {"module": "string", "replica": "string", "level": "string", "message": "string", "attributes": "object"},
        ),
        EventType(
            "ps.control.changed", "ps.control.v1", "A log level or trace session for all replicas",
            {"name": "string", "level": "string", "until": "string"},
        ),
        EventType(
            "ps.diagnosis.made", "ps.diagnosis.v1", "A diagnosis was made",
            {"diagnosis_id": "string", "integration_id": "string", "cause": "string", "confidence": "number"},
        ),
        *(
            EventType(kind.value, "ps.alert.v1", f"An alert was {kind.value.rsplit('.', 1)[1]}" if kind is not AlertEvent.WATCHDOG
                      else "The alerting service is alive", _ALERT_FIELDS)
            for kind in AlertEvent
        ),
    )
}  # fmt: skip

_JSON_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": (list, tuple),
    "object": dict,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `subject` is the id of the thing it is about; `key` is the partition key (its order is kept)."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    tenant: str
    key: str
    data: Mapping[str, Any] = field(default_factory=dict)
    traceparent: str = ""
    generation: int = 0
    deleted: bool = False

    def __post_init__(self) -> None:
        check_event(self)

    @property
    def topic(self) -> str:
        """The topic its type belongs to."""
        return EVENT_TYPES[self.type].topic

    @property
    def schema(self) -> str:
        """The CloudEvents `dataschema` of its type and version."""
        return f"urn:practice-studio:event:{self.type}:{EVENT_TYPES[self.type].version}"


def check_event(event: Event) -> None:
    """Raises ValueError when the type is unknown, or data holds a field (or a JSON type) that its row does not list."""
    row = EVENT_TYPES.get(event.type)
    if row is None:
        raise ValueError(f"unknown event type {event.type!r}")
    if event.time.tzinfo is None:
        raise ValueError("an event's time needs a zone")
    for name, value in event.data.items():
        kind = row.fields.get(name)
        if kind is None:
            raise ValueError(f"{event.type} has no field {name!r}")
        if value is None:
            continue
        if not isinstance(value, _JSON_KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
            raise ValueError(f"{event.type}.{name} must be a JSON {kind}")
