"""What an integration may do against what it needs: SMART scopes of both versions, probes, and the text of a request.

SMART App Launch 2.2 "Scopes and Launch Context": v1 `system/Patient.read`, v2 `system/Patient.rs` (create, read,
update, delete, search); a wildcard stands for every resource. A scope that is granted is not yet a permission (Epic
grants scopes of APIs that are not enabled), so a probe goes before it: a search for an id that nobody has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.models.integration import Vendor
from pms.capabilities import Interaction
from pms.fhir import FhirRequest
from pms.offers import Offers
from pms.signatures import Signature

_SCOPE: Final = re.compile(r"(patient|user|system)/([A-Za-z]{1,64}|\*)\.(read|write|\*|c?r?u?d?s?)(\?.*)?")
_ALL: Final = frozenset("cruds")
_V1: Final = {"read": frozenset("rs"), "write": frozenset("cud"), "*": _ALL}
_LETTERS: Final = {
    Interaction.CREATE: "c", Interaction.READ: "r", Interaction.UPDATE: "u", Interaction.PATCH: "u",
    Interaction.SEARCH: "s",
}  # fmt: skip
_WORDS: Final = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


@dataclass(frozen=True, slots=True)
class Scope:
    """One resource scope. `rights` are letters of cruds; `narrowed`: a v2 query restricts it to some records."""

    text: str
    context: str
    resource: str
    rights: frozenset[str]
    version: int
    narrowed: bool = False

    def covers(self, resource: str, right: str) -> bool:
        """Whether it grants a right on a resource, of all records."""
        return self.resource in {"*", resource} and right in self.rights and not self.narrowed


def parse_scope(text: str) -> Scope | None:
    """A resource scope; None for any other word (openid, launch, …)."""
    found = _SCOPE.fullmatch(text)
    if found is None or not found[3]:
        return None
    context, resource, rights, query = found.groups()
    version = 1 if rights in _V1 else 2
    return Scope(text, context, resource, _V1.get(rights, frozenset(rights)), version, query is not None)


def scopes_lacking(asked: Sequence[str], granted: Sequence[str]) -> tuple[str, ...]:
    """Words that were asked for and are not granted, neither as they stand nor in the other version's form."""
    held = [scope for word in granted if (scope := parse_scope(word)) is not None]
    return tuple(word for word in asked if word not in granted and not _held(parse_scope(word), held))


def _held(scope: Scope | None, held: Sequence[Scope]) -> bool:
    return scope is not None and all(any(one.covers(scope.resource, right) for one in held) for right in scope.rights)


@dataclass(frozen=True, slots=True)
class Need:
    """One right on one resource, and what it is for."""

    resource: str
    interaction: Interaction
    purpose: str

    @property
    def right(self) -> str:
        """Its letter of cruds."""
        return _LETTERS[self.interaction]


def needs_of(offers: Offers, resource: str, interactions: Iterable[Interaction], purpose: str) -> tuple[Need, ...]:
    """Rights that a resource's interactions need, with those of the resource that its ids come from."""
    wanted = [Need(resource, interaction, purpose) for interaction in interactions]
    row = offers.of(resource)
    source = row.reached_from if row is not None else None
    if source is not None:
        wanted.append(Need(source, Interaction.SEARCH, f"ids of {resource}"))
    return tuple(dict.fromkeys(wanted))


class ProbeResult(StrEnum):
    """What a probe of a resource showed."""

    GRANTED = "granted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


# An id that no record has; Oracle Health's ids are numbers.
_NOBODY: Final = {Vendor.CERNER: "0"}
_NOBODY_DEFAULT: Final = "practice-studio-probe"


def probe_request(vendor: Vendor, resource: str) -> FhirRequest:
    """A search that finds nothing: what comes back is the permission, and no record."""
    query = (("_id", _NOBODY.get(vendor, _NOBODY_DEFAULT)), ("_count", "1"))
    return FhirRequest(f"{resource}.probe", "GET", resource, query)


_REFUSED: Final = frozenset({"fhir.insufficient-scope", "fhir.forbidden", "epic.not-authorized"})


def probe_result(signature: Signature | None, status: int) -> ProbeResult:
    """Granted: the server searched, or answered in FHIR that there is no such record. Else it cannot be told."""
    if signature is None:
        return ProbeResult.GRANTED
    if signature.code in _REFUSED or signature.code == "cerner.tenant-not-accessible":
        return ProbeResult.REFUSED
    searched = status in {400, 404, 422} and signature.evidence.get("body") == "outcome"
    return ProbeResult.GRANTED if searched else ProbeResult.UNKNOWN


@dataclass(frozen=True, slots=True)
class Comparison:
    """Needs that are not granted, scopes beyond all needs, and needs of which it cannot be told."""

    missing: tuple[Need, ...]
    excess: tuple[Scope, ...]
    unknown: tuple[Need, ...]
    granted: tuple[Need, ...]


def compare(
    needs: Sequence[Need], scopes: Sequence[str] | None, probes: Mapping[str, ProbeResult] | None = None
) -> Comparison:
    """Needs against granted scopes (None: the token's answer names none) and probes of search by resource.

    A refused probe makes all needs of its resource missing; a granted one settles search and read where scopes are not
    named. A narrowed scope (`?…`) covers nothing for sure: unknown.
    """
    probes = probes or {}
    parsed = [scope for text in scopes or () if (scope := parse_scope(text)) is not None]
    sorted_in: dict[str, list[Need]] = {"missing": [], "unknown": [], "granted": []}
    for need in needs:
        sorted_in[_place(need, parsed if scopes is not None else None, probes.get(need.resource))].append(need)
    excess = tuple(scope for scope in parsed if _beyond(scope, needs))
    return Comparison(tuple(sorted_in["missing"]), excess, tuple(sorted_in["unknown"]), tuple(sorted_in["granted"]))


def _place(need: Need, scopes: Sequence[Scope] | None, probe: ProbeResult | None) -> str:
    if probe is ProbeResult.REFUSED:
        return "missing"
    if scopes is None:
        return "granted" if probe is ProbeResult.GRANTED and need.right in "rs" else "unknown"
    if any(scope.covers(need.resource, need.right) for scope in scopes):
        return "granted"
    if probe is ProbeResult.GRANTED and need.right == "s":
        return "granted"
    near = (scope for scope in scopes if scope.narrowed and scope.resource in {"*", need.resource})
    return "unknown" if any(need.right in scope.rights for scope in near) else "missing"


def _beyond(scope: Scope, needs: Sequence[Need]) -> bool:
    """A scope that grants more than is needed: a resource nobody needs, or a right of writing that nobody needs."""
    used = {need.right for need in needs if scope.resource in {"*", need.resource}}
    if not used or scope.resource == "*":
        return True
    # v1 has but two words: what `read` and `write` grant beyond what is needed is not the practice's choice.
    groups = [frozenset("rs"), frozenset("cud")] if scope.version == 1 else [frozenset("rs")]
    forgiven = frozenset[str]().union(*(group for group in groups if group & used))
    return bool(scope.rights - used - forgiven)


def scope_words(needs: Iterable[Need], *, version: int, context: str = "system") -> tuple[str, ...]:
    """The scopes to ask for, one per resource in the needs' order: v2 `system/Patient.rs`, v1 `.read` and `.write`."""
    rights: dict[str, set[str]] = {}
    for need in needs:
        rights.setdefault(need.resource, set()).add(need.right)
    words: list[str] = []
    for resource, letters in rights.items():
        if version == 2:
            words.append(f"{context}/{resource}.{''.join(letter for letter in 'cruds' if letter in letters)}")
            continue
        words += [f"{context}/{resource}.read"] if letters & set("rs") else []
        words += [f"{context}/{resource}.write"] if letters & set("cud") else []
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Wording:
    """How a request is put to a vendor's administrator: what an app, and what its permissions are called there."""

    administrator: str
    where: str
    item: str
    version: int
    closing: str


WORDINGS: Final[Mapping[Vendor, Wording]] = {
    Vendor.EPIC: Wording(
        "Epic administrator",
        "the app's record in Epic's vendor portal, under incoming APIs, and then the app's record at your site",
        "API",
        1,
        "A changed app record reaches the site within 12 hours; until then the token request may be refused.",
    ),
    Vendor.CERNER: Wording(
        "Oracle Health (Millennium) administrator",
        "the app's registration in the code Console, as SMART v2 scopes, and the app's enablement in your tenant",
        "scope",
        2,
        "Please confirm the tenant id in which the app was enabled.",
    ),
    Vendor.UNITY: Wording(
        "Allscripts / Veradigm administrator",
        "the Unity licence of the application name, and the rights of the Unity service user",
        "action",
        2,
        "Please tell us the product and version (GetServerInfo) of the server on which it was changed.",
    ),
    Vendor.FHIR: Wording(
        "administrator of the FHIR server", "the client's registration at the authorization server", "scope", 2,
        "Please tell us when it is done, so that we can test the connection.",
    ),
}  # fmt: skip


def request_text(
    vendor: Vendor,
    *,
    client_id: str,
    endpoint: str,
    missing: Sequence[Need],
    excess: Sequence[Scope] = (),
    version: int | None = None,
) -> str:
    """The request to send to the PMS administrator, as plain text; empty when nothing is missing or excess.

    `version` of the scopes: the one that the site's tokens speak; None: the vendor's own.
    """
    if not missing and not excess:
        return ""
    wording = WORDINGS.get(vendor, WORDINGS[Vendor.FHIR])
    lines = [
        f"To: {wording.administrator}",
        "Subject: Permissions of the Practice Studio integration",
        "",
        f"Client id: {client_id}",
        f"Server: {endpoint}",
    ]
    if missing:
        lines += ["", f"Please grant these permissions ({wording.where}):", ""]
        lines += [f"  - {_line(wording.item, resource, needs)}" for resource, needs in _by_resource(missing).items()]
        lines += ["", "As scopes: " + " ".join(scope_words(missing, version=version or wording.version))]
    if excess:
        lines += ["", "These scopes are granted and not needed; please withdraw them:", ""]
        lines += [f"  - {scope.text}" for scope in excess]
    return "\n".join([*lines, "", wording.closing]) + "\n"


def _by_resource(needs: Iterable[Need]) -> dict[str, list[Need]]:
    found: dict[str, list[Need]] = {}
    for need in needs:
        found.setdefault(need.resource, []).append(need)
    return found


def _line(item: str, resource: str, needs: Sequence[Need]) -> str:
    letters = {need.right for need in needs}
    rights = ", ".join(_WORDS[letter] for letter in "rscud" if letter in letters)
    purposes = "; ".join(dict.fromkeys(need.purpose for need in needs if need.purpose))
    return f"{item} {resource} (R4): {rights}" + (f" (for: {purposes})" if purposes else "")
