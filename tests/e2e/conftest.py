"""Both shapes of the suite, started once per run of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.suite_process import Suite, embedded_suite, separate_suite


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with embedded_suite(tmp_path_factory.mktemp("embedded") / "data") as suite:
        yield suite


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, kafka_bootstrap: str) -> Iterator[Suite]:
    data: Path = tmp_path_factory.mktemp("separate") / "data"
    with separate_suite(data, database_url=postgres_url, bus_url=f"kafka://{kafka_bootstrap}") as suite:
        yield suite
