"""HL7 v2 messages and MLLP framing, without I/O.

message = hl7v2.parse(data)
message["PID-5[2].1"]            # decoded and unescaped text, "" when absent
message.set("PID-5.1", "Núñez")  # touches that field only
bytes(message)                   # unchanged messages come back byte for byte
hl7v2.acknowledge(message, "AA", now=…, control_id=…)
hl7v2.validate(message)          # findings against the standard, or with a site profile: compile_profile({…})

What parses and reads is loaded at once; the rest (`acknowledge`, `mllp`, `validate`, …) when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hl7v2.message import Field, FieldState, Message, Segment
from hl7v2.parser import ParseError, parse, parse_assuming

if TYPE_CHECKING:
    from hl7v2 import mllp
    from hl7v2.acknowledgment import Finding, acknowledge, reject_unparsable
    from hl7v2.batch import BatchFile, compose_batch, split_batch
    from hl7v2.deidentification import deidentify
    from hl7v2.json_form import JsonFormError, from_json
    from hl7v2.profile import Profile, ProfileError, compile_profile
    from hl7v2.profile_check import profile_mistakes
    from hl7v2.validator import validate

__all__ = [
    "BatchFile",
    "Field",
    "FieldState",
    "Finding",
    "JsonFormError",
    "Message",
    "ParseError",
    "Profile",
    "ProfileError",
    "Segment",
    "acknowledge",
    "compile_profile",
    "compose_batch",
    "deidentify",
    "from_json",
    "mllp",
    "parse",
    "parse_assuming",
    "profile_mistakes",
    "reject_unparsable",
    "split_batch",
    "validate",
]

# Who only parses does not wait for the rest to be imported.
_IMPORTED_ON_USE: Final = {
    "BatchFile": "hl7v2.batch",
    "Finding": "hl7v2.acknowledgment",
    "JsonFormError": "hl7v2.json_form",
    "Profile": "hl7v2.profile",
    "ProfileError": "hl7v2.profile",
    "acknowledge": "hl7v2.acknowledgment",
    "compile_profile": "hl7v2.profile",
    "compose_batch": "hl7v2.batch",
    "deidentify": "hl7v2.deidentification",
    "from_json": "hl7v2.json_form",
    "mllp": "hl7v2.mllp",
    "profile_mistakes": "hl7v2.profile_check",
    "reject_unparsable": "hl7v2.acknowledgment",
    "split_batch": "hl7v2.batch",
    "validate": "hl7v2.validator",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORTED_ON_USE:
        raise AttributeError(f"module 'hl7v2' has no attribute {name!r}")
    module = import_module(_IMPORTED_ON_USE[name])
    found = globals()[name] = module if name == "mllp" else getattr(module, name)
    return found
