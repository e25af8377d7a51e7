"""The faults of a vendor's server: groups A, B and F of the catalogue of causes and writes in vain, one row each.

What the network does (DNS, ports, firewalls, certificates, bandwidth) is the proxies'; the rows here are answers.
"""

from __future__ import annotations

from typing import Final

from simulator.core.fault_row import Choice, FaultRow, Parameter, Surface

_BOTH: Final = frozenset({Surface.API, Surface.TOKEN_ENDPOINT})
_API: Final = frozenset({Surface.API})
_TOKEN: Final = frozenset({Surface.TOKEN_ENDPOINT})
_EPIC: Final = frozenset({"epic"})
_CERNER: Final = frozenset({"cerner"})
_UNITY: Final = frozenset({"unity"})
_FHIR: Final = frozenset({"epic", "cerner", "fhir"})
_SIGNED: Final = frozenset({"epic", "cerner", "fhir"})
_NO_REASON: Final = "The answer is the one for every failure of a client (Epic: a bare invalid_client). "

AUTHENTICATION_FAULTS: Final = (
    FaultRow(
        "expired-secret", "Every client registration has expired", _TOKEN, "A1",
        "Token requests answer 400 invalid_client, as for any other cause; tokens given before go on to their end. "
        "Failed authentication at the next token test or refresh.",
    ),
    FaultRow(
        "wrong-secret", "The vendor holds another secret or key for the client", _TOKEN, "A2",
        _NO_REASON + "Test Connection fails at token; a recorded expiry lies ahead.",
    ),
    FaultRow(
        "our-clock", "Our clock is wrong, as every peer sees it", _BOTH, "A3",
        "For every server alike: all Date headers are off by the same. Test Connection fails at clock and "
        "says that ours is the wrong one once three peers agree.",
        (Parameter("offset_s", 600, -86_400, 86_400, "the peers' clocks minus ours in seconds"),),
    ),
    FaultRow(
        "clock-skew", "The vendor's clock is wrong", _BOTH, "A4",
        "The Date header is off by the offset. Over five minutes ahead or a few seconds behind, token requests "
        "answer invalid_client too. Clock skew at the next poll.",
        (Parameter("offset_s", 600, -86_400, 86_400, "vendor's clock minus true time in seconds"),),
    ),
    FaultRow(
        "keys-unread", "The vendor cannot read our public keys", _TOKEN, "A5",
        _NO_REASON + "Test Connection fails at token; our JWKS has not been asked for since the key was made.",
        vendors=_SIGNED,
    ),
    FaultRow(
        "audience-differs", "The vendor wants another audience than the token URL", _BOTH, "A7",
        _NO_REASON + "SMART configuration names another token_endpoint than the credential has: Test Connection says "
        "so at token and at smart-configuration.",
        vendors=_EPIC,
    ),
    FaultRow(
        "assertion-resent", "Something on the way sends every token request twice", _TOKEN, "A8",
        _NO_REASON + "The vendor refuses the second one for its jti, and its answer is what arrives. Test Connection "
        "fails at token.",
        vendors=_SIGNED,
    ),
    FaultRow(
        "refresh-token-revoked", "Refresh tokens are revoked", _TOKEN, "A9",
        "A refresh answers 400 invalid_grant. The credential is to be reconnected; nothing is asked again until then.",
        vendors=_EPIC,
    ),
    FaultRow(
        "refresh-token-raced", "Somebody else used the refresh token first", _TOKEN, "A10",
        "A refresh answers 400 invalid_grant, and the whole family of the token has ended. The credential is to be "
        "reconnected.",
        vendors=_EPIC,
    ),
    FaultRow(
        "scope-missing", "The API of one resource is not enabled for the client", _API, "A11",
        "Tokens are granted; 403 insufficient_scope on that resource alone. Test Connection fails at read, and "
        "permissions:check lists it as missing.",
        choices=(
            Choice(
                "resource",
                ("Patient", "Appointment", "Practitioner", "Location", "Group", "Encounter", "Coverage"),
                "the resource that is not enabled",
            ),
        ),
        vendors=_FHIR,
    ),
    FaultRow(
        "client-disabled", "The vendor has disabled the client", _BOTH, "A12",
        "Token requests answer invalid_client (Oracle Health: terminated-client, Unity: ValidUser NO) and tokens given "
        "before are not taken any more. Failed authentication at once.",
    ),
    FaultRow(
        "unauthorized", "Every API call with a token answers 401", _API, "A12",
        "401 with an empty body and an invalid_token challenge, also for a new token. Failed authentication at the "
        "next poll. Test Connection fails at identity; metadata, which need no token, are answered.",
    ),
    FaultRow(
        "other-environment", "The client is registered in the sandbox alone", _TOKEN, "A13",
        _NO_REASON + "Test Connection fails at token, and says so when the same client id serves an integration of "
        "another environment.",
    ),
)  # fmt: skip

CONNECTION_FAULTS: Final = (
    FaultRow(
        "address-refused", "Our address is not on the vendor's allow-list", _BOTH, "B4",
        "403 with a web server's page before anybody is authenticated, on metadata too. Test Connection fails at "
        "metadata or token and names the allow-list.",
    ),
    FaultRow(
        "rate-limited", "Every API call answers 429", _API, "B9",
        "429 with Retry-After. Rate limiting at the next poll; runs wait or end with peer.rate-limited.",
        (Parameter("retry_after_s", 5, 0, 3600, "value of Retry-After in seconds"),),
    ),
    FaultRow(
        "quota-used-up", "The quota of the day is used up", _API, "B10",
        "429 with a Retry-After that names a date, hours away. Runs wait until then; nothing is asked meanwhile.",
        (Parameter("resets_after_s", 14_400, 60, 86_400, "seconds until the quota begins anew"),),
    ),
    FaultRow(
        "unavailable", "The vendor answers 503", _BOTH, "B11",
        "503 on the API, its metadata and the token endpoint. Failed runs at the next poll.",
    ),
    FaultRow(
        "slow", "The vendor answers late", _BOTH, "B12",
        "The same answers, later. Slow answers at the next poll; time-outs where the delay is longer than them.",
        (Parameter("delay_ms", 3000, 1, 60_000, "delay of every answer in milliseconds"),),
    ),
    FaultRow(
        "wrong-path", "The base path leads to no FHIR server", _API, "B14",
        "A web server's 404 page instead of FHIR, on metadata too. Test Connection fails at metadata and names "
        "the path.",
    ),
)  # fmt: skip

VENDOR_FAULTS: Final = (
    FaultRow(
        "registration-travels", "The registration has not reached the site yet", _TOKEN, "F1",
        "invalid_client for every token request until the registration is so old. Test Connection fails at token and "
        "names the age of the credential.",
        (Parameter("hours", 12, 1, 72, "how long a registration travels"),),
        vendors=_EPIC,
    ),
    FaultRow(
        "renewal-overdue", "The application's credentials are past their renewal", _TOKEN, "F2",
        _NO_REASON + "The recorded expiry has passed: Test Connection fails at token and names it.",
        vendors=_EPIC,
    ),
    FaultRow(
        "fhir-version", "The server speaks another FHIR version", _API, "F3",
        "Metadata name another fhirVersion (DSTU2: a Conformance). Test Connection fails at metadata with "
        "metadata.version-differs.",
        choices=(Choice("version", ("3.0.1", "1.0.2", "5.0.0"), "what metadata say"),),
        vendors=_FHIR,
    ),
    FaultRow(
        "launch-context-missing", "A launch comes without its context", _TOKEN, "F4",
        "The token response of a launch lacks what was in context. GET /auth/v1/launches says which is missing, "
        "and why.",
        choices=(Choice("context", ("patient", "encounter", "location", "appointment"), "what is missing"),),
        vendors=frozenset({"epic", "cerner"}),
    ),
    FaultRow(
        "tenant-not-enabled", "The client is not enabled in this Millennium domain", _TOKEN, "F5",
        "invalid_grant; the URN behind error_uri names the cause. Test Connection fails at token with it.",
        choices=(
            Choice(
                "urn",
                ("invalid-tenant", "grant:tenant-not-configured", "grant:unauthorized-client-for-tenant"),
                "the end of the URN",
            ),
        ),
        vendors=_CERNER,
    ),
    FaultRow(
        "ccl-error", "A CCL script fails inside an HTTP 200", _API, "F6",
        "An MPage call answers 200 with a status other than S and a CCL message; POST /auth/v1/ccl:explain reads it.",
        choices=(
            Choice(
                "message", ("E-6", "E-9", "E-43", "E-260", "W-44", "E-151"), "severity and number of the message"
            ),
        ),
        vendors=_CERNER,
    ),
    FaultRow(
        "launch-template", "The PowerChart launch template lacks a value", _API, "F7",
        "A launch arrives without tenant or user name; /auth/v1/launch refuses it and names the field of the template.",
        choices=(Choice("lacks", ("tenant", "username"), "what the template lacks"),),
        vendors=_CERNER,
    ),
    FaultRow(
        "scopes-v2-only", "The application is registered for SMART v2 scopes", _TOKEN, "F8",
        ".read scopes are dropped silently, and with none left the answer is invalid_scope with empty-scopes. Test "
        "Connection fails at token or permissions and names the v2 form.",
        vendors=_CERNER,
    ),
    FaultRow(
        "user-not-authenticated", "GetUserAuthentication does not stick", _API, "F9",
        "GetToken works, every Magic call says that the user is not authenticated. Test Connection fails at identity.",
        vendors=_UNITY,
    ),
    FaultRow(
        "magic-error", "Actions fail with an error text under HTTP 200", _API, "F10",
        "An Error, or a row whose STATUS says Critical, in an HTTP 200. Test Connection fails at metadata or read.",
        choices=(Choice("kind", ("error", "critical-status"), "where the text stands"),),
        vendors=_UNITY,
    ),
    FaultRow(
        "action-unlicensed", "An action is not licensed", _API, "F11",
        "That action alone answers an error text. Test Connection fails at read or permissions and names the action.",
        choices=(
            Choice(
                "action",
                (
                    "GetPatient", "SearchPatients", "GetChangedPatients", "GetSchedule", "GetDictionary",
                    "GetProviders", "SaveAppointment",
                ),
                "the action",
            ),
        ),
        vendors=_UNITY,
    ),
    FaultRow(
        "other-product", "Another product stands behind the address", _API, "F12",
        "GetServerInfo names another System than the integration's product. Test Connection fails at metadata.",
        choices=(Choice("product", ("Professional", "PM", "TouchWorks"), "what answers"),),
        vendors=_UNITY,
    ),
    FaultRow(
        "dictionary-renamed", "Entries of the dictionaries have other names", _API, "F13",
        "GetDictionary gives every entry another name. The comparison with the mappings lists them with the update.",
        vendors=_UNITY,
    ),
    FaultRow(
        "session-idle", "Sessions end at once, as if they had idled", _API, "F14",
        "Magic calls say that the user has been logged out due to inactivity; a new session has the same fate. Test "
        "Connection fails at identity.",
        vendors=_UNITY,
    ),
)  # fmt: skip

WRITE_FAULTS: Final = (
    FaultRow(
        "record-open", "Somebody has the record open", _API, "C9",
        "Every change answers 423; a write-back is tried again.",
        vendors=frozenset({"cerner", "fhir"}),
    ),
    FaultRow(
        "dependency-failed", "A record that this one depends on cannot be changed", _API, "C9",
        "Every change answers 424; a write-back waits for a person.",
        vendors=frozenset({"cerner", "fhir"}),
    ),
)  # fmt: skip

ROWS: Final = (*AUTHENTICATION_FAULTS, *CONNECTION_FAULTS, *VENDOR_FAULTS, *WRITE_FAULTS)
