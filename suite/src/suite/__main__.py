"""`python -m suite`: all services in one process, on SQLite and the SQLite bus unless the environment says
otherwise."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.models.errors import SuiteError
from common.runtime.host import Host, claim_port, compose, run, serve
from common.runtime.settings import RuntimeSettings, environment_of, load
from common.runtime.telemetry import set_up_logging
from suite import local
from suite.composition import SERVICES

LOOPBACK: Final = "127.0.0.0/8,::1/128"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; each becomes a setting."""
    parser = argparse.ArgumentParser(
        prog="python -m suite",
        description="Practice Studio Integrations: all services in one process, with the simulator and a demonstration "
        "practice. Data stays in --data; a second start goes on with it. Ctrl-C stops it cleanly.",
    )
    parser.add_argument("--host", default=None, help="address to listen on (PS_HOST, default 127.0.0.1)")
    parser.add_argument("--port", default=None, help="HTTP port (PS_PORT, default 8080)")
    parser.add_argument("--mllp-port", default=None, help="HL7 port (PS_HL7_LISTEN_PORT, default 2575)")
    parser.add_argument("--data", default=None, help="directory of databases, keys and token (PS_DATA, default ./data)")
    parser.add_argument(
        "--demo", choices=("0", "1"), default="1", help="1: with the demonstration practice (default); 0: empty"
    )
    parser.add_argument(
        "--rotate-token", action="store_true", help="make a new administrator's token; older tokens stop working"
    )
    return parser.parse_args(arguments)


def apply(options: argparse.Namespace) -> None:
    """Options into the environment; loopback is allowed, because the simulator is there."""
    names = {"host": "PS_HOST", "port": "PS_PORT", "mllp_port": "PS_HL7_LISTEN_PORT", "data": "PS_DATA"}
    environment_of({name: getattr(options, key) for key, name in names.items() if getattr(options, key) is not None})
    if not os.environ.get("PS_ALLOWED_NETWORKS"):
        default = RuntimeSettings.model_fields["allowed_networks"].default
        environment_of({"PS_ALLOWED_NETWORKS": ",".join([*default, LOOPBACK])})


async def start(options: argparse.Namespace) -> None:
    """Run until told to stop; raises SuiteError `start.*` for what can not work."""
    settings = load(RuntimeSettings)
    set_up_logging(settings)
    claimed = claim_port(settings.host, settings.port)
    try:
        port = claimed.getsockname()[1]
        base_url = settings.model_copy(update={"port": port}).base_url
        # A token's issuer must not change with the port, or a second start on another port would refuse the first
        # one's token.
        settings = settings.model_copy(
            update={
                "port": port,
                "public_url": base_url,
                "token_issuer": settings.token_issuer or "urn:practice-studio:local",
            }
        )
        host = compose(list(SERVICES.values()), settings, service="suite")

        async def ready() -> None:
            await _welcome(host, options, base_url)

        await serve(host, claimed, ready=ready)
    finally:
        claimed.close()
    print("Stopped.", flush=True)


async def _welcome(host: Host, options: argparse.Namespace, base_url: str) -> None:
    runtime = host.runtime
    door = local.Door(runtime.peers, app=host.app)
    if options.rotate_token:
        await local.rotate_issuer(door)
    tenant = await local.ensure_tenant(door)
    path = Path(runtime.settings.data) / "admin-token"
    token = await local.ensure_admin_token(door, tenant, path)
    if options.demo == "1":
        await local.ensure_demonstration(door, token, tenant, {"simulator": base_url, "auth-gateway": base_url})
    mllp_port = os.environ.get("PS_HL7_LISTEN_PORT") or "2575"
    demo = (
        f"Demonstration      {local.TENANT_NAME}, polling the simulator every {local.POLLS_S['appointment']} s"
        if options.demo == "1"
        else "Demonstration      none (DEMO=0)"
    )
    lines = (
        "",
        "Practice Studio Integrations is running.",
        f"URL                {base_url}",
        f"API documentation  {base_url}/docs",
        f"HL7 (MLLP)         127.0.0.1:{mllp_port}",
        f"Token              {token}",
        f"                   (tenant-admin; also in {path}, for scripts)",
        f"Data               {Path(runtime.settings.data).resolve()}",
        demo,
        "Stop               Ctrl-C",
        "",
    )
    print("\n".join(lines), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 1 when the start failed (one line says why)."""
    options = parse(arguments)
    apply(options)
    return run(lambda: start(options))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SuiteError as error:
        sys.exit(f"{error.code}: {error.detail or error.row.title}. {error.row.next_step}")
