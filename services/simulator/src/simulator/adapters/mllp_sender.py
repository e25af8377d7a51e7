"""One HL7 message over MLLP: connect to an allowed address, send a frame, read a frame."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from common.models.errors import SuiteError
from common.models.trace import mllp_trace_id, traceparent
from common.runtime.outbound import AddressPolicy
from common.runtime.telemetry import Telemetry, context_of
from simulator.core.hl7_feed import END_BLOCK, START_BLOCK, frame

ANSWER_BYTES_MAX: Final = 1024 * 1024
CONNECT_TIMEOUT_S: Final = 5.0


class MllpSender:
    """`MessageSender` with a connection per message."""

    def __init__(self, policy: AddressPolicy, telemetry: Telemetry) -> None:
        self._policy = policy
        self._telemetry = telemetry

    async def send(self, host: str, port: int, message: bytes, *, timeout_s: float) -> bytes:
        """The body of the answering frame; raises SuiteError as the port says.

        The span is of the trace that the receiver derives from the same message, and linked to what asked for it.
        """
        asking = trace.get_current_span().get_span_context()
        with self._telemetry.tracer.start_as_current_span(
            "hl7.send",
            context=context_of(message_traceparent(message)),
            kind=SpanKind.CLIENT,
            links=[trace.Link(asking)] if asking.is_valid else [],
        ):
            return await self._send(host, port, message, timeout_s=timeout_s)

    async def _send(self, host: str, port: int, message: bytes, *, timeout_s: float) -> bytes:
        reader, writer = await self._connect(host, port, min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            async with asyncio.timeout(timeout_s):
                writer.write(frame(message))
                await writer.drain()
                answer = await reader.readuntil(END_BLOCK)
        except TimeoutError:
            raise SuiteError("peer.timeout", f"No acknowledgement within {timeout_s:g} s.") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise SuiteError("peer.unreadable", "The receiver sent no whole frame.") from None
        except OSError as error:
            raise SuiteError("peer.connect", "The receiver cut the connection.") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        _, start, body = answer[: -len(END_BLOCK)].rpartition(START_BLOCK)
        if not start:
            raise SuiteError("peer.unreadable", "The receiver's answer has no start block.")
        return body

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
