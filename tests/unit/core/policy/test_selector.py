from __future__ import annotations

import pytest

from romana.core.policy.selector import NAME_LABEL, canonical, holds, matches
from romana.model.policy import Operator, Requirement, Selector
from romana.model.tenancy import Identity, Owner, Tenant

TENANT = Tenant(name="acme", labels={"team": "blue"})
WEB = Identity(owner=Owner("acme", "web"), labels={"app": "shop"})


@pytest.mark.parametrize(
    ("operator", "values", "present", "other", "absent"),
    [
        (Operator.IN, ("shop",), True, False, False),
        (Operator.NOT_IN, ("shop",), False, True, True),
        (Operator.EXISTS, (), True, True, False),
        (Operator.DOES_NOT_EXIST, (), False, False, True),
        (Operator.IN, (), False, False, False),
    ],
)
def test_operators(operator: Operator, values: tuple[str, ...], present: bool, other: bool, absent: bool) -> None:
    requirement = Requirement("app", operator, values)
    assert [holds(requirement, labels) for labels in ({"app": "shop"}, {"app": "till"}, {})] == [
        present,
        other,
        absent,
    ]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), True),
        (Selector(tenants=("acme",)), True),
        (Selector(tenants=()), False),
        (Selector(tenants=("acme",), segments=("db",)), False),
        (Selector(tenant_labels=(Requirement("team", Operator.IN, ("blue",)),)), True),
        (Selector(tenant_labels=(Requirement("app", Operator.EXISTS),)), False),
        (Selector(tenant_labels=(Requirement(NAME_LABEL, Operator.IN, ("acme",)),)), True),
        (Selector(labels=(Requirement("team", Operator.EXISTS),)), False),
        (Selector(labels=(Requirement("app", Operator.EXISTS), Requirement("app", Operator.NOT_IN, ("shop",)))), False),
    ],
)
def test_all_conditions_must_hold(selector: Selector, expected: bool) -> None:
    assert matches(selector, WEB, TENANT) is expected


def test_a_tenant_cannot_claim_the_name_of_another() -> None:
    liar = Tenant(name="acme", labels={NAME_LABEL: "bank"})
    bank = Selector(tenant_labels=(Requirement(NAME_LABEL, Operator.IN, ("bank",)),))
    assert not matches(bank, WEB, liar)


def test_wording_in_another_order_is_the_same_selector() -> None:
    one = Requirement("app", Operator.IN, ("x", "y"))
    same = Requirement("app", Operator.IN, ("y", "x", "y"))
    other = Requirement("tier", Operator.EXISTS)
    assert canonical(Selector(tenants=("b", "a"), labels=(one, other))) == canonical(
        Selector(tenants=("a", "b"), labels=(other, same, one))
    )
