"""What the gateway makes of a message that is only shown to it: findings, and the acknowledgement it would send."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import hl7v2
from common.models.errors import ERRORS
from hl7_gateway.core.charset_findings import charset_findings
from hl7_gateway.core.message import acknowledgment_id, read_header

UNPARSABLE: Final = "hl7.unparsable"
FINDINGS_MAX: Final = 500
ERRORS_TOLD_MAX: Final = 20


def inspected(body: bytes) -> dict[str, Any]:
    """Header codes, what was tolerated, and findings; `valid` when none of them is an error."""
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError:
        return {
            "valid": False,
            "error_code": UNPARSABLE,
            "next_step": ERRORS[UNPARSABLE].next_step,
            "findings": [],
        }
    header = read_header(message)
    findings = [*hl7v2.validate(message), *charset_findings(message)]
    return {
        "valid": all(finding.severity != "error" for finding in findings),
        "error_code": None,
        "next_step": None,
        "control_id": header.control_id,
        "message_type": header.message_type,
        "trigger_event": header.trigger_event,
        "hl7_version": header.version,
        "size_bytes": len(body),
        "tolerated": list(message.tolerated),
        "findings": [asdict(finding) for finding in findings[:FINDINGS_MAX]],
        "findings_left_off": max(0, len(findings) - FINDINGS_MAX),
    }


def taken_apart(body: bytes) -> dict[str, Any]:
    """The message in JSON form (`hl7v2.json_form`)."""
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError:
        return {"error_code": UNPARSABLE, "next_step": ERRORS[UNPARSABLE].next_step, "message": None}
    return {"error_code": None, "next_step": None, "message": message.as_json()}


def acknowledged(body: bytes, message_id: str, now: datetime) -> tuple[str, bytes]:
    """MSA-1 and the acknowledgement: AA; AE with an ERR for each error; AR for bytes that are no message."""
    control_id = acknowledgment_id(message_id)
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError:
        rejected = hl7v2.reject_unparsable(now=now, control_id=control_id, text=ERRORS[UNPARSABLE].next_step)
        return "AR", bytes(rejected)
    errors = [finding for finding in hl7v2.validate(message) if finding.severity == "error"][:ERRORS_TOLD_MAX]
    code = "AE" if errors else "AA"
    return code, bytes(hl7v2.acknowledge(message, code, errors, now=now, control_id=control_id))
