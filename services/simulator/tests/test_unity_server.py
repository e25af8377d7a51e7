"""The Unity server action by action, its answers read by the suite's own Unity client (`pms.unity`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms import unity, unity_session
from pms.unity import AnswerKind, UnityAnswer
from simulator.core.chart import Chart
from simulator.core.faults import NO_EFFECT, Effect, Faults, Surface
from simulator.core.practice import make_practice
from simulator.core.unity_actions import ACTIONS, PM_ROWS_MAX
from simulator.core.unity_rows import local_instant, local_text
from simulator.core.unity_server import (
    BODY_BYTES_MAX,
    STATUSES_SET_MAX,
    SYSTEMS,
    Accounts,
    Product,
    UnityServer,
    UnityState,
)
from simulator.core.unity_session import SESSIONS_MAX, UnitySessions

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)  # nine o'clock in Chicago
PRACTICE = make_practice("unity", 7, patients=150)
ACCOUNTS = Accounts("svc", "svc-secret", "App.Test", "jdoe", "user-secret")
BASE = "http://unity.test"


@dataclass
class Wire:
    """A client of one server."""

    state: UnityState
    now: datetime = NOW
    session: unity.Session = field(default_factory=lambda: unity.Session("App.Test", "jdoe", ""))

    def __post_init__(self) -> None:
        numbers = count(1)
        self.server = UnityServer(self.state, ACTIONS, lambda: f"00000000-0000-4000-8000-{next(numbers):012d}")

    def send(self, request: unity.UnityRequest, effect: Effect = NO_EFFECT) -> bytes:
        path = request.url(BASE).removeprefix(f"{BASE}/")
        answer = self.server.answer(request.method, path, request.body, self.now, effect)
        assert answer.status == 200
        return answer.body

    def open(self) -> None:
        token = unity_session.parse_token(self.send(unity_session.get_token("svc", "svc-secret"))).token
        assert token is not None
        self.session = unity.Session("App.Test", "jdoe", token)

    def log_in(self, password: str = "user-secret") -> unity_session.UserText:
        return unity_session.parse_user(self.send(unity_session.authenticate_user(self.session, password)))

    def magic(self, action: str, *parameters: str, patient_id: str = "") -> UnityAnswer:
        return unity.parse_answer(self.send(unity.magic(action, self.session, parameters, patient_id=patient_id)))

    def rows(self, action: str, *parameters: str, patient_id: str = "") -> Sequence[dict[str, str]]:
        answer = self.magic(action, *parameters, patient_id=patient_id)
        assert (answer.kind, answer.action) == (AnswerKind.ROWS, action.lower()), answer
        return [dict(row) for row in answer.rows]

    def error(self, action: str, *parameters: str, patient_id: str = "") -> str:
        answer = self.magic(action, *parameters, patient_id=patient_id)
        assert answer.error is not None
        return answer.error.name


def wire(product: Product = Product.TOUCHWORKS, *, open_it: bool = True, **state: object) -> Wire:
    one = Wire(UnityState(Chart(PRACTICE), product, ACCOUNTS, **state))
    if open_it:
        one.open()
        assert one.log_in().valid
    return one


def test_a_session_from_beginning_to_end() -> None:
    one = wire(open_it=False)
    assert one.error("Echo", "x") == "logged-out"
    one.open()
    assert one.rows("Echo", "x") == [{"Echo": "x"}]
    assert one.error("GetPatient", patient_id="1") == "user-not-authenticated", "F9: GetToken works, actions do not"
    refused = one.log_in("wrong")
    assert (refused.valid, refused.error) == (False, unity.USER_INVALID)
    assert one.error("GetPatient", patient_id="1") == "user-not-authenticated"
    assert one.log_in().valid
    assert one.rows("GetPatient", "N", patient_id="1")[0]["ID"] == "1"
    assert one.send(unity_session.retire(one.session)) == b"Token retired"
    assert one.error("GetPatient", patient_id="1") == "logged-out"
    assert one.send(unity_session.retire(one.session)).startswith(b"error:")


@pytest.mark.parametrize(
    ("username", "password", "expired"),
    [("svc", "wrong", False), ("other", "svc-secret", False), ("", "", False), ("svc", "svc-secret", True),
     ("svc", "\ud800", False)],
)  # fmt: skip
def test_a_token_is_refused(username: str, password: str, expired: bool) -> None:
    one = wire(open_it=False)
    body = json.dumps({"Username": username, "Password": password}).encode()
    request = unity.UnityRequest("GetToken", body, path="json/GetToken")
    faults = Faults()
    if expired:
        faults.start("expired-secret", {}, one.now)
    effect = faults.effect(Surface.TOKEN_ENDPOINT, one.now)
    text = unity_session.parse_token(one.send(request, effect))
    assert text.error is not None
    assert (text.token, text.error.name) == (None, "password-invalid")
    assert len(one.state.sessions) == 0


def test_a_session_ends_by_idling_and_lives_while_it_is_used() -> None:
    one = wire()
    for _ in range(3):
        one.now += timedelta(seconds=1199)
        assert one.rows("Echo", "x")
    one.now += timedelta(seconds=1200)
    answer = one.send(unity.magic("GetProviders", one.session))
    assert json.loads(answer) == [
        {
            "Error": "Magic Error - Action: GetProviders - As a Security precaution, you have been logged out due to "
            "inactivity."
        }
    ], "as it was seen on a live server"
    short = wire(sessions=UnitySessions(60))
    short.now += timedelta(seconds=60)
    assert short.error("Echo") == "logged-out"


def test_half_a_surrogate_pair_is_no_trouble() -> None:
    one = wire()
    document = {"Action": "Echo", "Token": one.session.token, "Appname": "App.Test", "Parameter1": "a\ud800"}
    answer = one.server.answer("POST", "Unity/UnityService.svc/json/MagicJson", json.dumps(document).encode(), NOW)
    assert answer.body == b'[{"echoinfo":[{"Echo":"a?"}]}]'


def test_sessions_are_bounded() -> None:
    sessions = UnitySessions()
    for number in range(SESSIONS_MAX + 1):
        sessions.open(str(number), NOW)
    assert len(sessions) == SESSIONS_MAX
    assert sessions.use("0", NOW) is None
    assert sessions.use(str(SESSIONS_MAX), NOW) is not None


def test_another_application_another_user_and_a_licence_that_is_missing() -> None:
    one = wire(unlicensed=frozenset({"GetSchedule"}))
    assert one.error("GetSchedule", "03/04/2026|03/04/2026") == "not-licensed"
    assert one.rows("GetProviders")
    good = one.session
    one.session = unity.Session("Other.App", "jdoe", good.token)
    assert one.error("GetProviders") in {"error", "application-unsupported"}
    one.session = unity.Session("App.Test", "someone", good.token)
    assert one.error("GetProviders") == "user-not-authenticated"


def test_an_application_that_pm_does_not_support() -> None:
    one = wire(Product.PM)
    one.session = unity.Session("Other.App", "jdoe", one.session.token)
    assert one.error("GetProviders") == "application-unsupported"


@pytest.mark.parametrize("product", list(Product))
def test_what_the_server_says_of_itself(product: Product) -> None:
    info = unity.parse_server_info(wire(product).magic("GetServerInfo"))
    assert info is not None
    assert (info.product, info.system, info.time_zone) == (
        unity.Product(product.value), SYSTEMS[product], "America/Chicago",
    )  # fmt: skip
    assert (info.server_time, info.offset) == (NOW, timedelta(hours=-6))


@pytest.mark.parametrize("product", list(Product))
def test_each_product_has_its_actions_and_no_other(product: Product) -> None:
    one = wire(product)
    for row in ACTIONS.values():
        if row.name != "GetUserAuthentication":
            raw = one.send(unity.magic(row.name, one.session))
            assert (b"The action is not known" in raw) == (product not in row.products), row.name
    assert b"The action is not known" in one.send(unity.magic("GetNothing", one.session))


def test_the_actions_are_those_of_the_client() -> None:
    """GetAvailableSchedule is the one that is not offered."""
    assert {row.name for row in ACTIONS.values()} == set(unity.ACTIONS) - {"GetAvailableSchedule"}
    for row in ACTIONS.values():
        assert {product.value for product in row.products} == {
            product.value for product in unity.ACTIONS[row.name].products
        }


def test_patients() -> None:
    one = wire()
    for number in (1, 10, 150):
        patient = PRACTICE.patients.at(number - 1)
        (row,) = one.rows("GetPatient", "N", patient_id=str(number))
        assert (row["ID"], row["LastName"], row["mrn"]) == (str(number), patient.family, patient.mrn)
        found = one.rows("SearchPatients", f"{patient.family}, {patient.given[0]} {patient.mrn}")
        assert [each["ID"] for each in found] == [str(number)]
    for number in ("0", "151", "x", "", "٣", "9" * 5000):
        assert one.error("GetPatient", patient_id=number) == "error"
    assert one.error("SearchPatients", " ") == "error"


def test_patients_of_pm_are_searched_by_xml() -> None:
    one = wire(Product.PM)
    patient = PRACTICE.patients.at(20)
    (row,) = one.rows("SearchPatients", f"<Patient><MRN>{patient.mrn}</MRN><LastName></LastName></Patient>")
    assert row["LastName"] == patient.family
    assert len(one.rows("SearchPatients", "<Patient><MRN>2</MRN></Patient>")) == PM_ROWS_MAX
    for text in ("", "Smith", "<Patient/>", "<Patient><Other>1</Other></Patient>",
                 '<!DOCTYPE a [<!ENTITY b "c">]><Patient><MRN>&b;</MRN></Patient>'):  # fmt: skip
        assert one.error("SearchPatients", text) == "error", text


def test_patients_change_once_in_five_weeks() -> None:
    one = wire()
    everyone = {row["patientid"] for row in one.rows("GetChangedPatients", "01/28/2026 08:59:00")}
    assert everyone == {str(number) for number in range(1, 151)}
    week = one.rows("GetChangedPatients", "02/25/2026 09:00:00", "N", "N", "Y")
    assert 10 < len(week) < 60
    assert one.rows("GetChangedPatients", "03/04/2026 09:01:00 AM") == []
    assert one.error("GetChangedPatients", "2026-03-04") == "error"


def test_the_schedule() -> None:
    one = wire()
    rows = one.rows("GetSchedule", "03/02/2026|03/06/2026")
    wanted = Chart(PRACTICE).appointments(date(2026, 3, 2), date(2026, 3, 6))
    assert [row["DateTime"] for row in rows] == [local_text(each.start, PRACTICE.zone) for each in wanted]
    assert len({row["AppointmentID"] for row in rows}) == len(rows) > 10
    provider, kind = rows[0]["ProviderID"], rows[0]["TypeCode"]
    some = one.rows("GetSchedule", "03/02/2026|03/06/2026", "", "", provider, kind)
    assert some == [row for row in rows if (row["ProviderID"], row["TypeCode"]) == (provider, kind)]
    scheduled = one.rows("GetSchedule", "03/02/2026|03/06/2026", "", "", "", "", "S,X")
    assert {row["Status"] for row in scheduled} <= {"S", "X"}
    assert len(scheduled) < len(rows)
    since = one.rows("GetSchedule", "03/02/2026|03/06/2026", "03/04/2026 08:00:00")
    assert 0 < len(since) < len(rows)
    for window in (
        "",
        "03/06/2026|03/02/2026",
        "03/06/2026|x",
        "01/01/2020|01/01/2026",
        "13/01/2026|13/02/2026",
        "01/01/0001",
        "12/31/9999",
    ):
        assert one.error("GetSchedule", window) == "error", window


def test_an_appointment_is_saved_changed_and_found_again() -> None:
    one = wire(Product.PM)
    since = "03/04/2026 09:00:00 AM"
    before = {row["AppointmentID"] for row in one.rows("GetAppointmentsByChangeDTTM", since)}
    order = (
        "<Appointment><PatientID>5</PatientID><DateTime>03/09/2026 10:00:00 AM</DateTime><Duration>25</Duration>"
        f"<TypeCode>1008</TypeCode><ProviderID>{list(PRACTICE.practitioners.values())[2].npi}</ProviderID>"
        "<LocationCode>RVC</LocationCode></Appointment>"
    )
    (saved,) = one.rows("SaveAppointment", order)
    number = saved["AppointmentID"]
    assert number not in before
    assert one.error("SaveAppointment", order) == "critical", "F10: a failure that looks like an answer"
    one.now += timedelta(minutes=5)
    (row,) = [each for each in one.rows("GetAppointmentsByChangeDTTM", since) if each["AppointmentID"] == number]
    assert (row["PatientID"], row["DateTime"], row["Duration"], row["Type"], row["LocationCode"], row["Status"]) == (
        "5", "03/09/2026 10:00:00 AM", "25", "Follow Up", "RVC", "S",
    )  # fmt: skip
    assert one.rows("SetAppointmentStatus", number, "x")[0]["Status"] == "X"
    changed = one.rows("GetAppointmentsByChangeDTTM", "03/04/2026 09:04:00 AM")
    assert [each["Status"] for each in changed if each["AppointmentID"] == number] == ["X"]
    assert one.rows("SaveAppointment", order), "the time is free again"


@pytest.mark.parametrize(
    "element",
    ["<PatientID>999</PatientID>", "<DateTime>soon</DateTime>", "<DateTime>01/02/0001</DateTime>",
     "<DateTime>12/31/9999</DateTime>", "<Duration>0</Duration>", "<TypeCode>9</TypeCode>",
     "<ProviderID>9</ProviderID>", "<LocationCode>9</LocationCode>", "<AppointmentID>1</AppointmentID>"],
)  # fmt: skip
def test_appointments_that_cannot_be(element: str) -> None:
    one = wire(Product.PM)
    good = {"PatientID": "5", "DateTime": "03/09/2026 10:00"}
    name = element[1:].partition(">")[0]
    rest = "".join(f"<{key}>{value}</{key}>" for key, value in good.items() if key != name)
    assert one.error("SaveAppointment", f"<Appointment>{rest}{element}</Appointment>") == "error"
    assert one.rows("SaveAppointment", f"<Appointment>{''.join(f'<{k}>{v}</{k}>' for k, v in good.items())}</A>")


def test_statuses_that_cannot_be_set() -> None:
    one = wire(Product.PM)
    number = one.rows("GetAppointmentsByChangeDTTM", "03/01/2026")[0]["AppointmentID"]
    assert one.error("SetAppointmentStatus", number, "Q") == "error"
    for wrong in ("", "1", "x" * 20, number[:-6] + "000000", number[:-6] + "999999", "9" * 18):
        assert one.error("SetAppointmentStatus", wrong, "C") == "error"


def test_statuses_kept_are_bounded() -> None:
    state = UnityState(Chart(PRACTICE), Product.PM, ACCOUNTS)
    (row, *_) = Chart(PRACTICE).appointments(date(2026, 3, 2), date(2026, 3, 6))
    state.statuses |= {str(number): state.statuses.get(str(number)) for number in range(STATUSES_SET_MAX)}
    state.set_status(row, "C", NOW)
    assert len(state.statuses) == STATUSES_SET_MAX


def test_changes_follow_the_day() -> None:
    """What GetAppointmentsByChangeDTTM tells hour by hour is what each hour changed, once."""
    one = wire(Product.PM, sessions=UnitySessions(3 * 86_400))
    one.now = datetime(2026, 3, 5, 14, 0, tzinfo=UTC)
    seen: list[tuple[str, str]] = []
    while one.now < datetime(2026, 3, 5, 23, 0, tzinfo=UTC):
        since = local_text(one.now, PRACTICE.zone)
        one.now += timedelta(minutes=59, seconds=59)
        seen += [(row["AppointmentID"], row["Status"]) for row in one.rows("GetAppointmentsByChangeDTTM", since)]
        one.now += timedelta(seconds=1)
    assert len(seen) == len(set(seen))
    today = Chart(PRACTICE).appointments(date(2026, 3, 5), date(2026, 3, 5))
    kept = {row.csn for row in today if row.status_at(one.now) in {"fulfilled", "noshow"}}
    assert kept <= {number[:-6] for number, _ in seen}


def test_dictionaries() -> None:
    one = wire()
    names = [row["TableName"] for row in one.rows("GetListOfDictionaries")]
    for name in names:
        assert all(row["Code"] and row["Description"] for row in one.rows("GetDictionary", name.upper()))
    assert one.rows("GetListOfDictionaries", names[0]) == [{"TableName": names[0]}]
    assert one.error("GetDictionary", "Nothing") == "error"
    assert one.rows("GetProviders") == one.rows("GetDictionary", "Provider")


def test_the_last_logs_name_the_action_and_nothing_of_its_contents() -> None:
    one = wire()
    for number in range(30):
        one.error("GetPatient", "N", patient_id=f"canary-{number}")
    one.error("canary-action")
    logs = [row["Log"] for row in one.rows("LastLogs")]
    assert len(logs) == 20
    assert "Action: unknown" in logs[0]
    assert "Magic Error - Action: GetPatient - Patient not found." in logs[1]
    assert "canary" not in "".join(logs)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "Unity/UnityService.svc/json/MagicJson", 405), ("POST", "Unity/UnityService.svc/json/Nothing", 404),
     ("POST", "unity/json/MagicJson", 404), ("POST", "", 404)],
)  # fmt: skip
def test_what_is_no_operation(method: str, path: str, status: int) -> None:
    answer = wire().server.answer(method, path, b"{}", NOW)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html")


@given(
    st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(["Action", "Token", "Appname", "AppUserID", "PatientID", "Parameter1", "Parameter2"]),
        st.text(max_size=40) | st.none() | st.integers() | st.sampled_from(["App.Test", "jdoe", *ACTIONS]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_answered_with_an_error_in_http_200(body: bytes) -> None:
    one = wire(open_it=False)
    answer = one.server.answer("POST", "Unity/UnityService.svc/json/MagicJson", body, NOW)
    assert answer.status == 200
    assert unity.parse_answer(answer.body).kind is AnswerKind.ERROR


@given(st.sampled_from(list(ACTIONS)), st.lists(st.text(max_size=30), max_size=6), st.text(max_size=12))
def test_any_parameters_are_answered(action: str, parameters: list[str], patient_id: str) -> None:
    one = wire(Product.PM)
    raw = one.send(unity.magic(action, one.session, parameters, patient_id=patient_id))
    assert unity.parse_answer(raw).kind in {AnswerKind.ROWS, AnswerKind.ERROR}


def test_a_body_that_is_too_large_is_not_read() -> None:
    one = wire()
    document = {"Action": "Echo", "Token": one.session.token, "Parameter1": "x" * BODY_BYTES_MAX}
    answer = one.server.answer("POST", "Unity/UnityService.svc/json/MagicJson", json.dumps(document).encode(), NOW)
    assert b"logged out" in answer.body


@given(st.integers(-600_000_000, 3_700_000_000))
def test_times_are_the_servers_and_come_back(seconds: int) -> None:
    second = datetime.fromtimestamp(seconds, UTC)
    text = local_text(second, PRACTICE.zone)
    # The hour that a clock goes back over is told twice; the first one is meant.
    assert second - local_instant(text, PRACTICE.zone) in {timedelta(), timedelta(hours=1)}
    assert unity.server_instant(text) == second.astimezone(PRACTICE.zone).replace(tzinfo=None)
