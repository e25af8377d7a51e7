"""What a peer answered to the questions of a test, before it is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from pms.permissions import ProbeResult
from pms.unity import UnityAnswer

_VALUES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; `status` None: none came, and `error` says why (a code of the catalogue)."""

    status: int | None
    duration_ms: float
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class UnityReply:
    """A Unity answer, read; `error`: why none came (a code of the catalogue)."""

    answer: UnityAnswer | None
    duration_ms: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """How a search for nobody was answered. `error`: a code of the catalogue, None when it was granted."""

    result: ProbeResult
    http_status: int | None
    error: str | None
    signature: str | None
    duration_ms: float


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """A server's SMART configuration; `offered` False: it has none. `error`: why it could not be read."""

    offered: bool
    duration_ms: float
    error: str | None = None
    token_endpoint: str | None = None
    algorithms: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


def parse_smart_configuration(status: int, body: bytes, duration_ms: float) -> SmartConfiguration:
    """The SMART configuration of an answer (SMART App Launch 2.2 §10); never raises."""
    try:
        document = json.loads(body) if status == 200 else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        error = "peer.unavailable" if status >= 500 else None
        return SmartConfiguration(False, duration_ms, error)
    endpoint = document.get("token_endpoint")
    return SmartConfiguration(
        True,
        duration_ms,
        token_endpoint=endpoint if isinstance(endpoint, str) else None,
        algorithms=_texts(document.get("token_endpoint_auth_signing_alg_values_supported")),
        methods=_texts(document.get("token_endpoint_auth_methods_supported")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else []
    return tuple(one[:100] for one in listed if isinstance(one, str))[:_VALUES_MAX]


def token_url_differs(found: SmartConfiguration, token_url: str) -> bool:
    """Whether the server names another token endpoint than the credential uses: then `aud` is wrong, too (A7)."""
    return found.token_endpoint is not None and found.token_endpoint.rstrip("/") != token_url.rstrip("/")
