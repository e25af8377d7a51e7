"""Apache Kafka for the tests: from an address, a container, or its published artifacts through Maven (KRaft mode)."""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infrastructure.containers import container_server, require_image
from infrastructure.outside_loop import run_outside_loop
from infrastructure.process_server import ProcessServer, Program, ServerFailed, ServerMissing, answers, free_port
from infrastructure.run_directory import RunDirectory

ADDRESS_VARIABLE = "PS_TEST_KAFKA_BOOTSTRAP"
VERSION = "4.1.1"
IMAGE = f"apache/kafka:{VERSION}"
JAVA_VERSION_MIN = 17
POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".cache"
FETCH_TIMEOUT_S = 300.0
REQUEST_TIMEOUT_MS = 5000
REMEDY = "install Debian's packages default-jre-headless (Java 17 or newer) and maven, or start Docker"
CLUSTER_ID = "cHJhY3RpY2Utc3R1ZGlvMQ"
JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")


def settings(broker: str, controller: str, advertised: str) -> dict[str, str]:
    """One node that is broker and controller. Small internal topics: a single node has nothing to spread."""
    return {
        "node.id": "1",
        "process.roles": "broker,controller",
        "listeners": f"BROKER://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"BROKER://{advertised}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller.rpartition(':')[2]}",
        # A topic that nobody declared is a mistake to be seen, not a topic to be made.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }


def find(run: RunDirectory, directory: Path) -> ProcessServer:
    """Docker, else Java and Maven; not started. Raises ServerMissing with every reason."""
    try:
        require_image(IMAGE)
        return container_server(
            run, directory, image=IMAGE, container_port=9092, variables=_container_variables, ready=_ready
        )
    except ServerMissing as missing:
        no_container = str(missing)
    try:
        return from_artifacts(run, directory)
    except ServerMissing as missing:
        raise ServerMissing(f"{no_container}, and {missing}: {REMEDY}") from missing


def _container_variables(port: int) -> Mapping[str, str]:
    rows = settings(":9092", ":9093", f"127.0.0.1:{port}")
    return {"CLUSTER_ID": CLUSTER_ID} | {f"KAFKA_{key.upper().replace('.', '_')}": row for key, row in rows.items()}


def from_artifacts(run: RunDirectory, directory: Path) -> ProcessServer:
    """Format the storage in the directory; not started."""
    java = shutil.which("java")
    if java is None:
        raise ServerMissing("there is no java")
    _check_java(java)
    classpath = f"{artifacts()}/*"
    port, controller_port = free_port(), free_port()
    rows = settings(f"127.0.0.1:{port}", f"127.0.0.1:{controller_port}", f"127.0.0.1:{port}")
    rows["log.dirs"] = f"{directory / 'data'}"
    (directory / "server.properties").write_text("".join(f"{key}={row}\n" for key, row in rows.items()), "utf-8")
    run_class = [java, *JVM, *LOGGING, "-cp", classpath]
    formatting = [*run_class, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"]
    made = subprocess.run(
        formatting, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if made.returncode != 0:
        raise ServerFailed(f"Kafka's storage could not be formatted: {made.stdout[-1000:]}")
    program = Program(
        name="Kafka",
        directory=directory,
        command=[*run_class, "kafka.Kafka", "server.properties"],
        port=port,
        ready=lambda: _ready(port),
        stop_signal=signal.SIGTERM,
        end_signal=signal.SIGKILL,
    )
    return ProcessServer(program, run)


def _check_java(java: str) -> None:
    answer = subprocess.run([java, "-version"], stderr=subprocess.PIPE, text=True, check=False).stderr
    version = answer.partition('version "')[2].partition('"')[0]
    major = version.split(".")[0].split("-")[0]
    if not major.isdigit() or int(major) < JAVA_VERSION_MIN:
        raise ServerMissing(f"java is {version or 'not working'}, Kafka {VERSION} needs {JAVA_VERSION_MIN}")


def artifacts() -> Path:
    """Kafka's jars, copied once per checkout by Maven. Raises ServerMissing when there is no way to get them."""
    jars = CACHE / f"kafka-{VERSION}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "kafka.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            _fetch(jars)
    return jars


def _fetch(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerMissing("there is no mvn")
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        command = [maven, "-q", "-B", "-f", f"{POM}", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        command.append(f"-DoutputDirectory={work}/jars")
        try:
            subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=FETCH_TIMEOUT_S
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            shown = (error.stdout or b"").decode("utf-8", "replace").strip().splitlines()
            raise ServerMissing(f"Maven could not fetch Kafka ({shown[0] if shown else error})") from error
        # Whole or not at all: a half copied directory would be taken for the real one for ever.
        os.rename(f"{work}/jars", jars)  # noqa: PTH104 - the same file system, atomic


def _ready(port: int) -> None:
    answers(port)
    run_outside_loop(lambda: check_metadata(f"127.0.0.1:{port}"))


async def check_metadata(bootstrap: str) -> None:
    """Raises ConnectionError unless a broker at host:port answers a metadata request."""
    # While it starts, each refused connection would be an error line in the captured log of a test.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.start()
        await client.list_topics()
    except KafkaError as error:
        raise ConnectionError(f"{error}") from error
    finally:
        await client.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)
