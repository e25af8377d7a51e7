"""HTTP to the outside: the address is resolved once, checked, and that checked address is connected to.

A user says where to connect (endpoints, webhooks); so every address is checked against the operator's networks, and
link-local and cloud metadata addresses are never connected to, whatever the setting says. Redirects are not followed,
cookies are not kept (the client is shared by all tenants). Every call is recorded as an exchange without contents.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx
from opentelemetry.trace import SpanKind

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.exchanges import Exchange, Exchanges
from common.runtime.peer_clocks import PeerClocks
from common.runtime.telemetry import Telemetry, current_traceparent

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never connected to: link-local (RFC 3927, RFC 4291 §2.5.6), multicast, broadcast, unspecified, and the metadata
# services that clouds put on routable addresses (fd00:ec2::/32 holds those of AWS, fd20:ce::254 is Google's,
# 168.63.129.16 Azure's, 192.0.0.192 Oracle's, 100.100.100.200 Alibaba's).
_NEVER: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "::/128", "255.255.255.255/32",
        "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::254/128",
    )
)  # fmt: skip
# Not global by the IANA special-purpose registries, though some releases of `ipaddress` say so: site-local (RFC 3879),
# local-use translation (RFC 8215), segment identifiers (RFC 9602), documentation (RFC 9637), protocol assignments and
# the withdrawn 6to4 relays (RFC 6890, RFC 7526).
_NOT_PUBLIC: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in ("fec0::/10", "64:ff9b:1::/48", "5f00::/16", "3fff::/20", "192.0.0.0/24", "192.88.99.0/24")
)
# Their last 32 bits are an IPv4 address, which is where the packets go: IPv4-compatible (RFC 4291 §2.5.5.1), mapped,
# translated (RFC 2765), and through a NAT64 (RFC 6052 §2.1).
_IPV4_INSIDE: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_IPV4_BITS: Final = 2**32
_LOOPBACK_IPV6: Final = ipaddress.IPv6Address("::1")
_UNSPECIFIED_IPV6: Final = ipaddress.IPv6Address("::")
_PORT_MAX: Final = 65_535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CONNECT_TIMEOUT_S: Final = 5.0
_CLIENT_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What an exchange record says about a call: whose it is and what it is for (`operation` is a fixed name)."""

    tenant: str
    integration_id: str
    channel: str
    kind: str
    operation: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's answer, read whole. `clock_offset_ms` is its `Date` minus our clock at the middle of the call."""

    status: int
    headers: httpx.Headers
    body: bytes
    duration_ms: float
    clock_offset_ms: int | None


LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → its addresses as text, best first; raises OSError or UnicodeError when there are none."""


async def system_addresses(host: str, port: int) -> list[str]:
    """The addresses that the machine's resolver gives; also of a host that is an address in any of its spellings."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


class AddressPolicy:
    """Which addresses may be connected to: networks, and `public` for every global address."""

    def __init__(self, networks: Sequence[str], look_up: LookUp = system_addresses) -> None:
        self._public = "public" in networks
        self._networks = [ipaddress.ip_network(network) for network in networks if network != "public"]
        self._look_up = look_up

    def allows(self, address: IPAddress) -> bool:
        """Whether the address may be connected to; an IPv4 address inside an IPv6 one must be allowed as itself."""
        if _in(address, _NEVER):
            return False
        inner = _ipv4_inside(address) if isinstance(address, ipaddress.IPv6Address) else None
        if inner is not None:
            return self.allows(inner)
        if self._public and address.is_global and not _in(address, _NOT_PUBLIC):
            return True
        return _in(address, self._networks)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The allowed addresses of a host, in the resolver's order; never empty.

        Raises SuiteError `peer.dns` when it does not resolve, `peer.address-refused` when any address is not allowed
        (all of them must be: a name that also points inward is not to be trusted).
        """
        try:
            found = await self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise SuiteError("peer.dns") from error
        addresses = list(dict.fromkeys(address.partition("%")[0] for address in found))
        if not addresses:
            raise SuiteError("peer.dns")
        if not all(self.allows(ipaddress.ip_address(address)) for address in addresses):
            raise SuiteError("peer.address-refused")
        return addresses


def _in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _ipv4_inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to, None when it stands for itself."""
    if address in (_LOOPBACK_IPV6, _UNSPECIFIED_IPV6):
        return None
    if any(address in network for network in _IPV4_INSIDE):
        return ipaddress.IPv4Address(int(address) % _IPV4_BITS)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: host as the resolver gets it (ASCII), port, and the name that a certificate must bear."""

    tls: bool
    host: str
    port: int

    @property
    def server_name(self) -> str:
        """The host without the root's dot, which neither SNI (RFC 6066 §3) nor certificates have."""
        return self.host.rstrip(".")


def target_of(url: str | httpx.URL) -> Target:
    """Where a URL leads, read by the same parser that the calls use.

    Raises SuiteError `peer.address-refused` for another scheme than http and https, no host, or a user in the URL
    (it would stand in settings, answers and logs; what a peer wants to know belongs in a credential).
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise SuiteError("peer.address-refused", "The address is not a URL that can be called.") from error
    if parsed.scheme not in _DEFAULT_PORTS or not host:
        raise SuiteError("peer.address-refused", "Only http and https addresses with a host can be called.")
    if parsed.userinfo:
        raise SuiteError("peer.address-refused", "A URL with a user name or password in it is not called.")
    port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not 1 <= port <= _PORT_MAX:
        raise SuiteError("peer.address-refused", "The port of the address is none.")
    return Target(parsed.scheme == "https", host, port)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's network, but every connection goes to an address that the policy has checked."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._policy.resolve(host, port):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or SuiteError("peer.dns")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _CheckedTransport(httpx.AsyncBaseTransport):
    """httpx over httpcore with the checked network (httpx's own transport has no place for one)."""

    def __init__(self, policy: AddressPolicy, verify: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=100,
            max_keepalive_connections=20,
            network_backend=_CheckedBackend(policy),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        assert isinstance(response.stream, AsyncIterator) or hasattr(response.stream, "__aiter__")
        return httpx.Response(
            response.status, headers=response.headers, stream=_Stream(response.stream), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class Outbound:
    """The client that every module uses for calls to the outside."""

    def __init__(
        self,
        policy: AddressPolicy,
        exchanges: Exchanges,
        telemetry: Telemetry,
        clock: Clock,
        *,
        response_bytes_max: int,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self.peer_clocks = PeerClocks()
        self._exchanges = exchanges
        self._telemetry = telemetry
        self._clock = clock
        self._response_bytes_max = response_bytes_max
        self.verify = verify or ssl.create_default_context()
        self._client = httpx.AsyncClient(
            transport=_CheckedTransport(policy, self.verify),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    async def close(self) -> None:
        """Close idle connections."""
        await self._client.aclose()

    async def request(
        self,
        method: str,
        url: str,
        *,
        exchange: ExchangeContext,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        content: bytes | None = None,
        timeout_s: float = 30.0,
    ) -> Answer:
        """One call, its answer read whole (any status).

        Raises SuiteError `peer.dns`, `peer.connect`, `peer.tls`, `peer.timeout`, `peer.address-refused`,
        `peer.unreadable` (no HTTP) or `peer.too-large`.
        """
        started_at, started = self._clock.now(), self._clock.monotonic()
        with self._telemetry.span(
            f"{exchange.kind} {exchange.operation}",
            kind=SpanKind.CLIENT,
            integration_id=exchange.integration_id,
            channel=exchange.channel,
            operation=exchange.operation,
            method=method,
        ):
            sent = {**(headers or {}), "traceparent": current_traceparent()}
            code: str | None = None
            answer: Answer | None = None
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await self._exchange(method, url, sent, params, content, timeout_s, started_at, started)
                code = None if answer.status < _CLIENT_ERROR else f"http.{answer.status}"
                return answer
            except TimeoutError as error:
                code = "peer.timeout"
                raise SuiteError(code, f"No whole answer within {timeout_s:g} s.") from error
            except SuiteError as error:
                code = error.code
                raise
            except asyncio.CancelledError:
                code = "peer.abandoned"
                raise
            except Exception:
                code = "internal.error"
                raise
            finally:
                self._record(exchange, method, url, len(content or b""), answer, code, started_at, started)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Any,
        content: bytes | None,
        timeout_s: float,
        started_at: datetime,
        started: float,
    ) -> Answer:
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        try:
            request = self._client.build_request(
                method, url, headers=dict(headers), params=params, content=content, timeout=timeout
            )
            target = target_of(request.url)
            if target.tls and target.server_name != target.host:
                request.extensions["sni_hostname"] = target.server_name
            response = await self._client.send(request, stream=True)
            try:
                offset_ms = _offset_ms(response.headers, started_at, self._clock.monotonic() - started)
                body = await self._read(response)
            finally:
                await response.aclose()
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            raise SuiteError("peer.timeout") from error
        except (httpx.ConnectError, httpcore.ConnectError) as error:
            raise SuiteError("peer.tls" if _is_tls(error) else "peer.connect") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpcore.UnsupportedProtocol) as error:
            raise SuiteError("peer.address-refused", "The address is not a URL that can be called.") from error
        except (httpx.ProtocolError, httpcore.ProtocolError, httpx.DecodingError) as error:
            raise SuiteError("peer.unreadable") from error
        except (ssl.SSLError, httpx.NetworkError, httpcore.NetworkError) as error:
            # In TLS 1.3 a peer refuses our side (no client certificate, say) only after our handshake has ended; the
            # refusal then comes out of a read, and not every layer below translates it.
            raise SuiteError("peer.tls" if _is_tls(error) else "peer.connect") from error
        return Answer(
            response.status_code, response.headers, body, (self._clock.monotonic() - started) * 1000, offset_ms
        )

    async def _read(self, response: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async with aclosing(response.aiter_bytes()) as stream:  # type: ignore[type-var]
            async for part in stream:
                size += len(part)
                if size > self._response_bytes_max:
                    raise SuiteError(
                        "peer.too-large", f"The limit is {self._response_bytes_max} bytes (PS_RESPONSE_BYTES_MAX)."
                    )
                parts.append(part)
        return b"".join(parts)

    def _record(
        self,
        context: ExchangeContext,
        method: str,
        url: str,
        request_bytes: int,
        answer: Answer | None,
        code: str | None,
        started_at: datetime,
        started: float,
    ) -> None:
        if answer is not None and answer.clock_offset_ms is not None:
            self.peer_clocks.note(endpoint_of(url), answer.clock_offset_ms, self._clock.monotonic())
        self._exchanges.record(
            Exchange(
                tenant=context.tenant,
                integration_id=context.integration_id,
                channel=context.channel,
                kind=context.kind,
                direction="outbound",
                operation=context.operation,
                endpoint=endpoint_of(url),
                method=method,
                status=answer.status if answer else None,
                outcome="failed" if code else "ok",
                error_code=code,
                started_at=started_at,
                duration_ms=(self._clock.monotonic() - started) * 1000,
                request_bytes=request_bytes,
                response_bytes=len(answer.body) if answer else 0,
                clock_offset_ms=answer.clock_offset_ms if answer else None,
                retry_after_s=_seconds(answer.headers.get("retry-after")) if answer else None,
            )
        )


def endpoint_of(url: str) -> str:
    """Scheme, host and port of a URL: what may be shown of it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"


def _offset_ms(headers: httpx.Headers, started_at: datetime, elapsed_s: float) -> int | None:
    """The peer's clock minus ours. `Date` has whole seconds: half of one is added to stand in its middle."""
    text = headers.get("date")
    if not text:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return round(((date - started_at).total_seconds() + 0.5 - elapsed_s / 2) * 1000)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return True
        error = error.__cause__ or error.__context__
    return False
