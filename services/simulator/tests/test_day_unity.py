"""A day in the practice as a Unity client sees it: the same people, visits and changes as in FHIR."""

from datetime import UTC, date, datetime, timedelta
from itertools import count

from pms import unity, unity_session
from simulator.core.chart import Chart
from simulator.core.day import Happening
from simulator.core.day_run import begin, happen
from simulator.core.faults import NO_EFFECT
from simulator.core.population import Shares
from simulator.core.practice import make_practice
from simulator.core.unity_actions import ACTIONS
from simulator.core.unity_server import Accounts, Product, UnityServer, UnityState
from simulator.core.unity_session import UnitySessions

DAY = date(2026, 3, 4)
NOW = datetime(2026, 3, 4, 23, 0, tzinfo=UTC)
BASE = "http://unity.test"


def client(chart: Chart, product: Product = Product.TOUCHWORKS):
    """Asks an action with its parameters; the rows of the answer."""
    accounts = Accounts("svc", "svc-secret", "App.Test", "jdoe", "user-secret")
    numbers = count(1)
    server = UnityServer(
        UnityState(chart, product, accounts, UnitySessions(600)),
        ACTIONS,
        lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
    )

    def send(request: unity.UnityRequest) -> bytes:
        path = request.url(BASE).removeprefix(f"{BASE}/")
        return server.answer(request.method, path, request.body, NOW, NO_EFFECT).body

    token = unity_session.parse_token(send(unity_session.get_token("svc", "svc-secret"))).token
    session = unity.Session("App.Test", "jdoe", token or "")
    assert unity_session.parse_user(send(unity_session.authenticate_user(session, "user-secret"))).valid
    return lambda make, *given, **named: list(unity.parse_answer(send(make(session, *given, **named))).rows)


def test_unity_shows_the_day_that_was() -> None:
    chart = Chart(make_practice("demo", 7, patients=400, shares=Shares()))
    at = NOW - timedelta(minutes=30)
    told = [(event, one) for event in begin(chart, DAY, 3) for one in happen(chart, event, at)]
    ask = client(chart)
    # Unity's times are local to the server, without an offset.
    since = (at - timedelta(minutes=1)).astimezone(chart.practice.zone).replace(tzinfo=None)
    index = chart.practice.patients.index_of
    changed = {int(row["patientid"]) - 1 for row in ask(unity.changed_patients, since)}
    wanted = {Happening.ADDRESS, Happening.REGISTER, Happening.MERGE}
    mine = {index(one.patient.id) for event, one in told if event.kind in wanted}
    assert mine <= changed
    assert len(changed) < 100, "the others did not change"
    statuses = {row["AppointmentID"][:-6]: row["Status"] for row in ask(unity.schedule, DAY, DAY)}
    letters = {Happening.NO_SHOW: "N", Happening.CANCEL: "X", Happening.CHECK_OUT: "A"}
    for event, one in told:
        if event.kind in letters:
            assert statuses[one.appointment.csn] == letters[event.kind]
    moved = [one.appointment for event, one in told if event.kind is Happening.MOVE]
    assert moved
    assert not {row.csn for row in moved} & statuses.keys()
    lately = {row["AppointmentID"][:-6] for row in client(chart, Product.PM)(unity.appointments_changed, since)}
    assert {one.appointment.csn for _, one in told if one.appointment is not None} <= lately
    merged = next(one for _, one in told if one.trigger == "A40")
    (ended,) = ask(unity.patient, str(index(merged.ended.id) + 1))
    assert (ended["Inactive"], ended["MergedIntoID"]) == ("Y", str(index(merged.patient.id) + 1))
