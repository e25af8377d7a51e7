"""HL7 messages over MLLP: connect to an allowed address, send a frame, read a frame; or as faults would have it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from common.models.errors import SuiteError
from common.models.trace import mllp_trace_id, traceparent
from common.runtime.outbound import AddressPolicy
from common.runtime.telemetry import Telemetry, context_of
from simulator.core.hl7_feed import END_BLOCK, START_BLOCK, frame
from simulator.core.hostile_sender import Expect, GiveUp, Step, Wait, Write

ANSWER_BYTES_MAX: Final = 1024 * 1024
CONNECT_TIMEOUT_S: Final = 5.0


class MllpLink:
    """`Link`: an open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def play(self, steps: Sequence[Step], *, timeout_s: float) -> bytes:
        """Do the steps; the body of the last frame that was waited for. Raises SuiteError as the port says."""
        body = b""
        for step in steps:
            try:
                body = await self._step(step, timeout_s) or body
            except TimeoutError:
                raise SuiteError("peer.timeout", f"No acknowledgement within {timeout_s:g} s.") from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                raise SuiteError("peer.unreadable", "The receiver sent no whole frame.") from None
            except OSError as error:
                raise SuiteError("peer.connect", "The receiver cut the connection.") from error
        return body

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _step(self, step: Step, timeout_s: float) -> bytes:
        if isinstance(step, Write):
            if self._writer.transport.is_closing():
                raise ConnectionResetError  # a closed transport raises nothing of use when it is written to
            async with asyncio.timeout(timeout_s):
                self._writer.write(step.data)
                await self._writer.drain()
        elif isinstance(step, Wait):
            await asyncio.sleep(step.duration_s)
        elif isinstance(step, GiveUp):
            raise SuiteError("peer.timeout", "The fault that is switched on gives up without an acknowledgement.")
        else:
            async with asyncio.timeout(timeout_s):
                answer = await self._reader.readuntil(END_BLOCK)
            _, start, body = answer[: -len(END_BLOCK)].rpartition(START_BLOCK)
            if not start:
                raise SuiteError("peer.unreadable", "The receiver's answer has no start block.")
            return body
        return b""


class MllpSender:
    """`MessageSender` with a connection per message."""

    def __init__(self, policy: AddressPolicy, telemetry: Telemetry) -> None:
        self._policy = policy
        self._telemetry = telemetry

    async def send(
        self, host: str, port: int, message: bytes, *, timeout_s: float, steps: Sequence[Step] | None = None
    ) -> bytes:
        """The body of the (last) answering frame; raises SuiteError as the port says.

        The span is of the trace that the receiver derives from the same message, and linked to what asked for it.
        """
        asking = trace.get_current_span().get_span_context()
        with self._telemetry.tracer.start_as_current_span(
            "hl7.send",
            context=context_of(message_traceparent(message)),
            kind=SpanKind.CLIENT,
            links=[trace.Link(asking)] if asking.is_valid else [],
        ):
            link = await self.open(host, port, timeout_s=timeout_s)
            try:
                return await link.play(steps or (Write(frame(message)), Expect()), timeout_s=timeout_s)
            finally:
                await link.close()

    async def open(self, host: str, port: int, *, timeout_s: float) -> MllpLink:
        """A connection for several messages; raises SuiteError `peer.dns`, `peer.address-refused`, `peer.connect`,
        `peer.timeout`."""
        return MllpLink(*await self._connect(host, port, min(timeout_s, CONNECT_TIMEOUT_S)))

    async def _connect(
        self, host: str, port: int, timeout_s: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self._policy.resolve(host, port)
        failure: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.open_connection(address, port, limit=ANSWER_BYTES_MAX)
            except TimeoutError:
                raise SuiteError("peer.timeout", "The receiver does not answer the connection.") from None
            except OSError as error:
                failure = error
        raise SuiteError("peer.connect") from failure


def message_traceparent(message: bytes) -> str:
    """Where both ends of an MLLP connection meet: derived from MSH-3, MSH-4, MSH-7 and MSH-10 (docs/adr/0005)."""
    fields = [*message.split(b"\r")[0].decode().split("|"), *[""] * 10]
    application, facility, at, control_id = (fields[number - 1].split("^")[0] for number in (3, 4, 7, 10))
    trace_id = mllp_trace_id(application, facility, at, control_id)
    return traceparent(trace_id, trace_id[16:])
