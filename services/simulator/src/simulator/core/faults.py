"""The faults that can be switched on: one row each, with its parameters and what is expected to be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from simulator.core.answer import Answer
from simulator.core.fault_row import FaultRow, Parameter, Surface
from simulator.core.hl7_faults import HL7_FAULTS

__all__ = ["FAULTS", "ActiveFault", "BadParameterError", "Effect", "FaultRow", "Faults", "Surface", "UnknownFaultError"]


_BOTH: Final = frozenset({Surface.API, Surface.TOKEN_ENDPOINT})
_API: Final = frozenset({Surface.API})
_TOKEN: Final = frozenset({Surface.TOKEN_ENDPOINT})

FAULTS: Final[dict[str, FaultRow]] = {
    row.name: row
    for row in (
        FaultRow(
            "expired-secret", "Every client registration has expired", _TOKEN, "A1",
            "Token requests answer 400 invalid_client, as for any other cause; tokens given before go on to their end. "
            "Failed authentication at the next token test or refresh.",
        ),
        FaultRow(
            "unauthorized", "Every API call answers 401", _API, "A12",
            "401 with an empty body and an invalid_token challenge, also for a new token. Failed authentication at the "
            "next poll.",
        ),
        FaultRow(
            "rate-limited", "Every API call answers 429", _API, "B9",
            "429 with Retry-After. Rate limiting at the next poll; runs wait or end with peer.rate-limited.",
            (Parameter("retry_after_s", 5, 0, 3600, "value of Retry-After in seconds"),),
        ),
        FaultRow(
            "unavailable", "The vendor answers 503", _BOTH, "B11",
            "503 on the API, its metadata and the token endpoint. Failed runs at the next poll.",
        ),
        FaultRow(
            "slow", "The vendor answers late", _BOTH, "B12",
            "The same answers, later. Slow answers at the next poll; time-outs where the delay is longer than them.",
            (Parameter("delay_ms", 3000, 1, 60_000, "delay of every answer in milliseconds"),),
        ),
        FaultRow(
            "clock-skew", "The vendor's clock is wrong", _BOTH, "A4",
            "The Date header is off by the offset. Over five minutes ahead or a few seconds behind, token requests "
            "answer invalid_client too. Clock skew at the next poll.",
            (Parameter("offset_s", 600, -86_400, 86_400, "vendor's clock minus true time in seconds"),),
        ),
        *HL7_FAULTS,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault that is on, with its parameters; `ends_at` None: until it is stopped."""

    row: FaultRow
    parameters: Mapping[str, int]
    started_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What the faults that are on do to one call."""

    delay_ms: int = 0
    clock_offset_s: int = 0
    secrets_expired: bool = False
    answer: Answer | None = None


class UnknownFaultError(Exception):
    """There is no fault of that name."""


class BadParameterError(Exception):
    """A parameter that the fault does not have, or a value outside its bounds."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(name)
        self.name = name
        self.expected = expected


@dataclass(slots=True)
class Faults:
    """Which faults are on."""

    _active: dict[str, ActiveFault] = field(default_factory=dict)

    def start(
        self, name: str, parameters: Mapping[str, int], now: datetime, ends_after_s: float | None = None
    ) -> ActiveFault:
        """Switch a fault on, or change one that is. Raises UnknownFaultError, BadParameterError."""
        row = FAULTS.get(name)
        if row is None:
            raise UnknownFaultError
        known = {parameter.name: parameter for parameter in row.parameters}
        for given, value in parameters.items():
            if given not in known:
                raise BadParameterError(given, f"one of: {', '.join(known) or 'none'}")
            low, high = known[given].low, known[given].high
            if not low <= value <= high:
                raise BadParameterError(given, f"{low} to {high}")
        chosen = {parameter.name: parameters.get(parameter.name, parameter.default) for parameter in row.parameters}
        ends_at = None if ends_after_s is None else now + timedelta(seconds=ends_after_s)
        fault = self._active[name] = ActiveFault(row, chosen, now, ends_at)
        return fault

    def stop(self, name: str) -> None:
        """Switch a fault off; one that is off stays so. Raises UnknownFaultError."""
        if name not in FAULTS:
            raise UnknownFaultError
        self._active.pop(name, None)

    def active(self, name: str, now: datetime) -> ActiveFault | None:
        """The fault while it is on. Raises UnknownFaultError."""
        if name not in FAULTS:
            raise UnknownFaultError
        fault = self._active.get(name)
        if fault is not None and fault.ends_at is not None and fault.ends_at <= now:
            del self._active[name]
            return None
        return fault

    def on(self, surface: Surface, now: datetime) -> dict[str, Mapping[str, int]]:
        """The faults of a surface that are on, in the order of the rows, with their parameters."""
        return {
            name: fault.parameters
            for name, row in FAULTS.items()
            if surface in row.surfaces and (fault := self.active(name, now)) is not None
        }

    def effect(self, surface: Surface, now: datetime) -> Effect:
        """What all faults together do to a call of that surface."""
        on = {
            name: fault
            for name in tuple(self._active)
            if (fault := self.active(name, now)) is not None and surface in fault.row.surfaces
        }
        return Effect(
            delay_ms=on["slow"].parameters["delay_ms"] if "slow" in on else 0,
            clock_offset_s=on["clock-skew"].parameters["offset_s"] if "clock-skew" in on else 0,
            secrets_expired="expired-secret" in on,
            answer=_answer(on),
        )


def _answer(on: Mapping[str, ActiveFault]) -> Answer | None:
    """The answer that goes before everything else: what stands further out on the way answers first."""
    if "unavailable" in on:
        page = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
        return Answer(503, page, {"Content-Type": "text/html"})
    if "rate-limited" in on:
        return Answer(429, headers={"Retry-After": str(on["rate-limited"].parameters["retry_after_s"])})
    if "unauthorized" in on:
        challenge = 'Bearer error="invalid_token", error_description="The access token provided is not valid"'
        return Answer(401, headers={"WWW-Authenticate": challenge})
    return None
