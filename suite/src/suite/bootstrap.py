"""`python -m suite.bootstrap`: what `make run` does for a local suite, done for services that run apart.

Makes the first tenant and an administrator's token (in PS_DATA/admin-token), and on demand the demonstration
practice. Needs the key-encryption key (PS_KEY or PS_KEY_FILE) and the services' URLs (PS_PEERS).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.runtime.host import run
from common.runtime.keyring import load_key_encryption_key
from common.runtime.peers import Peers
from common.runtime.runtime import prepare_data
from common.runtime.settings import RuntimeSettings, load
from common.runtime.system import SystemClock, SystemIds
from suite import local


async def bootstrap(*, demo: bool, rotate: bool) -> None:
    """Prints the token; raises SuiteError for what is missing or does not answer."""
    settings = load(RuntimeSettings)
    prepare_data(settings.data)
    kek = load_key_encryption_key(key=settings.key, key_file=settings.key_file, data=settings.data)
    peers = Peers(settings.peers, kek, "operator:local", SystemClock(), SystemIds())
    try:
        door = local.Door(peers, urls=settings.peers)
        if rotate:
            await local.rotate_issuer(door)
        tenant = await local.ensure_tenant(door)
        path = Path(settings.data) / "admin-token"
        token = await local.ensure_admin_token(door, tenant, path)
        if demo:
            await local.ensure_demonstration(door, token, tenant, settings.peers)
    finally:
        await peers.close()
    print(f"Tenant  {tenant}\nToken   {token}\n        (tenant-admin; also in {path})", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with one line that says why."""
    parser = argparse.ArgumentParser(prog="python -m suite.bootstrap", description=__doc__)
    parser.add_argument(
        "--demo", choices=("0", "1"), default="0", help="1: also the demonstration practice (needs the simulator)"
    )
    parser.add_argument("--rotate-token", action="store_true", help="older tokens stop working")
    options = parser.parse_args(arguments)
    return run(lambda: bootstrap(demo=options.demo == "1", rotate=options.rotate_token))


if __name__ == "__main__":
    sys.exit(main())
