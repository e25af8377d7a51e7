"""Catalogue stored messages: read what they say, make it findable, and tell the others of it.

Theory of operation. A sender is answered as soon as its message is stored; everything that is derived from the bytes
happens here, later, in the order they were stored, on one replica (a lease). A message waits in the intake until its
row and its event are committed; a crash between the two repeats it, and what is there already stays as it is.

While messages arrive this leaves them the processor: it rests a multiple of the time it worked, less so the older the
oldest waiting message is. Searches wait a moment for it (`caught_up`), so that a sender finds what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from hl7_gateway.core.acknowledgment import APPLICATION_CODES, Outcome
from hl7_gateway.core.message import (
    FIELD_MISSING,
    Header,
    MessageState,
    NewMessage,
    instant_of,
    patient_name,
    read_header,
)
from hl7_gateway.core.message_keys import numbers_of
from hl7_gateway.core.profile_comparison import told_by, told_json
from hl7_gateway.core.reception import DEFAULT, Reception
from hl7_gateway.core.rejection import REJECTIONS
from hl7_gateway.core.senders import InboundChannel
from hl7_gateway.ports import (
    Catalogue,
    HeldExchange,
    Intake,
    Journal,
    Keys,
    KeySource,
    Senders,
    WaitingMessage,
)

BATCH_MESSAGES_MAX: Final = 200
LOADED_MESSAGES_MAX: Final = 100
POLL_S: Final = 1.0
BACKOFF_S: Final = 1.0
REST_MIN_S: Final = 1.0
LOOK_S: Final = 0.05
TURN_MESSAGES: Final = 10
SHARE_MIN: Final = 0.1
SHARE_MAX: Final = 0.5
LATE_S: Final = 600.0
"""A message that waits so long makes this take its largest share of the time."""
FINDINGS_MAX: Final = 100
NOT_CATALOGUED: Final = "hl7.not-catalogued"

Rules = Callable[[Collection[str]], Awaitable[Mapping[str, Reception]]]
"""The rules of connections, by id."""

_NOTHING_SAID: Final = Header("", "", "", "", "", "", "", "", "")
_log = logging.getLogger("hl7_gateway.catalogue")


@dataclass(frozen=True, slots=True)
class _Read:
    """A message that was read, and its exchange when it was answered by this process."""

    new: NewMessage
    trace: Any
    exchange: HeldExchange | None


class Cataloguer:
    """See the module's text. `loaded` tells whether messages are arriving."""

    def __init__(
        self,
        intake: Intake,
        catalogue: Catalogue,
        keys: KeySource,
        senders: Senders,
        journal: Journal,
        clock: Clock,
        loaded: Callable[[], bool],
        rules: Rules | None = None,
    ) -> None:
        self._intake = intake
        self._catalogue = catalogue
        self._keys = keys
        self._senders = senders
        self._journal = journal
        self._clock = clock
        self._loaded = loaded
        self._rules = rules or _default_rules
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._running = False
        self.catalogued = 0

    def stored(self) -> None:
        """Messages were stored: there is work."""
        self._idle.clear()
        self._wake.set()

    async def caught_up(self, timeout_s: float) -> bool:
        """Whether everything that was stored before the call is catalogued, waiting for it so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._running:  # another replica does it, or none yet
                    if not await self._intake.waiting(1):
                        return True
                    await asyncio.sleep(LOOK_S)
                await self._idle.wait()
                return True
        return False

    async def run(self) -> None:
        """Until cancelled; raises SuiteError when intake or catalogue do."""
        self._running = True
        try:
            await self._run()
        finally:
            self._running = False

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            began = self._clock.monotonic()
            limit = LOADED_MESSAGES_MAX if self._loaded() else BATCH_MESSAGES_MAX
            waiting = await self._some(limit)
            if waiting:
                await self._take(waiting)
            if len(waiting) < limit and not self._wake.is_set() and self._senders.settled():
                self._idle.set()
            if waiting:
                await self._rest(began, waiting[0])
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):  # another replica's messages announce themselves to nobody here
                    await self._wake.wait()

    async def _some(self, limit: int) -> Sequence[WaitingMessage]:
        """The next messages; none before we know what the integrations call their systems."""
        return await self._intake.waiting(limit) if self._senders.settled() else ()

    async def _keys_of(self, waiting: Sequence[WaitingMessage]) -> dict[str, Keys | None]:
        """The keys of their tenants, None where they are gone for good; raises SuiteError when they may come back."""
        keys: dict[str, Keys | None] = {}
        for tenant in {message.tenant for message in waiting}:
            try:
                keys[tenant] = await self._keys.tenant(tenant)
            except SuiteError as error:
                if error.transient:
                    raise
                # Destroyed, or wrapped by another key: nobody can read these messages, now or later.
                _log.error("messages not catalogued", extra={"tenant": tenant, "code": error.code})
                keys[tenant] = None
        return keys

    async def _take(self, waiting: Sequence[WaitingMessage]) -> None:
        keys = await self._keys_of(waiting)
        receptions = await self._rules({message.connection_id for message in waiting})
        read = []
        for place, message in enumerate(waiting):
            opened = keys[message.tenant]
            if opened is not None:
                read.append(self._read(message, opened, receptions[message.connection_id]))
            if place % TURN_MESSAGES == 0:
                await asyncio.sleep(0)  # an arriving message waits for a few of these, not for all
        if read:
            await self._catalogue.add([one.new for one in read])
        await self._intake.catalogued([message.sequence for message in waiting])
        self.catalogued += len(read)
        for one in read:
            if one.exchange is not None:
                self._journal.end(one.trace, one.exchange)

    def _read(self, waiting: WaitingMessage, keys: Keys, reception: Reception) -> _Read:
        """One message; whatever it does to our code, it stays findable by its time and sender."""
        try:
            body = keys.open(waiting.sealed_body, record=waiting.id, field="body")
            message = reception.parse(body)
            header = read_header(message)
            systems = self._senders.table().systems.get(waiting.integration_id, ())
            patient = patient_name(message, systems)
            numbers = tuple((kind.value, keys.pseudonym(kind, number)) for kind, number in numbers_of(message))
            findings: list[Any] = [*message.tolerated]
            if not header.control_id:
                findings.append(FIELD_MISSING)
            if reception.validate != "off":
                told, _ = told_by(message, reception.profile)
                findings += [told_json(one, reception.profile) for one in told[:FINDINGS_MAX]]
        except Exception as error:  # noqa: BLE001 - the others are not to wait for ever because of this one
            extra = {"error_type": type(error).__name__, "message_id": waiting.id, "code": NOT_CATALOGUED}
            _log.error("message not catalogued", extra=extra)
            body, header, patient, findings = b"", _NOTHING_SAID, None, [NOT_CATALOGUED]
            numbers = ()
        trace = self._journal.begin(header, instant_of(waiting.received_ms))
        state = MessageState.REJECTED if waiting.rejection else MessageState.RECEIVED
        outcome = REJECTIONS[waiting.rejection].outcome if waiting.rejection else Outcome.ACCEPTED
        if waiting.rejection:
            findings.append(waiting.rejection)
        patient_key = keys.pseudonym("patient", patient) if patient else None
        new = NewMessage(
            id=waiting.id,
            sequence=waiting.sequence,
            tenant=waiting.tenant,
            integration_id=waiting.integration_id,
            channel=waiting.channel,
            peer=waiting.peer,
            header=header,
            patient_key=patient_key,
            received_at=instant_of(waiting.received_ms),
            state=state,
            acknowledgment_code=APPLICATION_CODES[outcome],
            size_bytes=len(body),
            findings=tuple(findings),
            traceparent=trace.traceparent,
            connection_id=waiting.connection_id,
            order_key=reception.order_key(patient_key, waiting.integration_id, waiting.id),
            rejection=waiting.rejection,
            keys=numbers,
        )
        return _Read(new, trace, self._exchange(new, waiting.rejection or None))

    def _exchange(self, new: NewMessage, code: str | None) -> HeldExchange | None:
        how = self._journal.answer_of(new.id)
        if how is None:
            return None
        return HeldExchange(
            tenant=new.tenant,
            channel=InboundChannel(new.tenant, new.integration_id, new.channel),
            header=new.header,
            started_at=new.received_at,
            duration_ms=how.duration_ms,
            codes=how.codes,
            error_code=code,
            request_bytes=new.size_bytes,
            response_bytes=how.response_bytes,
        )

    async def _rest(self, began: float, oldest: WaitingMessage) -> None:
        """Leave the processor, and the disk, to arriving messages for as long as they do arrive."""
        now = self._clock.monotonic()
        waited_s = (self._clock.now() - instant_of(oldest.received_ms)).total_seconds()
        share = min(SHARE_MAX, SHARE_MIN + (SHARE_MAX - SHARE_MIN) * max(0.0, waited_s) / LATE_S)
        until = now + max(REST_MIN_S, (now - began) * (1 - share) / share)
        while self._loaded() and self._clock.monotonic() < until:  # noqa: ASYNC110 - the end of a load is no event
            await asyncio.sleep(LOOK_S)


async def _default_rules(connection_ids: Collection[str]) -> Mapping[str, Reception]:
    return dict.fromkeys(connection_ids, DEFAULT)
