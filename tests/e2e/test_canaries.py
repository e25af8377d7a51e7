"""Values that may not leave, put through every road of a running suite, and looked for wherever something leaves.

The canaries: a patient's names, number and birth date, whole HL7 messages, a token, a client's secret; and every one of
the simulator's 200 patients. The places: logs, spans and metrics (all on the console), /metrics, problem details,
exchange rows, audit entries, alerts, every event on the bus, and what services other than sync keep on disk.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hl7.client import MLLPClient

from common.models.trace import mllp_trace_id
from e2e.journey import all_patients, send_hl7, the_integration, wait_for_patients
from e2e.suite_process import PREFIXES, Suite, embedded_suite, eventually

pytestmark = pytest.mark.e2e

FAMILY, GIVEN, MRN, BIRTH = "Kanarienvogel", "Theodosia", "CANARY77120455", "1933-03-31"
TOKEN, SECRET = "canary-token-5f2c9e", "canary-s3cret-81ac"
# The key-encryption key as it stands in the environment; and a secret that was replaced by the one above.
KEY, FORMER_SECRET = base64.b64encode(b"canary-of-the-key-encryption-key").decode(), "canary-f0rmer-2d90"
CANARIES = (FAMILY, GIVEN, MRN, "77120455", BIRTH, "19330331", TOKEN, SECRET, FORMER_SECRET, KEY)
PERSON = f"{FAMILY}, {GIVEN} born {BIRTH} {MRN} {TOKEN} {SECRET}"
# What the console exporter writes of a metric when it has nothing else to say is long; what must be there is this.
SPAN_NAMES = ("hl7.receive", "POST /sync/v1/records/{record_type}:search", "fhir Patient.search")


def adt(control_id: str, kind: str = "ADT^A08^ADT_A01", authority: str = "EPIC") -> str:
    return "\r".join(
        (
            f"MSH|^~\\&|EPIC|DEMO|PS|DEMO|20261123101500||{kind}|{control_id}|P|2.5.1||||||UNICODE UTF-8",
            "EVN|A08|20261123101500",
            f"PID|1||{MRN}^^^{authority}^MR||{FAMILY}^{GIVEN}||19330331|F|||1 {FAMILY} Street^^Town||555-77120455",
            "PV1|1|O",
            "",
        )
    )


NAME = [{"family": FAMILY, "given": [GIVEN]}]
RESOURCES = (
    {
        "resourceType": "Appointment",
        "id": f"{MRN}-A",
        "status": "booked",
        "start": "2026-11-23T10:00:00Z",
        "end": "2026-11-23T10:20:00Z",
        "description": PERSON,
        "participant": [{"actor": {"reference": f"Patient/{MRN}", "display": PERSON}, "status": "accepted"}],
    },
    {"resourceType": "Appointment", "id": f"{MRN}-B", "status": FAMILY, "start": BIRTH},
    {
        "resourceType": "Patient",
        "id": MRN,
        "identifier": [{"system": "urn:oid:1.2.3", "value": MRN}],
        "name": NAME,
        "birthDate": BIRTH,
    },
    {"resourceType": "Patient", "id": f"{MRN}-2", "name": NAME, "birthDate": f"31.03.1933 {FAMILY}"},
    {"resourceType": FAMILY, "id": MRN},
)


ISSUE = {
    "code": MRN,
    "diagnostics": PERSON,
    "details": {"text": PERSON, "coding": [{"system": f"urn:{FAMILY}", "code": MRN, "display": PERSON}]},
}


class Provider:
    """A vendor that talks too much: every answer, error and header of it names the patient."""

    def __init__(self) -> None:
        provider = self
        self.asked: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.split("?")[0]
                provider.asked.add(path)
                status, body = provider.answer_to(path)
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status, FAMILY)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Patient", PERSON)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def answer_to(self, path: str) -> tuple[int, Any]:
        if path.endswith("/token"):
            return 200, {"access_token": TOKEN, "expires_in": 300, "scope": PERSON}
        if path.endswith("/refused"):
            return 401, {"error": "invalid_client", "error_description": PERSON}
        if path.endswith("/odd"):
            return 400, {"error": FAMILY, "error_description": PERSON, "error_uri": f"{self.url}/{MRN}"}
        if path.startswith("/broken"):
            return 500, {"resourceType": "OperationOutcome", "issue": [ISSUE]}
        if path.startswith("/nonsense"):
            return 200, f"<html>{PERSON}</html>"
        if path.endswith("/metadata"):
            return 200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "publisher": PERSON}
        link = {"relation": "next", "url": f"https://elsewhere.example/Patient?name={FAMILY}"}
        return 200, {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": resource} for resource in RESOURCES],
            "link": [link] if path.startswith("/away") else [],
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Places:
    """Everything that left, by where."""

    texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, where: str, text: str) -> None:
        self.texts.setdefault(where, []).append(text)

    def found(self, wanted: frozenset[str]) -> dict[str, dict[str, list[str]]]:
        """where → canary → a few places around it. `wanted` is in lower case."""
        pattern = re.compile("|".join(re.escape(canary) for canary in sorted(wanted, key=len, reverse=True)))
        found: dict[str, dict[str, list[str]]] = {}
        for where, texts in self.texts.items():
            for text in texts:
                lower = text.lower()
                for match in pattern.finditer(lower):
                    around = found.setdefault(where, {}).setdefault(match.group(), [])
                    if len(around) < 3:
                        around.append(text[max(0, match.start() - 80) : match.end() + 40])
        return found


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


def bad_requests(suite: Suite, places: Places) -> None:
    """Requests that are wrong in every way, each with somebody's data in it."""
    url = suite.urls["sync"]
    token = {"authorization": f"Bearer {suite.token}"}
    integration = f"/auth/v1/integrations/{the_integration(suite)['id']}"
    channel = {"kind": "fhir", "endpoint": f"http://{FAMILY}:{SECRET}@127.0.0.1/{MRN}", "time_zone": FAMILY}
    body = {"name": FAMILY, "birth_date": f"{BIRTH} or so", "identifier": {"value": MRN, "system": 5}, "limit": FAMILY}
    requests: list[dict[str, Any]] = [
        {"method": "POST", "url": "/sync/v1/records/patient:search", "json": body},
        {"method": "POST", "url": "/sync/v1/records/patient:search", "content": adt("x")},
        {"method": "POST", "url": "/sync/v1/records/patient:search", "json": {"cursor": FAMILY}},
        {"method": "POST", "url": f"/sync/v1/records/{FAMILY}:search", "json": {}},
        {"method": "GET", "url": f"/sync/v1/records/patient/{MRN}", "params": {"name": FAMILY}},
        {"method": "GET", "url": f"/sync/v1/{FAMILY}/{MRN}"},
        {"method": "POST", "url": "/hl7/v1/messages:search", "json": {"control_id": PERSON, "after": FAMILY}},
        {"method": "POST", "url": f"/hl7/v1/messages/{MRN}:read-body", "json": {"reason": PERSON}},
        {"method": "POST", "url": "/auth/v1/integrations", "json": {"name": 5, "vendor": FAMILY, "product": [PERSON]}},
        {"method": "POST", "url": "/auth/v1/token", "data": {"subject_token": TOKEN, "tenant": MRN}},
        {"method": "POST", "url": "/auth/v1/token", "data": assertion_form()},
        {"method": "GET", "url": "/diagnostics/v1/exchanges", "params": {"kind": FAMILY, "after": PERSON}},
        {"method": "GET", "url": "/diagnostics/v1/exchanges", "params": {"cursor": MRN}},
        {"method": "PATCH", "url": "/alerts/v1/rules/slow-answers", "json": {"threshold": FAMILY}},
        {"method": "POST", "url": "/alerts/v1/webhooks", "json": {"url": f"http://{FAMILY}:{SECRET}@x/{MRN}"}},
        {"method": "PUT", "url": f"/auth/v1/integrations/{MRN}/channels/fhir", "json": channel},
        {"method": "PUT", "url": f"{integration}/channels/fhir", "json": channel},
        {"method": "PUT", "url": f"{integration}/credentials/{FAMILY}", "json": {"secret": SECRET}},
        {"method": "POST", "url": "/simulator/v1/hl7:send", "json": {"kind": FAMILY, "patient": MRN}},
        {"method": "GET", "url": "/sync/v1/stream", "params": {"ticket": TOKEN}},
        {"method": "GET", "url": "/auth/v1/me", "headers": {"authorization": f"Bearer {TOKEN}"}},
        {"method": "GET", "url": "/auth/v1/me", "headers": {"authorization": f"Basic {SECRET}"}},
        {"method": "GET", "url": "/auth/v1/me", "headers": {"traceparent": MRN, "x-request-id": MRN, "cookie": TOKEN}},
        {"method": FAMILY.upper(), "url": "/auth/v1/me"},
    ]
    with httpx.Client(base_url=url, trust_env=False, timeout=15) as client:
        for request in requests:
            headers = {**token, **request.pop("headers", {})}
            response = client.request(**request, headers=headers)
            assert response.status_code != 500, f"{request}: {response.text}"
            places.add("problem details", f"{response.text} {response.headers}" if response.is_error else "")
        found = client.post("/sync/v1/records/patient:search", json={"name": FAMILY}, headers=token)
        assert found.status_code == 200


def assertion_form() -> dict[str, str]:
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": f"{TOKEN}.{MRN}.{FAMILY}",
        "tenant": MRN,
    }


def hl7_roads(suite: Suite, places: Places) -> None:
    """Good, strange and broken messages; the answers are the sender's own, and hold nothing of PID."""
    assert send_hl7(suite, adt("CONTROL-1")) == ["AA"]
    others = (
        adt("CONTROL-2", kind=f"{FAMILY.upper()}^{GIVEN.upper()}"),
        adt("CONTROL-3", kind="ADT^Z99"),
        adt("CONTROL-4", authority=FAMILY),
        adt("CONTROL-6").replace(f"{FAMILY}^{GIVEN}", ""),
        f"PID|1||{MRN}^^^EPIC^MR||{FAMILY}^{GIVEN}",
        f"{PERSON}",
    )
    with MLLPClient("127.0.0.1", suite.mllp_port, encoding="utf-8") as client:
        for message in others:
            client.send_message(message.encode())
    with contextlib.suppress(OSError), MLLPClient("127.0.0.1", suite.mllp_port, encoding="utf-8") as client:
        client.socket.sendall(PERSON.encode() + b"\x0b" + PERSON.encode())
    eventually(
        lambda: FAMILY in json.dumps(suite.call("POST", "/sync/v1/records/patient:search", {"name": FAMILY})),
        within_s=20,
    )
    places.add("message metadata", json.dumps(suite.call("POST", "/hl7/v1/messages:search", {"limit": 100})))


def vendor_roads(suite: Suite, provider: Provider, places: Places) -> None:
    """Integrations with a vendor that refuses credentials, breaks, and answers nonsense, always with a patient."""
    for name, base, token_path in (
        ("good", "/fhir", "/token"),
        ("away", "/away", "/token"),
        ("refused", "/fhir", "/refused"),
        ("odd", "/fhir", "/odd"),
        ("broken", "/broken", "/token"),
        ("nonsense", "/nonsense", "/token"),
    ):
        integration_id = suite.call("POST", "/auth/v1/integrations", {"name": name, "vendor": "epic"})["id"]
        path = f"/auth/v1/integrations/{integration_id}"
        suite.call(
            "PUT",
            f"{path}/credentials/api",
            {
                "method": "client_secret_basic",
                "client_id": "practice",
                "token_url": provider.url + token_path,
                "scopes": ["system/Patient.read"],
                "secret": SECRET,
            },
        )
        channel = {"kind": "fhir", "endpoint": provider.url + base, "time_zone": "UTC", "credential": "api"}
        suite.call("PUT", f"{path}/channels/fhir", channel)
        suite.call("POST", f"{path}:resume")
        for method, address, body in (
            ("POST", f"{path}/credentials/api:test", None),
            ("POST", f"{path}/credentials/api:refresh", None),
            ("GET", f"{path}/credentials/api", None),
            ("POST", "/diagnostics/v1/connection-tests", {"integration_id": integration_id}),
        ):
            response = suite.request(method, address, body)
            places.add("answers about vendors", response.text)
        for resource in ("appointment", "patient"):
            order = {"integration_id": integration_id, "resource": resource, "mode": "full"}
            run = suite.call("POST", "/sync/v1/runs", order)
            ended = eventually(lambda run_id=run["id"]: ended_run(suite, run_id), within_s=60)
            places.add("runs", json.dumps(ended))
    assert {
        "/token",
        "/refused",
        "/odd",
        "/fhir/Appointment",
        "/away/Appointment",
        "/broken/Appointment",
    } <= provider.asked


def vault_roads(suite: Suite, provider: Provider, places: Places) -> None:
    """A secret is replaced and used, its end recorded, rights are taken in an emergency and refused to others."""
    integration_id = suite.call("POST", "/auth/v1/integrations", {"name": "vault", "vendor": "cerner"})["id"]
    path = f"/auth/v1/integrations/{integration_id}/credentials/api"
    body = {"method": "client_secret_post", "client_id": "practice", "token_url": provider.url + "/token"}
    suite.call("PUT", path, {**body, "secret": FORMER_SECRET})
    etag, statuses = suite.request("GET", path).headers["etag"], []
    for secret, headers in ((SECRET, {}), ({"a": SECRET}, {"If-Match": etag}), (SECRET, {"If-Match": etag})):
        answer = suite.request("PUT", path, {**body, "secret": secret}, headers=headers)
        places.add("answers of the vault", answer.text)
        statuses.append(answer.status_code)
    assert statuses == [428, 422, 200]
    emergency = {"role": "phi-reviewer", "reason": "the feed of the ward stands still"}
    for method, address, sent in (
        ("POST", f"{path}:refresh", None),
        ("PUT", f"{path}/expiries/client-secret", {"life_days": SECRET}),
        ("PUT", f"{path}/expiries/client-secret", {"life_days": 3}),
        ("GET", "/auth/v1/expiries", None),
        ("POST", "/auth/v1/break-glass", emergency),
        ("POST", "/auth/v1/support-access", {"subject": "helper", "role": "operator", "reason": "run 17 fails"}),
        ("GET", "/auth/v1/platform/keys", None),
    ):
        places.add("answers of the vault", suite.request(method, address, sent).text)


def ended_run(suite: Suite, run_id: str) -> dict[str, Any] | None:
    run: dict[str, Any] = suite.call("GET", f"/sync/v1/runs/{run_id}")
    return run if run["state"] in {"finished", "failed", "cancelled"} else None


def collect(suite: Suite, places: Places) -> None:
    """What can be read while the suite runs."""
    places.add("/metrics", httpx.get(suite.urls["sync"] + "/metrics", trust_env=False).text)
    for where, address in (
        ("exchanges", "/diagnostics/v1/exchanges?limit=500"),
        ("alerts", "/alerts/v1/alerts?limit=500"),
        ("runs", "/sync/v1/runs?limit=500"),
        ("schedules", "/sync/v1/schedules"),
        ("connection tests", "/diagnostics/v1/connection-tests"),
    ):
        places.add(where, json.dumps(suite.call("GET", address), ensure_ascii=False))
    for prefix in PREFIXES:
        if prefix == "simulator":
            continue
        page = suite.call("POST", f"/{prefix}/v1/audit:search", {"limit": 500})
        places.add("audit", json.dumps(page, ensure_ascii=False))
        places.add("audit", suite.request("GET", f"/{prefix}/v1/audit/export").text)
        places.add("dead letters", json.dumps(suite.call("GET", f"/{prefix}/v1/dead-letters"), ensure_ascii=False))


def collect_files(suite: Suite, places: Places) -> None:
    """What was written: the log of the process, the bus, and the databases but for sync's, which holds the records."""
    places.add("log", suite.processes["suite"].log.read_text())
    for path in sorted(suite.data.iterdir()):
        if path.is_file() and not path.name.startswith("sync"):
            places.add(f"file {path.name}", path.read_bytes().decode("latin-1"))


def patients_of_the_simulator(suite: Suite) -> frozenset[str]:
    """Words that name one of its patients and nothing else: whole names and numbers, in lower case."""
    wanted = set()
    for row in all_patients(suite):
        record = row["record"]
        for number in (identifier["value"] for identifier in record["identifiers"]):
            # A short number may stand in a measurement by chance; as a value of its own it may not.
            wanted |= {number} if not number.isdigit() else {f'"{number}"', f"{number}^"}
        wanted |= {f"{name['family']}^{name['given'][0]}" for name in record["names"] if name.get("given")}
        wanted |= {f'"{name["family"]}"' for name in record["names"]}
        wanted |= {str(record["birth_date"])} if record.get("birth_date") else set()
    return frozenset(word.lower() for word in wanted)


def spans_of_trace(log: str, trace_id: str) -> set[str]:
    """Names of the spans on the console that belong, or are linked, to a trace."""
    parts = re.split(r'^    "name": "', log, flags=re.MULTILINE)[1:]
    return {part.partition('"')[0] for part in parts if f'"trace_id": "0x{trace_id}"' in part.partition("\n}\n")[0]}


def test_nothing_of_a_patient_and_no_secret_leaves(tmp_path: Path, provider: Provider) -> None:
    places = Places()
    environment = {"PS_TELEMETRY_EXPORTER": "console", "PS_LOG_LEVEL": "DEBUG", "PS_LOG_FORMAT": "json", "PS_KEY": KEY}
    with embedded_suite(tmp_path / "data", environment=environment) as suite:
        wait_for_patients(suite)
        people = patients_of_the_simulator(suite)
        hl7_roads(suite, places)
        bad_requests(suite, places)
        vendor_roads(suite, provider, places)
        vault_roads(suite, provider, places)
        rows = eventually(lambda: suite.call("GET", "/diagnostics/v1/exchanges?kind=hl7v2")["items"], within_s=20)
        assert len(rows) > 3
        collect(suite, places)
        collect_files(suite, places)  # the write-ahead logs are there while it runs only
        assert suite.processes["suite"].stop() == 0
        collect_files(suite, places)
    log = "".join(places.texts["log"])
    assert [name for name in SPAN_NAMES if f'"name": "{name}"' not in log] == []
    # One trace from the sender's message over the bus to the record, without a byte of the message being touched.
    trace_id = mllp_trace_id("EPIC", "DEMO", "20261123101500", "CONTROL-1")
    assert spans_of_trace(log, trace_id) >= {"hl7.receive", "sync.hl7 handle"}
    assert {"file bus.sqlite3", "file auth-gateway.sqlite3-wal"} <= set(places.texts)
    assert any("break-glass.opened" in text for text in places.texts["audit"])
    assert len(people) > 400
    for wanted in (frozenset(canary.lower() for canary in CANARIES), people):
        found = places.found(wanted)
        assert not found, json.dumps(found, indent=1, ensure_ascii=False)
