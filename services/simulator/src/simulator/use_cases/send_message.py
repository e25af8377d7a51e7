"""Compose an HL7 message about a synthetic patient, send it, and say what was acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from common.models.errors import SuiteError
from simulator.core.change import Changed, change_patient, new_appointment
from simulator.core.chart import Chart
from simulator.core.hl7_feed import MessageKind, compose, read_acknowledgment
from simulator.core.hostile_sender import Active, steps_of
from simulator.core.practice import Appointment
from simulator.ports import MessageSender

NO_FAULTS: Final[Active] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Order:
    """What to send and where: `changes` as in `core.change`, `start` and `minutes` for a booking."""

    kind: MessageKind
    patient: str
    changes: Mapping[str, Any]
    host: str
    port: int
    timeout_s: float
    start: datetime | None = None
    minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of it. `matched`: MSA-2 is our MSH-10. `appointment_id` of a booking."""

    control_id: str
    acknowledgment_code: str
    matched: bool
    error_codes: tuple[str, ...]
    message_bytes: int
    appointment_id: str | None


async def send_message(
    chart: Chart, sender: MessageSender, order: Order, *, now: datetime, control_id: str, faults: Active = NO_FAULTS
) -> Sent:
    """Send one message, as the sender's faults have it that are on. The change stays in the simulated practice,
    acknowledged or not: it happened there.

    Raises SuiteError `simulator.not-found` for an unknown patient, `request.invalid` for an impossible change, and
    `peer.*` when no acknowledgement came.
    """
    patient = chart.patient(order.patient)
    if patient is None:
        raise SuiteError("simulator.not-found", "The practice has no patient of that external id.")
    try:
        changed = change_patient(patient, order.changes)
    except ValueError as error:
        raise SuiteError("request.invalid", str(error)) from None
    if order.changes:
        chart.put_patient(changed.patient)
    appointment = _book(chart, changed, order, now)
    message = compose(
        order.kind,
        chart.practice,
        changed.patient,
        now=now,
        control_id=control_id,
        cleared=changed.cleared,
        appointment=appointment,
    )
    answer = await sender.send(
        order.host, order.port, message, timeout_s=order.timeout_s, steps=steps_of(message, faults)
    )
    acknowledgment = read_acknowledgment(answer)
    if acknowledgment is None:
        raise SuiteError("peer.unreadable", "The receiver's answer is no HL7 acknowledgement.")
    return Sent(
        control_id=control_id,
        acknowledgment_code=acknowledgment.code,
        matched=acknowledgment.control_id == control_id,
        error_codes=acknowledgment.errors,
        message_bytes=len(message),
        appointment_id=appointment.id if appointment else None,
    )


def _book(chart: Chart, changed: Changed, order: Order, now: datetime) -> Appointment | None:
    if order.kind is not MessageKind.BOOK:
        return None
    appointment = new_appointment(chart, changed.patient, start=order.start, minutes=order.minutes, now=now)
    chart.book(appointment)
    return appointment
