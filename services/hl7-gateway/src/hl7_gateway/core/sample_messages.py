"""Messages to try a receiver with: one without a patient, and a set in diverse character sets.

All carry processing id T (training, HL7 table 0103) unless told otherwise; the patient is plainly none: identifier TEST
of the authority PSTEST, born in 1900.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import hl7v2
from hl7v2 import charset


@dataclass(frozen=True, slots=True)
class Parties:
    """MSH-3 to MSH-6, MSH-11 and MSH-12 of the messages."""

    sending_application: str = "PRACTICESTUDIO"
    sending_facility: str = "TEST"
    receiving_application: str = ""
    receiving_facility: str = ""
    processing_id: str = "T"
    version: str = "2.5.1"


@dataclass(frozen=True, slots=True)
class Sample:
    """A name in a character set: what MSH-18 says, and PID-5."""

    charset: str
    name: str


SAMPLES: Final = (
    Sample("ASCII", "Test^Anna"),
    Sample("8859/1", "Núñez^José"),
    Sample("8859/2", "Żółkiewska^Łucja"),
    Sample("8859/5", "Иванова^Пелагея"),
    Sample("8859/7", "Παπαδοπούλου^Ελένη"),
    Sample("8859/9", "Şahinoğlu^Işık"),
    Sample("8859/15", "Lefèbvre^Zoë"),
    Sample("UNICODE UTF-8", "Müller-Łuczak^李娜"),
    Sample("GB 18030-2000", "张^伟"),
    Sample("BIG-5", "陳^美玲"),
    Sample("KS X 1001", "김^철수"),
    Sample("ISO IR87", "山田^花子"),
)


def echo_message(parties: Parties, *, now: datetime, control_id: str) -> bytes:
    """A network management query (NMQ^N01, HL7 v2.5.1 §14.3): nothing in it is about anybody."""
    header = _header(parties, now, control_id, "NMQ^N01^NMQ_N01", "")
    return _set(header + "\rNCK|" + now.strftime("%Y%m%d%H%M%S+0000") + "\r", parties).encode("ascii", "replace")


def sample_message(sample: Sample, parties: Parties, *, now: datetime, control_id: str) -> bytes:
    """An update of the patient who is none (ADT^A08), in the sample's character set."""
    stamp = now.strftime("%Y%m%d%H%M%S+0000")
    rows = [
        _header(parties, now, control_id, "ADT^A08^ADT_A01", sample.charset),
        f"EVN||{stamp}",
        f"PID|1||TEST^^^PSTEST^MR||{sample.name}||19000101|U",
        "PV1|1|N",
    ]
    codec = charset.codec_of(sample.charset)
    assert codec is not None, "the samples are named as table 0211 does"
    return _set("".join(f"{row}\r" for row in rows), parties).encode(codec, "replace")


def _header(parties: Parties, now: datetime, control_id: str, message_type: str, encoding: str) -> str:
    fields = ["MSH", "^~\\&", "", "", "", "", now.strftime("%Y%m%d%H%M%S+0000"), "", message_type, control_id]
    fields += [parties.processing_id, parties.version, "", "", "", "", "", encoding]
    return "|".join(fields).rstrip("|")


def _set(text: str, parties: Parties) -> str:
    """The parties' names, escaped as they need to be."""
    message = hl7v2.parse(text.encode())
    for path, value in (
        ("MSH-3", parties.sending_application),
        ("MSH-4", parties.sending_facility),
        ("MSH-5", parties.receiving_application),
        ("MSH-6", parties.receiving_facility),
    ):
        if value:
            message.set(path, value)
    return bytes(message).decode()
