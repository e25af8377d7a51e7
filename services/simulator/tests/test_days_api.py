"""A day in the practice through the API, on a clock that the test moves: begun, watched, told over HL7, stopped."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hl7
import httpx
import pytest

from common.models.access import Role
from common.models.clock import FixedClock
from common.testing import OTHER_TENANT, RunningSuite, make_test_runtime, running
from simulator.core.hl7_feed import frame
from simulator.module import build

DAY = "/simulator/v1/servers/north/day"
SECRET = "canary-secret"
TYPES = ("Patient", "Appointment", "Encounter", "ChargeItem")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 4, 13, 30, tzinfo=UTC))


@pytest.fixture
async def suite(tmp_path: Path, clock: FixedClock) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator", clock=clock), build) as up:
        yield up


class Listener:
    """An MLLP listener that acknowledges and keeps what it got."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.port = 0

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                body = (await reader.readuntil(b"\x1c\r"))[1:-2]
                self.messages.append(body)
                control_id = str(hl7.parse(body.decode()).segment("MSH")[10])
                ack = f"MSH|^~\\&|A|B|C|D|20260304||ACK|1|P|2.5.1\rMSA|AA|{control_id}\r"
                writer.write(frame(ack.encode()))
        except asyncio.IncompleteReadError:
            writer.close()


async def make(admin: httpx.AsyncClient) -> dict[str, Any]:
    made = await admin.post("/simulator/v1/servers", json={"name": "north", "vendor": "fhir", "patients": 600})
    assert made.status_code == 201, made.text
    scopes = [f"system/{kind}.rs" for kind in TYPES]
    await admin.put("/simulator/v1/clients/app", json={"secret": SECRET, "scopes": scopes})
    return dict(made.json())


async def fetch(suite: RunningSuite, server: dict[str, Any], path: str) -> dict[str, Any]:
    form = {"grant_type": "client_credentials", "client_id": "app", "client_secret": SECRET}
    async with suite.client() as client:
        granted = await client.post(server["token_url"], data=form)
        assert granted.status_code == 200, granted.text
        bearer = {"authorization": f"Bearer {granted.json()['access_token']}"}
        answer = await client.get(f"{server['fhir_base']}/{path}", headers=bearer)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def events(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    items, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"{DAY}/events", params={"limit": 50} | ({"cursor": cursor} if cursor else {}))).json()
        items += page["items"]
        cursor = page["next"]
    return items


async def wait_until_sent(client: httpx.AsyncClient) -> dict[str, Any]:
    for _ in range(400):
        state = (await client.get(DAY)).json()
        if state["state"] == "ended":
            return dict(state)
        await asyncio.sleep(0.05)
    raise AssertionError("the messages were not sent")


async def test_the_clock_moves_the_practice_and_versions_follow(suite: RunningSuite, clock: FixedClock) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        server = await make(admin)
        begun = await admin.put(DAY, json={"day": "2026-03-04", "speed": 60})
        assert begun.status_code == 200, begun.text
        assert (begun.json()["state"], begun.json()["clock"]) == ("running", "2026-03-04T13:30:00.000Z")
        assert begun.json()["happened"] == 0
        assert (await admin.put(DAY, json={})).status_code == 409
        clock.advance(5 * 60)
        noon = (await admin.get(DAY)).json()
        assert noon["clock"] == "2026-03-04T18:30:00.000Z"
        assert 0 < noon["happened"] < noon["events"]
        seen = await events(admin)
        assert len(seen) == noon["happened"]
        left = next(row for row in seen if row["kind"] == "check-out")
        appointment = await fetch(suite, server, f"Appointment/{left['appointment']}")
        assert appointment["status"] == "fulfilled"
        assert appointment["meta"]["versionId"] == "3"
        found = await fetch(suite, server, "Appointment?date=2026-03-04&_lastUpdated=ge2026-03-04T13:34:00Z&_count=200")
        changed = {row["resource"]["id"] for row in found["entry"]}
        assert left["appointment"] in changed
        whole = await fetch(suite, server, "Appointment?date=2026-03-04&_count=200")
        statuses = Counter(row["resource"]["status"] for row in whole["entry"])
        assert statuses["booked"] > 0
        assert statuses["fulfilled"] >= sum(row["kind"] == "check-out" for row in seen) > 0
        charges = await fetch(suite, server, f"ChargeItem?patient={left['patient']}&date=2026-03-04")
        assert charges["entry"], "who left has been charged"
        moved = next(row for row in seen if row["kind"] == "address")
        patient = await fetch(suite, server, f"Patient/{moved['patient']}")
        assert [row["use"] for row in patient["address"]] == ["home", "old"]
        assert patient["meta"] == {"versionId": "2", "lastUpdated": "2026-03-04T13:35:00Z"}


async def test_the_whole_day_is_told_over_hl7(suite: RunningSuite, clock: FixedClock) -> None:
    async with Listener() as listener, suite.client(Role.INTEGRATION_ADMIN) as admin:
        server = await make(admin)
        body = {"day": "2026-03-04", "speed": 3600, "hl7": {"port": listener.port}}
        assert (await admin.put(DAY, json=body)).status_code == 200
        clock.advance(24)
        state = await wait_until_sent(admin)
        seen = await events(admin)
        assert len(seen) == state["events"] == state["happened"]
        told = [kind for row in seen for kind in row["messages"]]
        assert state["hl7"]["sent"] == len(told) == len(listener.messages)
        assert state["hl7"]["acknowledgment_codes"] == {"AA": len(told)}
        messages = [hl7.parse(one.decode()) for one in listener.messages]
        assert ["^".join(str(one.segment("MSH")[9]).split("^")[:2]) for one in messages] == told
        assert {"ADT^A04", "ADT^A08", "ADT^A40", "DFT^P03", "SIU^S12"} <= Counter(told).keys()
        assert len({str(one.segment("MSH")[10]) for one in messages}) == len(messages)
        assert all(len(str(one.segment("MSH")[10])) <= 20 for one in messages)
        merge = next(row for row in seen if row["kind"] == "merge")
        ended = await fetch(suite, server, f"Patient/{merge['merged']}")
        lives = await fetch(suite, server, f"Patient/{merge['patient']}")
        assert ended["active"] is False
        assert ended["link"][0]["other"]["reference"] == f"Patient/{merge['patient']}"
        sent = next(one for one in messages if "A40" in str(one.segment("MSH")[9]))
        assert str(sent.segment("MRG")[1]).split("^")[0] == ended["identifier"][0]["value"]
        assert str(sent.segment("PID")[3]).split("^")[0] == lives["identifier"][0]["value"]


async def test_a_receiver_that_is_not_there_loses_messages_and_not_the_day(
    suite: RunningSuite, clock: FixedClock
) -> None:
    async with Listener() as listener:
        port = listener.port
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await make(admin)
        body = {"day": "2026-03-04", "speed": 100_000, "hl7": {"port": port}}
        assert (await admin.put(DAY, json=body)).status_code == 200
        clock.advance(1)
        state = (await admin.get(DAY)).json()
        assert state["happened"] == state["events"]
        assert state["hl7"]["waiting"] > 0


async def test_a_day_that_was_stopped_stands(suite: RunningSuite, clock: FixedClock) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await make(admin)
        assert (await admin.get(DAY)).status_code == 404
        assert (await admin.delete(DAY)).status_code == 404
        await admin.put(DAY, json={"day": "2026-03-04", "start_time": "12:00", "speed": 60})
        clock.advance(60)
        stopped = (await admin.delete(DAY)).json()
        assert (stopped["state"], stopped["clock"]) == ("stopped", "2026-03-04T19:00:00.000Z")
        clock.advance(600)
        assert (await admin.get(DAY)).json() == stopped
        again = await admin.put(DAY, json={"day": "2026-03-04", "start_time": "13:00"})
        assert again.status_code == 200
        assert again.json()["events"] > 0


async def test_a_practice_of_the_settings_has_its_day_too(suite: RunningSuite, clock: FixedClock) -> None:
    path = "/simulator/v1/practices/demo/day"
    async with suite.client(Role.OPERATOR) as operator:
        begun = (await operator.put(path, json={"speed": 100_000})).json()
        assert begun["day"] == "2026-03-04", "today in the practice's time zone"
        clock.advance(1)
        assert (await operator.get(path)).json()["happened"] == begun["events"]
        assert (await operator.get(f"{path}/events", params={"limit": 1})).json()["next"]


@pytest.mark.parametrize(
    "body",
    [{"speed": 0}, {"speed": 100_001}, {"day": "tomorrow"}, {"day": "1900-01-01"}, {"start_time": "18:00"},
     {"start_time": "08:00+01:00"}, {"hl7": {}}, {"hl7": {"port": 0}}, {"pace": 1}, {"seed": -1}],
)  # fmt: skip
async def test_wrong_days_are_refused(suite: RunningSuite, body: dict[str, Any]) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        refused = await operator.put("/simulator/v1/practices/demo/day", json=body)
        assert refused.status_code == 422, refused.text
        assert (await operator.get("/simulator/v1/practices/demo/day")).status_code == 404


async def test_a_removed_server_takes_its_day_along(suite: RunningSuite, clock: FixedClock) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await make(admin)
        await admin.put(DAY, json={})
        assert (await admin.delete("/simulator/v1/servers/north")).status_code == 204
        assert (await admin.get(DAY)).status_code == 404
        await make(admin)
        assert (await admin.get(DAY)).status_code == 404, "another server of that name has its own day"
        assert (await admin.put(DAY, json={})).status_code == 200


async def test_strangers_see_nothing(suite: RunningSuite) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        await make(admin)
        await admin.put(DAY, json={})
    async with suite.client(Role.OPERATOR, tenant=OTHER_TENANT) as other:
        assert (await other.get(DAY)).status_code == 404
        assert (await other.put("/simulator/v1/practices/none/day", json={})).status_code == 404
    async with suite.client(Role.VIEWER) as viewer:
        assert (await viewer.put(DAY, json={})).status_code == 403
        assert (await viewer.get(DAY)).status_code == 200
