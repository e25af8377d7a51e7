"""Site profiles by name: those that come with the gateway, and those that a practice stores.

The built-in ones are data in the form that every profile has. There is none for a vendor: what vendors document of
their HL7 v2 is site-specific, and a profile that only claims to be one vendor's would accept what that site gets wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import hl7v2
from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from hl7_gateway.core.connection_configuration import STANDARD_PROFILE
from hl7_gateway.core.profile_text import ProfileText, read_profile_text, written

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_BUILT_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ProfileRef:
    """Which profile: its name and version."""

    name: str
    version: int

    def as_json(self) -> dict[str, Any]:
        """For findings and live state."""
        return {"name": self.name, "version": self.version}


@dataclass(frozen=True)
class SiteProfile:
    """A profile of a practice, as it is kept; `text` is what its author wrote."""

    tenant: str
    name: str
    version: int
    text: str
    document: Mapping[str, Any]
    author: str
    reason: str
    created_at: datetime
    updated_at: datetime
    built_in: bool = field(default=False)

    @property
    def ref(self) -> ProfileRef:
        """Name and version."""
        return ProfileRef(self.name, self.version)

    @property
    def is_standard(self) -> bool:
        """Whether it changes nothing."""
        return not self.document

    @cached_property
    def compiled(self) -> hl7v2.Profile:
        """What the validator takes. Raises SuiteError `profile.unusable` for one that was stored by other rules."""
        try:
            return hl7v2.compile_profile(self.document)
        except hl7v2.ProfileError as error:
            raise SuiteError("profile.unusable", f"{self.name}: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """The profile as the API shows it."""
        return {
            "name": self.name,
            "version": self.version,
            "built_in": self.built_in,
            "text": self.text,
            "document": dict(self.document),
            "author": self.author,
            "reason": self.reason,
            "created_at": instant_text(self.created_at),
            "updated_at": instant_text(self.updated_at),
        }


_WARNED: Final = (
    "segment-missing", "segment-misplaced", "segment-repeated", "field-required", "component-required", "repetition",
    "value-type", "table-hl7", "table-profile", "length",
)  # fmt: skip
_STRICT: Final = (
    "segment-unknown", "component-expected", "repetition-text", "field-extra", "component-extra", "space",
    "table-extended", "table-user", "case", "length-negotiated", "length-component", "set-id", "structure-name",
    "version",
)  # fmt: skip

_DOCUMENTS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    STANDARD_PROFILE: ("what the standard says, for the version in MSH-12", {}),
    "lenient": (
        "a sender that is understood is taken: only values that cannot be read, and types nobody knows, stay errors",
        {"severity": dict.fromkeys(_WARNED, "warning"), "structures": {"*": {"anywhere": ["NTE"]}}},
    ),
    "strict": (
        "for testing a new sender: what is tolerated by the standard's profile is an error, Z segments are told",
        {"severity": {**dict.fromkeys(_STRICT, "error"), "segment-z": "info"}},
    ),
}


def _built_in(name: str, reason: str, document: Mapping[str, Any]) -> SiteProfile:
    text = written(document) if document else "{}\n"
    return SiteProfile("", name, 1, text, document, "", reason, _BUILT_AT, _BUILT_AT, built_in=True)


BUILT_IN: Final[Mapping[str, SiteProfile]] = {
    name: _built_in(name, reason, document) for name, (reason, document) in _DOCUMENTS.items()
}
STANDARD: Final = BUILT_IN[STANDARD_PROFILE]


def check_name(name: str) -> None:
    """Raises SuiteError `request.invalid`, or `profile.name-taken` for the name of a built-in one."""
    if NAME.fullmatch(name) is None:
        field_error = FieldError("/name", "name", "Expected lower case letters, digits and hyphens, at most 63.")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field_error])
    if name in BUILT_IN:
        raise SuiteError("profile.name-taken", "It is the name of a built-in profile.")


def checked_text(text: str, *, pointer: str = "/text") -> ProfileText:
    """The text read; raises SuiteError `request.invalid` naming every mistake with its line and place."""
    read = read_profile_text(text)
    if read.mistakes:
        fields = [FieldError(pointer, "profile", mistake.text) for mistake in read.mistakes]
        raise SuiteError("request.invalid", f"{len(fields)} mistake(s) in the profile.", fields=fields)
    return read
