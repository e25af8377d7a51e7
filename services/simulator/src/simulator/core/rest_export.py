"""Group `$export` of servers that can be written to (Bulk Data Access 2.0): started, polled, read as NDJSON.

What differs is the dialect's: how long to wait between polls, and whether a file's address sends its reader on (307)
to a place that takes no Authorization header, as stores with signed addresses do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from simulator.core import open_search
from simulator.core.answer import NDJSON, Answer, json_answer
from simulator.core.bulk_export import APPOINTMENT_DAYS, Export, Exports
from simulator.core.chance import number
from simulator.core.dialect import Dialect, Site
from simulator.core.fhir_server import FhirCall
from simulator.core.open_search import Shelf
from simulator.core.resources import instant
from simulator.core.scopes import allows
from simulator.core.tokens import AccessToken

ROOT: Final = "bulk-export"
_JOBS, _FILES, _STORE = "jobs", "files", "store"
_NO_TYPES: Final = frozenset({"Group", "Slot"})


def is_store(parts: list[str]) -> bool:
    """Whether a path is that of a store, which no token opens: its address is the permission."""
    return parts[:2] == [ROOT, _STORE] and len(parts) == 5


def is_export(parts: list[str]) -> bool:
    """Whether a path is one of an export."""
    begins = len(parts) == 3 and parts[0] == "Group" and parts[2] == "$export"
    return begins or (parts[:1] == [ROOT] and parts[1:2] in ([_JOBS], [_FILES]) and len(parts) in {3, 4})


@dataclass(frozen=True, slots=True)
class RestExport:
    """The exports of one server."""

    dialect: Dialect
    site: Site
    shelf: Shelf
    exports: Exports

    def answer(self, call: FhirCall, parts: list[str], token: AccessToken, now: datetime) -> Answer:
        """For who has a token; `is_export` holds of the path."""
        if parts[0] == "Group":
            return self._start(call, parts[1], token, now)
        export = self.exports.of(parts[2], token.client_id, self.shelf.chart.practice.name)
        if export is None:
            return self.dialect.refuse("not-found", "There is no such export.", 404)
        if call.method == "DELETE" and parts[1] == _JOBS:
            self.exports.cancel(export)
            return Answer(202)
        if call.method != "GET":
            return self.dialect.refuse("not-supported", "An export is read or deleted.", 405)
        if parts[1] == _JOBS:
            return self._status(export, now)
        kind = parts[3] if len(parts) == 4 else ""
        if now < export.ready_at or kind not in export.types:
            return self.dialect.refuse("not-found", "There is no such file.", 404)
        if self.dialect.export_redirects:
            return Answer(307, headers={"Location": self._url(_STORE, export.id, kind, self._signature(export, kind))})
        return self._file(export, kind, now)

    def stored(self, call: FhirCall, parts: list[str], now: datetime) -> Answer:
        """A file behind its signed address; an Authorization header is refused, as such stores do."""
        export = self.exports.held(parts[2], self.shelf.chart.practice.name)
        known = export is not None and parts[3] in export.types and parts[4] == self._signature(export, parts[3])
        if export is None or not known or call.method != "GET":
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
        if "authorization" in call.headers:
            body = b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>"
            return Answer(400, body, {"Content-Type": "application/xml"})
        return self._file(export, parts[3], now)

    def _start(self, call: FhirCall, group: str, token: AccessToken, now: datetime) -> Answer:
        chart = self.shelf.chart
        if group != chart.practice.group:
            return self.dialect.refuse("not-found", "There is no such Group.", 404)
        if call.method != "GET" or "respond-async" not in call.headers.get("prefer", ""):
            return self.dialect.refuse("invalid", "An export is a GET with Prefer: respond-async.", 400)
        parameters = call.named()
        asked = [name for value in parameters.get("_type", ()) for name in value.split(",") if name]
        offered = tuple(sorted(set(self.dialect.served) - _NO_TYPES))
        unknown = sorted(set(asked) - set(offered))
        since = _since(parameters)
        if unknown or since is None:
            why = f"Types that are exported: {', '.join(offered)}." if unknown else "_since is an instant."
            return self.dialect.refuse("invalid", why, 400)
        types = tuple(dict.fromkeys(asked)) or tuple(one for one in offered if allows(token.scopes, one, "r"))
        if not types or not all(allows(token.scopes, name, "r") for name in types):
            return self.dialect.forbidden(self.site)
        if self.dialect.export_alone and self.exports.running(token.client_id, chart.practice.name, now):
            refused = self.dialect.refuse("throttled", "An export of this client is under way.", 429)
            return Answer(refused.status, refused.body, {**refused.headers, "Retry-After": self._pause})
        export = self.exports.start(token.client_id, chart, types, call.url, now, gap=None, since=since)
        assert export is not None
        return Answer(202, headers={"Content-Location": self._url(_JOBS, export.id)})

    def _status(self, export: Export, now: datetime) -> Answer:
        done = export.progress_percent(now)
        if done < 100:
            return Answer(202, headers={"X-Progress": f"{done}% complete", "Retry-After": self._pause})
        output = [{"type": name, "url": self._url(_FILES, export.id, name)} for name in export.types]
        document = {
            "transactionTime": instant(export.started_at),
            "request": export.request_url,
            "requiresAccessToken": True,
            "output": output,
            "error": [],
        }
        return json_answer(200, document)

    def _file(self, export: Export, kind: str, now: datetime) -> Answer:
        lines = (
            json.dumps(make(), ensure_ascii=False, separators=(",", ":")) for make in self._rows(export, kind, now)
        )
        return Answer(200, "".join(line + "\n" for line in lines).encode(), {"Content-Type": NDJSON})

    def _rows(self, export: Export, kind: str, now: datetime) -> Iterator[Callable[[], dict[str, Any]]]:
        day, span = self.shelf.chart.local_day(export.started_at), timedelta(days=APPOINTMENT_DAYS)
        parameters = {"date": [f"ge{day - span}", f"le{day + span}"]} if kind in _DATED_BY_VISIT else {}
        if export.since:
            parameters["_lastUpdated"] = [f"ge{export.since}"]
        yield from open_search.find(self.shelf, kind, parameters, now)

    def _signature(self, export: Export, kind: str) -> str:
        return f"{number(self.shelf.chart.practice.seed, 'signed', export.id, kind):016x}"

    @property
    def _pause(self) -> str:
        return str(self.dialect.export_pause_s)

    def _url(self, *parts: str) -> str:
        return "/".join((self.site.base_url, ROOT, *parts))


_DATED_BY_VISIT: Final = frozenset({"Appointment", "Encounter", "ChargeItem"})


def _since(parameters: Mapping[str, list[str]]) -> str | None:
    """`_since` as given, empty when it is not; None for what is no instant."""
    text = parameters.get("_since", [""])[0]
    try:
        return text if not text or datetime.fromisoformat(text).tzinfo is not None else None
    except ValueError:
        return None
