"""A Unity session: GetToken with the service user, GetUserAuthentication with the EHR user, and its end.

GetToken answers a bare GUID, quoted or not; everything that went wrong comes with HTTP 200 (see `pms.unity`). A token
whose user was never authenticated is given out all the same, and then every action fails; so both belong together.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from pms.unity import AnswerKind, Session, UnityError, UnityRequest, magic, parse_answer

_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}")


def get_token(username: str, password: str) -> UnityRequest:
    """A token for the service user; no user of the EHR is logged in with it yet."""
    body = json.dumps({"Username": username, "Password": password}, ensure_ascii=False).encode()
    return UnityRequest("GetToken", body, path="json/GetToken")


def authenticate_user(session: Session, password: str) -> UnityRequest:
    """Log the EHR user of the session in; the password is Parameter1."""
    return magic("GetUserAuthentication", session, (password,))


def retire(session: Session) -> UnityRequest:
    """End the token; a server that does not know the action says so, and the token ends by idling."""
    body = json.dumps({"Token": session.token, "Appname": session.application}).encode()
    return UnityRequest("RetireSecurityToken", body, path="json/RetireSecurityToken")


@dataclass(frozen=True, slots=True)
class TokenText:
    """What GetToken answered: a token, or why there is none (`error` None: the answer is not Unity's)."""

    token: str | None = field(default=None, repr=False)
    error: UnityError | None = None


def parse_token(body: bytes) -> TokenText:
    """Never raises."""
    answer = parse_answer(body)
    if answer.kind is AnswerKind.TEXT and _GUID.fullmatch(answer.text):
        return TokenText(answer.text)
    return TokenText(error=answer.error)


@dataclass(frozen=True, slots=True)
class UserText:
    """What GetUserAuthentication answered: `valid`, or why not (`error` None: the answer is not Unity's)."""

    valid: bool
    error: UnityError | None = None


def parse_user(body: bytes) -> UserText:
    """Never raises."""
    answer = parse_answer(body)
    if answer.kind is AnswerKind.ROWS and answer.action == "getuserauthentication" and answer.rows:
        return UserText(valid=True)
    return UserText(valid=False, error=answer.error)
