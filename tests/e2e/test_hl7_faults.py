"""The simulator's HL7 faults and feeds, through the public API and the gateway's ports: what each makes the gateway
answer, count and record."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.journey import the_integration
from e2e.suite_process import Suite, embedded_suite, eventually, free_port

pytestmark = pytest.mark.e2e

FRAME_TIMEOUT_S = 0.5
IDLE_TIMEOUT_S = 1.0
ACK_TIMEOUT_MS = 400
WITHIN_S = 20.0
SIMULATOR = "/simulator/v1"


class Ground:
    """The suite with listeners and a sender that are there for the faults."""

    def __init__(self, suite: Suite, receiver_port: int) -> None:
        self.suite = suite
        self.receiver_port = receiver_port
        self.integration = the_integration(suite)["id"]
        self.patient = suite.call("GET", f"{SIMULATOR}/patients?limit=1")["items"][0]["external_id"]
        self.plain = self._listener("Plain", {})
        self.strict = self._listener("Strict", {"validation": {"when": "before"}})
        self.sent = 0

    def _listener(self, name: str, listening: dict[str, Any]) -> tuple[str, int]:
        port = free_port()
        listening = {"frame_timeout_s": FRAME_TIMEOUT_S, **listening}
        path = self._connection(
            name=name,
            direction="listener",
            host="127.0.0.1",
            port=port,
            idle_timeout_s=IDLE_TIMEOUT_S,
            listening=listening,
        )
        eventually(lambda: self.live(path)["state"] == "listening", within_s=WITHIN_S)
        return path, port

    def sender(self, **sending: Any) -> str:
        self.sent += 1
        how = {"ack_timeout_ms": ACK_TIMEOUT_MS, "backoff": {"first_ms": 10, "max_ms": 50}, **sending}
        name = f"Out {self.sent}"
        return self._connection(name=name, direction="sender", host="127.0.0.1", port=self.receiver_port, sending=how)

    def _connection(self, **configuration: Any) -> str:
        body = {"configuration": {"integration_id": self.integration, **configuration}, "reason": "for a test"}
        made = self.suite.request("POST", "/hl7/v1/connections", body)
        assert made.status_code == 201, made.text
        return str(made.headers["location"])

    def live(self, path: str) -> dict[str, Any]:
        return dict(self.suite.call("GET", path)["live"])

    def counters(self, listener: tuple[str, int]) -> dict[str, int]:
        return dict(self.live(listener[0])["counters"])

    def send(self, listener: tuple[str, int], *, timeout_s: float = 5.0) -> tuple[int, dict[str, Any]]:
        order = {"kind": "ADT^A08", "patient": self.patient, "port": listener[1], "timeout_s": timeout_s}
        answer = self.suite.request("POST", f"{SIMULATOR}/hl7:send", order)
        return answer.status_code, answer.json()

    def post_hl7(self, path: str, message: bytes) -> Any:
        headers = {"content-type": "x-application/hl7-v2+er7"}
        return self.suite.request("POST", path, content=message, headers=headers)

    def queue(self, path: str, message: bytes) -> None:
        done = self.post_hl7(f"{path}/messages", message)
        assert done.status_code == 202, done.text

    def outbound(self, control_id: str) -> dict[str, Any]:
        items = self.suite.call("POST", "/hl7/v1/outbound:search", {"control_id": control_id})["items"]
        return dict(self.suite.call("GET", f"/hl7/v1/outbound/{items[0]['id']}")) if items else {}

    def stored(self, control_id: str) -> list[dict[str, Any]]:
        return list(self.suite.call("POST", "/hl7/v1/messages:search", {"control_id": control_id})["items"])

    def got(self) -> list[dict[str, Any]]:
        return list(self.suite.call("GET", f"{SIMULATOR}/receiver/messages")["items"])

    @contextmanager
    def fault(self, name: str, **parameters: int) -> Iterator[None]:
        shown = self.suite.call("PUT", f"{SIMULATOR}/faults/{name}", {"parameters": parameters})
        assert shown["active"]
        try:
            yield
        finally:
            self.suite.call("DELETE", f"{SIMULATOR}/faults/{name}")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    port = free_port()
    environment = {"PS_SIMULATOR_RECEIVER_PORT": str(port)}
    data = tmp_path_factory.mktemp("hl7-faults") / "data"
    with embedded_suite(data, environment=environment) as suite:
        yield Ground(suite, port)


def message(control_id: str, kind: str = "ADT^A08", patient: str = "4711") -> bytes:
    return (
        f"MSH|^~\\&|PS|HERE|SIM|THERE|20260301093000||{kind}|{control_id}|P|2.5.1\rEVN||20260301093000\r"
        f"PID|1||{patient}^^^EPIC^MR||TEST^SYNTHETIC||19700101|F\rPV1|1|O\r"
    ).encode()


def test_every_fault_is_listed_with_its_effect(ground: Ground) -> None:
    rows = ground.suite.call("GET", f"{SIMULATOR}/faults")["items"]
    hl7 = {row["name"]: row for row in rows if row["name"].startswith("hl7-")}
    assert {row["cause"] for row in hl7.values()} == {f"D{number}" for number in range(1, 19)}
    assert all(row["expected"] and not row["active"] for row in hl7.values())
    with ground.fault("hl7-slow-ack", delay_ms=7):
        shown = ground.suite.call("GET", f"{SIMULATOR}/faults/hl7-slow-ack")
        assert (shown["active"], shown["parameters"]) == (True, {"delay_ms": 7})
    wrong = ground.suite.request("PUT", f"{SIMULATOR}/faults/hl7-slow-ack", {"parameters": {"delay_ms": 0}})
    assert wrong.status_code == 422


def test_without_faults_a_message_is_accepted(ground: Ground) -> None:
    for listener in (ground.plain, ground.strict):
        status, sent = ground.send(listener)
        assert (status, sent["acknowledgment_code"], sent["matched"]) == (200, "AA", True)
        assert len(ground.stored(sent["control_id"])) == 1


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("hl7-segment-missing", {}), ("hl7-segment-order", {}), ("hl7-segment-cardinality", {}), ("hl7-line-break", {}),
        ("hl7-delimiters", {"honest": 0}),
    ],
)  # fmt: skip
def test_a_wrong_message_is_named_by_who_validates_and_kept_by_who_does_not(
    ground: Ground, fault: str, parameters: dict[str, int]
) -> None:
    with ground.fault(fault, **parameters):
        status, sent = ground.send(ground.strict)
        assert (status, sent["acknowledgment_code"], sent["matched"]) == (200, "AE", True)
        assert sent["error_codes"]
        (kept,) = eventually(lambda: ground.stored(sent["control_id"]), within_s=WITHIN_S)
        assert kept["state"] == "rejected"
        status, sent = ground.send(ground.plain)
        assert (status, sent["acknowledgment_code"]) == (200, "AA")
        assert len(eventually(lambda: ground.stored(sent["control_id"]), within_s=WITHIN_S)) == 1
    assert ground.send(ground.strict)[1]["acknowledgment_code"] == "AA"


@pytest.mark.parametrize(
    ("fault", "path", "code"), [("hl7-version", "MSH-12", "203"), ("hl7-charset", "MSH-18", "102")]
)
def test_what_is_taken_all_the_same_is_named_by_the_validator(ground: Ground, fault: str, path: str, code: str) -> None:
    with ground.fault(fault):
        status, sent = ground.send(ground.strict)
    assert (status, sent["acknowledgment_code"], sent["matched"]) == (200, "AA", True)
    (kept,) = eventually(lambda: ground.stored(sent["control_id"]), within_s=WITHIN_S)
    why = {"reason": "what the validator says of it"}
    body = base64.b64decode(ground.suite.call("POST", f"/hl7/v1/messages/{kept['id']}:read-body", why)["body"])
    found = ground.post_hl7("/hl7/v1/validate", body).json()["items"][0]
    assert (path, code, "warning") in {(row["path"], row["code"], row["severity"]) for row in found["findings"]}


def test_honest_delimiters_are_read(ground: Ground) -> None:
    with ground.fault("hl7-delimiters", honest=1):
        status, sent = ground.send(ground.strict)
    assert (status, sent["acknowledgment_code"], sent["matched"]) == (200, "AA", True)
    assert len(ground.stored(sent["control_id"])) == 1


def test_a_repeated_message_is_acknowledged_twice_and_stored_once(ground: Ground) -> None:
    before = ground.counters(ground.plain)["frames"]
    with ground.fault("hl7-duplicates"):
        status, sent = ground.send(ground.plain)
    assert (status, sent["acknowledgment_code"], sent["matched"]) == (200, "AA", True)
    assert ground.counters(ground.plain)["frames"] == before + 2
    assert len(ground.stored(sent["control_id"])) == 1


@pytest.mark.parametrize(
    ("fault", "parameters", "counters", "code"),
    [
        ("hl7-start-missing", {}, ["bytes_outside_frames", "connections_idle"], "peer.unreadable"),
        ("hl7-end-wrong", {}, ["connections_slow", "frames_cut"], "peer.unreadable"),
        ("hl7-half-open", {"hold_ms": 2000}, ["connections_slow", "frames_cut"], "peer.timeout"),
        ("hl7-trickle", {"pause_ms": 5}, ["connections_slow", "frames_cut"], "peer."),
        ("hl7-feed-idle", {"hold_ms": 2500}, ["connections_idle"], "peer.timeout"),
    ],
)
def test_a_hostile_sender_is_counted_and_not_answered(
    ground: Ground, fault: str, parameters: dict[str, int], counters: list[str], code: str
) -> None:
    before = ground.counters(ground.plain)
    with ground.fault(fault, **parameters):
        status, problem = ground.send(ground.plain)
    assert status in {502, 504}
    assert problem["code"].startswith(code)

    def counted() -> bool:
        now = ground.counters(ground.plain)
        return all(now[name] > before[name] for name in counters)

    eventually(counted, within_s=WITHIN_S)
    assert ground.counters(ground.plain)["frames"] == before["frames"]
    assert ground.send(ground.plain)[1]["acknowledgment_code"] == "AA"


@pytest.mark.parametrize(
    ("fault", "parameters", "code"),
    [
        ("hl7-no-ack", {}, {"hl7.no-acknowledgment"}),
        ("hl7-ack-not-framed", {}, {"hl7.no-acknowledgment", "hl7.acknowledgment-unreadable"}),
        ("hl7-closes-mid-frame", {}, {"hl7.connection-cut"}),
        ("hl7-slow-ack", {"delay_ms": 1500}, {"hl7.no-acknowledgment"}),
        ("hl7-control-id", {}, {"hl7.acknowledgment-foreign"}),
        ("hl7-application-error", {}, {"hl7.refused-error"}),
        ("hl7-receiver-half-open", {}, {"hl7.no-acknowledgment"}),
    ],
)
def test_a_hostile_receiver_is_named_and_the_message_goes_once_it_is_well(
    ground: Ground, fault: str, parameters: dict[str, int], code: set[str]
) -> None:
    path = ground.sender(on_error={"action": "retry"})
    control_id = f"M-{fault}"[:20]
    with ground.fault(fault, **parameters):
        ground.queue(path, message(control_id))
        eventually(lambda: len(ground.outbound(control_id).get("tries", ())) >= 2, within_s=WITHIN_S)
        tried = ground.outbound(control_id)
        assert tried["error_code"] in code
        assert tried["state"] != "delivered"
    eventually(lambda: ground.outbound(control_id)["state"] == "delivered", within_s=WITHIN_S)
    assert ground.outbound(control_id)["acknowledgment_code"] == "AA"
    assert control_id in {row["control_id"] for row in ground.got()}
    ground.suite.call("DELETE", f"{SIMULATOR}/receiver/messages")


def test_a_slow_acknowledgment_within_the_time_is_a_delivery(ground: Ground) -> None:
    path = ground.sender(ack_timeout_ms=10_000)
    with ground.fault("hl7-slow-ack", delay_ms=300):
        ground.queue(path, message("M-late"))
        eventually(lambda: ground.outbound("M-late").get("state") == "delivered", within_s=WITHIN_S)
    assert len(ground.outbound("M-late")["tries"]) == 1


def test_a_type_that_is_rejected_is_parked_and_others_go(ground: Ground) -> None:
    path = ground.sender()
    with ground.fault("hl7-application-reject", type_number=2):
        ground.queue(path, message("M-siu", "SIU^S12"))
        ground.queue(path, message("M-adt", patient="5"))
        eventually(lambda: ground.outbound("M-adt").get("state") == "delivered", within_s=WITHIN_S)
        eventually(lambda: ground.outbound("M-siu").get("state") == "parked", within_s=WITHIN_S)
    assert ground.outbound("M-siu")["error_code"] == "hl7.refused-reject"


def test_the_second_connection_is_reset_where_one_is_allowed(ground: Ground) -> None:
    first, second = ground.sender(), ground.sender()
    with ground.fault("hl7-one-connection"):
        ground.suite.call("DELETE", f"{SIMULATOR}/receiver/messages")
        eventually(lambda: ground.suite.call("GET", f"{SIMULATOR}/receiver")["state"] == "listening", within_s=WITHIN_S)
        ground.queue(first, message("M-first"))
        ground.queue(second, message("M-second"))

        def one_is_out() -> bool:
            rows = [ground.outbound(name) for name in ("M-first", "M-second")]
            return any(row.get("error_code") == "hl7.connection-cut" for row in rows)

        eventually(one_is_out, within_s=WITHIN_S)
        assert ground.suite.call("GET", f"{SIMULATOR}/receiver")["counters"]["connections_reset"] >= 1
    for name in ("M-first", "M-second"):
        eventually(lambda name=name: ground.outbound(name)["state"] == "delivered", within_s=WITHIN_S)


def test_a_feed_reaches_the_gateway_and_counts_its_answers(ground: Ground) -> None:
    plan = {
        "port": ground.plain[1], "rate_per_minute": 60_000, "connections": 4, "seed": 7, "messages_max": 150,
        "mix": {"ADT^A08": 5, "SIU^S12": 3, "ORU^R01": 1},
    }  # fmt: skip
    before = ground.counters(ground.plain)
    ground.suite.call("PUT", f"{SIMULATOR}/feeds/busy", plan)
    eventually(lambda: ground.suite.call("GET", f"{SIMULATOR}/feeds/busy")["state"] == "ended", within_s=WITHIN_S)
    found = ground.suite.call("GET", f"{SIMULATOR}/feeds/busy")
    assert (found["sent"], found["mismatched"], found["error_codes"]) == (150, 0, {})
    answered = found["acknowledgment_codes"]
    assert sum(answered.values()) == 150
    assert set(found["message_types"]) == {"ADT^A08", "SIU^S12", "ORU^R01"}
    after = ground.counters(ground.plain)
    assert (after["frames"] - before["frames"], after["connections"] - before["connections"]) == (150, 4)
    assert [row["name"] for row in ground.suite.call("GET", f"{SIMULATOR}/feeds")["items"]] == ["busy"]
    ground.suite.call("DELETE", f"{SIMULATOR}/feeds/busy")
    for method in ("GET", "DELETE"):
        assert ground.suite.request(method, f"{SIMULATOR}/feeds/busy").status_code == 404


def test_a_captured_shape_is_played_to_the_gateway(ground: Ground, tmp_path: Path) -> None:
    capture = tmp_path / "capture.hl7"
    rows = [message("A-1"), message("A-2").replace(b"|2.5.1", b"|2.3"), message("A-3", "ADT^A31") + b"ZPI|1|SITE\r"]
    capture.write_bytes(b"".join(b"\x0b" + row + b"\x1c\r" for row in rows))
    command = [sys.executable, "-m", "simulator", "capture", str(capture), "--output", str(tmp_path / "shape.json")]
    subprocess.run(command, check=True, timeout=60)
    text = (tmp_path / "shape.json").read_text()
    assert not any(word in text for word in ("SYNTHETIC", "4711", "SITE", "ZPI", "A-1", "HERE", "19700101"))
    plan = {
        "port": ground.plain[1],
        "rate_per_minute": 60_000,
        "messages_max": 40,
        "seed": 3,
        "shape": json.loads(text),
    }
    before = ground.counters(ground.plain)["frames"]
    assert ground.suite.call("PUT", f"{SIMULATOR}/feeds/shaped", plan)["from_shape"]
    eventually(lambda: ground.suite.call("GET", f"{SIMULATOR}/feeds/shaped")["state"] == "ended", within_s=WITHIN_S)
    found = ground.suite.call("GET", f"{SIMULATOR}/feeds/shaped")
    assert (found["sent"], found["acknowledgment_codes"], found["mismatched"]) == (40, {"AA": 40}, 0)
    assert set(found["message_types"]) == {"ADT^A08", "ADT^A31"}
    assert ground.counters(ground.plain)["frames"] == before + 40


def test_an_idle_feed_withholds_its_messages_with_its_connections_open(ground: Ground) -> None:
    with ground.fault("hl7-feed-idle"):
        before = ground.counters(ground.plain)
        ground.suite.call(
            "PUT", f"{SIMULATOR}/feeds/idle", {"port": ground.plain[1], "rate_per_minute": 6000, "messages_max": 20}
        )
        eventually(lambda: ground.suite.call("GET", f"{SIMULATOR}/feeds/idle")["state"] == "ended", within_s=WITHIN_S)
        found = ground.suite.call("GET", f"{SIMULATOR}/feeds/idle")
        assert (found["sent"], found["withheld"]) == (0, 20)
        after = ground.counters(ground.plain)
    assert (after["connections"], after["frames"]) == (before["connections"] + 1, before["frames"])


@pytest.mark.parametrize(
    "body",
    [
        {"mix": {"ADT^A99": 1}}, {"mix": {"ADT^A08": 0}}, {"curve": "shape"}, {"shape": {}}, {"rate_per_minute": 0},
        {"connections": 201}, {"speed": 1},
    ],
)  # fmt: skip
def test_a_feed_that_cannot_be_is_refused(ground: Ground, body: dict[str, Any]) -> None:
    refused = ground.suite.request("PUT", f"{SIMULATOR}/feeds/wrong", {"port": 2575, **body})
    assert (refused.status_code, refused.json()["code"]) == (422, "request.invalid")
    assert ground.suite.request("PUT", f"{SIMULATOR}/feeds/x", {"port": 1, "practice": "none"}).status_code == 404
