"""Batches in one frame: taken apart, and the batch that answers them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hl7_gateway.core.batch_frame import MESSAGES_MAX, is_batch, read_batch
from hl7v2 import mllp

MSH = b"MSH|^~\\&|EPIC|CLINIC|PS|HERE|20260301093000||ADT^A08|%d|P|2.5.1\rPID|1\r"
BHS = b"BHS|^~\\&|EPIC|CLINIC|PS|HERE|20260301||||B-1\r"
FHS = b"FHS|^~\\&|EPIC|CLINIC|PS|HERE|20260301||||F-1\r"
TIME = b"20260301093001"


def _answer(body: bytes, given: list[bytes]) -> bytes:
    return read_batch(body).answered([mllp.encode(one) if one else b"" for one in given], time=TIME, control_id=b"OURS")


def test_a_batch_is_answered_by_a_batch_that_names_it() -> None:
    body = FHS + BHS + MSH % 1 + MSH % 2 + b"BTS|2\rFTS|1\r"
    assert read_batch(body).problem is None
    answer = _answer(body, [b"MSH|1\r", b"MSH|2\r"])
    assert answer == mllp.encode(
        b"FHS|^~\\&|PS|HERE|EPIC|CLINIC|20260301093001+0000||||OURS|F-1\r"
        b"BHS|^~\\&|PS|HERE|EPIC|CLINIC|20260301093001+0000||||OURS|B-1\rMSH|1\rMSH|2\rBTS|2\rFTS|1\r"
    )


def test_several_batches_and_other_delimiters() -> None:
    body = BHS.replace(b"|", b"!") + MSH % 1 + b"BTS!1\r" + BHS.replace(b"B-1", b"B-2") + MSH % 2 + b"BTS\r"
    answer = _answer(body, [b"MSH|1\r", b"MSH|2\r"])
    assert answer.count(b"BHS") == 2
    assert b"OURS!B-1\rMSH|1\rBTS!1\r" in answer
    assert b"OURS|B-2\rMSH|2\rBTS|1\r" in answer


def test_what_wants_no_acknowledgement_gets_none_and_what_is_empty_an_empty_batch() -> None:
    assert _answer(BHS + MSH % 1 + b"BTS|1\r", [b""]) == b""
    assert _answer(BHS + MSH % 1 + MSH % 2 + b"BTS|2\r", [b"", b"MSH|2\r"]).endswith(b"MSH|2\rBTS|1\r\x1c\r")
    assert _answer(BHS + b"BTS|0\r", []).endswith(b"BTS|0\r\x1c\r")


def test_messages_without_a_batch_are_answered_in_frames_of_their_own() -> None:
    body = MSH % 1 + MSH % 2
    assert is_batch(body)
    assert not is_batch(MSH % 1)
    assert _answer(body, [b"MSH|1\r", b"MSH|2\r"]) == mllp.encode(b"MSH|1\r") + mllp.encode(b"MSH|2\r")


def test_counts_that_do_not_agree_and_batches_without_end_are_told() -> None:
    assert read_batch(BHS + MSH % 1 + b"BTS|2\r").problem == "hl7.batch-incomplete"
    assert read_batch(BHS + MSH % 1).problem is None  # the trailer is left out by many; nothing says a message misses
    assert read_batch(BHS + (MSH % 1) * (MESSAGES_MAX + 1)).problem == "hl7.batch-too-large"


PIECES: Any = st.lists(
    st.sampled_from([FHS, BHS, MSH % 1, MSH % 2, b"BTS|1\r", b"FTS|1\r", b"BHS\r", b"BHS|", b"\r\n", b"x", b"\xff\x00"])
)


@given(PIECES)
def test_any_pieces_are_answered_once_for_each_message(pieces: list[bytes]) -> None:
    batch = read_batch(b"".join(pieces))
    given = [b"MSH|%d\r" % number for number in range(len(batch.messages))]
    answer = _answer(b"".join(pieces), given)
    for one in given:
        assert answer.count(one) == 1
