"""SMART App Launch 2.2: what a launch brought, which context is missing in its token response, and why.

A launch is two things that can be looked at: the parameters with which the EHR opened the launch URL (`iss`, `launch`
and those of the product's template), and the token response at its end. Findings name parameters, scopes and contexts;
never their values, which may be a patient's or a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from common.models.integration import Vendor
from pms import cerner
from pms.source import Source

PARAMETERS_MAX: Final = 40
TEMPLATE_CHARACTERS_MAX: Final = 8_000
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
# Forms in which launch templates write a value to be filled in; one that arrives was not filled in.
_PLACEHOLDER: Final = re.compile(r"\$[A-Za-z_][\w.]*\$?|\{\{?[\w.\s-]+\}?\}|%[A-Za-z_][\w.]*%|<[A-Za-z_][\w.]*>")


class Kind(StrEnum):
    """Where a launch began."""

    EHR = "ehr"
    STANDALONE = "standalone"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a launch: a code, the parameter, scope or context it is about, why, and what to do."""

    code: str
    about: str
    why: str
    next_step: str
    source: Source = Source.STANDARD

    def as_json(self) -> dict[str, str]:
        """The finding as the API shows it."""
        return {
            "code": self.code,
            "about": self.about,
            "why": self.why,
            "next_step": self.next_step,
            "source": self.source.value,
        }


def same_issuer(one: str, other: str) -> bool:
    """Whether two FHIR bases are the same: scheme and host in any case, a slash at the end does not count."""
    return _issuer(one) == _issuer(other) is not None


def issuer_key(iss: str) -> str | None:
    """A FHIR base in the one form by which it is compared; None when it is no http(s) URL."""
    return _issuer(iss)


def _issuer(url: str) -> str | None:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        return None
    default = {"http": 80, "https": 443}[parts.scheme.lower()]
    shown = f":{port}" if port not in {None, default} else ""
    return f"{parts.scheme.lower()}://{parts.hostname.lower()}{shown}{parts.path.rstrip('/')}"


def shown_names(parameters: Sequence[tuple[str, str]]) -> list[str]:
    """Names of parameters that may be kept and shown, once each and in order; the others are counted by nobody."""
    names = dict.fromkeys(name for name, _ in parameters if _NAME.fullmatch(name))
    return list(names)[:PARAMETERS_MAX]


def kind_of(parameters: Sequence[tuple[str, str]]) -> Kind:
    """An EHR launch brings `launch`; without it the app was opened by itself."""
    return Kind.EHR if any(name == "launch" and value for name, value in parameters) else Kind.STANDALONE


def check_parameters(vendor: Vendor, parameters: Sequence[tuple[str, str]]) -> list[Finding]:
    """What is wrong with the parameters of a launch (SMART App Launch 2.2 §2.0.5), most telling first."""
    given = dict(parameters)
    found = list(_required(given))
    for name in shown_names(parameters):
        if sum(1 for other, _ in parameters if other == name) > 1 and name in {"iss", "launch"}:
            found.append(
                Finding("parameter-repeated", name, "It is there more than once.", "Correct the launch template.")
            )
        if _PLACEHOLDER.fullmatch(given[name].strip()):
            found.append(
                Finding(
                    "placeholder-left", name,
                    "The EHR sent the template's placeholder instead of a value: it does not know that name, or had "
                    "nothing to fill in.",
                    "Correct the name in the launch template; check that a chart is open at launch.", Source.ASSUMED,
                )
            )  # fmt: skip
    if vendor is Vendor.CERNER:
        found += _cerner_parameters(given)
    return found


def _required(given: Mapping[str, str]) -> Iterator[Finding]:
    if not given.get("iss"):
        yield Finding(
            "iss-missing", "iss", "The launch does not name its FHIR server.",
            "Have the launch template send iss; a standalone launch uses the channel's own base.",
        )  # fmt: skip
    elif _issuer(given["iss"]) is None:
        yield Finding("iss-invalid", "iss", "It is not an http(s) URL.", "Correct the launch template.")
    if not given.get("launch"):
        yield Finding(
            "launch-missing", "launch",
            "There is no launch value: the app was opened by itself, so the EHR's context cannot come with the token.",
            "Open it from the chart; standalone: ask for launch/patient, and the user chooses a patient.",
        )  # fmt: skip
    if given.get("error"):
        yield Finding(
            "launch-refused", "error", "The EHR opened the launch URL with an error.",
            "Paste error_uri or the message into POST /auth/v1/launches:check.",
        )  # fmt: skip


def _cerner_parameters(given: Mapping[str, str]) -> list[Finding]:
    row = cerner.urn_of(given.get("error_uri", ""))
    if row is None:
        return []
    return [Finding(row.name, "error_uri", row.meaning, row.next_step, row.source)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the app asked for. `aud` None: the authorization request had none; `wanted`: the contexts it needs."""

    kind: Kind
    scopes: tuple[str, ...]
    aud: str | None
    iss: str | None
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """One context of a token response. `scope`: what asks for it standalone; `absent`: why it may be missing at all."""

    name: str
    scope: str
    absent: str
    source: Source


CONTEXTS: Final[tuple[Context, ...]] = (
    Context("patient", "launch/patient", "No chart was open at launch.", Source.VENDOR_DOCUMENT),
    Context(
        "encounter", "launch/encounter", "No visit was chosen in the chart at launch.", Source.VENDOR_DOCUMENT
    ),
    Context(
        "location", "launch/location", "The user was in no department, or the product does not pass it.",
        Source.VENDOR_DOCUMENT,
    ),
    Context(
        "appointment", "launch/appointment", "The launch was not made from an appointment of the schedule.",
        Source.VENDOR_DOCUMENT,
    ),
)  # fmt: skip
_BY_NAME: Final = {row.name: row for row in CONTEXTS}


@dataclass(frozen=True, slots=True)
class TokenReport:
    """A token response, by what it holds: contexts that are there, findings about those that are not."""

    readable: bool
    present: tuple[str, ...]
    missing: tuple[str, ...]
    findings: tuple[Finding, ...]


def check_token(vendor: Vendor, asked: Asked, response: bytes) -> TokenReport:
    """Which wanted context a token response lacks, and why; also of a refusal. Never raises."""
    document = _object(response)
    if document is None:
        wrong = Finding(
            "response-unreadable", "token_response", "It is no JSON object.", "Paste the response's body as it came."
        )
        return TokenReport(False, (), asked.wanted, (wrong,))
    if "access_token" not in document:
        return TokenReport(True, (), asked.wanted, tuple(_refusal(vendor, document)))
    granted = _granted(document, asked)
    present = tuple(row.name for row in CONTEXTS if document.get(row.name) not in (None, ""))
    missing = tuple(name for name in asked.wanted if name in _BY_NAME and name not in present)
    findings = [*_audience(asked), *(_why(_BY_NAME[name], asked, granted) for name in missing)]
    findings += _user(asked, granted, document)
    return TokenReport(True, present, missing, tuple(findings))


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _granted(document: Mapping[str, Any], asked: Asked) -> frozenset[str]:
    """RFC 6749 §5.1: without `scope` all that was asked for is granted."""
    scope = document.get("scope")
    return frozenset(scope.split() if isinstance(scope, str) else asked.scopes)


def _refusal(vendor: Vendor, document: Mapping[str, Any]) -> Iterator[Finding]:
    uri = document.get("error_uri")
    row = cerner.urn_of(uri) if vendor is Vendor.CERNER and isinstance(uri, str) else None
    if row is not None:
        yield Finding(row.name, "error_uri", row.meaning, row.next_step, row.source)
    else:
        yield Finding(
            "token-refused", "token_response", "There is no access token in it: the launch ended before a context.",
            "Run Test Connection on the credential; look at error and error_description.",
        )  # fmt: skip


def _audience(asked: Asked) -> Iterator[Finding]:
    if not asked.aud:
        yield Finding(
            "aud-missing", "aud", "The authorization request has no aud; Epic requires it since 2023.",
            "Send aud = iss in the authorization request.", Source.VENDOR_DOCUMENT,
        )  # fmt: skip
    elif asked.iss and not same_issuer(asked.aud, asked.iss):
        yield Finding("aud-differs", "aud", "aud is another FHIR server than iss.", "Send aud = iss as it stands.")


def _why(context: Context, asked: Asked, granted: frozenset[str]) -> Finding:
    scope = "launch" if asked.kind is Kind.EHR else context.scope
    if scope not in asked.scopes and not (asked.kind is Kind.EHR and context.scope in asked.scopes):
        code = "launch-scope-missing" if asked.kind is Kind.EHR else "standalone-scope-missing"
        why = f"The scope {scope} was not asked for."
        return Finding(code, context.name, why, f"Add {scope} to the scopes of the launch credential.")
    if scope not in granted and context.scope not in granted:
        why = f"The scope {scope} was asked for and not granted."
        return Finding("scope-refused", context.name, why, f"Have the app registered for {scope}.")
    return Finding(
        "context-absent", context.name, context.absent,
        "Launch from where it is open; make the app ask the user when it is not there.", context.source,
    )  # fmt: skip


def _user(asked: Asked, granted: frozenset[str], document: Mapping[str, Any]) -> Iterator[Finding]:
    if "fhirUser" not in asked.scopes:
        return
    if "openid" not in asked.scopes:
        yield Finding(
            "openid-missing", "fhirUser", "fhirUser was asked for without openid, so there is no id token to hold it.",
            "Ask for openid fhirUser.", Source.VENDOR_DOCUMENT,
        )  # fmt: skip
    elif {"openid", "fhirUser"} - granted:
        yield Finding(
            "scope-refused", "fhirUser", "openid or fhirUser was not granted.",
            "Have the app registered for openid and fhirUser.",
        )  # fmt: skip
    elif not document.get("id_token"):
        yield Finding(
            "id-token-missing", "fhirUser", "The scopes are granted, but the response has no id token.",
            "Tell the vendor: the response breaks OpenID Connect Core §3.1.3.3.",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LaunchMessage:
    """A message that PowerChart shows instead of the app. `words` as they stand in it, in lower case."""

    name: str
    words: tuple[str, ...]
    why: str
    next_step: str
    faults: tuple[str, ...] = ("F7",)
    source: Source = Source.VENDOR_DOCUMENT


POWERCHART_MESSAGES: Final[tuple[LaunchMessage, ...]] = (
    LaunchMessage(
        "powerchart-tenant", ("tenant id could not be obtained",),
        "The launch template gives no tenant.", "Add the tenant to the launch template of this domain.",
    ),
    LaunchMessage(
        "powerchart-username", ("username could not be obtained", "user name could not be obtained"),
        "The launch template gives no user name.", "Add the user name to the launch template.",
    ),
    LaunchMessage(
        "powerchart-session", ("startoauthsession.user", "99999115"),
        "PowerChart could not open an OAuth session for its user.",
        "Check that the user exists in the authorization server of this tenant.",
    ),
)  # fmt: skip


def message_of(text: str) -> Finding | None:
    """What a message of PowerChart or a launch URN means, None when neither is in the text."""
    lowered = " ".join(text[:TEMPLATE_CHARACTERS_MAX].lower().split())
    for row in POWERCHART_MESSAGES:
        if any(word in lowered for word in row.words):
            return Finding(row.name, "message", row.why, row.next_step, row.source)
    urn = cerner.urn_of(text)
    return Finding(urn.name, "message", urn.meaning, urn.next_step, urn.source) if urn else None


_TENANT_NAMES: Final = frozenset({"tenant", "tenantid"})
_USER_NAMES: Final = frozenset({"user", "username", "userid"})


def check_template(template: str) -> list[Finding]:
    """What a PowerChart launch template lacks: tenant and user name, with a value each; never raises.

    Only that is checked. Which placeholders a Millennium domain fills in is the site's own and not public.
    """
    text = template[:TEMPLATE_CHARACTERS_MAX]
    parameters = _template_parameters(text)
    found = []
    if not any(parameters.get(name) for name in _TENANT_NAMES) and cerner.tenant_of(parameters.get("iss", "")) is None:
        found.append(
            Finding(
                "template-tenant-missing", "tenant", "The template gives no tenant: PowerChart will say so at launch.",
                "Add the tenant (the one of the FHIR base) to the template.", Source.VENDOR_DOCUMENT,
            )
        )  # fmt: skip
    if not any(parameters.get(name) for name in _USER_NAMES):
        found.append(
            Finding(
                "template-username-missing", "username", "The template gives no user name.",
                "Add the user name, as the domain's placeholder for it.", Source.VENDOR_DOCUMENT,
            )
        )  # fmt: skip
    return found


def _template_parameters(text: str) -> dict[str, str]:
    """name=value pairs of a URL's query or of a list parted by `&`, `;`, `,` or spaces; names without `_` and `-`."""
    query = text.partition("?")[2] or text
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=None)
    pairs += [(name, value) for name, value in re.findall(r"([\w-]{1,64})\s*=\s*([^\s&;,]{0,500})", text)]
    found: dict[str, str] = {}
    for name, value in pairs:
        key = re.sub(r"[_-]", "", name.strip().lower())
        found[key] = found.get(key) or value.strip()
    return found
