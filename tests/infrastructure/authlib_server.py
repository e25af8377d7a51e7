"""An authorization server of somebody else: authlib's grants and client authentication behind a socket of ours.

It decides everything by itself (RFC 6749, 7523, 7636): client secrets, assertions by the client's published key set and
their `jti`, PKCE, refresh tokens that are used once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request, TokenMixin, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc import jwt
from joserfc.jwk import KeySet

LIFE_S = 300


@dataclass
class RegisteredClient(ClientMixin):  # type: ignore[misc]
    """A client as the server knows it."""

    client_id: str
    secret: str = ""
    redirect_uri: str = ""
    method: str = "client_secret_basic"

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in {"client_credentials", "authorization_code", "refresh_token"}


@dataclass
class Code:
    """An authorization code that was given out."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str
    code_challenge_method: str
    user: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Token(TokenMixin):  # type: ignore[misc]
    """A token that was given out."""

    value: dict[str, Any]
    client_id: str
    user: str | None
    issued_at: float = field(default_factory=time.time)
    revoked: bool = False

    def check_client(self, client: RegisteredClient) -> bool:
        return client.client_id == self.client_id

    def get_scope(self) -> str:
        return str(self.value.get("scope", ""))

    def get_expires_in(self) -> int:
        return LIFE_S

    def is_expired(self) -> bool:
        return self.issued_at + LIFE_S < time.time()

    def is_revoked(self) -> bool:
        return self.revoked


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, method: str, uri: str, headers: dict[str, str], form: dict[str, str]) -> None:
        super().__init__(method, uri, headers=headers)
        query = dict(parse_qsl(urlsplit(uri).query))
        self._form, self._query = form, query
        self.payload = BasicOAuth2Payload({**query, **form})

    @property
    def args(self) -> dict[str, str]:
        return self._query

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthorizationServer):  # type: ignore[misc]
    """authlib's server with its storage in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: dict[str, RegisteredClient] = {}
        self.codes: dict[str, Code] = {}
        self.tokens: list[Token] = []
        self.register_token_generator("default", _token)

    def query_client(self, client_id: str) -> RegisteredClient | None:
        return self.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        self.tokens.append(Token(token, request.client.client_id, request.user))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        return None

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> tuple[int, Any, dict[str, str]]:
        return status, body, dict(headers)


def _token(*, include_refresh_token: bool = True, scope: str | None = None, **_: Any) -> dict[str, Any]:
    token = {"token_type": "Bearer", "access_token": secrets.token_urlsafe(24), "expires_in": LIFE_S}
    token |= {"scope": scope} if scope else {}
    return token | ({"refresh_token": secrets.token_urlsafe(24)} if include_refresh_token else {})


_METHODS = ["client_secret_basic", "client_secret_post", "client_assertion_jwt"]


class _ClientCredentials(grants.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS


class _AuthorizationCode(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        asked = request.payload.data
        self.server.codes[code] = Code(
            code, request.client.client_id, asked["redirect_uri"], asked.get("scope", ""), asked["code_challenge"],
            asked["code_challenge_method"], request.user,
        )  # fmt: skip

    def query_authorization_code(self, code: str, client: RegisteredClient) -> Code | None:
        found: Code | None = self.server.codes.get(code)
        return found if found is not None and found.client_id == client.client_id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return authorization_code.user


class _RefreshToken(grants.RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        held = [one for one in self.server.tokens if one.value.get("refresh_token") == refresh_token]
        return held[0] if held and not held[0].revoked else None

    def authenticate_user(self, refresh_token: Token) -> str | None:
        return refresh_token.user

    def revoke_old_credential(self, refresh_token: Token) -> None:
        refresh_token.revoked = True


class _Assertion(JWTBearerClientAssertion):  # type: ignore[misc]
    """By the client's key set, fetched when it is needed; SMART's algorithms only."""

    def __init__(self, audience: Callable[[], str], key_set: Callable[[], dict[str, Any]]) -> None:
        super().__init__(validate_jti=True, leeway=5)
        self._audience, self._key_set = audience, key_set
        self._used: set[str] = set()

    def get_audiences(self) -> list[str]:
        return [self._audience()]

    def validate_jti(self, claims: dict[str, Any], jti: str) -> bool:
        fresh = jti not in self._used
        self._used.add(jti)
        return fresh

    def resolve_client_public_key(self, client: RegisteredClient) -> KeySet:
        return KeySet.import_key_set(cast("Any", self._key_set()))

    def process_assertion_claims(self, assertion: str, resolve_key: Any) -> Any:
        token = jwt.decode(assertion, resolve_key, algorithms=["RS384", "ES384"])
        self.verify_claims(token.claims)
        return token.claims


class AuthlibServer:
    """The server on a loopback socket: `url` + /token and /authorize."""

    def __init__(self, key_set: Callable[[], dict[str, Any]]) -> None:
        self.oauth = _Server()
        for grant in (_ClientCredentials, _RefreshToken):
            self.oauth.register_grant(grant)
        self.oauth.register_grant(_AuthorizationCode, [CodeChallenge(required=True)])
        self.url = ""
        self.statuses: list[int] = []
        self._assertion = _Assertion(lambda: f"{self.url}/token", key_set)
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        self.oauth.register_client_auth_method("client_assertion_jwt", self._assertion)
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._listening is not None
        self._listening.close()
        await self._listening.wait_closed()

    def consent(self, authorize_url: str, user: str) -> dict[str, str]:
        """What the browser of a person who agrees is sent back with."""
        request = _Request("GET", authorize_url.replace("http://", "https://"), {}, {})
        grant = self.oauth.get_authorization_grant(request)
        request.user = user
        status, _, headers = self.oauth.create_authorization_response(request, grant_user=user, grant=grant)
        assert status == 302, status
        return dict(parse_qsl(urlsplit(headers["Location"]).query))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {name.title(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = (await reader.readexactly(int(headers.get("Content-Length", "0")))).decode()
        request = _Request("POST", "https://server.example" + first.split()[1], headers, dict(parse_qsl(body)))
        status, answer, more = self.oauth.create_token_response(request)
        self.statuses.append(status)
        text = json.dumps(answer)
        shown = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        ending = f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
        writer.write(f"HTTP/1.1 {status} X\r\n{shown}{ending}".encode())
        await writer.drain()
        writer.close()
