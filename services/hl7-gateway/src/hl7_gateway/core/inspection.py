"""What the gateway makes of a message that is only shown to it: findings, and the acknowledgement it would send."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import hl7v2
from common.models.errors import ERRORS
from hl7_gateway.core.message import acknowledgment_id, read_header
from hl7_gateway.core.profile_comparison import Told, told_by, told_json
from hl7_gateway.core.remedy import observed, remedy, unreadable
from hl7_gateway.core.site_profile import STANDARD, SiteProfile

UNPARSABLE: Final = "hl7.unparsable"
FINDINGS_MAX: Final = 500
ERRORS_TOLD_MAX: Final = 20


def inspected(body: bytes, profile: SiteProfile = STANDARD, encoding: str | None = None) -> dict[str, Any]:
    """Header codes, what was tolerated, and findings with a remedy each; `valid` when none of them is an error.

    `loosened` is what the standard tells and the profile does not. `encoding` counts where MSH-18 is silent.
    """
    try:
        message = hl7v2.parse_assuming(body, encoding)
    except hl7v2.ParseError as error:
        finding, step = unreadable(body, error.code)
        return {
            "valid": False,
            "error_code": UNPARSABLE,
            "next_step": step,
            "findings": [{**asdict(finding), "remedy": step}],
        }
    header = read_header(message)
    told, dropped = told_by(message, profile)
    known = {(one.finding.path, one.finding.code) for one in told}
    told += [Told(one, "", one.severity) for one in observed(message) if (one.path, one.code) not in known]
    return {
        "valid": all(one.finding.severity != "error" for one in told),
        "error_code": None,
        "next_step": None,
        "profile": profile.ref.as_json(),
        "control_id": header.control_id,
        "message_type": header.message_type,
        "trigger_event": header.trigger_event,
        "hl7_version": header.version,
        "size_bytes": len(body),
        "tolerated": list(message.tolerated),
        "findings": [{**told_json(one, profile), "remedy": remedy(one.finding)} for one in told[:FINDINGS_MAX]],
        "findings_left_off": max(0, len(told) - FINDINGS_MAX),
        "loosened": [
            {**asdict(finding), "profile": {**profile.ref.as_json(), "effect": "loosened"}}
            for finding in dropped[:FINDINGS_MAX]
        ],
    }


def taken_apart(body: bytes) -> dict[str, Any]:
    """The message in JSON form (`hl7v2.json_form`)."""
    try:
        message = hl7v2.parse(body)
    except hl7v2.ParseError:
        return {"error_code": UNPARSABLE, "next_step": ERRORS[UNPARSABLE].next_step, "message": None}
    return {"error_code": None, "next_step": None, "message": message.as_json()}


def acknowledged(
    body: bytes, message_id: str, now: datetime, profile: SiteProfile = STANDARD, encoding: str | None = None
) -> tuple[str, bytes]:
    """MSA-1 and the acknowledgement: AA; AE with an ERR for each error; AR for bytes that are no message."""
    control_id = acknowledgment_id(message_id)
    try:
        message = hl7v2.parse_assuming(body, encoding)
    except hl7v2.ParseError:
        rejected = hl7v2.reject_unparsable(now=now, control_id=control_id, text=ERRORS[UNPARSABLE].next_step)
        return "AR", bytes(rejected)
    found = hl7v2.validate(message, profile.compiled)
    errors = [finding for finding in found if finding.severity == "error"][:ERRORS_TOLD_MAX]
    code = "AE" if errors else "AA"
    return code, bytes(hl7v2.acknowledge(message, code, errors, now=now, control_id=control_id))
