"""A FHIR R4 server that can be written to: a call in, an answer out; what is the vendor's own is its dialect's.

Order: path, token, scope, then the interaction (R4 §3.1.0). Versions are numbers, the ETag is weak, as FHIR says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

from simulator.core import open_search
from simulator.core.answer import FHIR_JSON, Answer, html_not_found, json_answer
from simulator.core.bulk_export import Exports
from simulator.core.dialect import Dialect, Interaction, Served, Site
from simulator.core.faults import NO_EFFECT, Effect
from simulator.core.fhir_server import FhirCall, bearer
from simulator.core.json_patch import PatchError, apply_patch
from simulator.core.metadata import in_version
from simulator.core.open_search import Shelf
from simulator.core.paging import PageToken, decode_token
from simulator.core.resources import instant
from simulator.core.rest_export import RestExport, is_export, is_store
from simulator.core.scopes import allows
from simulator.core.search import SearchRefusedError
from simulator.core.tokens import AccessToken, Tokens
from simulator.core.written import WrittenFullError, with_meta

BODY_BYTES_MAX: Final = 512 * 1024
JSON_PATCH: Final = "application/json-patch+json"
_RIGHTS: Final = {"GET": "r", "POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}
_WRITES: Final = {
    "POST": Interaction.CREATE,
    "PUT": Interaction.UPDATE,
    "PATCH": Interaction.PATCH,
    "DELETE": Interaction.DELETE,
}


@dataclass(frozen=True, slots=True)
class RestServer:
    """One practice's endpoint. `new_id` makes the id of a created resource."""

    dialect: Dialect
    site: Site
    shelf: Shelf
    tokens: Tokens
    exports: Exports
    new_id: Callable[[], str]
    effect: Effect = NO_EFFECT

    def answer(self, call: FhirCall, body: bytes, now: datetime) -> Answer:
        """What the server says; never raises for what a client sends."""
        parts = [part for part in call.path.split("/") if part]
        if parts == ["metadata"] and call.method == "GET":
            statement = in_version(self._statement(now), self.effect.word("fhir-version", "version"))
            return json_answer(200, statement, FHIR_JSON)
        if parts == [".well-known", "smart-configuration"] and call.method == "GET":
            return json_answer(200, self._smart())
        if is_store(parts):
            return self._export.stored(call, parts, now)
        if is_export(parts):
            return self._exported(call, parts, now)
        served = self.dialect.served.get(parts[0]) if parts else None
        if served is None or len(parts) > 2:
            return html_not_found()
        searches = (call.method == "GET" and len(parts) == 1) or (call.method == "POST" and parts[1:] == ["_search"])
        right = "s" if searches else _RIGHTS.get(call.method, "r")
        return self._stopped(call, parts[0], right, now) or self._perform(call, parts, served, body, now, searches)

    @property
    def _export(self) -> RestExport:
        return RestExport(self.dialect, self.site, self.shelf, self.exports)

    def _exported(self, call: FhirCall, parts: list[str], now: datetime) -> Answer:
        # Whether its types may be read is looked at when it starts.
        token = self._admitted(call, now)
        return self.dialect.unauthorized(self.site) if token is None else self._export.answer(call, parts, token, now)

    def _admitted(self, call: FhirCall, now: datetime) -> AccessToken | None:
        token = self.tokens.find(bearer(call), now)
        refused = self.effect.has("unauthorized") or self.effect.has("client-disabled")
        return None if token is None or token.practice != self.shelf.chart.practice.name or refused else token

    def _stopped(self, call: FhirCall, kind: str, right: str, now: datetime) -> Answer | None:
        """Who has no token, or none for this."""
        token = self._admitted(call, now)
        if token is None:
            return self.dialect.unauthorized(self.site)
        if not allows(token.scopes, kind, right) or kind == self.effect.word("scope-missing", "resource"):
            return self.dialect.forbidden(self.site)
        return None

    def _perform(
        self, call: FhirCall, parts: list[str], served: Served, body: bytes, now: datetime, searches: bool
    ) -> Answer:
        try:
            if searches:
                return self._search(call, parts[0], served, now)
            if call.method == "GET":
                return self._read(parts[0], parts[1], now)
            return self._write(call, parts, served, body, now)
        except SearchRefusedError:
            return self.dialect.refuse("invalid", "A date is not a date.", 400)
        except WrittenFullError:
            return self.dialect.refuse("exception", "The simulator holds no more written resources.", 507)

    def _read(self, kind: str, resource_id: str, now: datetime) -> Answer:
        found = open_search.read(self.shelf, kind, resource_id, now)
        if found is not None:
            return _resource(200, *found)
        if self.shelf.written.of(kind, resource_id) is not None:
            return self.dialect.refuse("deleted", "The resource was deleted.", 410)
        return self.dialect.refuse("not-found", "There is no such resource.", 404)

    def _search(self, call: FhirCall, kind: str, served: Served, now: datetime) -> Answer:
        parameters = call.named()
        given = parameters.get(self.dialect.page_parameter)
        if given:
            token = decode_token(given[0], now)
            if token is None or token.resource != kind:
                return self.dialect.refuse("processing", "The page is not known any more.", 400)
        else:
            why = served.demand(parameters)
            if why is not None:
                return self.dialect.refuse("invalid", why, 400)
            token = PageToken(kind, parameters, 0, 0, int(now.timestamp()))
        version = self.shelf.chart.version + self.shelf.written.version
        search = partial(open_search.find, self.shelf, kind, token.parameters, now)
        found = self.shelf.chart.searches.take(kind, token.parameters, token.begun_at, version, search)
        return json_answer(200, self._bundle(found, token, served, call.url), FHIR_JSON)

    def _bundle(
        self, found: Sequence[Callable[[], dict[str, Any]]], token: PageToken, served: Served, own_link: str
    ) -> dict[str, Any]:
        least, usual, most = served.page
        text = (token.parameters.get("_count") or [""])[0]
        size = min(max(int(text[:6]), least), most) if text.isascii() and text.isdecimal() else usual
        start = token.offset - 1 if self.dialect.repeats and token.offset else token.offset
        rows = [make() for make in found[start : token.offset + size]]
        links = [{"relation": "self", "url": own_link}]
        following = token.offset + size
        if following < len(found):
            after = PageToken(token.resource, token.parameters, following, token.page + 1, token.begun_at)
            query = f"{self.dialect.page_parameter}={after.encode()}"
            links.append({"relation": "next", "url": f"{self.site.base_url}/{token.resource}?{query}"})
        entries = [
            {
                "fullUrl": f"{self.site.base_url}/{row['resourceType']}/{row['id']}",
                "resource": row,
                "search": {"mode": "match"},
            }
            for row in rows
        ]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links, "entry": entries}

    def _write(self, call: FhirCall, parts: list[str], served: Served, body: bytes, now: datetime) -> Answer:
        wanted = _WRITES.get(call.method)
        if wanted is None or wanted not in served.interactions or (len(parts) == 1) != (call.method == "POST"):
            return self.dialect.refuse("not-supported", "This interaction is not offered.", 405)
        if len(body) > BODY_BYTES_MAX:
            return self.dialect.refuse("too-costly", "The body is too large.", 413)
        if wanted is Interaction.CREATE:
            return self._create(call, parts[0], served, body, now)
        return self._change(call, parts[0], parts[1], wanted, served, body, now)

    def _create(self, call: FhirCall, kind: str, served: Served, body: bytes, now: datetime) -> Answer:
        condition = call.headers.get("if-none-exist")
        if condition:
            existing = open_search.find(self.shelf, kind, _query(condition), now)
            if len(existing) > 1:
                return self.dialect.refuse("multiple-matches", "Several resources match If-None-Exist.", 412)
            if existing:
                resource = existing[0]()
                return _resource(200, resource, int(resource["meta"]["versionId"]))
        given = _json(body)
        refusal = self._refusal_of(kind, served, given)
        if refusal is not None:
            return refusal
        assert given is not None
        new = {**given, "id": self.new_id()}
        held = self.shelf.written.put(kind, new["id"], new, 1, now)
        return self._written(201, kind, new, held.version, now)

    def _change(
        self,
        call: FhirCall,
        kind: str,
        resource_id: str,
        wanted: Interaction,
        served: Served,
        body: bytes,
        now: datetime,
    ) -> Answer:
        found = open_search.read(self.shelf, kind, resource_id, now)
        if found is None:
            return self._read(kind, resource_id, now)
        refusal = self._version_refusal(call, found[1])
        if refusal is not None:
            return refusal
        version = found[1] + 1
        if wanted is Interaction.DELETE:
            self.shelf.written.put(kind, resource_id, None, version, now)
            return Answer(204)
        try:
            document = _json(body) if wanted is Interaction.UPDATE else apply_patch(found[0], json.loads(body))
        except (PatchError, ValueError, RecursionError) as error:
            text = str(error) if isinstance(error, PatchError) else "the body is no JSON"
            return self.dialect.refuse("invalid", f"The patch does not apply: {text}.", 400)
        if document is not None and document.get("id") != resource_id:
            return self.dialect.refuse("invalid", "The id of the resource is not the one of the URL.", 400)
        refusal = self._refusal_of(kind, served, document)
        if refusal is not None:
            return refusal
        assert document is not None
        self.shelf.written.put(kind, resource_id, document, version, now)
        return self._written(200, kind, document, version, now)

    def _version_refusal(self, call: FhirCall, version: int) -> Answer | None:
        """If-Match against the newest version; a lock and a dependency are faults."""
        if self.effect.has("record-open"):
            return self.dialect.refuse("lock-error", "The resource is open by another user.", 423)
        if self.effect.has("dependency-failed"):
            return self.dialect.refuse("exception", "A resource that this one depends on cannot be changed.", 424)
        given = call.headers.get("if-match", "").strip()
        if not given:
            status = self.dialect.unconditional
            return self.dialect.refuse("required", "If-Match is missing.", status) if status else None
        if given == "*" or given.removeprefix("W/").strip('"') == str(version):
            return None
        return self.dialect.refuse("conflict", "The version is not the newest.", self.dialect.stale)

    def _refusal_of(self, kind: str, served: Served, resource: Mapping[str, Any] | None) -> Answer | None:
        if resource is None or resource.get("resourceType") != kind:
            return self.dialect.refuse("structure", f"The body is no {kind}.", 400)
        missing = [name for name in served.required if not resource.get(name)]
        if missing:
            return self.dialect.refuse("required", f"{missing[0]} is required", self.dialect.missing_field)
        why = self.dialect.check(self.site, resource)
        return self.dialect.refuse("business-rule", why, 422) if why else None

    def _written(self, status: int, kind: str, resource: Mapping[str, Any], version: int, now: datetime) -> Answer:
        dated = now if kind in self.dialect.dated else None
        place = f"{self.site.base_url}/{kind}/{resource['id']}"
        answer = _resource(status, with_meta(resource, version, dated), version)
        return Answer(answer.status, answer.body, {**answer.headers, "Location": f"{place}/_history/{version}"})

    def _statement(self, now: datetime) -> dict[str, Any]:
        oauth = {
            "extension": [{"url": "token", "valueUri": self.site.token_url}],
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        }
        resources = [
            {
                "type": kind,
                "interaction": [{"code": one.value} for one in Interaction if one in served.interactions],
                "versioning": "versioned-update" if served.interactions & set(_WRITES.values()) else "no-version",
                "searchParam": [
                    {"name": name, "type": of}
                    for name, of in (
                        *served.parameters,
                        *((("_lastUpdated", "date"),) if kind in self.dialect.dated else ()),
                    )
                ],
            }
            for kind, served in self.dialect.served.items()
        ]
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": instant(now),
            "publisher": "Practice Studio",
            "kind": "instance",
            "software": {"name": self.dialect.software, "version": "1"},
            "implementation": {"description": "Synthetic patients only", "url": self.site.base_url},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [{"mode": "server", "security": {"extension": [oauth]}, "resource": resources}],
        }

    def _smart(self) -> dict[str, Any]:
        return {
            "token_endpoint": self.site.token_url,
            "token_endpoint_auth_methods_supported": list(self.dialect.methods),
            "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": list(self.dialect.scopes),
            "capabilities": ["client-confidential-asymmetric", "client-confidential-symmetric", "permission-v2"],
        }


def _resource(status: int, resource: Mapping[str, Any], version: int) -> Answer:
    return json_answer(status, dict(resource), FHIR_JSON, ETag=f'W/"{version}"')


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _query(text: str) -> dict[str, list[str]]:
    """The parameters of If-None-Exist: a search without its `?` (R4 §3.1.0.8.1)."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.removeprefix("?"), max_num_fields=20):
        found.setdefault(name.partition(":")[0], []).append(value)
    return found
