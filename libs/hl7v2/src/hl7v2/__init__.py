"""HL7 v2 messages and MLLP framing, without I/O.

message = hl7v2.parse(data)
message["PID-5[2].1"]            # decoded and unescaped text, "" when absent
message.set("PID-5.1", "Núñez")  # touches that field only
bytes(message)                   # unchanged messages come back byte for byte
hl7v2.acknowledge(message, "AA", now=…, control_id=…)
"""

from hl7v2 import mllp
from hl7v2.acknowledgment import Finding, acknowledge, reject_unparsable
from hl7v2.message import Field, FieldState, Message
from hl7v2.parser import ParseError, parse
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
