"""Whose message it is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.models.identifiers import type_id, uuid7
from common.models.integration import integration_from_json
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.core.senders import SENDER_AMBIGUOUS, SENDER_UNKNOWN, InboundChannel, sender_table


def _found(table: Any, application: str, facility: str) -> str:
    channel = table.resolve(application, facility)
    return channel.integration_id if isinstance(channel, InboundChannel) else channel


def test_the_most_specific_row_wins(integration: Any) -> None:
    any_sender = integration(1)
    facility = integration(2, senders=[{"facility": "CLINIC"}])
    application = integration(3, senders=[{"application": "EPIC"}])
    both = integration(4, senders=[{"application": "EPIC", "facility": "CLINIC"}])
    table = sender_table([any_sender, facility, application, both])
    assert _found(table, "EPIC", "CLINIC") == both.id
    assert _found(table, "EPIC", "ELSEWHERE") == application.id
    assert _found(table, "OTHER", "clinic") == facility.id
    assert _found(table, "", "") == any_sender.id


def test_a_row_that_names_nobody_takes_nobody(integration: Any) -> None:
    table = sender_table([integration(1, senders=[{"application": " "}, "EPIC", {}])])
    assert _found(table, "EPIC", "CLINIC") == SENDER_UNKNOWN
    assert table.only_tenant == TENANT


def test_two_channels_of_one_practice_go_by_age_and_of_two_practices_to_nobody(integration: Any) -> None:
    older, newer = integration(1), integration(2)
    assert _found(sender_table([newer, older]), "A", "B") == older.id
    foreign = integration(3, tenant=OTHER_TENANT)
    table = sender_table([older, foreign])
    assert _found(table, "A", "B") == SENDER_AMBIGUOUS
    assert table.only_tenant is None


def test_a_draft_takes_nothing_and_a_paused_integration_goes_on(integration: Any) -> None:
    assert _found(sender_table([integration(1, state="draft")]), "A", "B") == SENDER_UNKNOWN
    paused = integration(1, state="paused")
    assert _found(sender_table([paused]), "A", "B") == paused.id


_NAMES = st.sampled_from(["", "A", "B", "C"])


@given(rows=st.lists(st.lists(st.tuples(_NAMES, _NAMES), max_size=3), max_size=5), sender=st.tuples(_NAMES, _NAMES))
def test_no_row_that_fits_better_is_passed_over(rows: list[list[tuple[str, str]]], sender: tuple[str, str]) -> None:
    integrations = [_with_rows(number, listed) for number, listed in enumerate(rows)]
    best, best_score = SENDER_UNKNOWN, -1
    for one, listed in zip(integrations, rows, strict=True):
        for application, facility in listed or [("", "")]:
            if listed and not application and not facility:
                continue
            fits = application in {"", sender[0]} and facility in {"", sender[1]}
            score = 2 * bool(application) + bool(facility)
            if fits and score > best_score:
                best, best_score = one.id, score
    assert _found(sender_table(integrations), *sender) == best


def _with_rows(number: int, listed: list[tuple[str, str]]) -> Any:
    senders = [{"application": application, "facility": facility} for application, facility in listed]
    channel = {"kind": "hl7v2-in", "endpoint": "", "time_zone": "UTC", "settings": {"senders": senders}}
    document = {
        "id": type_id("int", uuid7(1_700_000_000_000 + number, number)),
        "tenant": TENANT,
        "name": "n",
        "vendor": "hl7v2",
        "product": "",
        "environment": "test",
        "state": "active",
        "write_back": "off",
        "version": 1,
        "identifier_systems": [],
        "channels": {"in": channel},
    }
    return integration_from_json(document)
