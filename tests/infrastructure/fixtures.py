"""pytest plugin: `postgres_url`, `kafka_bootstrap` and their relatives.

A server is found once per run, in this order: an address in the environment, Docker, programs on the machine. It is
started by the first test that asks, shared by all workers, and stopped with the run. What cannot be found is skipped,
with one line in the summary; `PS_REQUIRE_SERVERS=1` makes that a failure. A server that is there but does not work is
always a failure.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infrastructure import kafka_server as kafka
from infrastructure import postgres_server as postgres
from infrastructure.containers import ContainerServer
from infrastructure.outside_loop import run_outside_loop
from infrastructure.process_server import ProcessServer, ServerFailed, ServerMissing
from infrastructure.run_directory import RunDirectory

REQUIRE_VARIABLE = "PS_REQUIRE_SERVERS"
Find = Callable[[RunDirectory, Path], ProcessServer]
RUN = pytest.StashKey[RunDirectory]()
MARKERS_BY_FIXTURE = {
    "postgres_server": "postgres",
    "private_postgres": "postgres",
    "kafka_server": "kafka",
    "private_kafka": "kafka",
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    worker = hasattr(config, "workerinput")
    config.stash[RUN] = RunDirectory.join() if worker else RunDirectory.lead()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].leave()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in MARKERS_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, note in config.stash[RUN].notes().items():
        if "missing" in note:
            terminalreporter.write_line(f"{name}: tests skipped: {note['missing']}", yellow=True)


def new_directory(run: RunDirectory, name: str) -> Path:
    directory = run.path / f"{name}-{secrets.token_hex(4)}"
    directory.mkdir()
    return directory


def unavailable(reason: str) -> None:
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(f"{reason} ({REQUIRE_VARIABLE}=1)", pytrace=False)
    pytest.skip(reason)


def shared_address(run: RunDirectory, name: str, find: Find) -> str:
    """host:port of the one server of this run; the first worker that gets here starts it, or notes why it cannot."""
    with run.exclusive(name) as note:
        if not note.exists():
            note.write_text(json.dumps(_start_shared(run, name, find)), encoding="utf-8")
        found = json.loads(note.read_text("utf-8"))
    if "missing" in found:
        unavailable(f"{name}: {found['missing']}")
    if "failed" in found:
        pytest.fail(f"{name}: {found['failed']}", pytrace=False)
    return str(found["address"])


def _start_shared(run: RunDirectory, name: str, find: Find) -> dict[str, str]:
    try:
        server = find(run, new_directory(run, name))
        server.start()
    except ServerMissing as missing:
        return {"missing": str(missing)}
    except ServerFailed as failed:
        return {"failed": str(failed)}
    return {"address": server.address}


def private_server(run: RunDirectory, name: str, find: Find) -> Iterator[ProcessServer]:
    try:
        server = find(run, new_directory(run, f"private-{name}"))
    except ServerMissing as missing:
        unavailable(f"{name}: {missing}")
        return
    try:
        server.start()
        yield server
    finally:
        if isinstance(server, ContainerServer):
            server.discard()
        else:
            server.stop()


@pytest.fixture(scope="session")
def run_directory(request: pytest.FixtureRequest) -> RunDirectory:
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def postgres_server(run_directory: RunDirectory) -> str:
    """The shared server's maintenance database, in asyncpg's form (postgresql://…). Never stop it: others use it."""
    if url := os.environ.get(postgres.URL_VARIABLE):
        return postgres.plain_dsn(url)
    address = shared_address(run_directory, "PostgreSQL", postgres.find)
    return postgres.dsn(int(address.rpartition(":")[2]))


@pytest.fixture
def postgres_database(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database for one test: postgresql+asyncpg://…; dropped after it, with whatever is connected."""
    yield from _fresh_database(postgres_server)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty database for the requesting module: postgresql+asyncpg://…; dropped after it."""
    yield from _fresh_database(postgres_server)


def _fresh_database(server: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    postgres.execute(server, f"CREATE DATABASE {name}")
    yield postgres.sqlalchemy_url(server, name)
    postgres.execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def private_postgres(run_directory: RunDirectory) -> Iterator[ProcessServer]:
    """A server of this test's own: `.address`, `.start()`, `.stop()`, `.kill()`; its URL by `postgres_url_of`."""
    yield from private_server(run_directory, "PostgreSQL", postgres.find)


def postgres_url_of(server: ProcessServer, database: str = "postgres") -> str:
    """postgresql+asyncpg://… of a private server."""
    return postgres.sqlalchemy_url(postgres.dsn(server.program.port), database)


@pytest.fixture(scope="session")
def kafka_server(run_directory: RunDirectory) -> str:
    """host:port of the shared broker. Never stop it: others use it."""
    if address := os.environ.get(kafka.ADDRESS_VARIABLE):
        try:
            run_outside_loop(lambda: kafka.check_metadata(address))
        except OSError as error:
            pytest.fail(f"{kafka.ADDRESS_VARIABLE}={address} does not answer: {error}", pytrace=False)
        return address
    return shared_address(run_directory, "Kafka", kafka.find)


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_server: str) -> str:
    """host:port of a real Apache Kafka. Topics are shared by all tests: begin their names with `topic_prefix`."""
    return kafka_server


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topic and group names that no other test uses."""
    return f"t{secrets.token_hex(6)}."


@pytest.fixture
def private_kafka(run_directory: RunDirectory) -> Iterator[ProcessServer]:
    """A broker of this test's own: `.address`, `.start()`, `.stop()`, `.kill()`."""
    yield from private_server(run_directory, "Kafka", kafka.find)


def hosts_in_environment() -> set[str]:
    """Hosts that the environment names as test servers: the only ones besides the loopback."""
    hosts = set()
    if url := os.environ.get(postgres.URL_VARIABLE):
        hosts.add(urlsplit(url).hostname or "")
    if addresses := os.environ.get(kafka.ADDRESS_VARIABLE):
        hosts.update(address.rpartition(":")[0].strip("[] ") for address in addresses.split(","))
    return hosts
