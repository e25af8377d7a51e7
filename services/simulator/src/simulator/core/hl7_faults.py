"""The faults of HL7 v2 and MLLP (group D of the catalogue of causes): hostile senders and receivers, one row each.

A sender's fault shapes what `POST /hl7:send` and the feeds send; a receiver's what the simulated receiver answers.
`core.hostile_sender` and `core.hostile_receiver` hold what each of them does.
"""

from __future__ import annotations

from typing import Final

from simulator.core.fault_row import FaultRow, Parameter, Surface

TYPES: Final = ("ADT", "SIU", "DFT", "ORU", "ORM", "MDM", "VXU")
"""Message types by number, for parameters: 1 is the first; 0 stands for all."""
TYPE_NUMBERS: Final = "0 every type, " + ", ".join(f"{number} {name}" for number, name in enumerate(TYPES, 1))

_SENDER: Final = frozenset({Surface.HL7_SENDER})
_RECEIVER: Final = frozenset({Surface.HL7_RECEIVER})
_HOLD: Final = Parameter("hold_ms", 5_000, 1, 55_000, "how long the connection is held in milliseconds")

SENDER_FAULTS: Final = (
    FaultRow(
        "hl7-segment-missing", "Messages lack their PID segment", _SENDER, "D10",
        "The message parses; PID is absent. A listener that validates first answers AE (hl7.invalid), its ERR names "
        "PID; one that does not stores it as it came, and HL7 Validator names PID.",
    ),
    FaultRow(
        "hl7-segment-order", "Segments stand in the wrong place", _SENDER, "D17",
        "The segment behind PID comes before it. A listener that validates first answers AE (hl7.invalid) with the "
        "segment's place.",
    ),
    FaultRow(
        "hl7-segment-cardinality", "A segment stands more often than it may", _SENDER, "D17",
        "PID comes twice. A listener that validates first answers AE (hl7.invalid) with the place of the second.",
    ),
    FaultRow(
        "hl7-line-break", "A line break stands inside a field", _SENDER, "D11",
        "The rest of the field looks like a segment whose name is none. A listener that validates first answers AE "
        "(hl7.invalid) with its place.",
    ),
    FaultRow(
        "hl7-delimiters", "MSH-1 and MSH-2 are not the usual ones", _SENDER, "D12",
        "Honest ones (honest 1) are read like any other: AA. Where the body keeps the usual ones (honest 0), every "
        "segment is unreadable: a listener that validates first answers AE (hl7.invalid), its ERR says 100.",
        (Parameter("honest", 0, 0, 1, "1: the whole message uses them; 0: only the header says so"),),
    ),
    FaultRow(
        "hl7-version", "MSH-12 names a version that does not exist", _SENDER, "D13",
        "MSH-12 is 9.9. The message is read by the rules of the latest version and answered AA; HL7 Validator warns at "
        "MSH-12 (203).",
    ),
    FaultRow(
        "hl7-charset", "MSH-18 says UTF-8, the bytes are ISO 8859-1", _SENDER, "D9",
        "A letter of PID-5 is no UTF-8. The message is answered AA and kept as it came; HL7 Validator warns at MSH-18 "
        "(102) with the place of the first such byte.",
    ),
    FaultRow(
        "hl7-duplicates", "Each message is sent again after its acknowledgement, as after a time-out", _SENDER, "D16",
        "The same bytes with the same MSH-10 come again. Both are answered AA; one message is stored.",
        (Parameter("after_ms", 0, 0, 55_000, "pause before the repetition in milliseconds"),),
    ),
    FaultRow(
        "hl7-start-missing", "Frames have no start byte", _SENDER, "D1",
        "Bytes arrive, no 0x0B: they are counted in bytes_outside_frames, nothing is answered or stored.",
    ),
    FaultRow(
        "hl7-end-wrong", "Frames end with other bytes", _SENDER, "D2",
        "0x0B comes, 0x1C 0x0D never: nothing is answered; frames_cut counts when the peer gives up, "
        "connections_slow when the frame's time is over.",
    ),
    FaultRow(
        "hl7-half-open", "The sender falls silent in the middle of a message", _SENDER, "D18",
        "Half a frame, then nothing while the connection stays open: connections_slow and frames_cut when the "
        "frame's time is over; nothing is answered or stored.",
        (_HOLD,),
    ),
    FaultRow(
        "hl7-trickle", "The sender trickles its message byte by byte", _SENDER, "D18",
        "A frame that grows without an end (slowloris): connections_slow and frames_cut when the frame's time is "
        "over; other connections do not notice.",
        (Parameter("pause_ms", 100, 1, 5_000, "pause between two bytes in milliseconds"),),
    ),
    FaultRow(
        "hl7-feed-idle", "The sender connects and sends nothing", _SENDER, "D14",
        "Connections are open, no frame comes: connections_idle counts when the idle time is over. Feeds count "
        "their messages as withheld.",
        (_HOLD,),
    ),
)  # fmt: skip

RECEIVER_FAULTS: Final = (
    FaultRow(
        "hl7-one-connection", "The receiver takes one connection", _RECEIVER, "D15",
        "The second connection is reset as soon as it is open; the first works. A sender shows hl7.connection-cut, "
        "a connection test a cut before the acknowledgement (not a closed port).",
    ),
    FaultRow(
        "hl7-receiver-half-open", "The receiver reads nothing and never closes", _RECEIVER, "D18",
        "Connections open, writes succeed, nothing comes back and nothing is read: hl7.no-acknowledgment after the "
        "time-out. The receiver records no message.",
    ),
    FaultRow(
        "hl7-no-ack", "The receiver sends no acknowledgement", _RECEIVER, "D4",
        "Zero bytes back: hl7.no-acknowledgment after the time-out; the message is sent again with the same MSH-10, "
        "and the receiver records it again.",
    ),
    FaultRow(
        "hl7-ack-not-framed", "The acknowledgement has no frame", _RECEIVER, "D3",
        "The acknowledgement's bytes come without 0x0B and 0x1C 0x0D: hl7.acknowledgment-unreadable or "
        "hl7.no-acknowledgment; the message is sent again.",
    ),
    FaultRow(
        "hl7-closes-mid-frame", "The receiver closes in the middle of its acknowledgement", _RECEIVER, "D3",
        "0x0B and half an acknowledgement, then the end: hl7.connection-cut; the message is sent again.",
    ),
    FaultRow(
        "hl7-slow-ack", "Acknowledgements come late", _RECEIVER, "D5",
        "A valid acknowledgement, late. Under the time-out the message is delivered; over it "
        "hl7.no-acknowledgment, and the late one is credited to no other message.",
        (Parameter("delay_ms", 3_000, 1, 120_000, "delay of every acknowledgement in milliseconds"),),
    ),
    FaultRow(
        "hl7-control-id", "MSA-2 is not MSH-10", _RECEIVER, "D8",
        "A well-formed AA for another control id: hl7.acknowledgment-foreign; it is credited to no message.",
    ),
    FaultRow(
        "hl7-application-error", "Certain contents are answered AE", _RECEIVER, "D6",
        "AE with an ERR segment for every n-th patient (by a digest of PID-3), AA for the others: "
        "hl7.refused-error on those messages alone.",
        (Parameter("every_patients", 1, 1, 1_000, "one patient in so many; 1: every one"),),
    ),
    FaultRow(
        "hl7-application-reject", "A message type is answered AR", _RECEIVER, "D7",
        "AR for every message of the type: hl7.refused-reject; they are parked, other types are delivered.",
        (Parameter("type_number", 0, 0, len(TYPES), TYPE_NUMBERS),),
    ),
)  # fmt: skip

HL7_FAULTS: Final = SENDER_FAULTS + RECEIVER_FAULTS
