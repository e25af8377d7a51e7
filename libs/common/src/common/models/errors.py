"""The error catalogue: every failure a caller can meet, whose fault it is, whether to retry, and the next step.

The catalogue is rows; `docs/errors.md` is generated from it and a test compares the two. A code is `domain.reason`,
lower case with hyphens, and never changes its meaning. Problem details follow RFC 9457.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Whose fault a failure is."""

    CALLER = "caller"
    OURS = "ours"
    PEER = "peer"
    OPERATOR = "operator"


class Retry(StrEnum):
    """What a retry can do. Only `transient` is retried by the suite itself; `ambiguous` goes to a person."""

    TRANSIENT = "transient"
    AMBIGUOUS = "ambiguous"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One failure: HTTP status, a title, whose fault, the retry class, and one line that says what to do next."""

    status: int
    title: str
    fault: Fault
    retry: Retry
    next_step: str


_C, _O, _P, _OP = Fault.CALLER, Fault.OURS, Fault.PEER, Fault.OPERATOR
_T, _A, _N = Retry.TRANSIENT, Retry.AMBIGUOUS, Retry.PERMANENT

ERRORS: Final[dict[str, ErrorRow]] = {
    # requests
    "request.malformed": ErrorRow(400, "The request could not be read", _C, _N, "Send a body that is valid JSON in UTF-8."),
    "request.invalid": ErrorRow(422, "The request does not fit the schema", _C, _N, "Correct the fields named in `errors`; each has a JSON pointer."),
    "request.invalid-id": ErrorRow(404, "There is no such thing", _C, _N, "Use an id as the suite printed it."),
    "request.bad-cursor": ErrorRow(400, "The cursor is not one of ours", _C, _N, "Use the `next` of the previous page, or begin again without a cursor."),
    "request.not-found": ErrorRow(404, "There is no such address", _C, _N, "Look up the path in /docs."),
    "request.method-not-allowed": ErrorRow(405, "That method is not offered here", _C, _N, "Use a method named in the Allow header."),
    "request.too-large": ErrorRow(413, "The body is larger than allowed", _C, _N, "Send less than the limit named in `detail`."),
    "request.unsupported-media-type": ErrorRow(415, "The body's media type is not supported", _C, _N, "Send application/json."),
    "request.precondition-required": ErrorRow(428, "This change needs If-Match", _C, _N, "Read the resource and send its ETag as If-Match."),
    "request.version-changed": ErrorRow(412, "Somebody else changed it meanwhile", _C, _N, "Read it again, apply your change to the new version, and send its ETag."),
    "request.conflict": ErrorRow(409, "The request contradicts the present state", _C, _N, "Read the resource; `detail` says what stands in the way."),
    "idempotency.body-differs": ErrorRow(422, "This Idempotency-Key was used with another body", _C, _N, "Use a new key for a new request."),
    "idempotency.in-progress": ErrorRow(409, "The first request with this Idempotency-Key is still running", _C, _T, "Wait a moment and repeat the same request."),
    "idempotency.invalid-key": ErrorRow(400, "The Idempotency-Key cannot be used", _C, _N, "Send 1 to 128 printable ASCII characters."),
    # callers
    "auth.token-missing": ErrorRow(401, "There is no bearer token", _C, _N, "Send `Authorization: Bearer …`; for a local suite the token lies in DATA/admin-token."),
    "auth.token-invalid": ErrorRow(401, "The bearer token is not valid", _C, _N, "Get a new token from the issuer; check issuer, audience and clock."),
    "auth.token-expired": ErrorRow(401, "The bearer token has expired", _C, _N, "Get a new token from the issuer."),
    "auth.forbidden": ErrorRow(403, "Your role may not do this", _C, _N, "Ask a tenant-admin for one of the roles named in `detail`."),
    "auth.access-ended": ErrorRow(403, "The access for a time has ended", _C, _N, "Ask the practice for new support access; emergency access is opened with POST /auth/v1/break-glass."),
    "access.not-found": ErrorRow(404, "There is no such access", _C, _N, "List them with GET /auth/v1/support-access or GET /auth/v1/break-glass."),
    "auth.throttled": ErrorRow(429, "Too many failed authentications", _C, _T, "Wait as Retry-After says; look for a client that sends an old or wrong token."),
    "auth.ticket-invalid": ErrorRow(401, "The stream ticket is unknown, used or expired", _C, _N, "Ask for a new ticket; it lives one minute and opens one stream."),
    "auth.issuer-unavailable": ErrorRow(503, "The token issuer's keys cannot be read", _OP, _T, "Check that the issuer's JWKS URL answers from here."),
    "auth.assertion-invalid": ErrorRow(401, "The service assertion is not valid", _OP, _N, "Give every service the same key file, and check the clocks."),
    "stream.too-many": ErrorRow(429, "Too many event streams are open", _C, _T, "Close streams that nobody looks at, and ask again with a new ticket."),
    # tenants and keys
    "tenant.not-found": ErrorRow(404, "There is no such tenant", _C, _N, "Check the tenant of your token."),
    "tenant.suspended": ErrorRow(403, "The tenant is suspended", _OP, _N, "Ask the platform operator to resume the tenant."),
    "tenant.offboarding": ErrorRow(409, "The practice is being offboarded", _C, _N, "Look at GET /auth/v1/tenants/{id}/offboarding for how far it is."),
    "tenant.offboarded": ErrorRow(410, "The practice was offboarded, its keys are destroyed", _C, _N, "Nothing of it can be brought back; its export is at GET /auth/v1/tenants/{id}/offboarding while it is kept."),
    "tenant.name-offboarded": ErrorRow(409, "A practice of this name was offboarded", _C, _N, "Choose another name, or send `reuse_name` if it is meant."),
    "tenant.offboard-unconfirmed": ErrorRow(409, "What offboarding does was not looked at, or has changed", _C, _N, "Send the request without `confirmation`, read the answer, and send its `confirmation`."),
    "tenant.runs-going": ErrorRow(409, "Runs of the practice are still going on", _C, _N, "Wait for their end or cancel them; or send `despite_runs`."),
    "tenant.export-not-ready": ErrorRow(409, "The practice's export is not ready yet", _C, _T, "Look at GET /auth/v1/tenants/{id}/offboarding; it goes on by itself."),
    "tenant.export-not-downloaded": ErrorRow(409, "The export was not downloaded yet", _C, _N, "Download every file that `detail` names, or send `without_download` if nobody wants them."),
    "tenant.export-gone": ErrorRow(410, "The practice's export is not kept any more", _C, _N, "It was kept as long as `kept_until` said; there is no other copy here."),
    "keys.unavailable": ErrorRow(503, "The tenant's keys cannot be read", _O, _T, "Check that auth-gateway is ready; the request can be repeated."),
    "keys.kms-unavailable": ErrorRow(503, "The key management service does not answer", _OP, _T, "Check that PS_KMS_URL answers from here; what was opened before keeps working for a day."),
    "keys.kms-sealed": ErrorRow(503, "The key management service is sealed", _OP, _T, "Unseal OpenBao or Vault; the request can be repeated then."),
    "keys.kms-refused": ErrorRow(503, "The key management service refuses our token", _OP, _T, "Renew the token in PS_KMS_TOKEN_FILE; its policy needs encrypt, decrypt and rewrap on the key, read and rotate to rotate it."),
    "keys.kms-misconfigured": ErrorRow(500, "The key management service does not know the key", _OP, _N, "Check PS_KMS_MOUNT, PS_KMS_KEY and PS_KMS_NAMESPACE; the key must be of type aes256-gcm96."),
    "keys.rotated-elsewhere": ErrorRow(409, "This key-encryption key is a setting", _C, _N, "Put the new key into PS_OTHER_KEYS of every service, then swap the two, then wrap the data keys anew."),
    "keys.cannot-open": ErrorRow(500, "A sealed value cannot be opened", _OP, _N, "Restore the key file that sealed it; the value was moved, altered, or its key is gone."),
    # integrations
    "integration.not-found": ErrorRow(404, "There is no such integration", _C, _N, "List the integrations with GET /auth/v1/integrations."),
    "integration.name-taken": ErrorRow(409, "An integration of that name exists", _C, _N, "Choose another name, or change the existing one."),
    "integration.not-active": ErrorRow(409, "The integration is not active", _C, _N, "Resume it with POST /auth/v1/integrations/{id}:resume."),
    "integration.version-not-found": ErrorRow(404, "The integration has no such version", _C, _N, "List its versions with GET /auth/v1/integrations/{id}/versions."),
    "integration.delete-unconfirmed": ErrorRow(409, "The consequences of deleting were not looked at, or have changed", _C, _N, "Read POST /auth/v1/integrations/{id}:delete-preview and send its `confirmation`."),
    "change.not-found": ErrorRow(404, "There is no such change record", _C, _N, "List the change records with GET /auth/v1/changes."),
    "change.required": ErrorRow(409, "A change of this system wants a change record", _C, _N, "Plan the change with POST /auth/v1/changes and send its id as X-Change-Record; while it is planned or applied it covers changes."),
    "channel.not-found": ErrorRow(404, "The integration has no such channel", _C, _N, "Put the channel with PUT /auth/v1/integrations/{id}/channels/{name}."),
    "credential.not-found": ErrorRow(404, "The integration has no such credential", _C, _N, "Put the credential with PUT /auth/v1/integrations/{id}/credentials/{name}."),
    "credential.rejected": ErrorRow(502, "The PMS refused the credential", _P, _N, "Run Test Connection; renew the client registration or secret and put the credential again."),
    "credential.refresh-failed": ErrorRow(502, "No token could be had from the PMS", _P, _T, "Run Test Connection; the suite tries again by itself."),
    "credential.unusable": ErrorRow(409, "The credential cannot be used in this way", _C, _N, "Use a credential whose method and grant fit; `detail` says what this one gives."),
    "credential.reconnect-needed": ErrorRow(409, "Somebody has to let the suite in again", _OP, _N, "Connect the credential with POST /auth/v1/integrations/{id}/credentials/{name}:authorize and the page it names; the suite asks no more until then."),
    "authorization.unknown": ErrorRow(400, "This way back is not known any more", _C, _N, "Begin again at Connect: a way to the vendor and back is good once and for ten minutes."),
    "authorization.refused": ErrorRow(502, "The vendor did not grant access", _P, _N, "Begin again, sign in with an account that may grant it, and check client id, redirect URI and scopes with the vendor."),
    "authorization.issuer-mismatch": ErrorRow(400, "The answer comes from another authorization server", _P, _N, "Do not repeat it; check `issuer` and `authorize_url` of the credential."),
    "authorization.no-refresh-token": ErrorRow(502, "The vendor granted access for once only", _OP, _N, "Add the scope that gives a refresh token (offline_access or online_access) to the credential, and to the registration at the vendor; then connect again."),
    "launch.issuer-unknown": ErrorRow(422, "The launch's iss belongs to no integration", _OP, _N, "Put the iss as endpoint of a fhir channel, letter by letter; Oracle Health's ends in the tenant."),
    "launch.too-many": ErrorRow(429, "Too many launches in a minute", _C, _T, "Wait a minute; look at GET /auth/v1/launches for who launches again and again."),
    # records and runs
    "record.not-found": ErrorRow(404, "There is no such record", _C, _N, "Search with POST /sync/v1/records/{type}:search."),
    "record.type-unknown": ErrorRow(404, "There is no such record type", _C, _N, "Use one of the types listed by GET /sync/v1/records."),
    "record.invalid": ErrorRow(422, "A value of the source breaks a rule", _P, _N, "Correct it at the PMS: the quarantine names row, rule and value class; the next run takes it."),
    "record.conflict": ErrorRow(409, "Its identifiers belong to different records", _OP, _N, "Find out at the PMS whether it is one patient or two, and correct the identifiers there."),
    "record.merge-cycle": ErrorRow(409, "A merge says the reverse of one that was applied before", _P, _N, "Find out at the PMS which of the two numbers is in use, and have it send that merge, or a correction of the patient, again."),
    "run.not-found": ErrorRow(404, "There is no such run", _C, _N, "List the runs with GET /sync/v1/runs."),
    "run.already-running": ErrorRow(409, "A run of this integration and resource is going on", _C, _T, "Watch it by its id in `detail`, or wait for its end."),
    "run.resource-unsupported": ErrorRow(422, "The PMS does not offer that resource for synchronisation", _C, _N, "Choose one of the resources named in `detail`."),
    "run.no-progress": ErrorRow(502, "The run made no progress", _P, _N, "Look at the last exchanges of the integration; the PMS repeats the same page."),
    "run.interrupted": ErrorRow(503, "The run was interrupted and continues", _O, _T, "Nothing; it resumes from its cursor."),
    "schedule.not-found": ErrorRow(404, "There is no such schedule", _C, _N, "List the schedules with GET /sync/v1/schedules."),
    "mapping.refused": ErrorRow(422, "The field mapping has a mistake", _C, _N, "Correct the rows and columns named in `errors`; try it with POST /sync/v1/mappings/{integration_id}/{resource}:test."),
    "mapping.version-not-found": ErrorRow(404, "There is no such version of it", _C, _N, "List the versions with GET .../versions."),
    "value-map.refused": ErrorRow(422, "The value map has a mistake", _C, _N, "Correct the rows (lines of the file) named in `errors`."),
    # peers (PMS systems, webhooks, whatever lies outside)
    "peer.dns": ErrorRow(502, "The host name of the peer does not resolve", _P, _T, "Check the host name of the endpoint and this network's DNS."),
    "peer.connect": ErrorRow(502, "The peer refuses the connection", _P, _T, "Check host, port and firewall between here and the peer."),
    "peer.tls": ErrorRow(502, "The TLS handshake with the peer failed", _P, _N, "Check the peer's certificate (name, dates, chain) with Connection Test."),
    "peer.timeout": ErrorRow(504, "The peer did not answer in time", _P, _T, "Check the peer's load with Connection Test, or allow a longer time-out."),
    "peer.abandoned": ErrorRow(503, "The call was given up before the peer answered", _O, _T, "Nothing: the suite stopped, or whoever asked went away; the work is taken up again."),
    "peer.address-refused": ErrorRow(422, "That address may not be connected to", _C, _N, "Use a host inside PS_ALLOWED_NETWORKS, or ask the operator to allow its network."),
    "peer.unauthorized": ErrorRow(502, "The PMS answered 401: the token is not accepted", _P, _N, "Refresh the token; if it stays, run Test Connection on the credential."),
    "peer.forbidden": ErrorRow(502, "The PMS answered 403: the account may not read this", _P, _N, "Ask the PMS administrator for the missing permission or scope."),
    "peer.allow-list": ErrorRow(502, "The PMS refuses calls from our address", _P, _N, "Send GET /auth/v1/integrations/{id}/network-sheet to the PMS administrator: its addresses must be allowed."),
    "peer.rate-limited": ErrorRow(502, "The PMS limits the request rate", _P, _T, "Nothing at once: the suite waits as told. If it stays, lower the frequency or ask for a higher limit."),
    "peer.unavailable": ErrorRow(502, "The PMS answers with server errors", _P, _T, "Check the vendor's status page; the suite tries again by itself."),
    "peer.rejected": ErrorRow(502, "The PMS rejected the request", _P, _N, "Look at the exchange's error code; correct the mapping or the channel's endpoint."),
    "peer.unreadable": ErrorRow(502, "The PMS's answer cannot be read", _P, _N, "Check the base URL and FHIR version of the channel: the answer is not FHIR JSON."),
    "peer.too-large": ErrorRow(502, "The PMS's answer is larger than allowed", _P, _N, "Ask for smaller pages, or raise the limit named in `detail`."),
    # HL7
    "hl7.unparsable": ErrorRow(422, "The bytes are not an HL7 v2 message", _C, _N, "Send a message that begins with an MSH segment."),
    "hl7.frame-too-large": ErrorRow(413, "The HL7 frame is larger than allowed", _C, _N, "Split the message, or raise PS_HL7_FRAME_BYTES_MAX."),
    "hl7.sender-unknown": ErrorRow(422, "No hl7v2-in channel accepts this sender", _OP, _N, "Add MSH-3 and MSH-4 of the sender to a hl7v2-in channel."),
    "hl7.sender-ambiguous": ErrorRow(422, "Channels of several practices claim this sender", _OP, _N, "Name MSH-3 and MSH-4 of the sender in the one channel it belongs to."),
    "hl7.invalid": ErrorRow(422, "The message does not follow the standard", _C, _N, "Correct what the ERR segments name, then send it again; the connection's profile can loosen a rule for this sender."),
    "hl7.peer-not-allowed": ErrorRow(422, "The peer may not send as that application and facility", _C, _N, "Add MSH-3 and MSH-4 to the connection's allowed_peers, or correct the sender."),
    "hl7.type-unsupported": ErrorRow(422, "That message type is not taken", _C, _N, "Send one of the types named in `detail`, or remove it from the feed."),
    "hl7.batch-incomplete": ErrorRow(422, "The batch was not taken: it is stored as a whole or not at all", _C, _N, "Correct the message that was rejected, or the counts in BTS-1 and FTS-1, and send the whole batch again."),
    "hl7.batch-too-large": ErrorRow(413, "The batch holds more messages than one transaction stores", _C, _N, "Send it in batches of at most 1,000 messages."),
    "hl7.store-failed": ErrorRow(503, "The message could not be stored", _O, _T, "Send it again; it was not acknowledged."),
    "hl7.control-id-reused": ErrorRow(409, "The sender used this control id before, for another message", _C, _N, "Have the sender's counter mended: MSH-10 names one message. Both messages are kept and applied."),
    "hl7.field-missing": ErrorRow(422, "A field that the message needs is empty", _C, _N, "Fill the field named in `detail` at the sender."),
    "hl7.authority-unmapped": ErrorRow(422, "An assigning authority has no identifier system", _OP, _N, "Add the authority to the integration's identifier_systems."),
    "hl7.frame-bytes-inside": ErrorRow(422, "The message holds bytes that end a frame", _C, _N, "Remove 0x0B and 0x1C 0x0D from the message named in `detail`: MLLP cannot carry them."),
    "hl7.encoding-impossible": ErrorRow(422, "A character cannot be written in the connection's encoding", _C, _N, "Set the connection's encoding to UNICODE UTF-8 if the receiver takes it, or to null."),
    "hl7.no-acknowledgment": ErrorRow(504, "The receiver sent no acknowledgement in time", _P, _T, "Look at the receiver's load and log; raise ack_timeout_ms if it is only slow. The message is sent again with the same MSH-10."),
    "hl7.acknowledgment-foreign": ErrorRow(502, "The receiver acknowledged another message (MSA-2)", _P, _T, "Ask the receiver's vendor to repeat MSH-10 in MSA-2; what it sent was credited to no message."),
    "hl7.acknowledgment-unreadable": ErrorRow(502, "The receiver's answer is no acknowledgement", _P, _T, "Check that host and port lead to an MLLP receiver; the answer has no MSA with a code of HL7 table 0008."),
    "hl7.refused-error": ErrorRow(502, "The receiver answered with an error (AE or CE)", _P, _A, "Read the receiver's log for the control id; correct the message or the receiver, then :retry or :discard it."),
    "hl7.refused-reject": ErrorRow(502, "The receiver rejected the message (AR or CR)", _P, _N, "Check message type, version and processing id against what the receiver takes, then :retry or :discard it."),
    "hl7.connection-cut": ErrorRow(502, "The receiver closed the connection before its acknowledgement", _P, _T, "Look at the receiver's log at that time; the message is sent again with the same MSH-10."),
    "hl7.delivery-interrupted": ErrorRow(503, "The delivery was interrupted and is repeated", _O, _T, "Nothing; the message is sent again with the same MSH-10."),
    "message.not-found": ErrorRow(404, "There is no such message", _C, _N, "Search with POST /hl7/v1/messages:search."),
    "message.body-deleted": ErrorRow(410, "The message's contents were deleted by retention", _C, _N, "Ask the sender for the message again; its header, findings and acknowledgement are still there."),
    "message.not-replayable": ErrorRow(409, "The message was rejected when it came", _C, _N, "Correct it with POST /hl7/v1/messages/{id}:edit: its sender was told that it was not taken, and no consumer knows it."),
    "message.edit-unparsable": ErrorRow(422, "The edit makes the message unparsable", _C, _N, "Send exactly one message that begins with MSH and has a message type; `detail` says what was seen instead."),
    "message.edit-unchanged": ErrorRow(422, "The edit changes nothing", _C, _N, "Change a field, or send the message again as it is with `:replay` or `:retry`."),
    "replay.not-found": ErrorRow(404, "There is no such replay", _C, _N, "List the replays with GET /hl7/v1/replays."),
    "replay.empty": ErrorRow(422, "No message fits the filter", _C, _N, "Look what fits with POST /hl7/v1/messages:search, and widen the filter."),
    "replay.too-many": ErrorRow(409, "Too many replays are not ended", _C, _N, "Let one finish or cancel one (POST /hl7/v1/replays/{id}:cancel)."),
    "connection.not-found": ErrorRow(404, "There is no such connection", _C, _N, "List the connections with GET /hl7/v1/connections."),
    "connection.name-taken": ErrorRow(409, "A connection of that name exists", _C, _N, "Choose another name, or change the existing connection."),
    "connection.port-taken": ErrorRow(409, "A listener of this gateway has that port", _C, _N, "Choose another port, or pause or remove the listener named in `detail`."),
    "connection.port-in-use": ErrorRow(409, "Another program on the gateway's machine holds the port", _OP, _N, "Choose another port, or end the program that holds it (`ss -ltnp` names it)."),
    "connection.port-unusable": ErrorRow(409, "The gateway may not listen at that address and port", _OP, _N, "Choose an address of the gateway's machine and a port above 1023."),
    "connection.not-sending": ErrorRow(409, "The connection takes no messages", _C, _N, "Use a connection with direction sender; a disabled one must be resumed first."),
    "connection.not-listening": ErrorRow(409, "Nobody listens on the connection's port", _OP, _T, "Resume the connection; if it is active, read the gateway's log for its port and look at GET /hl7/v1/listeners."),
    "connection.queue-full": ErrorRow(503, "The connection's queue is full", _OP, _T, "See at GET /hl7/v1/connections/{id} why the destination takes nothing, or raise queue_messages_max."),
    "connection.has-messages": ErrorRow(409, "Messages of the connection are not settled", _C, _N, "Let them be delivered or discard them (POST /hl7/v1/outbound:search lists them); `:disable` stops new ones meanwhile."),
    "profile.not-found": ErrorRow(404, "There is no such HL7 profile", _C, _N, "List the profiles with GET /hl7/v1/profiles."),
    "profile.name-taken": ErrorRow(409, "A profile of that name exists", _C, _N, "Choose another name, or change the existing profile."),
    "profile.in-use": ErrorRow(409, "Listeners validate by this profile", _C, _N, "Let the connections named in `detail` use another profile first."),
    "profile.unusable": ErrorRow(409, "The stored profile does not fit this version of the gateway", _OP, _N, "Correct what `detail` names and save the profile again."),
    "outbound.not-found": ErrorRow(404, "There is no such outbound message", _C, _N, "Search with POST /hl7/v1/outbound:search."),
    # diagnostics
    "connection-test.not-found": ErrorRow(404, "There is no such connection test", _C, _N, "Start one with POST /diagnostics/v1/connection-tests."),
    "exchange.not-found": ErrorRow(404, "There is no such exchange", _C, _N, "List the exchanges with GET /diagnostics/v1/exchanges."),
    # alerts
    "alert.not-found": ErrorRow(404, "There is no such alert", _C, _N, "List the alerts with GET /alerts/v1/alerts."),
    "rule.not-found": ErrorRow(404, "There is no such alert rule", _C, _N, "List the rules with GET /alerts/v1/rules."),
    "webhook.not-found": ErrorRow(404, "There is no such webhook", _C, _N, "List the webhooks with GET /alerts/v1/webhooks."),
    # simulator
    "fault.unknown": ErrorRow(404, "The simulator has no such fault", _C, _N, "List the faults with GET /simulator/v1/faults."),
    "simulator.not-found": ErrorRow(404, "The simulator has no such thing", _C, _N, "List what there is with GET /simulator/v1."),
    # our own infrastructure
    "database.unavailable": ErrorRow(503, "The database cannot be reached", _O, _T, "Check the database; nothing was stored, repeat the request later."),
    "database.migration-failed": ErrorRow(500, "The database could not be brought to this version", _OP, _N, "Read the log for the failing migration; the former version still runs on the database."),
    "bus.unavailable": ErrorRow(503, "The message bus cannot be reached", _O, _T, "Check the broker; what was accepted is kept in the outbox and published later."),
    "bus.event-too-large": ErrorRow(500, "An event is larger than the bus takes", _O, _N, "Report it with the event type in `detail`: events are thin, and nothing of the change was stored."),
    "bus.topic-mismatch": ErrorRow(500, "A topic differs from what the suite needs", _OP, _N, "Alter the topic as `detail` says, or let the suite create it."),
    "lease.lost": ErrorRow(503, "Another replica took over this work", _O, _T, "Nothing; the new owner continues."),
    "service.unavailable": ErrorRow(503, "A service of the suite does not answer", _O, _T, "Check /readyz of the service named in `detail`."),
    "service.not-ready": ErrorRow(503, "The suite is not ready", _O, _T, "Read the reasons in `detail` or at /readyz."),
    "dead-letter.not-found": ErrorRow(404, "There is no such dead letter", _C, _N, "List them with GET /{service}/v1/dead-letters."),
    "internal.error": ErrorRow(500, "Something failed inside the suite", _O, _A, "Report the request id; operators find the trace by it."),
    # start-up
    "start.port-in-use": ErrorRow(500, "The port is in use", _OP, _N, "Choose another with PORT=… or MLLP_PORT=…, or end the program that holds it."),
    "start.data-in-use": ErrorRow(500, "Another process uses the data", _OP, _N, "End it, or choose other data with DATA=…."),
    "start.directory-unwritable": ErrorRow(500, "The data directory cannot be written", _OP, _N, "Choose another with DATA=…, or correct its permissions."),
    "start.bad-setting": ErrorRow(500, "A setting cannot be used", _OP, _N, "Correct the setting named; docs/settings.md lists what is expected."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong: a JSON pointer (RFC 6901) into the body, and what is expected there."""

    pointer: str
    code: str
    detail: str


class SuiteError(Exception):
    """A failure of the catalogue. `detail` never repeats a caller's or a patient's data."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        fields: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.row = ERRORS[code]
        self.code = code
        self.detail = detail
        self.fields = tuple(fields)
        self.headers = dict(headers or {})
        super().__init__(f"{code}: {detail or self.row.title}")

    @property
    def transient(self) -> bool:
        """Whether the suite may try again by itself."""
        return self.row.retry is Retry.TRANSIENT


def problem(error: SuiteError, *, request_id: str) -> dict[str, object]:
    """The RFC 9457 body of a failure: `type` links to `docs/errors.md`, `next_step` says what to do."""
    row = error.row
    body: dict[str, object] = {
        "type": f"/docs/errors.md#{error.code.replace('.', '')}",
        "title": row.title,
        "status": row.status,
        "code": error.code,
        "fault": row.fault.value,
        "retry": row.retry.value,
        "next_step": row.next_step,
        "request_id": request_id,
    }
    if error.detail:
        body["detail"] = error.detail
    if error.fields:
        body["errors"] = [
            {"pointer": field.pointer, "code": field.code, "detail": field.detail} for field in error.fields
        ]
    return body


# What one of these means depends on the system: its page lists every form in which it refuses.
_SYSTEM_PAGES: Final = (
    "By system: [Epic](systems/epic.md), [Oracle Health](systems/cerner.md), [Allscripts](systems/allscripts.md),"
    " [FHIR](systems/fhir.md)."
)
_BY_SYSTEM: Final = frozenset({
    "credential.rejected", "credential.refresh-failed", "credential.reconnect-needed", "peer.unauthorized", "peer.forbidden", "peer.allow-list", "peer.rate-limited",
    "peer.unavailable", "peer.rejected", "peer.unreadable",
})  # fmt: skip


def catalogue_markdown() -> str:
    """`docs/errors.md`, from the rows."""
    lines = [
        "# Errors",
        "",
        "Every failure is answered as `application/problem+json` (RFC 9457) with a stable `code`, whose `fault` it is,",
        "the `retry` class, and the `next_step`. Generated from `common.models.errors`.",
        "",
        "`fault`: caller (the request), ours (the suite), peer (the PMS or another outside system), operator (settings,",
        "keys, network of this installation). `retry`: transient (the suite retries by itself), ambiguous (a person",
        "decides), permanent (something must change first).",
    ]
    domain = ""
    for code, row in ERRORS.items():
        if code.split(".")[0] != domain:
            domain = code.split(".")[0]
            lines += ["", f"## {domain}"]
        lines += [
            "",
            f"### {code}",
            "",
            f"{row.title}. HTTP {row.status} · fault: {row.fault} · retry: {row.retry}",
            "",
            f"Next step: {row.next_step}",
            *(["", _SYSTEM_PAGES] if code in _BY_SYSTEM else []),
        ]
    return "\n".join(lines) + "\n"
