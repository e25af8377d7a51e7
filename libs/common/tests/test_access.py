"""Roles and rows: what a token's roles stand for, and what every row must say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models import access
from common.models.access import TENANT_ROLES, Access, Role, expand


def test_a_tenant_admin_holds_every_role_of_the_tenant_and_no_other() -> None:
    assert expand(["tenant-admin"]) == TENANT_ROLES
    assert not expand(["tenant-admin"]) & {Role.SERVICE, Role.PLATFORM_OPERATOR}
    assert expand(["platform-operator"]) == {Role.PLATFORM_OPERATOR}


@given(st.lists(st.text(max_size=20) | st.sampled_from([role.value for role in Role])))
def test_unknown_names_give_nothing(names: list[str]) -> None:
    held = expand(names)
    assert held >= {Role(name) for name in names if name in set(Role)}
    assert held <= set(Role)
    if not set(names) & set(Role):
        assert held == frozenset()


@pytest.mark.parametrize("name", ["Viewer", "VIEWER", " viewer", "viewer ", "", "*", "tenant_admin"])
def test_a_role_is_written_exactly(name: str) -> None:
    assert expand([name]) == frozenset()


def test_a_route_open_to_all_says_why() -> None:
    with pytest.raises(ValueError, match="GET /open: a route open to all needs a reason"):
        Access("GET", "/open", frozenset())
    assert Access("GET", "/open", frozenset(), "a public key set").reason


def test_whoever_changes_may_read_and_the_platform_sees_no_patient() -> None:
    assert access.CONFIGURE < access.OPERATE < access.READ_STATE
    assert Role.PLATFORM_OPERATOR not in access.READ_RECORDS | access.READ_STATE | access.AUDIT
    assert not {Role.VIEWER, Role.OPERATOR, Role.INTEGRATION_ADMIN, Role.AUDITOR} & access.READ_RECORDS
    assert {Role.SERVICE} == access.SERVICES
    assert frozenset(Role) == access.ANY_ROLE
