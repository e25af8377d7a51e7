"""Versions of an integration's configuration: what differs between two, and what going back would do.

State is not configuration: going back to an earlier version neither pauses nor resumes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from auth_gateway.core.configuration import Document
from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from common.models.integration import ChannelKind, Environment

NOT_CONFIGURATION: Final = frozenset({"state", "signed_off"})
NEXT_ENVIRONMENT: Final[Mapping[Environment, Environment]] = {
    Environment.DEVELOPMENT: Environment.TEST,
    Environment.TEST: Environment.PRODUCTION,
}
_NEEDS_ENDPOINT: Final = frozenset({ChannelKind.FHIR, ChannelKind.UNITY, ChannelKind.HL7V2_OUT})


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it was saved: who saved it, why, and which parts it changed."""

    integration_id: str
    version: int
    body: Mapping[str, Any]
    action: str
    changed: Sequence[str]
    author: str
    reason: str | None
    created_at: datetime
    change_id: str | None = None

    def as_json(self, *, whole: bool) -> dict[str, Any]:
        """As the API shows it."""
        shown = {
            "version": self.version,
            "action": self.action,
            "changed": list(self.changed),
            "author": self.author,
            "reason": self.reason,
            "change_id": self.change_id,
            "created_at": instant_text(self.created_at),
        }
        return {**shown, "configuration": dict(self.body)} if whole else shown


def differences(before: Any, after: Any, pointer: str = "") -> Iterator[dict[str, Any]]:
    """What differs, by JSON pointer (RFC 6901), in the order of the names; `null` stands for what is absent."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from differences(before.get(name), after.get(name), f"{pointer}/{_escaped(name)}")
    elif before != after:
        yield {"pointer": pointer, "before": before, "after": after}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def configuration_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a document that is configuration."""
    return {name: value for name, value in body.items() if name not in NOT_CONFIGURATION}


def configuration_digest(body: Mapping[str, Any]) -> str:
    """Names a configuration: any change of it has another one, a change of state has not."""
    text = json.dumps(configuration_of(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def restored(present: Document, version: Version, now: datetime) -> Document:
    """The next version, with the configuration of an earlier one and the state of now."""
    kept = {name: present.body[name] for name in NOT_CONFIGURATION if name in present.body}
    body = {**configuration_of(version.body), **kept}
    return Document(present.id, present.tenant, present.version + 1, present.created_at, now, body)


def missing_credentials(body: Mapping[str, Any], credentials: Collection[str]) -> list[str]:
    """Names of credentials that channels use and that are not there."""
    named = {channel["credential"] for channel in body["channels"].values() if channel.get("credential")}
    return sorted(named - set(credentials))


def promoted(
    source: Document,
    present: Document | None,
    *,
    new_id: str,
    name: str | None,
    endpoints: Mapping[str, str],
    now: datetime,
) -> Document:
    """An integration's configuration as it is to be in the next environment.

    What belongs to an environment stays the environment's own: name, endpoints, state. Raises SuiteError
    `request.conflict` when there is no next environment, `request.invalid` naming every channel without an endpoint.
    """
    following = NEXT_ENVIRONMENT.get(Environment(source.body["environment"]))
    if following is None:
        raise SuiteError("request.conflict", "What is in production is promoted no further.")
    held = present.body["channels"] if present is not None else {}
    channels: dict[str, Any] = {}
    fields: list[FieldError] = []
    for channel_name, channel in source.body["channels"].items():
        endpoint = endpoints.get(channel_name) or held.get(channel_name, {}).get("endpoint", "")
        if ChannelKind(channel["kind"]) in _NEEDS_ENDPOINT and not endpoint:
            expected = f"The endpoint of {following}; the one of {source.body['environment']} is not taken along."
            fields.append(FieldError(f"/endpoints/{_escaped(channel_name)}", "missing", expected))
        channels[channel_name] = {**channel, "endpoint": endpoint}
    unknown = sorted(set(endpoints) - set(channels))
    fields += [FieldError(f"/endpoints/{_escaped(one)}", "unknown", "There is no such channel.") for one in unknown]
    if fields:
        raise SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)
    own: dict[str, Any] = {"environment": following.value, "channels": channels, "signed_off": None}
    own["promoted_from"] = {"integration_id": source.id, "version": source.version}
    if present is not None:
        own |= {"name": name or present.body["name"], "state": present.body["state"]}
        return Document(
            present.id, present.tenant, present.version + 1, present.created_at, now, {**source.body, **own}
        )
    own |= {"name": name or f"{source.body['name']} ({following})", "state": "draft"}
    return Document(new_id, source.tenant, 1, now, now, {**source.body, **own})
