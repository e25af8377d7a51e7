"""A person lets the suite in at the vendor's page: where to go, and the page that the browser comes back to."""

from __future__ import annotations

import html
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import HTMLResponse

from auth_gateway.ports import Credentials
from auth_gateway.use_cases.authorize_credential import AuthorizeCredential
from common.models.clock import instant_text
from common.models.errors import ERRORS, SuiteError
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of

Name = Annotated[str, Path(pattern="^[a-z][a-z0-9-]{0,62}$", description="lower case letters, digits and hyphens")]
Who = Annotated[Caller, Depends(caller_of)]
CALLBACK: Final = "/oauth/callback"
_VALUE_CHARACTERS_MAX: Final = 4_096
# The page loads nothing, tells the next one nothing of its address (which holds the code), and is kept nowhere.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:1rem/1.5 system-ui;margin:4rem auto;max-width:32rem;padding:0 1rem}}</style></head>
<body><main><h1>{title}</h1><p>{text}</p><p>You can close this window.</p></main></body></html>"""


def router(credentials: Credentials, authorize: AuthorizeCredential) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: Credentials"])

    @api.post(
        "/integrations/{integration_id}/credentials/{name}:authorize", summary="Connect: the vendor's page to open"
    )
    async def begin(integration_id: str, name: Name, caller: Who) -> dict[str, Any]:
        """For the grant authorization_code: open `authorize_url` in the browser of whoever may grant access there."""
        credential = await credentials.get(caller.tenant, check_id(integration_id, "int"), name)
        url, expires_at = await authorize.begin(caller, credential)
        return {"authorize_url": url, "redirect_uri": authorize.redirect_uri, "expires_at": instant_text(expires_at)}

    @api.get(CALLBACK, summary="Where the vendor sends the browser back to", response_class=HTMLResponse)
    async def callback(request: Request) -> HTMLResponse:
        """Takes the answer of the vendor's page once, and says in plain words what became of it."""
        query = {name: value[:_VALUE_CHARACTERS_MAX] for name, value in request.query_params.items()}
        try:
            await authorize.finish(query)
        except SuiteError as error:
            row = ERRORS[error.code]
            text = " ".join(part for part in (f"{row.title}.", error.detail or "", row.next_step) if part)
            return _page("Not connected", text, row.status)
        return _page("Connected", "Practice Studio may now act at the practice-management system, as you granted.", 200)

    return api


def _page(title: str, text: str, status: int) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=html.escape(title), text=html.escape(text)), status, _HEADERS)
