"""FHIR R4 over HTTP: requests as (method, path, query), answers as named results.

Pages are followed by the Bundle's `next` link as it stands (R4 §3.1.1.4); a link is never built. An answer that is no
FHIR JSON is named for what it is, because vendors answer XML, HTML pages or nothing at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

FHIR_JSON: Final = "application/fhir+json"
NDJSON: Final = "application/fhir+ndjson"
FHIR_HEADERS: Final[Mapping[str, str]] = {"Accept": FHIR_JSON}
EXPORT_HEADERS: Final[Mapping[str, str]] = {"Accept": FHIR_JSON, "Prefer": "respond-async"}


@dataclass(frozen=True, slots=True)
class FhirRequest:
    """A request below a FHIR base URL. `operation` is the fixed name that logs and exchange records show."""

    operation: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: dict(FHIR_HEADERS))
    body: bytes | None = field(default=None, repr=False)

    def url(self, base: str) -> str:
        """The absolute URL under a base such as `https://host/api/FHIR/R4`."""
        # `,` parts an _id list and `:` a time: both may stand in a query as they are (RFC 3986 §3.4).
        query = urlencode(self.query, quote_via=quote, safe=",:/")
        return f"{base.rstrip('/')}/{self.path}{'?' + query if query else ''}"


def metadata() -> FhirRequest:
    """The CapabilityStatement (R4 §3.1.0.12); needs no token."""
    return FhirRequest("metadata", "GET", "metadata")


def smart_configuration() -> FhirRequest:
    """The SMART discovery document (SMART App Launch 2.2 §10); plain JSON, needs no token."""
    return FhirRequest(
        "smart-configuration", "GET", ".well-known/smart-configuration", headers={"Accept": "application/json"}
    )


def read(resource: str, resource_id: str) -> FhirRequest:
    """One resource by its id."""
    return FhirRequest(f"{resource}.read", "GET", f"{resource}/{quote(resource_id, safe='')}")


def appointments_in_window(start: date, end: date, *, count: int) -> FhirRequest:
    """Appointments from the first to the last day, both inclusive, in the server's own time zone."""
    if end < start:
        raise ValueError("a window ends on or after its start")
    query = (("date", f"ge{start.isoformat()}"), ("date", f"le{end.isoformat()}"), ("_count", str(count)))
    return FhirRequest("Appointment.search", "GET", "Appointment", query)


def by_ids(resource: str, ids: Sequence[str], *, count: int | None = None) -> FhirRequest:
    """Resources of one type by a list of ids; raises ValueError for an empty list or an id that holds a comma."""
    if not ids or any("," in one or not one for one in ids):
        raise ValueError("an _id list needs ids without commas")
    query = (("_id", ",".join(ids)), ("_count", str(count or len(ids))))
    return FhirRequest(f"{resource}.search", "GET", resource, query)


def changed_since(resource: str, since: datetime, *, count: int) -> FhirRequest:
    """Resources of one type changed since an instant, by `_lastUpdated` (R4 §3.1.1.5.5); raises ValueError without
    a zone."""
    if since.tzinfo is None:
        raise ValueError("since needs a time zone")
    instant = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return FhirRequest(
        f"{resource}.search", "GET", resource, (("_lastUpdated", f"ge{instant}"), ("_count", str(count)))
    )


def create(resource: str, document: Mapping[str, Any]) -> FhirRequest:
    """A new resource (R4 §3.1.0.8)."""
    return FhirRequest(f"{resource}.create", "POST", resource, (), _writing(), _json(document))


def update(resource: str, resource_id: str, document: Mapping[str, Any], *, version: str | None = None) -> FhirRequest:
    """A resource as a whole (R4 §3.1.0.4), with If-Match when its version is known."""
    headers = {**_writing(), **({"If-Match": f'W/"{version}"'} if version else {})}
    path = f"{resource}/{quote(resource_id, safe='')}"
    return FhirRequest(f"{resource}.update", "PUT", path, (), headers, _json(document))


def _writing() -> dict[str, str]:
    return {"Accept": FHIR_JSON, "Content-Type": FHIR_JSON}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def patients_by_id(ids: Sequence[str]) -> FhirRequest:
    """Patients by a list of ids."""
    return by_ids("Patient", ids)


def group_export(group_id: str, types: Sequence[str], *, since: str | None = None) -> FhirRequest:
    """Start a Group export (Bulk Data Access 2.0); the answer is 202 with Content-Location."""
    query = [("_type", ",".join(types)), ("_outputFormat", NDJSON)]
    if since:
        query.append(("_since", since))
    path = f"Group/{quote(group_id, safe='')}/$export"
    return FhirRequest("Group.export", "GET", path, tuple(query), dict(EXPORT_HEADERS))


def same_origin(base: str, link: str) -> bool:
    """Whether a link stays on the base's scheme, host and port: a token may only be sent there."""
    try:
        one, other = urlsplit(base), urlsplit(link)
        return (one.scheme, one.hostname, _port(one.scheme, one.port)) == (
            other.scheme,
            other.hostname,
            _port(other.scheme, other.port),
        )
    except ValueError:
        return False


def _port(scheme: str, port: int | None) -> int | None:
    return port or {"https": 443, "http": 80}.get(scheme)


class AnswerKind(StrEnum):
    """What an answer's body is."""

    BUNDLE = "bundle"
    RESOURCE = "resource"
    OUTCOME = "outcome"
    EMPTY = "empty"
    XML = "xml"
    HTML = "html"
    NOT_JSON = "not-json"
    NOT_FHIR = "not-fhir"


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of an OperationOutcome. `codes` are (system, code) of its details; `text` may hold patient data."""

    severity: str
    code: str
    codes: tuple[tuple[str, str], ...] = ()
    text: str = field(default="", repr=False)
    expression: tuple[str, ...] = ()

    def has_code(self, code: str) -> bool:
        """Whether one of the details' codes is this one, whatever its system."""
        return any(found == code for _, found in self.codes)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A page of a search: entries by their `search.mode` (an entry without one counts as a match).

    `total` is what the server says; some say the page's size. `next` is the link to follow as it stands.
    """

    matches: tuple[Mapping[str, Any], ...] = field(repr=False)
    included: tuple[Mapping[str, Any], ...] = field(repr=False)
    issues: tuple[Issue, ...]
    next: str | None
    total: int | None

    @property
    def empty(self) -> bool:
        """No match on this page (a following page may have some)."""
        return not self.matches


@dataclass(frozen=True, slots=True)
class FhirAnswer:
    """An answer by the kind of its body; exactly one of bundle, resource is set for their kinds."""

    kind: AnswerKind
    bundle: Bundle | None = None
    resource: Mapping[str, Any] | None = field(default=None, repr=False)
    issues: tuple[Issue, ...] = ()


def parse_answer(content_type: str, body: bytes) -> FhirAnswer:
    """What a body is, whatever the status was; never raises."""
    stripped = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not stripped:
        return FhirAnswer(AnswerKind.EMPTY)
    if stripped[:1] == b"<":
        return FhirAnswer(_markup(content_type, stripped))
    try:
        document = json.loads(stripped)
    except (ValueError, RecursionError):
        return FhirAnswer(AnswerKind.NOT_JSON)
    if not isinstance(document, dict) or not isinstance(document.get("resourceType"), str):
        return FhirAnswer(AnswerKind.NOT_FHIR)
    if document["resourceType"] == "Bundle":
        bundle = parse_bundle(document)
        return FhirAnswer(AnswerKind.BUNDLE, bundle=bundle, issues=bundle.issues)
    if document["resourceType"] == "OperationOutcome":
        return FhirAnswer(AnswerKind.OUTCOME, issues=parse_outcome(document))
    return FhirAnswer(AnswerKind.RESOURCE, resource=document)


def _markup(content_type: str, body: bytes) -> AnswerKind:
    start = body[:200].lower()
    if "html" in content_type.lower() or start.startswith(b"<!doctype html") or b"<html" in start:
        return AnswerKind.HTML
    return AnswerKind.XML


def parse_bundle(document: Mapping[str, Any]) -> Bundle:
    """The entries, issues and `next` link of a Bundle; parts of another shape than R4's are passed over."""
    matches: list[Mapping[str, Any]] = []
    included: list[Mapping[str, Any]] = []
    issues: list[Issue] = []
    for entry in _rows(document.get("entry")):
        resource = entry.get("resource")
        if not isinstance(resource, dict):
            continue
        mode = _mapping(entry.get("search")).get("mode", "match")
        if resource.get("resourceType") == "OperationOutcome" or mode == "outcome":
            issues.extend(parse_outcome(resource))
        else:
            (included if mode == "include" else matches).append(resource)
    links = {_text(row.get("relation")): row.get("url") for row in _rows(document.get("link"))}
    following = links.get("next")
    total = document.get("total")
    return Bundle(
        tuple(matches),
        tuple(included),
        tuple(issues),
        following if isinstance(following, str) and following else None,
        total if isinstance(total, int) and not isinstance(total, bool) else None,
    )


def parse_outcome(document: Mapping[str, Any]) -> tuple[Issue, ...]:
    """The issues of an OperationOutcome."""
    return tuple(_issue(row) for row in _rows(document.get("issue")))


def _issue(row: Mapping[str, Any]) -> Issue:
    details = _mapping(row.get("details"))
    codings = tuple(
        (_text(coding.get("system")), _text(coding.get("code")))
        for coding in _rows(details.get("coding"))
        if coding.get("code")
    )
    expression = row.get("expression") or row.get("location") or []
    return Issue(
        severity=_text(row.get("severity")),
        code=_text(row.get("code")),
        codes=codings,
        text=_text(details.get("text")) or _text(row.get("diagnostics")),
        expression=tuple(part for part in expression if isinstance(part, str)) if isinstance(expression, list) else (),
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def references(resource: Mapping[str, Any], target: str) -> tuple[str, ...]:
    """Ids of the `target` resources that an Appointment's participants refer to, in order and once each."""
    found: dict[str, None] = {}
    for participant in _rows(resource.get("participant")):
        parts = _text(_mapping(participant.get("actor")).get("reference")).split("/_history/")[0].split("/")
        if len(parts) >= 2 and parts[-2] == target and parts[-1]:
            found[parts[-1]] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a CapabilityStatement (or a DSTU2 Conformance) says about its server."""

    fhir_version: str
    software: str
    software_version: str
    interactions: Mapping[str, frozenset[str]]

    def offers(self, resource: str, interaction: str) -> bool:
        """Whether the server declares the interaction, e.g. ("Patient", "read") or ("Patient", "search-type")."""
        return interaction in self.interactions.get(resource, frozenset())


def parse_metadata(document: Mapping[str, Any]) -> ServerMetadata | None:
    """The declared version and interactions; None when the document is something else."""
    if _text(document.get("resourceType")) not in {"CapabilityStatement", "Conformance"}:
        return None
    software = _mapping(document.get("software"))
    interactions = {
        _text(resource.get("type")): frozenset(_text(row.get("code")) for row in _rows(resource.get("interaction")))
        for rest in _rows(document.get("rest"))
        for resource in _rows(rest.get("resource"))
    }
    return ServerMetadata(
        _text(document.get("fhirVersion")), _text(software.get("name")), _text(software.get("version")), interactions
    )
