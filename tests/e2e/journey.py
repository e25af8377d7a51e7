"""What a practice and its engineers see, through public URLs and the MLLP port only; the same for both shapes."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hl7.client import MLLPClient

from e2e.suite_process import Suite, eventually

PATIENTS = 200
POLL_S = 5.0
TOKEN_TEST_S = 60.0
SLACK_S = 5.0

# fault → (parameters, rule that opens, how often it is looked at in s)
FAULTS: dict[str, tuple[dict[str, Any], str, float]] = {
    "unauthorized": ({}, "failed-authentication", POLL_S),
    "rate-limited": ({"retry_after_s": 1}, "rate-limited", POLL_S),
    "unavailable": ({}, "failed-runs", POLL_S),
    "slow": ({"delay_ms": 2500}, "slow-answers", POLL_S + 2 * 2.5),
    "clock-skew": ({"offset_s": 600}, "clock-skew", POLL_S),
    "expired-secret": ({}, "failed-authentication", TOKEN_TEST_S),
}


def the_integration(suite: Suite) -> dict[str, Any]:
    items = suite.call("GET", "/auth/v1/integrations")["items"]
    assert len(items) == 1
    return dict(items[0])


def all_patients(suite: Suite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = suite.call(
            "POST", "/sync/v1/records/patient:search", {"limit": 100, "cursor": cursor} if cursor else {"limit": 100}
        )
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


def wait_for_patients(suite: Suite) -> list[dict[str, Any]]:
    def whole() -> list[dict[str, Any]] | None:
        found = all_patients(suite)
        return found if len(found) >= PATIENTS else None

    return eventually(whole, within_s=60, every_s=0.5)


def wait_for_full_runs(suite: Suite) -> None:
    """Until the first whole synchronisation of both resources has ended."""

    def ended() -> bool:
        runs = suite.call("GET", "/sync/v1/runs?limit=500")["items"]
        return {run["resource"] for run in runs if run["mode"] == "full" and run["state"] == "finished"} >= {
            "patient",
            "appointment",
        }

    assert eventually(ended, within_s=90, every_s=0.5)


def medical_record_number(patient: dict[str, Any]) -> str:
    record = patient.get("record", patient)
    return str(
        next(row["value"] for row in record["identifiers"] if row["system"].startswith("urn:oid:1.2.840.114350"))
    )


def adt_a08(number: str, family: str, control_id: str, time: str = "20261123101500") -> str:
    return "\r".join(
        (
            f"MSH|^~\\&|EPIC|DEMO|PRACTICE_STUDIO|DEMO|{time}||ADT^A08^ADT_A01|{control_id}|P|2.5.1||||||UNICODE UTF-8",
            f"EVN|A08|{time}",
            f"PID|1||{number}^^^EPIC^MR||{family}^Changed||19700101|F",
            "PV1|1|O",
            "",
        )
    )


def send_hl7(suite: Suite, *messages: str) -> list[str]:
    """python-hl7's client; the acknowledgment codes."""
    codes = []
    with MLLPClient("127.0.0.1", suite.mllp_port, encoding="utf-8") as client:
        for message in messages:
            reply = client.send_message(message.encode()).decode()
            codes.append(
                next(line.split("|")[1] for line in reply.strip("\x0b\x1c\r").split("\r") if line.startswith("MSA"))
            )
    return codes


def family_of(suite: Suite, record_id: str) -> str:
    return json.dumps(suite.call("GET", f"/sync/v1/records/patient/{record_id}")["record"]["names"], ensure_ascii=False)


def open_alerts(suite: Suite, rule: str) -> list[dict[str, Any]]:
    return [row for row in suite.call("GET", "/alerts/v1/alerts?state=open")["items"] if row["rule"] == rule]


def fault_opens_and_resolves(suite: Suite, fault: str) -> dict[str, Any]:
    """Switch a fault on: its alert opens within one poll and 5 s; off: it resolves. Returns the alert."""
    parameters, rule, poll_s = FAULTS[fault]
    wait_for_full_runs(suite)
    eventually(lambda: not open_alerts(suite, rule), within_s=TOKEN_TEST_S + SLACK_S)
    suite.call("PUT", f"/simulator/v1/faults/{fault}", {"parameters": parameters})
    try:
        opened = eventually(lambda: open_alerts(suite, rule), within_s=poll_s + SLACK_S)
    finally:
        suite.call("DELETE", f"/simulator/v1/faults/{fault}")
    eventually(
        lambda: suite.call("GET", f"/alerts/v1/alerts/{opened[0]['id']}")["state"] == "resolved",
        within_s=max(poll_s, 3 * POLL_S) + TOKEN_TEST_S + SLACK_S,
    )
    return opened[0]


class Received:
    """What a webhook's receiver got: header and body of each message."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """The messages whose Standard Webhooks signature is right."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        verified = []
        for headers, body in list(self.messages):
            signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
            expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
            assert hmac.compare_digest(expected, headers["webhook-signature"])
            verified.append(json.loads(body))
        return verified


@contextmanager
def webhook_receiver() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}/alerts"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def whole_journey(suite: Suite) -> None:
    """Patients arrive, an HL7 message changes one, exchanges are recorded, a connection is tested, a road breaks and
    mends."""
    patients = wait_for_patients(suite)
    assert len({medical_record_number(patient) for patient in patients}) == PATIENTS
    assert eventually(
        lambda: suite.call("POST", "/sync/v1/records/appointment:search", {"limit": 10})["items"], within_s=30
    )

    patient = patients[0]
    before = suite.call("GET", f"/sync/v1/records/patient/{patient['id']}")
    assert send_hl7(suite, adt_a08(medical_record_number(patient), "Überall", "E2E-1")) == ["AA"]
    eventually(lambda: "Überall" in family_of(suite, patient["id"]), within_s=10)
    after = suite.call("GET", f"/sync/v1/records/patient/{patient['id']}")
    assert after["version"] > before["version"]
    assert len(all_patients(suite)) == PATIENTS
    versions = suite.call("GET", f"/sync/v1/records/patient/{patient['id']}/versions")["items"]
    assert any("Überall" in json.dumps(version, ensure_ascii=False) for version in versions)

    exchanges = eventually(lambda: suite.call("GET", "/diagnostics/v1/exchanges?kind=hl7v2")["items"], within_s=10)
    assert exchanges[0]["operation"] == "ADT^A08"
    assert suite.call("GET", "/diagnostics/v1/exchanges?kind=fhir&outcome=ok")["items"]

    integration = the_integration(suite)
    test = suite.call("POST", "/diagnostics/v1/connection-tests", {"integration_id": integration["id"]})
    assert test["status"] == "passed", test
    staged = suite.call("POST", f"/auth/v1/integrations/{integration['id']}/credentials/api:test")
    assert staged["status"] == "passed", staged

    with webhook_receiver() as received:
        webhook = suite.call("POST", "/alerts/v1/webhooks", {"url": received.url})
        alert = fault_opens_and_resolves(suite, "unavailable")
        told = eventually(
            lambda: (
                {row["type"] for row in received.verified(webhook["secret"])}
                >= {"ps.alert.opened", "ps.alert.resolved"}
            ),
            within_s=15,
        )
        assert told
        assert alert["next_step"]
        suite.call("DELETE", f"/alerts/v1/webhooks/{webhook['id']}")
