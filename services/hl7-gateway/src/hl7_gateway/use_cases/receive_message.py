"""A frame arrives: whose is it, is it taken, and what is answered.

Nothing is answered positively here: that follows the commit. A message that no practice can be found for is rejected
at once and not stored (there is no tenant whose key could seal it); every other one is stored, rejected types too.
What a message says beyond its header is read later, by the catalogue: its sender does not wait for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import hl7v2
from common.models.clock import Clock, Ids
from common.models.errors import ERRORS
from hl7_gateway.core.answer import Answer, answer
from hl7_gateway.core.batch_frame import BatchFrame, is_batch, read_batch
from hl7_gateway.core.message import Header, acknowledgment_id, read_header
from hl7_gateway.core.reception import DEFAULT, Peer, Reception
from hl7_gateway.core.rejection import (
    BATCH_INCOMPLETE,
    INVALID,
    NOT_READY,
    PEER_NOT_ALLOWED,
    REJECTIONS,
    Rejection,
    type_rejection,
)
from hl7_gateway.core.senders import SenderTable
from hl7_gateway.core.shape import HeaderParts, Shape, header_parts, shape_of, time_text
from hl7_gateway.core.unmatched import UnmatchedSenders
from hl7_gateway.ports import Answered, HeldExchange, Journal, Senders
from hl7_gateway.use_cases.answer_batch import BatchAnswer
from hl7_gateway.use_cases.commit_messages import STORED, Arrival, Committer, Verdict
from hl7v2 import mllp

UNPARSABLE: Final = "hl7.unparsable"
FRAME_TOO_LARGE: Final = "hl7.frame-too-large"
NOBODY: Final = "platform"
"""The tenant of exchanges that belong to no practice we can tell."""
SHAPES_MAX: Final = 4096
ERRORS_TOLD_MAX: Final = 20

_SECOND: Final = timedelta(seconds=1)
_log = logging.getLogger("hl7_gateway.receive")

Write = Callable[[bytes], None]
"""Called once with the frames to write (maybe none), when they may be written."""


class _Frame(NamedTuple):
    """A frame that is looked at closer."""

    body: bytes
    peer: Peer
    received_at: datetime
    began: float
    write: Write


class ReceiveMessage:
    """See the module's text."""

    def __init__(
        self,
        senders: Senders,
        committer: Committer,
        journal: Journal,
        clock: Clock,
        ids: Ids,
        *,
        reception: Reception = DEFAULT,
        unmatched: UnmatchedSenders | None = None,
    ) -> None:
        self._senders = senders
        self._reception = reception
        self._unmatched = unmatched or UnmatchedSenders()
        self._committer = committer
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._table = senders.table()
        self._shapes: dict[bytes, Shape] = {}
        self._second = (clock.now(), b"")

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""
        return self._committer.full

    def apply(self, reception: Reception) -> None:
        """Receive by other rules from the next message on; what waits to be stored is answered by those it came by."""
        self._reception = reception
        self._shapes.clear()

    def receive(self, body: bytes, peer: Peer, write: Write) -> None:
        """Take one frame's body; `write` is called when its acknowledgement may be sent, perhaps at once."""
        began = self._clock.monotonic()
        frame = _Frame(body, peer, self._clock.now(), began, write)
        if is_batch(body):
            self._receive_batch(read_batch(body), frame)
            return
        arrival = self._arrival(frame)
        if arrival is not None:
            self._committer.put(arrival)

    def _receive_batch(self, batch: BatchFrame, frame: _Frame) -> None:
        """Take every message of a batch, or none: one that cannot be stored has the others refused with it."""
        if batch.problem == "hl7.batch-too-large":
            self._unreadable(batch.problem, len(frame.body), frame.received_at, frame.began, frame.write)
            return
        control_id = acknowledgment_id(self._ids.new("msg")).encode()
        together = BatchAnswer(batch, self._time_text(frame.received_at), control_id, frame.write)
        arrivals = [
            self._arrival(frame._replace(body=body, write=together.slot(place)))
            for place, body in enumerate(batch.messages)
        ]
        storable = [arrival for arrival in arrivals if arrival is not None]
        if not arrivals:
            together.finish()
        elif batch.problem is None and len(storable) == len(arrivals):
            self._committer.put_together(storable)
        else:
            _log.warning("batch refused", extra={"code": BATCH_INCOMPLETE.code, "count": len(arrivals)})
            for arrival in storable:
                self._settled(arrival, Verdict(failure=BATCH_INCOMPLETE))

    def _arrival(self, frame: _Frame) -> Arrival | None:
        """The message of a frame on its way into the store; None when it was refused, and answered."""
        body, peer = frame.body, frame.peer
        table = self._senders.table()
        if table is not self._table:
            self._table = table
            self._shapes.clear()
        parts = header_parts(body)
        shape = self._shapes.get(parts.key) if parts is not None else None
        findings: Sequence[hl7v2.Finding] = ()
        if shape is None or self._reception.validate == "before" or peer.admission.rows:
            looked = self._look_closer(frame, parts, table, shape)
            if looked is None:
                return None
            shape, findings = looked
        return Arrival(
            self._ids.new("msg"),
            body,
            peer.address,
            shape,
            parts.control_id if parts is not None else b"",
            frame.received_at,
            frame.began,
            self._reception,
            findings,
            self._settled,
            frame.write,
        )

    def too_large(self, size_bytes: int, write: Write) -> None:
        """A frame over the cap: rejected without having been kept."""
        now = self._clock.now()
        self._unreadable(FRAME_TOO_LARGE, size_bytes, now, self._clock.monotonic(), write)

    def _look_closer(
        self, frame: _Frame, parts: HeaderParts | None, table: SenderTable, known: Shape | None
    ) -> tuple[Shape, Sequence[hl7v2.Finding]] | None:
        """The shape of the message's header and what is wrong with it; None when it was refused, and answered."""
        if known is not None and not self._may_send(frame.peer, known.application, known.facility):
            known = None
        if known is not None and self._reception.validate != "before":
            return known, ()
        try:
            message = self._reception.parse(frame.body)
        except hl7v2.ParseError:
            self._unreadable(UNPARSABLE, len(frame.body), frame.received_at, frame.began, frame.write)
            return None
        header = self._reception.header(read_header(message))
        shape = known or self._shape(message, header, frame, parts, table)
        if shape is None or self._reception.validate != "before" or shape.rejection is not None:
            return None if shape is None else (shape, ())
        found = hl7v2.validate(message, self._reception.profile.compiled)
        errors = [finding for finding in found if finding.severity == "error"][:ERRORS_TOLD_MAX]
        return (shape_of(message, header, shape.channel, INVALID, self._reception), errors) if errors else (shape, ())

    def _shape(
        self, message: hl7v2.Message, header: Header, frame: _Frame, parts: HeaderParts | None, table: SenderTable
    ) -> Shape | None:
        """Of a header that was not seen before; None when nobody takes its messages, which was answered."""
        channel = table.resolve(header.application, header.facility)
        if isinstance(channel, str) or not self._may_send(frame.peer, header.application, header.facility):
            why = REJECTIONS[channel] if isinstance(channel, str) else PEER_NOT_ALLOWED
            self._refuse(message, header, why if self._senders.settled() else NOT_READY, table, frame)
            return None
        taken = type_rejection(header.message_type, header.trigger_event)
        shape = shape_of(message, header, channel, taken, self._reception)
        if parts is not None and shape.accepted is not None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            self._shapes[parts.key] = shape
        return shape

    def _may_send(self, peer: Peer, application: str, facility: str) -> bool:
        return not peer.admission.rows or peer.admission.may_send_as(application, facility)

    def _settled(self, arrival: Arrival, verdict: Verdict) -> None:
        """A message's fate is known: answer it."""
        shape = arrival.shape
        if verdict is STORED and shape.accepted is not None and arrival.control_id and not arrival.findings:
            given = shape.accepted.fill(arrival.id, self._time_text(arrival.received_at), arrival.control_id)
        else:
            given = self._compose(arrival, verdict)
        duration_ms = (self._clock.monotonic() - arrival.began) * 1000
        if verdict.failure is None and verdict.repeated is None:
            # Its exchange is told when it is catalogued, with what its header says.
            self._journal.answered(arrival.id, Answered(duration_ms, given.codes, len(given.frames)))
        else:
            self._tell(arrival, verdict, given, duration_ms)
        arrival.write(given.frames)

    def _compose(self, arrival: Arrival, verdict: Verdict) -> Answer:
        message = arrival.reception.parse(arrival.body)
        header = arrival.reception.header(read_header(message))
        if verdict.failure is not None:
            why = verdict.failure
            return answer(message, header, why.outcome, why, message_id=arrival.id, now=arrival.received_at)
        message_id, now = arrival.id, arrival.received_at
        if verdict.repeated is not None:
            message_id, now = verdict.repeated.message_id, verdict.repeated.received_at
        shape = arrival.shape
        return answer(
            message, header, shape.outcome, shape.rejection, message_id=message_id, now=now, findings=arrival.findings
        )

    def _tell(self, arrival: Arrival, verdict: Verdict, given: Answer, duration_ms: float) -> None:
        """Record the exchange of a message that is not in the store, or was there before."""
        rejection = verdict.failure or arrival.shape.rejection
        channel, header = arrival.shape.channel, read_header(arrival.reception.parse(arrival.body))
        exchange = HeldExchange(
            tenant=channel.tenant,
            channel=channel,
            header=header,
            started_at=arrival.received_at,
            duration_ms=duration_ms,
            codes=given.codes,
            error_code=rejection.code if rejection is not None else None,
            request_bytes=len(arrival.body),
            response_bytes=len(given.frames),
        )
        self._journal.end(self._journal.begin(header, arrival.received_at), exchange)

    def _refuse(
        self, message: hl7v2.Message, header: Header, why: Rejection, table: SenderTable, frame: _Frame
    ) -> None:
        size_bytes = len(frame.body)
        _log.warning("message refused", extra={"code": why.code, "bytes": size_bytes})
        self._unmatched.note(
            table.only_tenant or NOBODY,
            self._reception.connection_id,
            header.application,
            header.facility,
            frame.peer.address,
            why.code,
            frame.received_at,
        )
        message_id = self._ids.new("msg")
        given = answer(message, header, why.outcome, why, message_id=message_id, now=frame.received_at)
        trace = self._journal.begin(header, frame.received_at)
        exchange = self._unheld(table, header, given, why.code, frame.received_at, frame.began, size_bytes)
        self._journal.end(trace, exchange)
        frame.write(given.frames)

    def _unreadable(self, code: str, size_bytes: int, now: datetime, began: float, write: Write) -> None:
        _log.warning("frame refused", extra={"code": code, "bytes": size_bytes})
        rejection = hl7v2.reject_unparsable(
            now=now, control_id=acknowledgment_id(self._ids.new("msg")), text=ERRORS[code].next_step
        )
        given = Answer(mllp.encode(bytes(rejection)), ("AR",))
        table = self._senders.table()
        self._journal.end(None, self._unheld(table, None, given, code, now, began, size_bytes))
        write(given.frames)

    def _unheld(
        self,
        table: SenderTable,
        header: Header | None,
        given: Answer,
        code: str,
        received_at: datetime,
        began: float,
        size_bytes: int,
    ) -> HeldExchange:
        """The exchange of a message that was refused without being stored."""
        return HeldExchange(
            tenant=table.only_tenant or NOBODY,
            channel=None,
            header=header,
            started_at=received_at,
            duration_ms=(self._clock.monotonic() - began) * 1000,
            codes=given.codes,
            error_code=code,
            request_bytes=size_bytes,
            response_bytes=len(given.frames),
        )

    def _time_text(self, instant: datetime) -> bytes:
        """MSH-7 of an acknowledgement; those of one second share it."""
        began, text = self._second
        if not text or not began <= instant < began + _SECOND:
            began = instant.replace(microsecond=0)
            text = time_text(began)
            self._second = (began, text)
        return text
