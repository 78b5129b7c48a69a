"""What a change opens and closes: exactly the pairs that the specification answers differently."""

from __future__ import annotations

import json
from random import Random

import msgspec
import pytest

from romana.core.policy.impact import OUTSIDE, impact
from romana.model.policy import Policy, Rule, Selector
from tests.proof.naive import Naive
from tests.proof.queries import end_of, site_of, traffic_of
from tests.proof.random_documents import Document
from tests.proof.random_worlds import PROBES, random_world, world_with

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
    documents = [one for one in made.documents if not _names_addresses(one)]  # then all places of an identity are alike
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


def _names_addresses(document: Document) -> bool:
    text = json.dumps(document)
    return any(word in text for word in ('"cidr"', '"networks"', '"nodes"'))


def test_nothing_changes_nothing() -> None:
    world = random_world(3).world
    assert impact(world, world).pairs == ()


def test_outside_is_a_pair_of_its_own() -> None:
    before = msgspec.structs.replace(random_world(3).world, policies={}, tenants={})
    opens = Policy(id="open", kind="native", subjects=(Selector(),), ingress=(Rule(),))
    found = impact(before, msgspec.structs.replace(before, policies={"open": opens}))
    assert any(one.source == OUTSIDE and one.opened == "accept" for one in found.pairs)
