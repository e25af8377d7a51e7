"""The Unity server: one POST with an action in, rows or an error text out, and HTTP 200 for both.

Order of a call as assumed: JSON, then token, then log-in of the EHR user, then licence, then the action. GetToken and
RetireSecurityToken are operations of their own beside MagicJson.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from simulator.core.answer import Answer, html_not_found, json_answer
from simulator.core.chart import Chart
from simulator.core.faults import NO_EFFECT, Effect
from simulator.core.practice import Appointment
from simulator.core.unity_rows import ENTRY_NAME, local_text
from simulator.core.unity_session import UnitySession, UnitySessions

SERVICE_PATH: Final = "Unity/UnityService.svc/json/"
BODY_BYTES_MAX: Final = 256 * 1024
STATUSES_SET_MAX: Final = 10_000
_LOGS_MAX: Final = 20
VERSION: Final = "23.1.0.0"
NO_TOKEN: Final = "error: Username and Password not valid for any licenses on this server"  # noqa: S105 - its message
LOG_IN: Final = "GetUserAuthentication"
DICTIONARY: Final = "GetDictionary"
# Faults at which the service user is refused.
_REFUSE_SERVICE: Final = ("expired-secret", "wrong-secret", "other-environment")
LOGGED_OUT: Final = "As a Security precaution, you have been logged out due to inactivity."


class Product(StrEnum):
    """What Unity stands before."""

    TOUCHWORKS = "TouchWorks"
    PROFESSIONAL = "Professional"
    PM = "PM"


SYSTEMS: Final[Mapping[Product, str]] = {
    Product.TOUCHWORKS: "Enterprise EHR",
    Product.PROFESSIONAL: "Professional EHR",  # assumed
    Product.PM: "Practice Management",  # assumed
}


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who may come: the service user of GetToken, the licensed application, the EHR user of GetUserAuthentication."""

    service_username: str
    service_password: str = field(repr=False)
    application: str
    user: str
    user_password: str = field(repr=False)


class ActionError(Exception):
    """An action that fails; the argument is the text behind `Magic Error - Action: …`."""


@dataclass(frozen=True, slots=True)
class UnityCall:
    """A Magic call whose session is good: its token, AppUserID, PatientID and the six parameters, numbered from 1."""

    token: str = field(repr=False)
    user: str
    patient_id: str
    parameters: tuple[str, ...] = field(repr=False)
    now: datetime

    def parameter(self, number: int) -> str:
        """Parameter1 to Parameter6, without blanks around it."""
        return self.parameters[number - 1].strip()


@dataclass(frozen=True, slots=True)
class StatusSet:
    """A status that SetAppointmentStatus gave an appointment."""

    row: Appointment
    letter: str
    at: datetime


@dataclass(slots=True)
class UnityState:
    """What one Unity server holds beside the practice's chart."""

    chart: Chart
    product: Product
    accounts: Accounts
    sessions: UnitySessions = field(default_factory=UnitySessions)
    unlicensed: frozenset[str] = frozenset()
    statuses: dict[str, StatusSet] = field(default_factory=dict)
    """What was set, by visit number."""
    logs: list[str] = field(default_factory=list)

    def set_status(self, row: Appointment, letter: str, now: datetime) -> None:
        """Remember a status; the one set first is given up over the bound."""
        self.statuses.pop(row.csn, None)
        while len(self.statuses) >= STATUSES_SET_MAX:
            del self.statuses[next(iter(self.statuses))]
        self.statuses[row.csn] = StatusSet(row, letter, now)


Perform = Callable[[UnityState, UnityCall], list[dict[str, str]]]


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action: who offers it, whether it works before GetUserAuthentication, and what it does."""

    name: str
    products: frozenset[Product]
    perform: Perform
    before_log_in: bool = False


class UnityServer:
    """One server; `actions` by name in lower case, `new_token` makes a GUID."""

    def __init__(self, state: UnityState, actions: Mapping[str, ActionRow], new_token: Callable[[], str]) -> None:
        self._state = state
        self._actions = actions
        self._new_token = new_token

    def answer(self, method: str, path: str, body: bytes, now: datetime, effect: Effect = NO_EFFECT) -> Answer:
        """The answer to a call below the server's base URL, with the faults that are on."""
        if not path.startswith(SERVICE_PATH):
            return html_not_found()
        if method != "POST":
            return Answer(405, b"Method not allowed.", {"Content-Type": "text/html", "Allow": "POST"})
        document = _document(body)
        operation = path.removeprefix(SERVICE_PATH)
        if operation == "GetToken":
            return _text(self._token(document, now, effect))
        if operation in {"RetireSecurityToken", "RetireToken"}:
            gone = self._state.sessions.retire(_string(document, "Token"))
            return _text("Token retired" if gone else "error: Token is not valid")
        if operation == "MagicJson":
            return json_answer(200, [self._magic(document, now, effect)])
        return html_not_found()

    def _token(self, document: Mapping[str, Any], now: datetime, effect: Effect) -> str:
        accounts = self._state.accounts
        known = same(_string(document, "Username"), accounts.service_username)
        known &= same(_string(document, "Password"), accounts.service_password)
        if not known or any(map(effect.has, _REFUSE_SERVICE)):
            return NO_TOKEN
        token = self._new_token()
        self._state.sessions.open(token, now)
        return token

    def _magic(self, document: Mapping[str, Any], now: datetime, effect: Effect) -> dict[str, Any]:
        name = _string(document, "Action")
        row = self._actions.get(name.lower())
        try:
            rows = self._perform(row, document, now, effect)
        except ActionError as error:
            # Only the name of a known action is repeated: the text goes into the client's log.
            text = f"Magic Error - Action: {row.name if row else 'unknown'} - {error}"
            self._log(text, now)
            return {"Error": text}
        assert row is not None
        return {f"{row.name.lower()}info": rows}

    def _perform(
        self, row: ActionRow | None, document: Mapping[str, Any], now: datetime, effect: Effect
    ) -> list[dict[str, str]]:
        token = _string(document, "Token")
        state = _as_product(self._state, effect.word("other-product", "product"))
        session = state.sessions.use(token, now)
        if session is None or effect.has("session-idle") or effect.has("unauthorized"):
            raise ActionError(LOGGED_OUT)
        if _string(document, "Appname") != state.accounts.application:
            raise ActionError(f"The application is not supported on {state.product.value} version {VERSION}")
        if row is None or state.product not in row.products:
            raise ActionError(f"The action is not known to {SYSTEMS[state.product]}.")
        call = UnityCall(
            token,
            _string(document, "AppUserID"),
            _string(document, "PatientID"),
            tuple(_string(document, f"Parameter{number}") for number in range(1, 7)),
            now,
        )
        _check_user(row, session, call.user, forgotten=effect.has("user-not-authenticated"))
        if row.name in state.unlicensed or row.name == effect.word("action-unlicensed", "action"):
            raise ActionError("The action is not licensed on this server.")
        return _changed(row, row.perform(state, call), effect)

    def _log(self, text: str, now: datetime) -> None:
        zone = self._state.chart.practice.zone
        self._state.logs = [*self._state.logs[1 - _LOGS_MAX :], f"{local_text(now, zone)} {text}"]


def _check_user(row: ActionRow, session: UnitySession, user: str, *, forgotten: bool) -> None:
    if not row.before_log_in and (forgotten or not session.user or session.user != user):
        raise ActionError("User has not been authenticated. Call GetUserAuthentication first.")


def _as_product(state: UnityState, product: str | None) -> UnityState:
    return state if product is None else replace(state, product=Product(product))


def _changed(row: ActionRow, rows: list[dict[str, str]], effect: Effect) -> list[dict[str, str]]:
    """The rows of an action as a fault leaves them; raises ActionError."""
    if row.name == LOG_IN and effect.has("client-disabled"):
        return [{"ValidUser": "NO", "ErrorMessage": "The user account is locked."}]
    if effect.has("magic-error") and not row.before_log_in:
        if effect.word("magic-error", "kind") == "error":
            raise ActionError("Object reference not set to an instance of an object.")
        return [{"STATUS": "Critical: the request could not be completed."}]
    if row.name == DICTIONARY and effect.has("dictionary-renamed"):
        return [{**each, ENTRY_NAME: f"{each[ENTRY_NAME]} (new)"} for each in rows]
    return rows


def _document(body: bytes) -> Mapping[str, Any]:
    """The call's object; an empty one for anything else, which then has no token."""
    if len(body) > BODY_BYTES_MAX:
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _string(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    # JSON can hold half a surrogate pair, which no UTF-8 has.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def same(given: str, held: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), held.encode())


def _text(text: str) -> Answer:
    return Answer(200, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
