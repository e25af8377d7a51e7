"""Server-sent events (HTML §9.2): one stream per prefix, fed by the module's own topics, for one tenant.

A browser's EventSource can not send a bearer token, so a stream is opened with a ticket: signed, one minute old at
most, good for one stream. EventSource's own reconnection therefore meets 401, and the page asks for a new ticket.

Nothing is replayed, whatever `Last-Event-ID` says: a stream begins with `resync`, which tells the page to read what it
shows, and repeats it where events were dropped because the reader was too slow. `end` says that the suite stops.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.authentication import Caller, decode_by_any
from common.runtime.bus import Bus, Consumption, Delivery
from common.runtime.keyring import KeyEncryptionKey

TICKET_LIFE_S: Final = 60
EVENTS_WAITING_MAX: Final = 1_000
STREAMS_PER_TENANT_MAX: Final = 100
HEARTBEAT_S: Final = 15.0
_RECONNECT_MS: Final = 2_000
_RESYNC: Final = b"event: resync\ndata: {}\n\n"
_END: Final = b"event: end\ndata: {}\n\n"


@dataclass(eq=False, slots=True)
class _Subscriber:
    tenant: str
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(EVENTS_WAITING_MAX))
    missed: bool = False


class StreamHub:
    """Gives the events of a module's topics to whoever listens."""

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[str],
        *,
        heartbeat_s: float = HEARTBEAT_S,
        streams_per_tenant_max: int = STREAMS_PER_TENANT_MAX,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._heartbeat_s = heartbeat_s
        self._streams_per_tenant_max = streams_per_tenant_max
        self._subscribers: set[_Subscriber] = set()
        self._consumption: Consumption | None = None
        self._closed = False

    async def start(self) -> None:
        """Begin to listen."""
        if self._topics:
            self._consumption = await self._bus.tail(self._topics, self._handle)

    async def stop(self) -> None:
        """Stop listening and end the streams."""
        self.end_streams()
        if self._consumption is not None:
            await self._consumption.stop()

    def end_streams(self) -> None:
        """End every open stream, so that a stop need not wait for browsers."""
        self._closed = True
        for subscriber in self._subscribers:
            _offer(subscriber, None)

    def end_streams_of(self, tenant: str) -> None:
        """End the streams of a tenant that is suspended or offboarded."""
        for subscriber in self._subscribers:
            if subscriber.tenant == tenant:
                _offer(subscriber, None)

    def open_streams(self, tenant: str) -> int:
        """How many streams a tenant has open on this replica."""
        return sum(subscriber.tenant == tenant for subscriber in self._subscribers)

    def admit(self, tenant: str) -> None:
        """Raises SuiteError `stream.too-many` when the tenant may not open another stream."""
        if self.open_streams(tenant) >= self._streams_per_tenant_max:
            raise SuiteError("stream.too-many", f"The limit is {self._streams_per_tenant_max} for each replica.")

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            frame: bytes | None = None
            for subscriber in self._subscribers:
                if subscriber.tenant == delivery.event.tenant:
                    frame = frame or _frame(delivery.event)
                    _offer(subscriber, frame)

    async def listen(self, tenant: str) -> AsyncIterator[bytes]:
        """The frames of one stream, with heartbeats, until the client or the suite ends it."""
        subscriber = _Subscriber(tenant)
        self._subscribers.add(subscriber)
        try:
            yield f"retry: {_RECONNECT_MS}\n".encode() + _RESYNC
            while not self._closed:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        frame = await subscriber.queue.get()
                except TimeoutError:
                    yield b": alive\n\n"
                    continue
                if frame is None:
                    break
                if subscriber.missed:
                    subscriber.missed = False
                    yield _RESYNC
                yield frame
            yield _END
        finally:
            self._subscribers.discard(subscriber)


def _offer(subscriber: _Subscriber, frame: bytes | None) -> None:
    if subscriber.queue.full():
        with contextlib.suppress(asyncio.QueueEmpty):
            subscriber.queue.get_nowait()
        subscriber.missed = True
    subscriber.queue.put_nowait(frame)


def _frame(event: Event) -> bytes:
    body = orjson.dumps({"subject": event.subject, "time": instant_text(event.time), "data": dict(event.data)})
    return b"id: " + event.id.encode() + b"\nevent: " + event.type.encode() + b"\ndata: " + body + b"\n\n"


class Tickets:
    """Signed tickets; the ones used on this replica are remembered until they expire."""

    def __init__(self, kek: KeyEncryptionKey, clock: Clock, ids: Ids) -> None:
        self._keys = [OctKey.import_key(one.derive("stream-ticket")) for one in kek.all()]
        self._clock = clock
        self._ids = ids
        self._used: dict[str, int] = {}

    def issue(self, caller: Caller, module: str) -> str:
        """A ticket for one stream of one module."""
        now = int(self._clock.now().timestamp())
        claims = {
            "aud": module,
            "tenant": caller.tenant,
            "sub": caller.subject,
            "exp": now + TICKET_LIFE_S,
            "jti": self._ids.new("jti"),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0], algorithms=["HS256"])

    def redeem(self, ticket: str, module: str) -> str:
        """The tenant of a ticket; raises SuiteError `auth.ticket-invalid`."""
        now = int(self._clock.now().timestamp())
        try:
            claims = decode_by_any(ticket, self._keys).claims
            jwt.JWTClaimsRegistry(now=now, aud={"essential": True, "value": module}, exp={"essential": True}).validate(
                claims
            )
        except (JoseError, ValueError) as error:
            raise SuiteError("auth.ticket-invalid") from error
        self._used = {jti: expiry for jti, expiry in self._used.items() if expiry >= now}
        if claims["jti"] in self._used:
            raise SuiteError("auth.ticket-invalid")
        self._used[claims["jti"]] = claims["exp"]
        return str(claims["tenant"])
