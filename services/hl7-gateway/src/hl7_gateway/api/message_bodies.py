"""HL7 messages in a request: one as it is, a batch file, or a JSON list in base64."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import orjson
from fastapi import Request

from common.models.errors import FieldError, SuiteError
from hl7_gateway.core.batch import messages_of
from hl7_gateway.use_cases.enqueue_messages import MESSAGES_MAX
from hl7v2.message_file import MessageFile, read_message_file

_JSON: Final = "application/json"
_RAW: Final = ("x-application/hl7-v2+er7", "application/hl7-v2", "text/plain", "application/octet-stream")
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            _JSON: {
                "schema": {
                    "type": "object",
                    "required": ["messages"],
                    "additionalProperties": False,
                    "properties": {
                        "messages": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MESSAGES_MAX,
                            "items": {"type": "string", "format": "byte", "description": "one message, in base64"},
                        }
                    },
                }
            },
            **{
                kind: {"schema": {"type": "string", "description": "a message or a batch file, as it is"}}
                for kind in _RAW
            },
        },
    }
}


def file_in(request: Request, data: bytes) -> MessageFile:
    """As `messages_in`, with what is wrong around the messages; captured MLLP frames are taken, too."""
    messages = messages_in(request, data)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return MessageFile(tuple(messages), ()) if kind == _JSON else read_message_file(data)


def messages_in(request: Request, data: bytes) -> list[bytes]:
    """The messages, as they are. Raises SuiteError `request.unsupported-media-type`, `.malformed` or `.invalid`."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == _JSON:
        return _decoded(data)
    if kind not in _RAW:
        raise SuiteError("request.unsupported-media-type", f"Send {_JSON} or {_RAW[0]}.")
    return messages_of(data)


def _decoded(data: bytes) -> list[bytes]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SuiteError("request.malformed") from error
    messages = document.get("messages") if isinstance(document, dict) and set(document) == {"messages"} else None
    if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
        expected = f"Expected a list of 1 to {MESSAGES_MAX} messages, and nothing beside it."
        raise SuiteError("request.invalid", fields=[FieldError("/messages", "list", expected)])
    found = []
    for index, text in enumerate(messages):
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            field = FieldError(f"/messages/{index}", "base64", "Expected a message in base64.")
            raise SuiteError("request.invalid", fields=[field]) from error
    return found
