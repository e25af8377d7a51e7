"""The feeds' messages, read by a foreign parser and by the suite's validator; their pace."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hl7
import pytest

import hl7v2
from simulator.core.chart import Chart
from simulator.core.feed import FeedPlan, gap_of_feed, message_of
from simulator.core.hl7_messages import FEED_KINDS
from simulator.core.practice import make_practice

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
CHART = Chart(make_practice("demo", 7, patients=40))
PLAN = FeedPlan("f", "demo", "127.0.0.1", 2575, 60.0, "constant", 3, 11, 5.0)


def test_the_kinds_that_are_promised() -> None:
    adt = [f"A{n:02d}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 28, 31, 34, 40)]
    siu = [f"S{n}" for n in (12, 13, 14, 15, 16, 17, 26)]
    others = ["DFT^P03", "ORU^R01", "ORM^O01", "MDM^T02", "VXU^V04"]
    assert set(FEED_KINDS) == {*(f"ADT^{x}" for x in adt), *(f"SIU^{x}" for x in siu), *others}


@pytest.mark.parametrize("kind", FEED_KINDS)
def test_each_kind_follows_the_standard(kind: str) -> None:
    plan = replace(PLAN, mix={kind: 1})
    for sequence in range(12):
        body = message_of(plan, CHART, sequence, NOW).body
        assert str(hl7.parse(body.decode()).segment("MSH")[9]).startswith(kind)
        findings = [one for one in hl7v2.validate(hl7v2.parse(body)) if one.severity == "error"]
        assert findings == []


def test_a_feed_is_a_function_of_its_seed() -> None:
    rows = [message_of(PLAN, CHART, sequence, NOW) for sequence in range(200)]
    assert rows == [message_of(PLAN, CHART, sequence, NOW) for sequence in range(200)]
    assert rows != [message_of(replace(PLAN, seed=12), CHART, sequence, NOW) for sequence in range(200)]
    assert len({row.control_id for row in rows}) == 200
    assert all(len(row.control_id) <= 20 for row in rows)
    over: dict[str, set[int]] = {}
    for row in rows:
        patient = str(hl7.parse(row.body.decode()).segment("PID")[3])
        over.setdefault(patient, set()).add(row.connection)
    assert all(len(connections) == 1 for connections in over.values())
    assert {row.connection for row in rows} == {0, 1, 2}


def test_the_mix_and_sizes_are_as_in_the_field() -> None:
    rows = [message_of(PLAN, CHART, sequence, NOW) for sequence in range(600)]
    kinds = Counter(row.kind for row in rows)
    assert kinds.most_common(1)[0][0] == "ADT^A08"
    assert len(kinds) > 15
    sizes = {kind: max(len(row.body) for row in rows if row.kind == kind) for kind in kinds}
    assert sizes["MDM^T02"] > 10_000
    assert 900 < sizes["ADT^A08"] < 4_000
    assert sizes["ORU^R01"] > 1_500


def test_the_pace() -> None:
    assert gap_of_feed(PLAN, CHART, 0, NOW) == 1.0
    workday = replace(PLAN, curve="workday")

    def mean(at: datetime) -> float:
        return sum(gap_of_feed(workday, CHART, sequence, at) for sequence in range(500)) / 500

    busy = mean(NOW)  # nine o'clock in Chicago
    assert 0.2 < busy < 0.5
    assert mean(NOW + timedelta(hours=9)) > 3 * busy
    assert mean(NOW + timedelta(days=4)) > 5 * busy, "Sunday"
