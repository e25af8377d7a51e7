"""Validation before the acknowledgement, in both modes and every version; and: what is not stored is not accepted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hl7v2
from common.models.integration import (
    Channel,
    ChannelKind,
    Environment,
    Integration,
    IntegrationState,
    Vendor,
    WriteBack,
)
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemClock, SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.batch_frame import bodies_in
from hl7_gateway.core.reception import Peer, Reception
from hl7_gateway.core.senders import SenderTable, sender_table
from hl7_gateway.core.site_profile import BUILT_IN
from hl7_gateway.use_cases.commit_messages import Committer
from hl7_gateway.use_cases.receive_message import ReceiveMessage
from hl7v2.standard import VERSIONS

WAIT_S = 5.0
POSITIVE = {"AA", "CA"}
BEFORE = Reception(connection_id="con_x", validate="before")


class Senders:
    """Whoever sends belongs to one integration."""

    def __init__(self) -> None:
        channel = Channel("hl7-in", ChannelKind.HL7V2_IN, "", "America/Chicago", settings={"senders": []})
        integration = Integration(
            id="int_1",
            tenant=TENANT,
            name="One",
            vendor=Vendor.HL7V2,
            product="any",
            environment=Environment.TEST,
            state=IntegrationState.ACTIVE,
            write_back=WriteBack.OFF,
            version=1,
            channels={"hl7-in": channel},
        )
        self._table = sender_table([integration])

    def table(self) -> SenderTable:
        return self._table

    def settled(self) -> bool:
        return True


class Journal:
    """Forgets what it is told."""

    def begin(self, *_: Any) -> Any:
        return SimpleNamespace(traceparent="")

    def answered(self, *_: Any) -> None:
        """Nothing."""

    def answer_of(self, _: str) -> None:
        """Nothing."""

    def end(self, *_: Any) -> None:
        """Nothing."""


class Receiving:
    """A receiver on an intake in memory."""

    def __init__(self, reception: Reception) -> None:
        self.intake = MemoryIntake()
        clock = SystemClock()
        self.committer = Committer(
            self.intake,
            StaticKeyRing(),
            clock,
            batch_messages_max=10,
            waiting_bytes_max=1 << 24,
            store_timeout_s=4.0,
        )
        self.receiver = ReceiveMessage(Senders(), self.committer, Journal(), clock, SystemIds(), reception=reception)

    async def answer(self, body: bytes) -> bytes:
        """The frames that answer a frame."""
        given: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.receiver.receive(body, Peer("127.0.0.1:1"), given.set_result)
        async with asyncio.timeout(WAIT_S):
            return await given

    async def stored(self) -> list[bytes]:
        """Bodies that are stored and not rejected."""
        keys = await StaticKeyRing().tenant(TENANT)
        kept = [one for one in self.intake.messages.values() if not one.rejection]
        return [keys.open(one.sealed_body, record=one.id, field="body") for one in kept]


@contextlib.asynccontextmanager
async def receiving(reception: Reception = BEFORE) -> AsyncIterator[Receiving]:
    """Until the end of the block."""
    made = Receiving(reception)
    committing = asyncio.create_task(made.committer.run())
    try:
        yield made
    finally:
        made.committer.stop()
        async with asyncio.timeout(WAIT_S):
            await committing


def _text(version: str, modes: str = "|", *, birth: str = "19700101") -> bytes:
    event = "EVN|A08|20260301093000\r"
    pid = f"PID|1||4711^^^EPIC^MR||TEST^SYNTHETIC||{birth}|F\r"
    nk1 = "NK1|1|X^Y|SPO\r" if version == "2.1" else ""
    head = f"MSH|^~\\&|A|B|C|D|20260301093000||ADT^A08|c-1|P|{version}|||{modes}\r"
    return f"{head}{event}{pid}{nk1}PV1|1|O|WARD\r".encode()


def _acknowledgments(frames: bytes) -> list[hl7v2.Message]:
    found = []
    for body in bodies_in(frames):
        found += [hl7v2.parse(one) for one in hl7v2.split_batch(body).messages]
    return found


MODES = {  # MSH-15, MSH-16: what a good message gets, and what a bad one gets
    "|": (["AA"], ["AE"]),
    "AL|": (["CA"], ["CE"]),
    "AL|NE": (["CA"], ["CE"]),
    "NE|AL": (["AA"], ["AE"]),
    "AL|AL": (["CA", "AA"], ["CE"]),
    "ER|ER": ([], ["CE"]),
    "SU|SU": (["CA", "AA"], []),
    "NE|NE": ([], []),
}


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_wrong_is_answered_with_err_in_every_version_and_mode(version: str) -> None:
    for modes, (accepted, refused) in MODES.items():
        async with receiving() as gateway:
            good = _acknowledgments(await gateway.answer(_text(version, modes)))
            assert [one["MSA-1"] for one in good] == accepted, (version, modes)
            assert len(await gateway.stored()) == 1
            bad = _acknowledgments(await gateway.answer(_text(version, modes, birth="19701341")))
            assert [one["MSA-1"] for one in bad] == refused, (version, modes)
            assert len(await gateway.stored()) == 1
            for one in bad:
                assert one["MSA-2"] == "c-1"
                assert one.version == version
                if version >= "2.5":
                    located = [one[f"ERR-2.{part}"] for part in (1, 2, 3)], one["ERR-3.1"], one["ERR-4"]
                    assert located == (["PID", "1", "7"], "102", "E"), (version, bytes(one))
                else:
                    assert one["ERR-1.1"] == "PID", (version, bytes(one))
                    assert one["ERR-1.4.1"] == "102", (version, bytes(one))
                assert b"19701341" not in bytes(one)


async def test_a_profile_and_an_original_mode_decide_what_is_answered() -> None:
    lenient = Reception("con_x", "before", acknowledgment_mode="original", profile=BUILT_IN["lenient"])
    async with receiving(lenient) as gateway:
        without_pv1 = _text("2.5.1", "AL|AL").replace(b"PV1|1|O|WARD\r", b"")
        (answer,) = _acknowledgments(await gateway.answer(without_pv1))
        assert answer["MSA-1"] == "AA"
        (answer,) = _acknowledgments(await gateway.answer(_text("2.5.1", "AL|AL", birth="19701341")))
        assert answer["MSA-1"] == "AE"
        gateway.receiver.apply(Reception("con_x", "before"))
        (answer,) = _acknowledgments(await gateway.answer(without_pv1.replace(b"|AL|AL", b"|||").replace(b"c-1", b"2")))
        assert answer["MSA-1"] == "AE"


@st.composite
def _bent(draw: st.DrawFn) -> bytes:
    """A message with something changed."""
    data = _text(draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(list(MODES))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + length :]
    return data


FRAMES = st.one_of(
    _bent(),
    st.binary(max_size=200),
    st.lists(_bent(), max_size=3).map(lambda many: b"BHS|^~\\&|A|B|C|D||||B-1\r" + b"".join(many) + b"BTS\r"),
    st.lists(_bent(), max_size=3).map(b"".join),
)
RULES = st.builds(
    Reception,
    connection_id=st.just("con_x"),
    validate=st.sampled_from(["before", "after", "off"]),
    duplicate_rule=st.sampled_from(["sender-control-id-body", "sender-control-id", "off"]),
    acknowledgment_mode=st.sampled_from(["original", "enhanced", "auto"]),
    encoding=st.sampled_from([None, "8859/1", "UNICODE UTF-8", "GB 18030-2000"]),
    profile=st.sampled_from(list(BUILT_IN.values())),
)


@given(st.lists(FRAMES, min_size=1, max_size=3), RULES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_the_bytes_a_positive_code_means_that_they_are_stored(
    frames: list[bytes], reception: Reception, away: bool
) -> None:
    async def run() -> None:
        async with receiving(reception) as gateway:
            gateway.intake.away = away
            for frame in frames:
                answers = _acknowledgments(await gateway.answer(frame))
                positive = [one["MSA-2"] for one in answers if one["MSA-1"] in POSITIVE]
                stored = await gateway.stored()
                assert not (away and positive)
                known = {hl7v2.parse(body).control_id for body in stored}
                assert set(positive) <= known

    asyncio.run(run())
