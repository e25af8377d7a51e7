"""HL7 messages that hl7-gateway stored → the same records, in the consumer's transaction.

What can not be mapped or matched goes to quarantine; a message never holds up the ones behind it.

A message that is replayed comes as a new event, which no inbox has seen, and is applied again like any other: what is
missing is mended, and what newer messages said since stays, because order is by the time a message was written. What
it says now that was quarantined before is resolved there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.integration import Integration
from common.models.records import Charge, Patient
from sync.core.hl7_mapping import MappedMessage, map_message, supported
from sync.core.hl7_message import time_reader
from sync.core.incoming import Incoming, Origin
from sync.core.reconcile import reconcile, wanted_of
from sync.core.rejection import Rejection
from sync.ports import Integrations, Messages, QuarantineBook, Quarantined, RawMessage, RecordBook, Session

_UTC = "UTC"
_log = logging.getLogger("sync")


@dataclass(frozen=True, slots=True)
class ApplyMessages:
    """See the module's text."""

    messages: Messages
    integrations: Integrations
    records: RecordBook
    quarantine: QuarantineBook
    clock: Clock
    ids: Ids

    async def __call__(self, session: Session, events: Sequence[Event]) -> None:
        """Handle events in order. Raises SuiteError `service.unavailable`: then they come again."""
        by_tenant: dict[str, list[Event]] = {}
        for event in events:
            named = (str(event.data.get("message_type") or ""), str(event.data.get("trigger_event") or ""))
            if supported(*named) and not event.data.get("duplicate"):
                by_tenant.setdefault(event.tenant, []).append(event)
        # In one order everywhere: transactions that lock several tenants do not wait for each other in a circle.
        for tenant, wanted in sorted(by_tenant.items()):
            await self._apply(session, tenant, wanted)

    async def _apply(self, session: Session, tenant: str, events: Sequence[Event]) -> None:
        ids = list(dict.fromkeys(str(event.data["message_id"]) for event in events))
        bodies = await self.messages.read(tenant, ids)
        incoming: list[Incoming] = []
        quarantined: list[Quarantined] = []
        for position, event in enumerate(events):
            message = bodies.get(str(event.data["message_id"]))
            if message is None:
                _log.warning(
                    "message is gone", extra={"message_id": event.data["message_id"], "code": "message.not-found"}
                )
                continue
            integration_id = str(event.data["integration_id"])
            try:
                integration = await self.integrations.get(tenant, integration_id)
                mapped = self._map(message, integration)
            except SuiteError as error:
                if error.transient:
                    raise
                rejection = Rejection(error.code, "message", "text")
                quarantined.append(_quarantined(integration_id, position, message, rejection))
                continue
            if mapped.rejection is not None:
                quarantined.append(_quarantined(integration_id, position, message, mapped.rejection))
            quarantined += [
                _quarantined(integration_id, position, message, row.rejection, Charge.TYPE, _row_key(message, row.row))
                for row in mapped.rejected_rows
            ]
            incoming += _incoming(integration_id, position, message, mapped)
        await self.records.lock(session, tenant)
        register = await self.records.load(session, tenant, wanted_of(incoming))
        reconcile(register, incoming, self.ids.new)
        await self.records.save(session, tenant, register)
        for row, why in register.rejected:
            named = (row.record.TYPE, row.source_key) if isinstance(row.record, Charge) else (None, None)
            quarantined.append(_quarantined(row.integration_id, row.position, bodies[row.source_id], why, *named))
        replayed = {str(event.data["message_id"]) for event in events if event.data.get("replay_id")}
        await self.quarantine.resolve(session, tenant, [one for one in register.accepted if one.source_id in replayed])
        await self.quarantine.put(session, tenant, quarantined)
        counts = register.counts
        if counts.stale:
            _log.info("messages older than what is applied", extra={"count": counts.stale, "tenant": tenant})

    def _map(self, message: RawMessage, integration: Integration) -> MappedMessage:
        channel = integration.channels.get(message.channel)
        zone = ZoneInfo(channel.time_zone if channel else _UTC)
        return map_message(
            self.messages.parse(message),
            message.message_type,
            message.trigger_event,
            integration.identifier_systems,
            time_reader(zone),
        )


def _incoming(integration_id: str, position: int, message: RawMessage, mapped: MappedMessage) -> list[Incoming]:
    shared = Incoming(
        position=position,
        origin=Origin.HL7V2,
        integration_id=integration_id,
        source_id=message.id,
        record=Patient(),
        event_time=_event_time(mapped.written_at, message.received_at),
    )
    # The patients of a merge message stand each for himself; an appointment goes with its patient.
    updates = [
        replace(
            shared,
            record=update.record,
            update=update,
            with_previous=number > 0 and not update.retired,
        )
        for number, update in enumerate(mapped.updates)
    ]
    charges = [
        replace(
            shared,
            record=charge.record,
            external_id=charge.external_id,
            source_key=_row_key(message, charge.row),
            with_previous=True,
        )
        for charge in mapped.charges
    ]
    return [*updates, *charges]


def _row_key(message: RawMessage, row: int) -> str:
    """How a segment of a message that has several records is found again in the quarantine."""
    return f"{message.id}:{row}"


def _event_time(written_at: datetime | None, received_at: datetime) -> datetime:
    """When the message was written; one that claims to be of later than it came has a wrong clock, and would shut out
    every message after it."""
    return received_at if written_at is None else min(written_at, received_at)


def _quarantined(
    integration_id: str,
    position: int,
    message: RawMessage,
    rejection: Rejection,
    record_type: str | None = None,
    source_key: str | None = None,
) -> Quarantined:
    return Quarantined(
        integration_id=integration_id,
        record_type=record_type or ("appointment" if message.message_type == "SIU" else Patient.TYPE),
        origin=Origin.HL7V2,
        source_id=message.id,
        source_key=source_key or message.id,
        position=position,
        rejection=rejection,
        body=message.body,
    )
