"""What an HL7 message is in where its MSH-18 says nothing, as hl7-gateway tells it."""

from sync.core.hl7_message import parse


def test_the_encoding_of_the_connection_counts_where_the_message_is_silent() -> None:
    text = "MSH|^~\\&|A|B|C|D|20260301||ADT^A08|1|P|2.5.1|||||{}\rPID|1||4711||Иванов^Пётр\r"
    (pid,) = parse(text.format("").encode("iso8859-5"), "8859/5").segments("PID")
    assert pid.text(5) == "Иванов"
    (spoken,) = parse(text.format("|UNICODE UTF-8").encode(), "8859/5").segments("PID")
    assert spoken.text(5) == "Иванов"
    (broken,) = parse(text.format("").encode("iso8859-5"), None).segments("PID")
    assert broken.text(5) != "Иванов"
