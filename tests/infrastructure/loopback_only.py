"""pytest plugin: tests talk to this machine only.

An audit hook sees every connect and send of a Python socket, also those inside libraries, and cannot be lost by
a test that replaces something. The refusal is no OSError: code that handles a failed connection must not hide it.
"""

import ipaddress
import socket
import sys
from typing import Any

import pytest

from infrastructure.fixtures import hosts_in_environment


class NetworkRefused(RuntimeError):
    """A test tried to leave this machine."""


def addresses_of(hosts: set[str]) -> frozenset[str]:
    """The hosts and the addresses that they resolve to now."""
    found = set(hosts)
    for host in hosts:
        try:
            found.update(str(row[4][0]) for row in socket.getaddrinfo(host, None))
        except OSError:
            continue
    return frozenset(found)


def allowed(host: str, named: frozenset[str]) -> bool:
    if host == "localhost" or host in named:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


class Guard:
    """The audit hook. Hooks stay for the life of the process, so a run switches its own off at the end."""

    def __init__(self, named: frozenset[str]) -> None:
        self.named = named
        self.on = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        address = arguments[1]
        # Unix sockets have a path instead of a pair; a sendmsg on a connected socket has no address.
        if isinstance(address, tuple) and not allowed(str(address[0]), self.named):
            raise NetworkRefused(f"tests reach the loopback only, not {address[0]}")


GUARD = pytest.StashKey[Guard]()


def pytest_configure(config: pytest.Config) -> None:
    guard = config.stash[GUARD] = Guard(addresses_of(hosts_in_environment()))
    sys.addaudithook(guard)


def pytest_unconfigure(config: pytest.Config) -> None:
    if GUARD in config.stash:
        config.stash[GUARD].on = False
