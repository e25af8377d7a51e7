"""Test a connection stage by stage: what was seen, and the next step where something is wrong.

A sender is tested over a connection of its own; its queue is not touched. Nothing is sent that a receiver could take
for a real patient, and the samples only when they are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import hl7v2
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.runtime.connection_probe import StageResult, failed, skipped
from hl7_gateway.core.answer_check import check_answer
from hl7_gateway.core.connection_configuration import Connection, TlsMaterial
from hl7_gateway.core.delivery import ANSWER_BYTES_MAX, CUT, NO_ACKNOWLEDGMENT, UNREADABLE
from hl7_gateway.core.expected_answer import Meaning, expectation, meaning, read_answer
from hl7_gateway.core.outbound_message import with_modes
from hl7_gateway.core.sample_messages import SAMPLES, Parties, Sample, echo_message, sample_message
from hl7_gateway.ports import Listener, PeerLink, PortProbe, Trial
from hl7v2 import mllp

ECHO_TIMEOUT_S: Final = 10.0
SAMPLE_TIMEOUT_S: Final = 5.0
EARLIER: Final = "an earlier stage failed"
_SINGLE: Final = (
    "The gateway is connected there already; some receivers take one connection only: pause it and test again."
)
_CONTROL_ID_CHARACTERS: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a test is asked to do."""

    parties: Parties
    samples: bool


class TryConnection:
    """See the module's text. `connected` tells whether the gateway has a link to the connection's receiver now."""

    def __init__(
        self,
        trial: Callable[[Connection, TlsMaterial], Trial],
        material: Callable[[Connection], Awaitable[TlsMaterial]],
        connected: Callable[[Connection], Awaitable[bool]],
        listeners: Callable[[], Sequence[Listener]],
        probe: PortProbe,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._trial = trial
        self._material = material
        self._connected = connected
        self._listeners = listeners
        self._probe = probe
        self._clock = clock
        self._ids = ids

    async def __call__(self, connection: Connection, asked: Asked) -> list[StageResult]:
        """The stages in their order; after the first that failed, the others are skipped."""
        if connection.configuration.direction == "listener":
            return self._listener(connection)
        trial = self._trial(connection, await self._material(connection))
        try:
            return await self._sender(connection, trial, asked)
        finally:
            trial.close()

    def _listener(self, connection: Connection) -> list[StageResult]:
        """A listener cannot begin an exchange: whether its port is listened on, or could be."""
        configuration = connection.configuration
        reason = "the other side begins: send from there, and look with POST /hl7/v1/messages:search"
        rest = [skipped(stage, reason) for stage in ("echo", "acknowledgement", "samples")]
        for listener in self._listeners():
            state = listener.state()
            mine = (configuration.host, configuration.port, "listening")
            if (state["host"], state["port"], state["state"]) == mine:
                return [StageResult("listen", "passed", evidence={"open": state["connections_open"]}), *rest]
        try:
            self._probe.check(configuration.host, configuration.port)
        except SuiteError as error:
            return [failed("listen", error.code, 0.0), *rest]
        return [failed("listen", "connection.not-listening", 0.0), *rest]

    async def _sender(self, connection: Connection, trial: Trial, asked: Asked) -> list[StageResult]:
        results: list[StageResult] = []
        stages: list[tuple[str, Callable[[], Awaitable[dict[str, Any]]] | None]] = [
            ("resolve", trial.resolve),
            ("connect", trial.connect),
            ("tls", trial.secure if connection.configuration.tls.mode != "off" else None),
        ]
        for name, action in stages:
            if any(result.status == "failed" for result in results):
                results.append(skipped(name, EARLIER))
            elif action is None:
                results.append(skipped(name, "TLS is off"))
            else:
                results.append(await self._stage(name, action, connection))
        if any(result.status == "failed" for result in results):
            return [*results, *(skipped(name, EARLIER) for name in ("echo", "acknowledgement", "samples"))]
        return [*results, *await self._exchange(connection, trial.link, asked)]

    async def _stage(
        self, name: str, action: Callable[[], Awaitable[dict[str, Any]]], connection: Connection
    ) -> StageResult:
        began = self._clock.monotonic()
        timeout_s = connection.sending.connect_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                evidence = await action()
        except TimeoutError:
            found = failed(name, "peer.timeout", self._elapsed(began), timeout_s=timeout_s)
        except SuiteError as error:
            told = {} if error.detail is None else {"detail": error.detail}
            found = failed(name, error.code, self._elapsed(began), **told)
        else:
            return StageResult(name, "passed", self._elapsed(began), evidence=evidence)
        if name != "resolve" and await self._connected(connection):
            found = replace(found, likely_cause=_SINGLE)
        return found

    async def _exchange(self, connection: Connection, link: PeerLink, asked: Asked) -> list[StageResult]:
        exchange = _Exchange(link)
        control_id = self._control_id()
        body = echo_message(asked.parties, now=self._clock.now(), control_id=control_id)
        body = with_modes(body, connection.configuration)
        began = self._clock.monotonic()
        answer, code = await exchange.ask(body, min(ECHO_TIMEOUT_S, connection.sending.ack_timeout_ms / 1000))
        if answer is None:
            echo = failed("echo", code or NO_ACKNOWLEDGMENT, self._elapsed(began), junk_bytes=exchange.junk_bytes)
            return [echo, skipped("acknowledgement", EARLIER), skipped("samples", EARLIER)]
        evidence = {"control_id": control_id, "answer_bytes": len(answer), "junk_bytes": exchange.junk_bytes}
        echo = StageResult("echo", "passed", self._elapsed(began), evidence=evidence)
        checked = _checked(hl7v2.parse(body), answer)
        if not asked.samples:
            reason = "not asked for: they carry a synthetic patient (TEST of PSTEST, processing id T)"
            return [echo, checked, skipped("samples", reason)]
        if checked.status == "failed":
            return [echo, checked, skipped("samples", EARLIER)]
        return [echo, checked, await self._samples(connection, exchange, asked)]

    async def _samples(self, connection: Connection, exchange: _Exchange, asked: Asked) -> StageResult:
        began = self._clock.monotonic()
        timeout_s = min(SAMPLE_TIMEOUT_S, connection.sending.ack_timeout_ms / 1000)
        rows: list[dict[str, Any]] = []
        for sample in SAMPLES:
            row = await self._sample(connection, exchange, sample, asked, timeout_s)
            rows.append(row)
            if row["error_code"] is not None:
                break  # what it answers now could be the answer to this one
        accepted = [row["charset"] for row in rows if row["acknowledgment_code"] in {"AA", "CA"}]
        evidence: dict[str, Any] = {"samples": rows, "accepted": accepted, "not_tried": len(SAMPLES) - len(rows)}
        if len(accepted) == len(SAMPLES):
            return StageResult("samples", "passed", self._elapsed(began), evidence=evidence)
        step = f"Set the connection's encoding to one that was accepted: {', '.join(accepted)}." if accepted else (
            "None was accepted: see the receiver's log; it may not take ADT^A08 or processing id T."
        )  # fmt: skip
        code = next((row["error_code"] for row in rows if row["error_code"]), "hl7.refused-error")
        return replace(failed("samples", code, self._elapsed(began), **evidence), next_step=step)

    async def _sample(
        self, connection: Connection, exchange: _Exchange, sample: Sample, asked: Asked, timeout_s: float
    ) -> dict[str, Any]:
        control_id = self._control_id()
        body = sample_message(sample, asked.parties, now=self._clock.now(), control_id=control_id)
        answer, code = await exchange.ask(with_modes(body, connection.configuration), timeout_s)
        read = None if answer is None else read_answer(answer)
        if read is not None and read.control_id != control_id:
            code = "hl7.acknowledgment-foreign"
        return {
            "charset": sample.charset,
            "acknowledgment_code": None if read is None else read.code,
            "error_code": code if read is not None or code is not None else UNREADABLE,
        }

    def _control_id(self) -> str:
        return self._ids.new("obm")[-_CONTROL_ID_CHARACTERS:].upper()

    def _elapsed(self, began: float) -> float:
        return round((self._clock.monotonic() - began) * 1000, 1)


class _Exchange:
    """Messages and their answers on one link, one at a time."""

    def __init__(self, link: PeerLink) -> None:
        self.junk_bytes = 0
        self._link = link
        self._decoder = mllp.Decoder(frame_bytes_max=ANSWER_BYTES_MAX)
        self._frames: list[bytes] = []

    async def ask(self, body: bytes, timeout_s: float) -> tuple[bytes | None, str | None]:
        """The last answer that the message is owed, or why there is none (an error code)."""
        expected = expectation(hl7v2.parse(body))
        stage = expected.first
        self._link.send(mllp.encode(body))
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    frame = await self._frame()
                    if frame is None:
                        return None, CUT
                    answer = read_answer(frame)
                    if answer is None or meaning(expected, stage, answer.code) not in {
                        Meaning.ACCEPTED,
                        Meaning.IGNORED,
                    }:
                        return frame, None
        except TimeoutError:
            return None, NO_ACKNOWLEDGMENT

    async def _frame(self) -> bytes | None:
        """The next frame, None at the end of the connection."""
        while not self._frames:
            received = await self._link.receive()
            if not isinstance(received, bytes):
                return None
            for event in self._decoder.receive_data(received):
                if isinstance(event, mllp.Frame):
                    self._frames.append(event.body)
                elif isinstance(event, mllp.JunkBeforeStart):
                    self.junk_bytes += event.count
        return self._frames.pop(0)


def _checked(sent: hl7v2.Message, answer: bytes) -> StageResult:
    findings = check_answer(sent, answer)
    read = read_answer(answer)
    evidence: dict[str, Any] = {
        "acknowledgment_code": None if read is None else read.code,
        "findings": [finding.as_json() for finding in findings],
    }
    error = next((finding for finding in findings if finding.severity == "error"), None)
    if error is None:
        return StageResult("acknowledgement", "passed", evidence=evidence)
    code = "hl7.acknowledgment-foreign" if error.path == "MSA-2" else UNREADABLE
    return replace(failed("acknowledgement", code, 0.0, **evidence), next_step=error.next_step)
