"""The Epic-like FHIR R4 server: a call and a chart in, an answer out.

Order as on the real one: path, then token, then scope, then the search itself. What was captured from live systems is
reproduced to the byte where that matters (challenges, 59008); what no source tells is marked "assumed".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from simulator.core import bulk_export, paging, search
from simulator.core.answer import FHIR_JSON, FHIR_XML, NDJSON, Answer, html_not_found, json_answer
from simulator.core.chart import Chart
from simulator.core.faults import NO_EFFECT, Effect
from simulator.core.metadata import capability_statement, in_version, smart_configuration
from simulator.core.outcomes import OUTCOMES, outcome
from simulator.core.scopes import allows
from simulator.core.tokens import AccessToken, Tokens
from simulator.core.xml import resource_xml

INVALID_TOKEN: Final = 'Bearer error="invalid_token", error_description="The access token provided is not valid"'  # noqa: S105
INSUFFICIENT_SCOPE: Final = (
    'Bearer error="insufficient_scope", '
    'error_description="The access token provided is valid, but is not authorized for this service"'
)
_BULK: Final = "BulkRequest"


@dataclass(frozen=True, slots=True)
class FhirCall:
    """A request below `…/api/FHIR/R4/`: `path` without a leading slash, query and form as pairs, header names in
    lower case, and the absolute URL it came to."""

    method: str
    path: str
    parameters: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = field(default="", repr=False)

    def named(self) -> dict[str, list[str]]:
        """Parameters by name; modifiers are dropped."""
        found: dict[str, list[str]] = {}
        for name, value in self.parameters:
            found.setdefault(name.partition(":")[0], []).append(value)
        return found


@dataclass(frozen=True, slots=True)
class FhirServer:
    """One practice's FHIR endpoint."""

    chart: Chart
    tokens: Tokens
    exports: bulk_export.Exports
    base_url: str
    token_url: str
    effect: Effect = NO_EFFECT

    def answer(self, call: FhirCall, now: datetime) -> Answer:
        """What the server says; never raises for what a client sends."""
        parts = [part for part in call.path.split("/") if part]
        if parts == ["metadata"] and call.method == "GET":
            statement = capability_statement(self.base_url, self.token_url, now)
            return _resource(call, 200, in_version(statement, self.effect.word("fhir-version", "version")))
        if parts == [".well-known", "smart-configuration"] and call.method == "GET":
            return json_answer(200, smart_configuration(self.token_url))
        if not self._known(parts):
            return html_not_found()
        token = self.tokens.find(bearer(call), now)
        if token is None or token.practice != self.chart.practice.name or self._refuses_tokens():
            return Answer(401, headers={"WWW-Authenticate": INVALID_TOKEN})
        if not _permitted(token, parts, call) or parts[0] == self.effect.word("scope-missing", "resource"):
            return Answer(403, headers={"WWW-Authenticate": INSUFFICIENT_SCOPE})
        return self._dispatch(call, parts, token, now)

    def _refuses_tokens(self) -> bool:
        return self.effect.has("client-disabled") or self.effect.has("unauthorized")

    def _known(self, parts: list[str]) -> bool:
        if not parts:
            return False
        if parts[0] == _BULK:
            return len(parts) in {2, 3}
        if parts[0] == "Group":
            return len(parts) == 2 or (len(parts) == 3 and parts[2] == "$export")
        return parts[0] in search.SEARCHED and len(parts) <= 2

    def _dispatch(self, call: FhirCall, parts: list[str], token: AccessToken, now: datetime) -> Answer:
        if parts[0] == _BULK:
            return self._bulk(call, parts, token, now)
        if parts[-1] == "$export":
            return self._export(call, parts[1], token, now)
        if call.method == "POST" and parts[1:] == ["_search"] and parts[0] in search.SEARCHED:
            return self._search(call, parts[0], now)
        if call.method != "GET":
            return _refusal(call, "not-supported")
        if len(parts) == 1:
            return self._search(call, parts[0], now)
        found = search.read(self.chart, parts[0], parts[1], now)
        return _resource(call, 200, found) if found else _refusal(call, "id-not-found")

    def _search(self, call: FhirCall, resource: str, now: datetime) -> Answer:
        parameters = call.named()
        session = parameters.get("sessionID")
        if session:
            token = paging.decode_token(session[0], now)
            if token is None or token.resource != resource:
                return _refusal(call, "paging-expired")
        else:
            token = paging.PageToken(resource, parameters, 0, 0, int(now.timestamp()))
        try:
            found = self.chart.searches.take(
                resource,
                token.parameters,
                token.begun_at,
                self.chart.version,
                partial(search.search, self.chart, resource, token.parameters, now),
            )
        except search.SearchRefusedError as refused:
            return _refusal(call, refused.outcome)
        return _resource(call, 200, paging.bundle(self.base_url, found, token, call.url))

    def _export(self, call: FhirCall, group: str, token: AccessToken, now: datetime) -> Answer:
        if group != self.chart.practice.group:
            return _refusal(call, "id-not-found")
        parameters = call.named()
        asked = [name for value in parameters.get("_type", ()) for name in value.split(",") if name]
        if any(name not in bulk_export.TYPES for name in asked):
            return _refusal(call, "element-invalid")
        if call.method != "GET" or "respond-async" not in call.headers.get("prefer", ""):
            return _refusal(call, "element-missing")
        types = tuple(asked or bulk_export.TYPES)
        if not all(allows(token.scopes, name, "r") for name in types):
            return Answer(403, headers={"WWW-Authenticate": INSUFFICIENT_SCOPE})
        export = self.exports.start(token.client_id, self.chart, types, call.url, now)
        if export is None:
            # That it is refused is documented; the form of the refusal is assumed.
            return _refusal(call, "try-tomorrow")
        return Answer(202, headers={"Content-Location": f"{self.base_url}/{_BULK}/{export.id}"})

    def _bulk(self, call: FhirCall, parts: list[str], token: AccessToken, now: datetime) -> Answer:
        export = self.exports.of(parts[1], token.client_id, self.chart.practice.name)
        if export is None:
            return _refusal(call, "id-not-found")
        if call.method == "DELETE" and len(parts) == 2:
            self.exports.cancel(export)
            return Answer(202)
        if call.method != "GET":
            return _refusal(call, "not-supported")
        done = export.progress_percent(now)
        if len(parts) == 2:
            if done < 100:
                return Answer(202, headers={"X-Progress": f"{done}% complete", "Retry-After": "1"})
            return json_answer(200, bulk_export.manifest(export, self.base_url))
        if done < 100 or parts[2] not in export.types:
            return _refusal(call, "id-not-found")
        return Answer(200, bulk_export.file_of(export, self.chart, parts[2], now), {"Content-Type": NDJSON})


def bearer(call: FhirCall) -> str:
    """The bearer token of a call (RFC 6750 §2.1), empty when it has none."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _permitted(token: AccessToken, parts: list[str], call: FhirCall) -> bool:
    if parts[0] in {_BULK, "Group"}:
        # An export is permitted by the scopes of the types it asks for; reading a Group needs its own.
        return len(parts) != 2 or parts[0] == _BULK or allows(token.scopes, "Group", "r")
    searched = len(parts) == 1 or (call.method == "POST" and parts[1] == "_search")
    return allows(token.scopes, parts[0], "s" if searched else "r")


def _refusal(call: FhirCall, name: str) -> Answer:
    return _resource(call, OUTCOMES[name].status, outcome(name))


def _resource(call: FhirCall, status: int, resource: dict[str, Any]) -> Answer:
    """JSON for who asks for it; XML for who asks for nothing, for anything, or for XML: Epic's default."""
    accept = call.headers.get("accept", "").lower()
    format_asked = "".join(value for name, value in call.parameters if name == "_format").lower()
    if "json" in accept or "json" in format_asked:
        return json_answer(status, resource, FHIR_JSON)
    return Answer(status, resource_xml(resource), {"Content-Type": f"{FHIR_XML}; charset=utf-8"})
