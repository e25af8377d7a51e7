"""How Oracle Health and a plain server refuse a token (RFC 6749 §5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from simulator.core.answer import Answer, json_answer
from simulator.core.assertion import Refusal

_NO_STORE: Final[Mapping[str, str]] = {"Cache_Control": "no-store", "Pragma": "no-cache"}
_URN: Final = "urn:cerner:error:authorization-server:oauth2:token:"
# What is not named here is a signature, a claim or a key that does not fit: one URN for all of them.
_CERNER_SUFFIXES: Final[Mapping[Refusal, str]] = {
    Refusal.NO_HEADER: "invalid-authorization-header",
    Refusal.SECRET: "invalid-client-credentials",
    Refusal.CLIENT_UNKNOWN: "invalid-client-credentials",
    Refusal.SECRET_EXPIRED: "invalid-client-credentials",
    Refusal.CLIENT_DISABLED: "terminated-client",
}
_SIGNATURE: Final = "client-assertion:jwt-bearer:invalid-signature"
_CERNER_ERRORS: Final[Mapping[str, str]] = {"empty-scopes": "invalid_scope"}
_OAUTH: Final = frozenset({"invalid_request", "unsupported_grant_type"})


@dataclass(frozen=True, slots=True)
class CernerWords:
    """The cause is only inside `error_uri`; `instance` is also the correlation id."""

    tenant: str
    client_id: str
    instance: str = field(default="")

    def refused(self, reason: Refusal) -> Answer:
        """401 for the header, 400 for all else."""
        suffix = _CERNER_SUFFIXES.get(reason, _SIGNATURE)
        return self._answer(401 if reason is Refusal.NO_HEADER else 400, "invalid_client", suffix)

    def error(self, error: str) -> Answer:
        """`error` is one of RFC 6749, or the end of a URN."""
        if error in _OAUTH:
            return self._answer(400, error, error.replace("_", "-"))
        return self._answer(400, _CERNER_ERRORS.get(error, "invalid_grant"), error)

    def _answer(self, status: int, error: str, suffix: str) -> Answer:
        uri = (
            f"https://authorization.cerner.com/errors/{quote(_URN + suffix, safe='')}/instances/{self.instance}"
            f"?client={quote(self.client_id, safe='')}&tenant={quote(self.tenant, safe='')}"
        )
        answer = json_answer(status, {"error": error, "error_uri": uri}, **_NO_STORE)
        return Answer(status, answer.body, {**answer.headers, "Cerner-Correlation-ID": self.instance})


@dataclass(frozen=True, slots=True)
class PlainWords:
    """A server that says in words what is wrong."""

    def refused(self, reason: Refusal) -> Answer:
        """401 with a challenge where a header was tried (RFC 6749 §5.2)."""
        body = {"error": "invalid_client", "error_description": "Client authentication failed"}
        answer = json_answer(401, body, **_NO_STORE)
        return Answer(401, answer.body, {**answer.headers, "WWW-Authenticate": 'Basic realm="token"'})

    def error(self, error: str) -> Answer:
        """`empty-scopes` is invalid_scope."""
        name = "invalid_scope" if error == "empty-scopes" else error
        return json_answer(400, {"error": name, "error_description": "The request was refused"}, **_NO_STORE)
