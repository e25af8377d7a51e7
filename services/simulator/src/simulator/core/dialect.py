"""What tells one FHIR server that can be written to from another: resources, demands, refusals and links, as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from simulator.core.answer import Answer
from simulator.core.search import Parameters


class Interaction(StrEnum):
    """FHIR's interactions (R4 §3.1.0), as far as a simulated server knows them."""

    READ = "read"
    SEARCH = "search-type"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Served:
    """One resource type of a server. `demand`: why a search is refused, None when it may go on; `required`: elements
    without which nothing is taken; records per page: least, usual, most."""

    interactions: frozenset[Interaction]
    parameters: tuple[tuple[str, str], ...] = ()
    demand: Callable[[Parameters], str | None] = lambda _: None
    required: tuple[str, ...] = ()
    page: tuple[int, int, int] = (1, 50, 1000)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server stands: its FHIR base URL, its token URL, and the vendor's name of the tenant."""

    base_url: str
    token_url: str
    tenant: str = ""


Refuse = Callable[[str, str, int], Answer]
"""(FHIR issue type, text, HTTP status) → the refusal as the vendor writes it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's server. `dated`: types with `meta.lastUpdated`; `page_parameter`: of the opaque `next` link;
    `repeats`: a page begins with the last one of the page before; `stale`: HTTP status of a version that is not the
    newest, `unconditional`: of a write without If-Match (None: it is taken)."""

    software: str
    served: Mapping[str, Served]
    dated: frozenset[str]
    page_parameter: str
    repeats: bool
    refuse: Refuse
    unauthorized: Callable[[Site], Answer]
    forbidden: Callable[[Site], Answer]
    stale: int
    unconditional: int | None
    missing_field: int
    dress: Callable[[Site, dict[str, Any]], dict[str, Any]] = lambda _, resource: resource
    check: Callable[[Site, Mapping[str, Any]], str | None] = lambda _, __: None
    """Why a written resource cannot be processed (422)."""
    export_pause_s: int = 1
    export_redirects: bool = False
    export_alone: bool = False
    """Whether a client has one export under way at most."""
    methods: tuple[str, ...] = ("private_key_jwt", "client_secret_basic")
    scopes: tuple[str, ...] = field(default=())
