"""A captured shape holds nothing of what messages say, and a feed can play it."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.chart import Chart
from simulator.core.feed import FeedPlan, gap_of_feed, message_of
from simulator.core.practice import make_practice
from simulator.core.shape import SEGMENTS, capture, messages_in, shape_from, shape_json

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
CHART = Chart(make_practice("demo", 7, patients=40))
PLAN = FeedPlan("f", "demo", "127.0.0.1", 2575, 60.0, "constant", 3, 11, 5.0)
CANARY = "KANARIE"


def feed(plan: FeedPlan, count: int) -> list[bytes]:
    return [message_of(plan, CHART, sequence, NOW).body for sequence in range(count)]


def with_canaries(message: bytes) -> bytes:
    """A canary in every component of every field, MSH-9, MSH-10, MSH-12 and MSH-18 included, and as a segment."""
    rows = []
    for row in message.decode().rstrip("\r").split("\r"):
        fields = row.split("|")
        first = 2 if row.startswith("MSH") else 1
        canaries = [f"{CANARY}{n}^{CANARY}^A{CANARY}~{CANARY}&{CANARY}" for n in range(first, len(fields) + 5)]
        rows.append("|".join([*fields[:first], *canaries]))
    return "\r".join([*rows, f"{CANARY}|{CANARY}", f"ZKA|{CANARY}", CANARY, ""]).encode()


def test_no_value_of_any_field_is_in_a_shape() -> None:
    messages = feed(PLAN, 200)
    text = json.dumps(shape_json(capture([*messages, *map(with_canaries, messages)])))
    assert "KAN" not in text
    assert "ZKA" not in text
    for patient in CHART.patients():
        assert patient.mrn not in text
        assert patient.family not in text or not patient.family.isascii() or len(patient.family) < 4


@pytest.mark.parametrize("place", [8, 9, 10, 11, 17, 2, 3])
def test_a_header_field_that_is_no_row_of_a_closed_table_is_other(place: int) -> None:
    fields = feed(PLAN, 1)[0].decode().split("\r")[0].split("|")
    fields[place] = CANARY
    assert CANARY not in json.dumps(shape_json(capture(["|".join(fields).encode()])))


@given(st.binary(max_size=200))
def test_any_bytes_have_a_shape_of_known_words(body: bytes) -> None:
    shape = capture([b"MSH|^~\\&|" + body, body])
    for row in shape.types.values():
        assert set(row.segments) <= SEGMENTS | {"ZZZ", "???"}
    if shape.types:
        assert shape_from(json.loads(json.dumps(shape_json(shape)))) == shape


def test_what_a_shape_says() -> None:
    first = b"MSH|^~\\&|A|B|C|D|20260301093000||ADT^A08^ADT_A01|1|P|2.5.1||||||UNICODE UTF-8\rPID|1||7~8||X^Y\rZAB|1\r"
    second = first.replace(b"093000", b"093007").replace(b"X^Y", b'""').replace(b"2.5.1", b"2.3")
    found = shape_json(capture([first, second]))
    assert (found["messages"], found["versions"], found["charsets"]) == (
        2,
        {"2.3": 1, "2.5.1": 1},
        {"UNICODE UTF-8": 2},
    )
    assert found["delimiters"] == {"|^~\\&": 2}
    assert found["gaps_s"] == {"5": 1}
    row = found["types"]["ADT^A08"]
    assert row["sequences"] == {"MSH PID ZZZ": 2}
    pid = row["segments"]["PID"]["fields"]
    assert pid["3"] == {"filled": 2, "null": 0, "repetitions": {"2": 2}, "lengths": {"1": 4}, "components": 1}
    assert (pid["5"]["filled"], pid["5"]["null"], pid["5"]["components"]) == (1, 1, 2)


def test_batches_and_captures_are_taken_apart() -> None:
    one, two = b"MSH|^~\\&|A\rPID|1", b"MSH|^~\\&|B\rPID|2"
    assert messages_in(b"\xef\xbb\xbf" + one + b"\r" + two + b"\r") == [one, two]
    assert messages_in(b"FHS|^~\\&\rBHS|^~\\&\r" + one + b"\n" + two + b"\r\nBTS|2\rFTS|1\r") == [one, two]
    assert messages_in(b"junk\x0b" + one + b"\r\x1c\r\x0b" + two + b"\r\x1c\r") == [one, two]
    assert messages_in(b"") == []


def test_a_feed_plays_a_shape() -> None:
    shape = capture([*feed(PLAN, 300), *(body.replace(b"|2.5.1|", b"|2.3|") for body in feed(PLAN, 300))])
    played = replace(PLAN, shape=shape, curve="shape", seed=5)
    bodies = feed(played, 300)
    assert bodies == feed(played, 300), "the same seed plays the same"
    again = capture(bodies)
    assert set(again.types) <= set(shape.types)
    assert set(again.versions) == {"2.3", "2.5.1"}
    for kind, row in again.types.items():
        assert set(row.sequences) <= set(shape.types[kind].sequences)
    known = {patient.mrn for patient in CHART.patients()}
    for body in bodies:
        message = hl7.parse(body.decode())
        assert str(message.segment("PID")[3]).split("^")[0] in known
        assert str(message.segment("MSH")[3]) == "EPIC"
    shares = [
        sum(counts.types[kind].count for counts in (found,)) / found.messages
        for found in (shape, again)
        for kind in ["ADT^A08"]
    ]
    assert abs(shares[0] - shares[1]) < 0.1
    assert 0 <= gap_of_feed(played, CHART, 1, NOW) <= 900


def test_other_delimiters_and_character_sets_are_played() -> None:
    message = b"MSH#*!%@#A#B#C#D#20260301093000##ADT*A08#1#P#2.4######8859/1\rPID#1##7*8##X*Y\r"
    played = replace(PLAN, shape=capture([message]))
    body = message_of(played, CHART, 0, NOW).body
    assert body.startswith(b"MSH#*!%@#EPIC#DEMO#")
    assert body.decode("latin-1").split("\r")[1].startswith("PID#1##")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "hl7-shape/2"), (("messages",), -1), (("messages",), True), (("versions",), {"9.9": 1}),
        (("types",), {}), (("types",), {"ADT^A99": {}}), (("delimiters",), {"abcde": 1}), (("gaps_s",), {"7": 1}),
        (("types", "ADT^A08", "sequences"), {"PID": 1}), (("types", "ADT^A08", "segments", "PID", "count"), "2"),
        (("types", "ADT^A08", "segments", "PID", "fields"), {"x": {}}), (("more",), 1),
    ],
)  # fmt: skip
def test_a_shape_that_capture_cannot_have_made_is_refused(path: tuple[str, ...], value: object) -> None:
    document = shape_json(capture([b"MSH|^~\\&|A|B|||20260301||ADT^A08|1|P|2.4\rPID|1\r"]))
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r".+: expected"):
        shape_from(document)


def test_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "feed.hl7"
    file.write_bytes(b"".join(feed(PLAN, 20)))
    command = [sys.executable, "-m", "simulator", "capture"]
    done = subprocess.run([*command, str(file)], capture_output=True, check=True, timeout=60)
    assert shape_from(json.loads(done.stdout)).messages == 20
    file.write_bytes(b"nothing of the kind")
    for wrong in (file, tmp_path / "absent"):
        assert subprocess.run([*command, str(wrong)], capture_output=True, check=False, timeout=60).returncode == 1
