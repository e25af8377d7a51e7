"""Unity: requests by the byte, answers that fail with HTTP 200, products, server-local times."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models.errors import ERRORS
from common.models.integration import Vendor
from pms import unity
from pms.signatures import Surface, signature_of
from pms.unity import AnswerKind, Product, parse_answer

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SESSION = unity.Session("App", "jdoe", "5b1a-guid")


def local(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - server-local on purpose


def sent(request: unity.UnityRequest) -> dict[str, str]:
    found: dict[str, str] = json.loads(request.body)
    return found


def test_an_action_is_one_object_with_six_parameters() -> None:
    request = unity.patient(SESSION, "39")
    assert sent(request) == {
        "Action": "GetPatient", "AppUserID": "jdoe", "Appname": "App", "PatientID": "39", "Token": "5b1a-guid",
        "Parameter1": "N", "Parameter2": "", "Parameter3": "", "Parameter4": "", "Parameter5": "", "Parameter6": "",
        "Data": "",
    }  # fmt: skip
    assert (request.method, request.headers["Content-Type"]) == ("POST", "application/json")
    assert "5b1a" not in repr(request) + repr(SESSION)
    with pytest.raises(ValueError, match="at most 6"):
        unity.magic("X", SESSION, ["1"] * 7)


@pytest.mark.parametrize(
    "base", ["https://h", "https://h/", "https://h/Unity", "https://h/unity/unityservice.svc/", "https://h/Unity/"]
)
def test_the_base_may_be_written_in_any_length(base: str) -> None:
    assert unity.server_info(SESSION).url(base) == "https://h/Unity/UnityService.svc/json/MagicJson"


def test_the_parameters_of_the_readers() -> None:
    window = sent(unity.schedule(SESSION, date(2026, 3, 1), date(2026, 3, 7), changed_since=local(2026, 3, 1, 8)))
    assert (window["Parameter1"], window["Parameter2"]) == ("03/01/2026|03/07/2026", "03/01/2026 08:00:00")
    assert sent(unity.schedule(SESSION, date(2026, 3, 1), date(2026, 3, 1)))["Parameter2"] == ""
    assert sent(unity.changed_patients(SESSION, local(2026, 3, 1)))["Parameter1"] == "03/01/2026 00:00:00"
    assert sent(unity.appointments_changed(SESSION, local(2026, 3, 1)))["Action"] == "GetAppointmentsByChangeDTTM"
    assert sent(unity.dictionary(SESSION, "Appt_Type", "S1"))["Parameter2"] == "S1"
    assert sent(unity.dictionaries(SESSION))["Action"] == "GetListOfDictionaries"
    with pytest.raises(ValueError, match="window"):
        unity.schedule(SESSION, date(2026, 3, 2), date(2026, 3, 1))


@pytest.mark.parametrize("row", unity.ACTIONS.values(), ids=lambda row: row.name)
def test_every_action_row_is_whole(row: unity.Action) -> None:
    assert row.products <= set(Product)
    assert set(row.parameters) <= set(range(1, unity.PARAMETERS_MAX + 1))
    assert row.result_key == row.name.lower() + "info"
    assert not (row.harmless and row.name.startswith(("Save", "Set")))


def magic_error(text: str) -> bytes:
    return json.dumps([{"Error": text}]).encode()


@pytest.mark.parametrize("row", unity.ERRORS, ids=lambda row: row.name)
def test_every_error_is_recognised_in_any_case_and_either_form(row: unity.UnityError) -> None:
    assert row.error in ERRORS
    for word in row.words:
        for body in (
            magic_error(f"Magic Error - Action: GetProviders - {word.upper()}."),
            json.dumps([{"error": word}]).encode(),
            f"error: {word}".encode(),
            json.dumps(f"Error: {word.title()}").encode(),
        ):
            found = parse_answer(body)
            assert (found.kind, found.error) == (AnswerKind.ERROR, row), body
            signature = signature_of(Vendor.UNITY, Surface.UNITY, 200, {}, body, now=NOW)
            assert signature is not None
            assert (signature.code, signature.error) == (f"unity.{row.name}", row.error)


CAPTURED = [
    (magic_error("Magic Error - Action: GetProviders - As a Security precaution, you have been logged out due to "
                 "inactivity."), "logged-out"),
    (b"error: Username and Password not valid for any licenses on this server", "password-invalid"),
    (b"Error: Your.App is not supported on PM version 10.4.2", "application-unsupported"),
    (b'[{"getuserauthenticationinfo":[{"ValidUser":"NO"}]}]', "user-invalid"),
    (b'[{"getuserauthenticationinfo":[{"validuser":" no "}]}]', "user-invalid"),
    (b'[{"getuserauthenticationinfo":[{}]}]', "user-invalid"),
    (b'[{"saveappointmentinfo":[{"STATUS":"Critical Error"}]}]', "critical"),
    (b'[{"saveappointmentinfo":[{"Status":"CRITICAL"}]}]', "critical"),
    (b'[{"getpatientinfo":[{"Error":"something else"}]}]', "error"),
    (magic_error("Magic Error - Action: GetUserAuthentication - object reference"), "error"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "name"), CAPTURED, ids=[str(number) for number in range(len(CAPTURED))])
def test_errors_under_http_200(body: bytes, name: str) -> None:
    found = signature_of(Vendor.UNITY, Surface.UNITY, 200, {}, body, now=NOW)
    assert found is not None
    assert found.code == f"unity.{name}"


def test_the_action_that_failed_is_evidence() -> None:
    found = signature_of(Vendor.UNITY, Surface.UNITY, 200, {}, CAPTURED[0][0], now=NOW)
    assert found is not None
    assert found.evidence == {"http_status": 200, "body": "error", "unity_action": "GetProviders"}
    foreign = signature_of(Vendor.UNITY, Surface.UNITY, 200, {}, magic_error("Error - Action: JaneDoe"), now=NOW)
    assert "janedoe" not in repr(foreign).lower()


@pytest.mark.parametrize(
    "body",
    [
        b'[{"getuserauthenticationinfo":[{"ValidUser":"YES"}]}]',
        b'[{"getpatientinfo":[{"ID":"39","Status":"Active","Error":""}]}]',
        # A chart may say critical, and a dictionary may have a column called Error.
        b'[{"getpatientinfo":[{"ID":"39","Note":"STATUS: Critical"}]}]',
        b'[{"getdictionaryinfo":[{"Code":"E","Error":"Entered in error"}]}]',
        b'[{"getscheduleinfo":[]}]',
        b'"5b1a2c3d-0000-4000-8000-000000000001"',
        b"5b1a2c3d-0000-4000-8000-000000000001",
    ],
)
def test_usable_answers_are_no_errors(body: bytes) -> None:
    assert parse_answer(body).kind in {AnswerKind.ROWS, AnswerKind.TEXT}
    assert signature_of(Vendor.UNITY, Surface.UNITY, 200, {}, body, now=NOW) is None


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<html>log in</html>", "unity.unreadable"),
        (200, b'{"a": ', "unity.unreadable"),
        (404, b"<html>", "unity.wrong-path"),
        (500, b"", "unity.unavailable"),
        (429, b"", "unity.rate-limited"),
        (403, b"", "unity.refused"),
    ],
)
def test_what_is_no_unity_answer_is_named(status: int, body: bytes, code: str) -> None:
    found = signature_of(Vendor.UNITY, Surface.UNITY, status, {}, body, now=NOW)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    ("system", "product"),
    [
        ("Enterprise EHR", Product.TOUCHWORKS), ("TouchWorks EHR 20.1", Product.TOUCHWORKS),
        ("Professional EHR", Product.PROFESSIONAL), ("Allscripts PM", Product.PM),
        ("Practice Management", Product.PM), ("PMS", None), ("", None),
    ],
)  # fmt: skip
def test_the_product_is_told_by_system(system: str, product: Product | None) -> None:
    assert unity.product_of(system) is product


def server_info_answer(**row: str) -> unity.UnityAnswer:
    return parse_answer(json.dumps([{"getserverinfoinfo": [row]}]).encode())


def test_server_info_places_local_times() -> None:
    info = unity.parse_server_info(
        server_info_answer(
            System="Enterprise EHR", ProductVersion="11.4.1", ServerTimeZone="Central Standard Time",
            ServerDateTimeOffset="2026-03-01T06:00:00.1234567-06:00",
        )
    )  # fmt: skip
    assert info is not None
    assert (info.product, info.version, info.offset) == (Product.TOUCHWORKS, "11.4.1", timedelta(hours=-6))
    found = unity.server_instant("3/1/2026 2:30:00 PM")
    assert found == local(2026, 3, 1, 14, 30)
    assert info.offset is not None
    assert unity.to_utc(found, info.offset) == datetime(2026, 3, 1, 20, 30, tzinfo=UTC)
    assert unity.server_instant("3/1/2026 12:05:00 AM -05:30") == datetime.fromisoformat("2026-03-01T00:05:00-05:30")
    assert unity.server_instant("13/45/2026") is None
    assert unity.parse_server_info(parse_answer(magic_error("x"))) is None
    assert unity.parse_server_info(server_info_answer(Other="x")) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Error", "x", "Critical", "NO"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Error", "error", "STATUS", "getuserauthenticationinfo", "getserverinfoinfo", "System"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_answer(body: bytes) -> None:
    answer = parse_answer(body)
    assert (answer.error is not None) == (answer.kind is AnswerKind.ERROR)
    assert unity.parse_server_info(answer) is None or answer.kind is AnswerKind.ROWS


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = unity.server_instant(text)
    assert found is None or isinstance(found, datetime)
