"""Allscripts / Veradigm Unity: actions, their requests, and answers that fail with HTTP 200.

Every action is a POST of one JSON object to `…/json/MagicJson`; the answer is a list of one object whose key is the
action in lower case + `info`. An error is an object with `Error`, a row whose `STATUS` holds "Critical", a bare text
"error: …" (GetToken), or `ValidUser` that is not YES. Which product answers is told by GetServerInfo's `System`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, Final

from common.models.errors import Retry
from pms.source import Source

SERVICE: Final = "Unity/UnityService.svc"
HEADERS: Final[Mapping[str, str]] = {"Accept": "application/json", "Content-Type": "application/json"}
PARAMETERS_MAX: Final = 6
SEARCH_ROWS_MAX: Final = 100
TOKEN_IDLE_LIFE_S: Final = 20 * 60
_TEXT_CHARACTERS_MAX: Final = 2_000


class Product(StrEnum):
    """What Unity stands before: actions and their parameters differ."""

    TOUCHWORKS = "TouchWorks"
    PROFESSIONAL = "Professional"
    PM = "PM"


@dataclass(frozen=True, slots=True)
class ProductRow:
    """How a product is known by `System`, or by the name that a configuration gives it: words, in lower case."""

    product: Product
    words: tuple[str, ...]
    source: Source


PRODUCTS: Final[tuple[ProductRow, ...]] = (
    ProductRow(Product.TOUCHWORKS, ("enterprise", "touchworks", "tw"), Source.CLIENT_CODE),
    ProductRow(Product.PROFESSIONAL, ("professional", "pro"), Source.ASSUMED),
    ProductRow(Product.PM, ("practice management", "pm"), Source.ASSUMED),
)


def product_of(system: str) -> Product | None:
    """The product that a `System` (or a configured name) means, None when it is none that is known."""
    text = " ".join(re.findall(r"[a-z]+", system.lower()))
    for row in PRODUCTS:
        if any(re.search(rf"\b{word}\b", text) for word in row.words):
            return row.product
    return None


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `parameters`: what Parameter1 to Parameter6 mean; `harmless`: it reads, and tells no patient."""

    name: str
    products: frozenset[Product]
    purpose: str
    source: Source
    parameters: Mapping[int, str] = field(default_factory=dict)
    resource: str | None = None
    harmless: bool = False
    assumed: str = ""

    @property
    def result_key(self) -> str:
        """The key under which the answer's rows stand."""
        return f"{self.name.lower()}info"


_ALL: Final = frozenset(Product)
_EHR: Final = frozenset({Product.TOUCHWORKS, Product.PROFESSIONAL})
_PM: Final = frozenset({Product.PM})
_C: Final = Source.CLIENT_CODE

ACTIONS: Final[dict[str, Action]] = {
    row.name: row
    for row in (
        Action("GetServerInfo", _ALL, "product, version, time and zone of the server", _C, harmless=True),
        Action("Echo", _ALL, "tests the connection", _C, {1: "text"}, harmless=True),
        Action("LastLogs", _ALL, "explains an HTTP 500", _C),
        Action(
            "GetUserAuthentication", _ALL, "logs the EHR user in; mandatory since 2020", _C, {1: "password"},
        ),
        Action(
            "GetSchedule", _EHR, "appointments of a window, or changed since", _C,
            {1: "mm/dd/yyyy|mm/dd/yyyy", 2: "changedSince", 4: "user", 5: "types", 6: "status"}, "Appointment",
        ),
        Action("GetAppointmentsByChangeDTTM", _PM, "appointments changed since", _C, {1: "since"}, "Appointment",
               assumed="parameters"),
        Action("GetAvailableSchedule", _PM, "free times", _C, {}, "Slot", assumed="parameters"),
        Action("SaveAppointment", _PM, "adds or changes an appointment", _C, {}, "Appointment", assumed="parameters"),
        Action("SetAppointmentStatus", _PM, "changes an appointment's status", _C, {}, "Appointment",
               assumed="parameters"),
        Action("GetPatient", _ALL, "one patient by PatientID", _C, {}, "Patient"),
        Action(
            "GetChangedPatients", _ALL, "patients changed since", _C,
            {1: "since", 2: "clinicalOnly", 3: "verbose", 4: "quickScan"}, "Patient", assumed="products",
        ),
        Action("SearchPatients", _ALL, "patients by text (EHR) or XML (PM, at most 100 rows)", _C,
               {1: "text or XML", 3: "organisation (EHR)"}, "Patient"),
        Action("GetProviders", _ALL, "providers", _C, {}, "Practitioner", harmless=True, assumed="parameters"),
        Action("GetListOfDictionaries", _ALL, "the dictionaries there are", _C, {1: "table", 2: "site"}, harmless=True),
        Action("GetDictionary", _ALL, "the entries of one dictionary", _C, {1: "table", 2: "site"}, harmless=True),
    )
}  # fmt: skip

STATUSES: Final[Mapping[str, str]] = {
    "A": "acknowledged", "B": "bumped", "C": "confirmed", "X": "cancelled", "N": "no-show", "W": "wait-listed",
    "S": "scheduled",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Session:
    """Whom a call is made for: application name, EHR user, and the token of GetToken."""

    application: str
    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnityRequest:
    """A request below Unity's base URL. `operation` is the fixed name that logs and exchange records show."""

    operation: str
    body: bytes = field(repr=False)
    path: str = "json/MagicJson"
    method: str = "POST"
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: dict(HEADERS))

    def url(self, base: str) -> str:
        """The absolute URL; the base may end in the host, in `/Unity`, or in the service itself."""
        stem = re.sub(r"(/Unity(/UnityService\.svc)?)?/*$", "", base, flags=re.IGNORECASE)
        return f"{stem}/{SERVICE}/{self.path}"


def magic(
    action: str, session: Session, parameters: Sequence[str] = (), *, patient_id: str = "", data: str = ""
) -> UnityRequest:
    """A call of an action; raises ValueError for more than six parameters."""
    if len(parameters) > PARAMETERS_MAX:
        raise ValueError(f"an action has at most {PARAMETERS_MAX} parameters")
    given = [*parameters, *([""] * (PARAMETERS_MAX - len(parameters)))]
    document = {
        "Action": action,
        "AppUserID": session.user,
        "Appname": session.application,
        "PatientID": patient_id,
        "Token": session.token,
        **{f"Parameter{number}": value for number, value in enumerate(given, start=1)},
        "Data": data,
    }
    return UnityRequest(action, json.dumps(document, ensure_ascii=False).encode())


def server_info(session: Session) -> UnityRequest:
    """Product, version, clock and zone of the server."""
    return magic("GetServerInfo", session)


def schedule(session: Session, start: date, end: date, *, changed_since: datetime | None = None) -> UnityRequest:
    """Appointments from the first to the last day (EHR products), server-local; `changed_since` is server-local, too.

    Raises ValueError when the window ends before it starts.
    """
    if end < start:
        raise ValueError("a window ends on or after its start")
    window = f"{start:%m/%d/%Y}|{end:%m/%d/%Y}"
    return magic("GetSchedule", session, (window, _since(changed_since) if changed_since else ""))


def appointments_changed(session: Session, since: datetime) -> UnityRequest:
    """Appointments changed since a server-local instant (PM)."""
    return magic("GetAppointmentsByChangeDTTM", session, (_since(since),))


def changed_patients(session: Session, since: datetime) -> UnityRequest:
    """Patients changed since a server-local instant: all changes, and not clinical ones only."""
    return magic("GetChangedPatients", session, (_since(since), "N", "N", "N"))


def patient(session: Session, patient_id: str) -> UnityRequest:
    """One patient."""
    return magic("GetPatient", session, ("N",), patient_id=patient_id)


def dictionaries(session: Session, site: str = "") -> UnityRequest:
    """The dictionaries there are."""
    return magic("GetListOfDictionaries", session, ("", site))


def dictionary(session: Session, table: str, site: str = "") -> UnityRequest:
    """The entries of one dictionary."""
    return magic("GetDictionary", session, (table, site))


def _since(instant: datetime) -> str:
    return instant.strftime("%m/%d/%Y %H:%M:%S")


class AnswerKind(StrEnum):
    """What an answer is, whatever its status was."""

    ROWS = "rows"
    TEXT = "text"
    ERROR = "error"
    EMPTY = "empty"
    HTML = "html"
    NOT_UNITY = "not-unity"


@dataclass(frozen=True, slots=True)
class UnityError:
    """One way in which Unity refuses: what its text holds (lower case), whose catalogue rows it settles."""

    name: str
    error: str
    retry: Retry
    words: tuple[str, ...]
    meaning: str
    next_step: str
    faults: tuple[str, ...] = ()
    source: Source = Source.CLIENT_CODE


ERRORS: Final[tuple[UnityError, ...]] = (
    UnityError(
        "logged-out", "peer.unauthorized", Retry.TRANSIENT, ("you have been logged out",),
        "The session was idle for too long (about 20 min).", "Nothing: a new session is opened.", ("F14",),
    ),
    UnityError(
        "password-invalid", "credential.rejected", Retry.PERMANENT, ("username and password not valid",),
        "The service user's name or password is wrong or has expired (every 6 months).",
        "Renew the Unity service credentials and put the credential again.", ("A1", "A2"),
    ),
    UnityError(
        "application-unsupported", "credential.rejected", Retry.PERMANENT, ("is not supported on pm version",),
        "The application name is not licensed for this version of PM.",
        "Ask the vendor to license the application name for the PM version in use.", ("F11",),
    ),
    UnityError(
        "not-licensed", "peer.forbidden", Retry.PERMANENT, ("not licensed", "no license", "license"),
        "The action or application is not licensed.", "Ask the vendor to license the action named.", ("F11",),
        Source.ASSUMED,
    ),
    UnityError(
        "user-not-authenticated", "credential.rejected", Retry.PERMANENT,
        ("user has not been authenticated", "user not authenticated", "getuserauthentication"),
        "GetUserAuthentication was left out or failed: GetToken works, actions do not.",
        "Give the credential an EHR user and its password.", ("F9",), Source.ASSUMED,
    ),
    UnityError(
        "token-invalid", "peer.unauthorized", Retry.TRANSIENT, ("invalid token", "token is invalid", "token not valid"),
        "The token is not known any more.", "Nothing: a new session is opened.", ("F14",), Source.ASSUMED,
    ),
)  # fmt: skip
USER_INVALID: Final = UnityError(
    "user-invalid", "credential.rejected", Retry.PERMANENT, (),
    "GetUserAuthentication says ValidUser NO: the EHR user's name or password is wrong, expired (about every 90 days) "
    "or disabled.",
    "Set the EHR user's password anew and put the credential again.", ("F9", "A2", "A12"),
)  # fmt: skip
CRITICAL: Final = UnityError(
    "critical", "peer.rejected", Retry.PERMANENT, (),
    "A row's STATUS says Critical: the action failed although the answer looks like one.",
    "Look at the action's parameters; LastLogs says more.", ("F10",),
)  # fmt: skip
OTHER: Final = UnityError(
    "error", "peer.rejected", Retry.PERMANENT, (),
    "The action failed; the text is the server's own.",
    "Look at the action's parameters; LastLogs says more.", ("F10",),
)  # fmt: skip
ALL_ERRORS: Final = (*ERRORS, USER_INVALID, CRITICAL, OTHER)


@dataclass(frozen=True, slots=True)
class UnityAnswer:
    """An answer by its kind: `rows` of an action's result, `error` of a refusal, `text` of GetToken's bare string.

    `action` is the one that the server names. Rows and text may hold patient data or a token.
    """

    kind: AnswerKind
    action: str = ""
    rows: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    error: UnityError | None = None
    text: str = field(default="", repr=False)


def parse_answer(body: bytes) -> UnityAnswer:
    """What a body is, whatever the status was; never raises."""
    stripped = body.lstrip(b"\xef\xbb\xbf \t\r\n").rstrip()
    if not stripped:
        return UnityAnswer(AnswerKind.EMPTY)
    if stripped[:1] == b"<":
        return UnityAnswer(AnswerKind.HTML)
    try:
        document = json.loads(stripped)
    except (ValueError, RecursionError):
        document = stripped[:_TEXT_CHARACTERS_MAX].decode("utf-8", "replace")
        if stripped[:1] in b"[{":
            return UnityAnswer(AnswerKind.NOT_UNITY)
    if isinstance(document, str):
        return _text_answer(document)
    objects = _objects(document)
    if not objects:
        return UnityAnswer(AnswerKind.NOT_UNITY)
    refused = next((found for one in objects if (found := _refusal(one)) is not None), None)
    return refused or _result(objects[0])


def _objects(document: Any) -> list[Mapping[str, Any]]:
    listed = document if isinstance(document, list) else [document]
    return [one for one in listed if isinstance(one, dict)]


def _text_answer(text: str) -> UnityAnswer:
    text = text.strip()
    if not text:
        return UnityAnswer(AnswerKind.EMPTY)
    if re.match(r"(magic )?error\b", text, re.IGNORECASE):
        return UnityAnswer(AnswerKind.ERROR, error=error_of(text))
    return UnityAnswer(AnswerKind.TEXT, text=text)


def error_of(text: str) -> UnityError:
    """The row of an error's text, `OTHER` when its words are not known."""
    lowered = text[:_TEXT_CHARACTERS_MAX].lower()
    # `Action: GetUserAuthentication` in front names the action that failed, not the cause.
    lowered = re.sub(r"action:\s*\w+", "", lowered)
    return next((row for row in ERRORS if any(word in lowered for word in row.words)), OTHER)


def _refusal(one: Mapping[str, Any]) -> UnityAnswer | None:
    """An object with `Error` beside no result; names are compared whatever their case."""
    for name, value in one.items():
        if name.lower() == "error" and isinstance(value, str) and value.strip():
            named = re.search(r"action:\s*(\w{1,64})", value[:_TEXT_CHARACTERS_MAX], re.IGNORECASE)
            return UnityAnswer(AnswerKind.ERROR, named.group(1).lower() if named else "", error=error_of(value))
    return None


def _result(one: Mapping[str, Any]) -> UnityAnswer:
    key = next((name for name in one if name.lower().endswith("info")), None)
    if key is None:
        return UnityAnswer(AnswerKind.NOT_UNITY)
    value = one[key]
    listed = value if isinstance(value, list) else [value]
    rows = tuple(row for row in listed if isinstance(row, dict))
    action = key.lower().removesuffix("info")
    error = next((found for row in rows if (found := _row_error(row, action)) is not None), None)
    if error is not None:
        return UnityAnswer(AnswerKind.ERROR, action, error=error)
    return UnityAnswer(AnswerKind.ROWS, action, rows)


def _row_error(row: Mapping[str, Any], action: str) -> UnityError | None:
    named = {name.lower(): value for name, value in row.items()}
    status, error = named.get("status"), named.get("error")
    if isinstance(status, str) and "critical" in status.lower():
        return CRITICAL
    if action == "getuserauthentication" and str(named.get("validuser", "")).strip().upper() != "YES":
        return USER_INVALID
    # A row of nothing but an error is one; a column of that name among others is the dictionary's own.
    return error_of(error) if isinstance(error, str) and error.strip() and len(named) == 1 else None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """GetServerInfo. `offset` is the server's zone at that moment: times in answers are local to it."""

    system: str
    product: Product | None
    version: str
    time_zone: str
    server_time: datetime | None
    offset: timedelta | None


def parse_server_info(answer: UnityAnswer) -> ServerInfo | None:
    """What the server says of itself; None when the answer is another one."""
    if answer.kind is not AnswerKind.ROWS or not answer.rows:
        return None
    row = {name.lower(): value for name, value in answer.rows[0].items()}
    system, version, zone = (_short(row.get(name)) for name in ("system", "productversion", "servertimezone"))
    if not system and not version:
        return None
    instant = server_instant(_short(row.get("servertimedatetimeoffset")) or _short(row.get("serverdatetimeoffset")))
    offset = instant.utcoffset() if instant is not None else None
    return ServerInfo(system, product_of(system), version, zone, instant, offset)


def _short(value: Any) -> str:
    return value.strip()[:200] if isinstance(value, str) else ""


_US_TIME: Final = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})(?: (\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)? ?([AaPp][Mm])?)?"
    r"(?: ([+-])(\d{2}):(\d{2}))?"
)


def server_instant(text: str) -> datetime | None:
    """A time as Unity writes it (ISO 8601 or US form, with or without an offset); None when it is none.

    Without an offset the result is naive: server-local time, to be placed by `ServerInfo.offset`.
    """
    text = text.strip()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    found = _US_TIME.fullmatch(text)
    if found is None:
        return None
    month, day, year, hour, minute, second, half, sign, off_hour, off_minute = found.groups()
    hours = int(hour or 0)
    if half:
        hours = hours % 12 + (12 if half.lower() == "pm" else 0)
    try:
        zone = None
        if sign:
            offset = timedelta(hours=int(off_hour), minutes=int(off_minute))
            zone = timezone(-offset if sign == "-" else offset)
        return datetime(int(year), int(month), int(day), hours, int(minute or 0), int(second or 0), tzinfo=zone)
    except ValueError:
        return None


def to_utc(local: datetime, offset: timedelta) -> datetime:
    """A server-local time as an instant; one that carries its own offset keeps its instant.

    Raises ValueError for a time at the calendar's end that has no instant in UTC.
    """
    try:
        return (local if local.tzinfo else local.replace(tzinfo=timezone(offset))).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time lies outside the calendar") from error
