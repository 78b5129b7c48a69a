"""What a change opens and closes: exactly the pairs that the specification answers differently."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from romana.core.policy.impact import OUTSIDE, impact
from romana.model.policy import Policy, Rule, Selector, Traffic

from .oracle import allowed
from .random_worlds import PROBES, random_world


@pytest.mark.parametrize("seed", range(60))
def test_a_pair_that_is_not_named_is_as_before(seed: int) -> None:
    random = Random(seed)
    before = random_world(seed).world
    policies = {id_: _about_endpoints(policy) for id_, policy in before.policies.items()}
    before = msgspec.structs.replace(before, policies=dict(policies))
    if policies and random.random() < 0.5:
        del policies[random.choice(sorted(policies))]
    else:
        policies["new"] = Policy(
            id="new",
            kind="native",
            subjects=(Selector(tenants=("a",)),),
            ingress=(Rule(peers=(Selector(tenants=("b",)),), traffic=(Traffic(6, 80, 80),)),),
        )
    after = msgspec.structs.replace(before, policies=policies)
    found = impact(before, after)
    assert found.complete
    named = {(one.source, one.destination): one for one in found.pairs}
    endpoints = sorted(before.endpoints.values(), key=lambda one: one.id)
    for one in endpoints:
        for other in endpoints:
            if one is other or one.addresses[0].family is not other.addresses[0].family:
                continue
            for protocol, port in PROBES:
                then, now = (allowed(world, one, other, protocol, port) for world in (before, after))
                if then != now:
                    change = named[str(one.identity.owner), str(other.identity.owner)]
                    assert change.opened if now else change.closed


def _about_endpoints(policy: Policy) -> Policy:
    """Without peers by address: then all places of an identity are alike."""

    def kept(rules: tuple[Rule, ...] | None) -> tuple[Rule, ...] | None:
        if rules is None:
            return None
        return tuple(
            msgspec.structs.replace(
                rule, peers=None if rule.peers is None else tuple(p for p in rule.peers if isinstance(p, Selector))
            )
            for rule in rules
        )

    return msgspec.structs.replace(policy, ingress=kept(policy.ingress), egress=kept(policy.egress))


def test_nothing_changes_nothing() -> None:
    world = random_world(3).world
    assert impact(world, world).pairs == ()


def test_outside_is_a_pair_of_its_own() -> None:
    before = msgspec.structs.replace(random_world(5).world, policies={})
    opens = Policy(id="open", kind="native", subjects=(Selector(),), ingress=(Rule(),))
    found = impact(before, msgspec.structs.replace(before, policies={"open": opens}))
    assert any(one.source == OUTSIDE and one.opened == "accept" for one in found.pairs)
