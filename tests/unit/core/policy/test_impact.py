"""What a change opens and closes: exactly the pairs that the specification answers differently."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from romana.codec.text import parse_address, parse_prefix
from romana.core.policy.impact import OUTSIDE, impact
from romana.core.policy.world import PolicyWorld
from romana.model.policy import Policy, Rule, Selector
from romana.model.tenancy import Isolation
from romana.model.topology import Host
from tests.proof.naive import Naive
from tests.proof.queries import end_of, site_of, traffic_of
from tests.proof.random_documents import Document
from tests.proof.random_worlds import PROBES, random_world, world_with
from tests.worlds import policy_states as states

NEW: Document = {
    "version": 1,
    "kind": "policy",
    "id": "new",
    "applies_to": [{"tenant": "a"}],
    "ingress": [{"from": [{"tenant": "b"}], "ports": ["tcp/80"]}],
}


@pytest.mark.parametrize("seed", range(60))
def test_a_pair_that_is_not_named_is_as_before(seed: int) -> None:
    random = Random(seed)
    made = random_world(seed)
    documents = list(made.documents)
    changed = [NEW, *documents]
    if documents and random.random() < 0.5:
        changed = random.sample(documents, len(documents) - 1)
    before, after = world_with(made.world, documents), world_with(made.world, changed)
    found = impact(before, after)
    assert found.complete
    named = {(one.source, one.destination): one for one in found.pairs}
    evaluators = [Naive(site_of(before, documents)), Naive(site_of(after, changed))]
    ends = [(address, one) for one in before.endpoints.values() for address in one.addresses]
    for source, one in ends:
        for destination, other in ends:
            if one is other or source.family is not destination.family:
                continue
            pair = end_of(source, one.identity), end_of(destination, other.identity)
            for protocol, port in PROBES:
                then, now = (evaluator.allows(*pair, traffic_of(protocol, port)) for evaluator in evaluators)
                if then != now:
                    change = named[str(one.identity.owner), str(other.identity.owner)]
                    assert change.opened if now else change.closed


def test_nothing_changes_nothing() -> None:
    world = random_world(3).world
    assert impact(world, world).pairs == ()


def test_outside_is_a_pair_of_its_own() -> None:
    before = msgspec.structs.replace(random_world(3).world, policies={}, tenants={})
    opens = Policy(id="open", kind="native", subjects=(Selector(),), ingress=(Rule(),))
    found = impact(before, msgspec.structs.replace(before, policies={"open": opens}))
    assert any(one.source == OUTSIDE and one.opened == "accept" for one in found.pairs)


def test_what_moves_from_one_address_outside_to_another_is_told() -> None:
    made = states.world(*states.THREE, identities=(states.A_WEB,))

    def accepts(cidr: str) -> PolicyWorld:
        return world_with(made, [{**NEW, "ingress": [{"from": [{"cidr": cidr}]}]}])

    (found,) = impact(accepts("198.51.100.0/24"), accepts("203.0.113.0/24")).pairs
    assert (found.source, found.destination, found.opened, found.closed) == (OUTSIDE, "a/web", "accept", "accept")


def test_what_a_policy_about_hosts_closes_is_told() -> None:
    before = msgspec.structs.replace(random_world(3).world, policies={})
    closes: Document = {"version": 1, "kind": "policy", "id": "closes", "applies_to": [{"host": "h1"}], "ingress": []}
    found = {(one.source, one.destination): one for one in impact(before, world_with(before, [closes])).pairs}
    assert found[OUTSIDE, "host h1"].closed == "accept"
    assert {destination for _, destination in found} == {"host h1"}


def test_a_policy_about_the_endpoints_of_each_host_closes_it_to_those_of_others() -> None:
    host = Host(name="h1", addresses=(parse_address("192.0.2.9"),))
    spans = {"h1": (parse_prefix("10.0.0.0/29"),)}
    bare = states.world(*states.THREE, identities=(states.A_WEB, states.A_DB, states.B_WEB))
    before = msgspec.structs.replace(bare, hosts={"h1": host}, local=spans)
    own = {"peers": [{"peer": "local"}], "rules": [{"protocol": "tcp"}]}
    document = {"id": "own", "direction": "ingress", "applied_to": [{"dest": "host"}], "ingress": [own]}
    after = world_with(before, [document])
    closed = {one.source: one.closed for one in impact(before, after).pairs}
    assert closed == {"a/web": "all but tcp", "a/db": "accept", "b/web": "accept", OUTSIDE: "accept"}


def test_endpoints_in_blocks_of_one_address_are_looked_at() -> None:
    there = states.endpoint("e1", states.A_DB, "10.0.7.1", "10.0.7.1/32")
    tenants = {"a": Isolation.NONE}
    before = states.world(states.block("10.0.7.1/32"), endpoints=(there,), tenants=tenants)
    (found,) = impact(before, world_with(before, [{**NEW, "ingress": []}])).pairs
    assert (found.source, found.destination, found.closed) == (OUTSIDE, "a/db", "accept")
