"""Servers from Docker images: is there an engine, can the image be had, and how to run it under a warden."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import docker
import requests
from docker.errors import DockerException, ImageNotFound

from infrastructure.process_server import ProcessServer, Program, ServerMissing, free_port
from infrastructure.run_directory import RunDirectory

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
ENGINE_TIMEOUT_S = 2
PULL_TIMEOUT_S = 180.0
PULL = "import docker, sys; docker.from_env(timeout=60).images.pull(sys.argv[1])"


class ContainerServer(ProcessServer):
    """A ProcessServer whose program is a container; `stop` keeps the container, `discard` removes it."""

    def kill(self) -> None:
        _engine().containers.get(self.program.name).kill("SIGKILL")
        self.stop()

    def discard(self) -> None:
        self.stop()
        _engine().containers.get(self.program.name).remove(force=True, v=True)


def _engine() -> docker.DockerClient:
    return docker.from_env(timeout=60)


def require_image(image: str) -> None:
    """Return once the image lies in a local engine. Raises ServerMissing; bounded: 2 s to answer, 180 s to pull."""
    _require_engine()
    try:
        engine = _engine()
        try:
            engine.images.get(image)
        except ImageNotFound:
            _pull(image)
        finally:
            engine.close()
    except (DockerException, requests.RequestException) as error:
        raise ServerMissing("the Docker engine does not work") from error


def _require_engine() -> None:
    """Ping the engine's socket ourselves: docker's client leaves its socket open when nobody answers."""
    scheme, _, path = os.environ.get("DOCKER_HOST", DEFAULT_ENGINE).partition("://")
    if scheme != "unix":
        raise ServerMissing("the Docker engine is not on this machine (DOCKER_HOST)")
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ENGINE_TIMEOUT_S)
            client.connect(path)
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = client.recv(64)
    except OSError as error:
        raise ServerMissing("no Docker engine answers") from error
    if b" 200 " not in answer:
        raise ServerMissing("the Docker engine does not work")


def _pull(image: str) -> None:
    try:
        subprocess.run([sys.executable, "-c", PULL, image], check=True, capture_output=True, timeout=PULL_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ServerMissing(f"the image {image} cannot be pulled") from error


def container_server(
    run: RunDirectory,
    directory: Path,
    *,
    image: str,
    container_port: int,
    variables: Callable[[int], Mapping[str, str]],
    ready: Callable[[int], None],
) -> ContainerServer:
    """variables: from the host port, because a broker advertises the address that clients use."""
    port = free_port()
    name = f"{run.path.name}-{directory.name}"
    command = [sys.executable, str(Path(__file__).with_name("container_program.py")), name, image, f"{port}"]
    command += [f"{container_port}", *(f"{key}={value}" for key, value in variables(port).items())]
    program = Program(
        name=name,
        directory=directory,
        command=command,
        port=port,
        ready=lambda: ready(port),
        stop_signal=signal.SIGTERM,
        end_signal=signal.SIGINT,
    )
    return ContainerServer(program, run)
