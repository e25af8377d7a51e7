"""The same journey in both shapes, from the same code."""

from __future__ import annotations

import pytest

from e2e.journey import whole_journey
from e2e.suite_process import Suite

pytestmark = pytest.mark.e2e


def test_embedded_in_one_process(embedded: Suite) -> None:
    whole_journey(embedded)
    assert embedded.ready()


def test_services_apart_on_kafka_and_postgresql(separate: Suite) -> None:
    whole_journey(separate)
    assert separate.ready()
