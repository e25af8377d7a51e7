"""Run one container in the foreground, so that a warden can hold it like any program on the machine.

    python -m infrastructure.container_program NAME IMAGE HOST_PORT CONTAINER_PORT VARIABLE=value…

SIGTERM stops the container and keeps it: the next start finds it by name, with its data. SIGINT removes it: the end
of the run. testcontainers' own reaper is off, because it removes what a worker started as soon as that worker ends,
while other workers still use it.
"""

import os
import signal
import sys

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

import docker
from docker.errors import NotFound
from testcontainers.core.container import DockerContainer


def create(name: str, image: str, host_port: int, container_port: int, variables: list[str]) -> None:
    container = DockerContainer(image).with_name(name)
    container.with_envs(**dict(variable.split("=", 1) for variable in variables))
    # Loopback only: the database trusts everybody who reaches it.
    container.ports[f"{container_port}/tcp"] = ("127.0.0.1", host_port)  # type: ignore[assignment]
    container.start()


def main() -> int:
    name, image, host_port, container_port, *variables = sys.argv[1:]
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    engine = docker.from_env(timeout=60)
    try:
        engine.containers.get(name).start()
    except NotFound:
        create(name, image, int(host_port), int(container_port), variables)
    ending = signal.sigwait(ends)
    container = engine.containers.get(name)
    if ending == signal.SIGTERM:
        container.stop(timeout=10)
    else:
        container.remove(force=True, v=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
