"""The proxies of every tenant: made, found, changed and closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from simulator.core.toxics import Certificate, Listening, Toxic
from simulator.ports import ProxyPort, ProxyPorts

PROXIES_MAX: Final = 20
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host that may be connected to; raises SuiteError."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A proxy as it is asked for; `port` 0: a free one."""

    name: str
    host: str
    port_upstream: int
    port: int
    listening: Listening
    certificate: Certificate | None


@dataclass(slots=True)
class Proxy:
    """A proxy of a tenant."""

    name: str
    owner: str
    upstream: tuple[str, int]
    created_at: datetime
    tcp: ProxyPort = field(init=False)
    toxics: dict[str, Toxic] = field(default_factory=dict)


class Proxies:
    """The proxies by tenant and name; they end with the process."""

    def __init__(self, resolve: Resolve, ports: ProxyPorts, clock: Clock) -> None:
        self._resolve = resolve
        self._ports = ports
        self._clock = clock
        self._held: dict[tuple[str, str], Proxy] = {}

    def owned(self, owner: str) -> list[Proxy]:
        """Those of a tenant, by name."""
        return [proxy for key, proxy in sorted(self._held.items()) if key[0] == owner]

    def of(self, owner: str, name: str) -> Proxy:
        """Raises SuiteError `simulator.not-found`."""
        proxy = self._held.get((owner, name))
        if proxy is None:
            raise SuiteError("simulator.not-found", "There is no proxy of that name.")
        return proxy

    async def add(self, owner: str, wanted: Wanted) -> Proxy:
        """Raises SuiteError `request.conflict`, or why the upstream may not be connected to."""
        self._check_room(owner, wanted.name)
        await self._resolve(wanted.host, wanted.port_upstream)
        self._check_room(owner, wanted.name)
        proxy = Proxy(wanted.name, owner, (wanted.host, wanted.port_upstream), self._clock.now())
        proxy.tcp = self._ports(wanted.port, lambda: self._target(proxy), lambda: tuple(proxy.toxics.values()))
        # Taken before the port is: two calls for one name are one proxy.
        self._held[(owner, wanted.name)] = proxy
        try:
            await proxy.tcp.set(wanted.listening, wanted.certificate)
        except OSError:
            del self._held[(owner, wanted.name)]
            raise SuiteError("request.conflict", f"Port {wanted.port} is taken.") from None
        return proxy

    def _check_room(self, owner: str, name: str) -> None:
        if (owner, name) in self._held or len(self._held) >= PROXIES_MAX:
            raise SuiteError("request.conflict", "The name is taken, or there are as many proxies as may be.")

    async def remove(self, proxy: Proxy) -> None:
        """Close it."""
        self._held.pop((proxy.owner, proxy.name), None)
        await proxy.tcp.stop()

    async def stop(self) -> None:
        """Close all."""
        for proxy in list(self._held.values()):
            await self.remove(proxy)

    async def _target(self, proxy: Proxy) -> tuple[str, int]:
        """Resolved and checked each time: a name may lead elsewhere by now."""
        host, port = proxy.upstream
        return (await self._resolve(host, port))[0], port
