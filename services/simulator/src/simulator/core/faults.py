"""The faults that can be switched on: one row each, with its parameters and what is expected to be seen."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from simulator.core.answer import Answer, html_not_found
from simulator.core.fault_row import Choice, FaultRow, Parameter, Surface
from simulator.core.hl7_faults import HL7_FAULTS
from simulator.core.vendor_faults import ROWS as VENDOR_ROWS

__all__ = ["FAULTS", "ActiveFault", "BadParameterError", "Effect", "FaultRow", "Faults", "Surface", "UnknownFaultError"]


FAULTS: Final[dict[str, FaultRow]] = {row.name: row for row in (*VENDOR_ROWS, *HL7_FAULTS)}


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault that is on, with its parameters and choices; `ends_at` None: until it is stopped."""

    row: FaultRow
    parameters: Mapping[str, int]
    started_at: datetime
    ends_at: datetime | None
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """What the faults that are on do to one call.

    `answer` goes before the server's own; `on` holds every fault of the call's surface by name, for what only the
    server itself can do.
    """

    delay_ms: int = 0
    clock_offset_s: int = 0
    answer: Answer | None = None
    on: Mapping[str, ActiveFault] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether a fault is on."""
        return name in self.on

    def number(self, name: str, parameter: str) -> int:
        """A parameter of a fault that is on; raises KeyError."""
        return self.on[name].parameters[parameter]

    def word(self, name: str, choice: str) -> str | None:
        """A choice of a fault, None while it is off."""
        fault = self.on.get(name)
        return fault.choices[choice] if fault is not None else None


NO_EFFECT: Final = Effect()


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
        self, name: str, wanted: Mapping[str, int | str], now: datetime, ends_after_s: float | None = None
    ) -> ActiveFault:
        """Switch a fault on, or change one that is. Raises UnknownFaultError, BadParameterError."""
        row = FAULTS.get(name)
        if row is None:
            raise UnknownFaultError
        names = [*(each.name for each in row.parameters), *(each.name for each in row.choices)]
        for given in wanted:
            if given not in names:
                raise BadParameterError(given, f"one of: {', '.join(names) or 'none'}")
        numbers = {each.name: _number(each, wanted.get(each.name, each.default)) for each in row.parameters}
        words = {each.name: _word(each, wanted.get(each.name, each.values[0])) for each in row.choices}
        ends_at = None if ends_after_s is None else now + timedelta(seconds=ends_after_s)
        fault = self._active[name] = ActiveFault(row, numbers, now, ends_at, words)
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
            clock_offset_s=sum(on[name].parameters["offset_s"] for name in ("clock-skew", "our-clock") if name in on),
            answer=_answer(on, now),
            on=on,
        )


def _number(row: Parameter, value: int | str) -> int:
    if isinstance(value, str) or not row.low <= value <= row.high:
        raise BadParameterError(row.name, f"{row.low} to {row.high}")
    return value


def _word(row: Choice, value: int | str) -> str:
    if not isinstance(value, str) or value not in row.values:
        raise BadParameterError(row.name, f"one of: {', '.join(row.values)}")
    return value


def _answer(on: Mapping[str, ActiveFault], now: datetime) -> Answer | None:
    """The answer that goes before everything else: what stands further out on the way answers first."""
    if "address-refused" in on:
        return Answer(403, b"<html><body><h1>403 Forbidden</h1></body></html>", {"Content-Type": "text/html"})
    if "unavailable" in on:
        page = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
        return Answer(503, page, {"Content-Type": "text/html"})
    if "quota-used-up" in on:
        # Counted from when the fault began: a quota begins anew at one instant, however often it is asked for.
        fault = on["quota-used-up"]
        anew = max(now, fault.started_at + timedelta(seconds=fault.parameters["resets_after_s"]))
        return Answer(429, headers={"Retry-After": email.utils.format_datetime(anew, usegmt=True)})
    if "rate-limited" in on:
        return Answer(429, headers={"Retry-After": str(on["rate-limited"].parameters["retry_after_s"])})
    if "wrong-path" in on:
        return html_not_found()
    return None
