"""HL7 v2 messages and MLLP framing, without I/O.

message = hl7v2.parse(data)
message["PID-5[2].1"]            # decoded and unescaped text, "" when absent
message.set("PID-5.1", "Núñez")  # touches that field only
bytes(message)                   # unchanged messages come back byte for byte
hl7v2.acknowledge(message, "AA", now=…, control_id=…)
hl7v2.validate(message)          # findings against the standard, or with a site profile: compile_profile({…})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hl7v2 import mllp
from hl7v2.acknowledgment import Finding, acknowledge, reject_unparsable
from hl7v2.message import Field, FieldState, Message
from hl7v2.parser import ParseError, parse

if TYPE_CHECKING:
    from hl7v2.profile import Profile, ProfileError, compile_profile
    from hl7v2.validator import validate

__all__ = [
    "Field",
    "FieldState",
    "Finding",
    "Message",
    "ParseError",
    "Profile",
    "ProfileError",
    "acknowledge",
    "compile_profile",
    "mllp",
    "parse",
    "reject_unparsable",
    "validate",
]

# Who only parses does not wait for the validator to be imported.
_IMPORTED_ON_USE: Final = {
    "Profile": "hl7v2.profile",
    "ProfileError": "hl7v2.profile",
    "compile_profile": "hl7v2.profile",
    "validate": "hl7v2.validator",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_ON_USE:
        raise AttributeError(f"module 'hl7v2' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_IMPORTED_ON_USE[name]), name)
    return found
