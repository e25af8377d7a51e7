"""A frame arrives: whose is it, is it taken, and what is answered.

Nothing is answered positively here: that follows the commit. A message that no practice can be found for is rejected
at once and not stored (there is no tenant whose key could seal it); every other one is stored, rejected types too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import hl7v2
from common.models.clock import Clock, Ids
from common.models.errors import ERRORS
from hl7_gateway.core.acknowledgment import Outcome
from hl7_gateway.core.answer import Answer, answer
from hl7_gateway.core.message import Header, MessageState, acknowledgment_id, read_header
from hl7_gateway.core.rejection import NOT_READY, REJECTIONS, Rejection, type_rejection
from hl7_gateway.core.senders import InboundChannel
from hl7_gateway.ports import HeldExchange, Journal, Senders
from hl7_gateway.use_cases.commit_messages import Arrival, Committer, Verdict
from hl7v2 import mllp

UNPARSABLE: Final = "hl7.unparsable"
FRAME_TOO_LARGE: Final = "hl7.frame-too-large"
NOBODY: Final = "platform"
"""The tenant of exchanges that belong to no practice we can tell."""

_MILLISECOND_US: Final = 1000
_log = logging.getLogger("hl7_gateway.receive")

Answered = Callable[[bytes], None]
"""Called once with the frames to write (maybe none), when they may be written."""


class ReceiveMessage:
    """See the module's text."""

    def __init__(self, senders: Senders, committer: Committer, journal: Journal, clock: Clock, ids: Ids) -> None:
        self._senders = senders
        self._committer = committer
        self._journal = journal
        self._clock = clock
        self._ids = ids

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""
        return self._committer.full

    def receive(self, body: bytes, peer: str, answered: Answered) -> None:
        """Take one frame's body; `answered` is called when its acknowledgement may be sent, perhaps at once."""
        began = self._clock.monotonic()
        received_at = _whole_milliseconds(self._clock.now())
        message_id = self._ids.new("msg")
        try:
            message = hl7v2.parse(body)
        except hl7v2.ParseError:
            self._unreadable(UNPARSABLE, len(body), message_id, received_at, began, answered)
            return
        header = read_header(message)
        table = self._senders.table()
        channel = table.resolve(header.application, header.facility)
        if isinstance(channel, str):
            why = REJECTIONS[channel] if self._senders.settled() else NOT_READY
            given = answer(message, header, why.outcome, why, message_id=message_id, now=received_at)
            tenant = table.only_tenant or NOBODY
            self._refused(tenant, header, why, given, received_at, began, len(body))
            answered(given.frames)
            return

        def settled(arrival: Arrival, verdict: Verdict) -> None:
            self._settled(arrival, verdict, answered)

        self._committer.put(
            Arrival(
                id=message_id,
                body=body,
                peer=peer,
                message=message,
                header=header,
                channel=channel,
                rejection=type_rejection(header.message_type, header.trigger_event),
                received_at=received_at,
                began=began,
                trace=self._journal.begin(header),
                settled=settled,
            )
        )

    def too_large(self, size_bytes: int, answered: Answered) -> None:
        """A frame over the cap: rejected without having been kept."""
        now = _whole_milliseconds(self._clock.now())
        message_id = self._ids.new("msg")
        self._unreadable(FRAME_TOO_LARGE, size_bytes, message_id, now, self._clock.monotonic(), answered)

    def _settled(self, arrival: Arrival, verdict: Verdict, answered: Answered) -> None:
        given = self._answer_to(arrival, verdict)
        code = verdict.failure.code if verdict.failure else arrival.rejection.code if arrival.rejection else None
        self._journal.end(
            arrival.trace,
            self._exchange(
                arrival.channel.tenant,
                arrival.channel,
                arrival.header,
                given,
                code,
                arrival.received_at,
                arrival.began,
                len(arrival.body),
            ),
        )
        answered(given.frames)

    def _answer_to(self, arrival: Arrival, verdict: Verdict) -> Answer:
        if verdict.failure is not None:
            why = verdict.failure
            return answer(
                arrival.message,
                arrival.header,
                why.outcome,
                why,
                message_id=arrival.id,
                now=arrival.received_at,
            )
        if verdict.repeated is not None:
            first = verdict.repeated
            outcome = Outcome.ACCEPTED if first.state is MessageState.RECEIVED else Outcome.REJECTED
            return answer(
                arrival.message,
                arrival.header,
                outcome,
                arrival.rejection,
                message_id=first.message_id,
                now=first.received_at,
            )
        assert arrival.answer is not None
        return arrival.answer

    def _refused(
        self,
        tenant: str,
        header: Header,
        why: Rejection,
        given: Answer,
        received_at: datetime,
        began: float,
        size_bytes: int,
    ) -> None:
        _log.warning("message refused", extra={"code": why.code, "bytes": size_bytes})
        trace = self._journal.begin(header)
        exchange = self._exchange(tenant, None, header, given, why.code, received_at, began, size_bytes)
        self._journal.end(trace, exchange)

    def _unreadable(
        self, code: str, size_bytes: int, message_id: str, now: datetime, began: float, answered: Answered
    ) -> None:
        _log.warning("frame refused", extra={"code": code, "bytes": size_bytes})
        rejection = hl7v2.reject_unparsable(
            now=now, control_id=acknowledgment_id(message_id), text=ERRORS[code].next_step
        )
        given = Answer(mllp.encode(bytes(rejection)), ("AR",))
        tenant = self._senders.table().only_tenant or NOBODY
        self._journal.end(None, self._exchange(tenant, None, None, given, code, now, began, size_bytes))
        answered(given.frames)

    def _exchange(
        self,
        tenant: str,
        channel: InboundChannel | None,
        header: Header | None,
        given: Answer,
        code: str | None,
        received_at: datetime,
        began: float,
        size_bytes: int,
    ) -> HeldExchange:
        return HeldExchange(
            tenant=tenant,
            channel=channel,
            header=header,
            started_at=received_at,
            duration_ms=(self._clock.monotonic() - began) * 1000,
            codes=given.codes,
            error_code=code,
            request_bytes=size_bytes,
            response_bytes=len(given.frames),
        )


def _whole_milliseconds(instant: datetime) -> datetime:
    """As the store keeps it, so that a repeated message's acknowledgement has the same time."""
    return instant.replace(microsecond=instant.microsecond // _MILLISECOND_US * _MILLISECOND_US)
