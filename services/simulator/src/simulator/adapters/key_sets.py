"""Key sets of registered clients, fetched from where they are published and kept for a minute."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.exchanges import Exchange, Exchanges
from common.runtime.outbound import AddressPolicy, ExchangeContext, Outbound
from common.runtime.telemetry import Telemetry
from simulator.core.clients import Client

FETCH_TIMEOUT_S: Final = 3.0
CACHE_S: Final = 60.0
DOCUMENT_BYTES_MAX: Final = 256 * 1024
CACHED_MAX: Final = 1_000
# An assertion with an invented kid must not make us fetch at every request.
REFETCH_GAP_S: Final = 1.0

_log = logging.getLogger("simulator.keys")


class _Unrecorded(Exchanges):
    """The vendor's own calls are no exchanges of the practice."""

    def __init__(self) -> None:
        """Nothing is published, so nothing is needed."""

    def record(self, exchange: Exchange) -> None:
        """Forget it."""


class PublishedKeySets:
    """`KeySets` over HTTP, to allowed addresses only."""

    def __init__(self, policy: AddressPolicy, telemetry: Telemetry, clock: Clock) -> None:
        self._outbound = Outbound(policy, _Unrecorded(), telemetry, clock, response_bytes_max=DOCUMENT_BYTES_MAX)
        self._clock = clock
        self._cache: dict[str, tuple[float, Mapping[str, Any]]] = {}

    async def keys(self, client: Client, *, fresh: bool) -> Mapping[str, Any] | None:
        """The given keys, or those of the URL."""
        if client.jwks is not None or client.jwks_url is None:
            return client.jwks
        cached = self._cache.get(client.jwks_url)
        life_s = REFETCH_GAP_S if fresh else CACHE_S
        if cached is not None and self._clock.monotonic() - cached[0] < life_s:
            return cached[1]
        document = await self._fetch(client.jwks_url)
        if document is not None:
            if len(self._cache) >= CACHED_MAX:
                del self._cache[next(iter(self._cache))]
            self._cache[client.jwks_url] = (self._clock.monotonic(), document)
        return document

    async def close(self) -> None:
        """Close idle connections."""
        await self._outbound.close()

    async def _fetch(self, url: str) -> Mapping[str, Any] | None:
        context = ExchangeContext("platform", "", "", kind="jwks", operation="simulator.jwks")
        headers = {"Accept": "application/json"}
        try:
            answer = await self._outbound.request(
                "GET", url, exchange=context, headers=headers, timeout_s=FETCH_TIMEOUT_S
            )
        except SuiteError as error:
            _log.warning("a client's key set cannot be fetched", extra={"code": error.code})
            return None
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if answer.status != 200 or not isinstance(document, dict):
            _log.warning(
                "a client's key set cannot be read", extra={"code": "peer.unreadable", "status": answer.status}
            )
            return None
        return document
