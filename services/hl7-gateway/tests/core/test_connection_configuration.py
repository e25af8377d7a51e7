"""Which documents make sense, and what a change keeps."""

from typing import Any

import pytest
from pydantic import ValidationError

from common.models.errors import SuiteError
from hl7_gateway.core.connection_configuration import (
    STATES,
    ConnectionDocument,
    ConnectionState,
    Step,
    Tls,
    TlsMaterial,
    check,
    findings,
    material_after,
    moved,
)

PROFILES = frozenset({"standard"})
LISTENER = {"name": "In", "direction": "listener", "integration_id": "int_x", "host": "127.0.0.1", "port": 6661}
SENDER = {"name": "Out", "direction": "sender", "integration_id": "int_x", "host": "hl7.example", "port": 6661}
MISSING = ["/tls/certificate_pem", "/tls/private_key_pem"]
NONE = TlsMaterial()
WHOLE = TlsMaterial("certificate", "key", "authority")


def document(base: dict[str, Any], **changed: Any) -> ConnectionDocument:
    return ConnectionDocument.model_validate({**base, **changed})


def pointers(made: ConnectionDocument, material: TlsMaterial = NONE) -> list[str]:
    return [one.pointer for one in findings(made, material, PROFILES)]


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"port": "66x61"}, ("port",)),
        ({"port": "6661"}, ("port",)),
        ({"port": 0}, ("port",)),
        ({"port": 65536}, ("port",)),
        ({"prot": 6661}, ("prot",)),
        ({"keep_alive": "yes"}, ("keep_alive",)),
        ({"listening": {"connections_max": 0}}, ("listening", "connections_max")),
        ({"listening": {"connection_max": 5}}, ("listening", "connection_max")),
        ({"direction": "both"}, ("direction",)),
        ({"acknowledgment_mode": "fast"}, ("acknowledgment_mode",)),
        ({"tls": {"mode": "ssl"}}, ("tls", "mode")),
    ],
)
def test_what_a_field_cannot_hold_is_refused_where_it_stands(changed: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        document(LISTENER, **changed)
    assert [error["loc"] for error in refused.value.errors()] == [place]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (document(LISTENER), []),
        (document(SENDER), []),
        (document(LISTENER, host="::"), []),
        (document(LISTENER, host="gateway.example"), ["/host"]),
        (document(SENDER, host="bad host"), ["/host"]),
        (document(SENDER, host="a..b"), ["/host"]),
        (document(SENDER, listening={}), ["/listening"]),
        (document(LISTENER, sending={}), ["/sending"]),
        (document(LISTENER, encoding="KLINGON"), ["/encoding"]),
        (document(LISTENER, encoding="8859/1"), []),
        (document(LISTENER, listening={"validation": {"profile": "st. elsewhere"}}), ["/listening/validation/profile"]),
        (document(LISTENER, listening={"allowed_peers": [{}]}), ["/listening/allowed_peers/0"]),
        (
            document(LISTENER, listening={"allowed_peers": [{"network": "10.0.0.0/8"}, {"network": "10.0.0.0/33"}]}),
            ["/listening/allowed_peers/1/network"],
        ),
        (
            document(LISTENER, listening={"allowed_peers": [{"certificate_subject": "x"}]}),
            ["/listening/allowed_peers/0"],
        ),
        (document(SENDER, sending={"backoff": {"first_ms": 100, "max_ms": 50}}), ["/sending/backoff/max_ms"]),
        (document(SENDER, sending={"on_reject": {"action": "park", "retries": 2}}), ["/sending/on_reject/retries"]),
        (document(SENDER, ordering_key="connection", sending={"in_flight_max": 2}), ["/sending/in_flight_max"]),
        (document(SENDER, tls={"server_name": "x"}), ["/tls/server_name"]),
        (document(LISTENER, tls={"mode": "tls", "server_name": "x"}), ["/tls/server_name", *MISSING]),
        (document(LISTENER, tls={"mode": "mutual"}), [*MISSING, "/tls/ca_pem"]),
        (document(SENDER, tls={"mode": "mutual"}), MISSING),
        (document(SENDER, tls={"mode": "tls"}), []),
    ],
)
def test_what_contradicts_itself_is_named(made: ConnectionDocument, expected: list[str]) -> None:
    assert pointers(made) == expected


def test_material_that_is_there_is_enough() -> None:
    assert pointers(document(LISTENER, tls={"mode": "mutual"}), WHOLE) == []
    assert pointers(document(SENDER, tls={"mode": "tls"}), TlsMaterial("certificate")) == ["/tls"]


def test_the_error_names_every_field_below_its_place() -> None:
    with pytest.raises(SuiteError) as refused:
        check(document(SENDER, host="bad host", encoding="KLINGON"), NONE, PROFILES, below="/configuration")
    assert refused.value.code == "request.invalid"
    assert [one.pointer for one in refused.value.fields] == ["/configuration/host", "/configuration/encoding"]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"mode": "tls"}, WHOLE),
        ({"mode": "off"}, NONE),
        ({"mode": "tls", "ca_pem": ""}, TlsMaterial("certificate", "key", "")),
        (
            {"mode": "tls", "certificate_pem": "new", "private_key_pem": "newer"},
            TlsMaterial("new", "newer", "authority"),
        ),
    ],
)
def test_what_is_left_out_is_kept(tls: dict[str, Any], expected: TlsMaterial) -> None:
    assert material_after(Tls.model_validate(tls), WHOLE) == expected


def test_what_is_stored_has_its_section_and_nothing_secret() -> None:
    made = document(
        SENDER, tls={"mode": "mutual", "certificate_pem": "CERT", "private_key_pem": "CANARY", "ca_pem": "CA"}
    )
    shown = made.completed().as_json()
    assert shown["sending"]["in_flight_max"] == 1
    assert shown["listening"] is None
    assert shown["tls"] == {"mode": "mutual", "server_name": None}
    assert "CANARY" not in repr(made) + repr(TlsMaterial("", "CANARY"))
    assert ConnectionDocument.model_validate(shown) == made.completed()


def test_the_states_of_a_connection() -> None:
    for state, steps in STATES.items():
        for step in Step:
            if step in steps:
                assert moved(state, step) is steps[step]
            else:
                with pytest.raises(SuiteError, match=r"request\.conflict"):
                    moved(state, step)
    assert {state for steps in STATES.values() for state in steps.values()} == set(ConnectionState)
