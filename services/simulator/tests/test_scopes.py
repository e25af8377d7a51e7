"""SMART scopes, both versions."""

import pytest

from simulator.core.scopes import allows, granted


@pytest.mark.parametrize(
    ("scope", "resource", "right", "held"),
    [
        ("system/Patient.read", "Patient", "r", True),
        ("system/Patient.read", "Patient", "s", True),
        ("system/Patient.r", "Patient", "s", False),
        ("system/Patient.rs", "Patient", "s", True),
        ("system/*.read", "Appointment", "s", True),
        ("system/*.*", "Appointment", "c", True),
        ("system/Patient.write", "Patient", "r", False),
        ("user/Patient.cruds", "Patient", "d", True),
        ("system/Patient.", "Patient", "r", False),
        ("system/Patient.sr", "Patient", "r", False),
        ("openid", "Patient", "r", False),
    ],
)
def test_rights(scope: str, resource: str, right: str, held: bool) -> None:
    assert allows([scope], resource, right) is held


def test_only_what_is_registered_is_granted() -> None:
    registered = ("system/Patient.read", "system/Appointment.rs")
    assert granted(["system/Patient.rs", "system/Appointment.read", "system/Patient.write"], registered) == (
        "system/Patient.rs",
        "system/Appointment.read",
    )
    assert granted([], registered) == registered
    assert granted(["system/*.read"], registered) == ()
