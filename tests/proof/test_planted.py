"""The comparisons are judged, too: errors that are planted in the compiler, the kernel and the engine are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import pytest

from romana.core.policy.compile import compile_program
from romana.core.policy.world import PolicyWorld
from romana.model.address import Family
from romana.model.policy import (
    Action,
    CidrPeer,
    Operator,
    Peer,
    Policy,
    PolicyTier,
    Requirement,
    Rule,
    Selector,
    Traffic,
)
from romana.model.program import Program
from romana.model.tenancy import Isolation
from tests.probes.onehost import OneHost
from tests.proof.kernel import try_world
from tests.proof.misreading import Misreading
from tests.proof.outside import DEFECTS, KINDS, NotInNeedsTheLabel
from tests.proof.queries import Comparison, difference
from tests.proof.random_worlds import random_world
from tests.proof.shrink import shrunk

WORLDS = 150
EACH = 100
replace = msgspec.structs.replace


def in_policies(change: Callable[[Policy], Policy]) -> Callable[[PolicyWorld], PolicyWorld]:
    return lambda world: replace(world, policies={id_: change(one) for id_, one in world.policies.items()})


def in_rules(change: Callable[[Rule], Rule]) -> Callable[[PolicyWorld], PolicyWorld]:
    def changed(rules: tuple[Rule, ...] | None) -> tuple[Rule, ...] | None:
        return None if rules is None else tuple(map(change, rules))

    return in_policies(lambda one: replace(one, ingress=changed(one.ingress), egress=changed(one.egress)))


def in_peers(change: Callable[[Peer], Peer]) -> Callable[[PolicyWorld], PolicyWorld]:
    return in_rules(lambda one: replace(one, peers=None if one.peers is None else tuple(map(change, one.peers))))


def in_traffic(change: Callable[[Traffic], Traffic]) -> Callable[[PolicyWorld], PolicyWorld]:
    return in_rules(lambda one: replace(one, traffic=tuple(map(change, one.traffic))))


def without_exceptions(peer: Peer) -> Peer:
    return replace(peer, excluded=()) if isinstance(peer, CidrPeer) else peer


def not_in_needs_the_label(peer: Peer) -> Peer:
    if not isinstance(peer, Selector):
        return peer
    present = [Requirement(one.key, Operator.EXISTS) for one in peer.labels if one.operator is Operator.NOT_IN]
    return replace(peer, labels=(*peer.labels, *present))


def without_tenant_labels(peer: Peer) -> Peer:
    return replace(peer, tenant_labels=()) if isinstance(peer, Selector) else peer


def one_port_less(traffic: Traffic) -> Traffic:
    is_range = traffic.protocol == 6 and traffic.first < traffic.last < 65535
    return replace(traffic, last=traffic.last - 1) if is_range else traffic


def sctp_is_tcp(traffic: Traffic) -> Traffic:
    return replace(traffic, protocol=6) if traffic.protocol == 132 else traffic


def name_in_any_protocol(traffic: Traffic) -> Traffic:
    return replace(traffic, protocol=None) if traffic.name else traffic


def names_are_nothing(rule: Rule) -> Rule:
    named = [one for one in rule.traffic if one.name]
    return replace(rule, peers=()) if named and len(named) == len(rule.traffic) else rule


def passing_accepts(rule: Rule) -> Rule:
    return replace(rule, action=Action.ACCEPT) if rule.action is Action.PASS else rule


def reversed_priority(policy: Policy) -> Policy:
    return replace(policy, priority=2000 - policy.priority)


def baseline_first(policy: Policy) -> Policy:
    return replace(policy, tier=PolicyTier.ADMIN, priority=2000) if policy.tier is PolicyTier.BASELINE else policy


def nothing_is_ungoverned(policy: Policy) -> Policy:
    return replace(policy, ingress=policy.ingress or None, egress=policy.egress or None)


def segments_are_open(world: PolicyWorld) -> PolicyWorld:
    tenants = {
        name: replace(one, isolation=Isolation.TENANT) if one.isolation is Isolation.SEGMENT else one
        for name, one in world.tenants.items()
    }
    return replace(world, tenants=tenants)


def every_host_is_this_one(world: PolicyWorld) -> PolicyWorld:
    everywhere = tuple(sorted({prefix for found in world.local.values() for prefix in found}))
    return replace(world, local=dict.fromkeys(world.local, everywhere))


def unknown_is_outside(world: PolicyWorld) -> PolicyWorld:
    return replace(world, networks={})


WORLD_ERRORS: dict[str, Callable[[PolicyWorld], PolicyWorld]] = {
    "except is forgotten": in_peers(without_exceptions),
    "NotIn needs the label": in_peers(not_in_needs_the_label),
    "namespaces' labels are forgotten": in_peers(without_tenant_labels),
    "the last port of a range is left out": in_traffic(one_port_less),
    "SCTP is taken for TCP": in_traffic(sctp_is_tcp),
    "a named port is any protocol's": in_traffic(name_in_any_protocol),
    "named ports are nothing": in_rules(names_are_nothing),
    "Pass is taken for Accept": in_rules(passing_accepts),
    "priorities are reversed": in_policies(reversed_priority),
    "baseline comes first": in_policies(baseline_first),
    "a policy without rules governs nothing": in_policies(nothing_is_ungoverned),
    "segments are open to their tenant": segments_are_open,
    "the endpoints of a host itself are those of every host": every_host_is_this_one,
    "the unknown is taken for outside": unknown_is_outside,
}


def without_addresses(program: Program) -> Program:
    rows = {
        id_: replace(row, entries={prefix: one for prefix, one in row.entries.items() if not prefix.is_address})
        for id_, row in program.rows.items()
    }
    return replace(program, rows=rows)


def without_ipv6(program: Program) -> Program:
    rows = {
        id_: replace(
            row, entries={one: name for one, name in row.entries.items() if one.family is Family.V4 or not one.length}
        )
        for id_, row in program.rows.items()
    }
    return replace(program, rows=rows)


PROGRAM_ERRORS: dict[str, Callable[[Program], Program]] = {
    "single addresses are lost": without_addresses,
    "IPv6 is forgotten": without_ipv6,
}


def found(compiling: Callable[[PolicyWorld], Program]) -> str:
    """The first difference that an error makes, in words."""
    for seed in range(WORLDS):
        made = random_world(seed)
        comparison = Comparison(made.world, made.documents, compiling)
        questions = list(comparison.questions(Random(seed), made.addresses, EACH))
        for question, said in zip(questions, comparison.verdicts(questions), strict=True):
            if not said.agree:
                return difference(made, question, compiling)
    return ""


@pytest.mark.parametrize("name", WORLD_ERRORS)
def test_an_error_in_what_is_compiled_is_found(name: str) -> None:
    assert "may " in found(lambda world: compile_program(WORLD_ERRORS[name](world)))


@pytest.mark.parametrize("name", PROGRAM_ERRORS)
def test_an_error_in_the_program_is_found(name: str) -> None:
    assert "may " in found(lambda world: PROGRAM_ERRORS[name](compile_program(world)))


def test_a_difference_is_told_with_the_one_document_that_shows_it() -> None:
    sentence = found(lambda world: compile_program(WORLD_ERRORS["SCTP is taken for TCP"](world)))
    documents = [line for line in sentence.splitlines() if line.strip().startswith("{")]
    assert len(documents) == 1
    assert "sctp" in documents[0].lower()


@pytest.mark.parametrize(
    "rules", ["flush chain inet romana egress\n", "insert rule inet romana ingress meta l4proto udp drop\n"]
)
def test_an_error_in_the_kernel_is_found(rules: str) -> None:
    def spoil(host: OneHost) -> None:
        host.nft(rules)

    assert any("the kernel" in sentence for seed in range(2, 6) for sentence in try_world(seed, spoil=spoil).wrong)


def compared(engine: Misreading) -> tuple[int, Counter[str]]:
    """How many answers of an engine are refuted, and how many its known defects explain."""
    refuted, explained = 0, Counter[str]()
    for seed in range(40):
        made = random_world(seed, KINDS, open_tenants=True)
        comparison = Comparison(made.world, made.documents, outside=engine)
        questions = list(comparison.questions(Random(seed), made.addresses, EACH))
        refuted += sum(not said.agree for said in comparison.verdicts(questions))
        explained += comparison.explained
    return refuted, explained


@pytest.mark.parametrize("name", DEFECTS)
def test_a_known_defect_of_the_engine_is_explained(name: str) -> None:
    refuted, explained = compared(Misreading(DEFECTS[name]()))
    assert refuted == 0
    assert set(explained) == {name}


def test_an_unknown_defect_of_the_engine_is_found() -> None:
    refuted, _ = compared(Misreading(NotInNeedsTheLabel(), careless=True))
    assert refuted > 100


def test_what_is_not_needed_is_left_out() -> None:
    value = [{"a": [1, 2, 3], "b": {"c": 4}}, {"d": 5}]
    assert shrunk(value, lambda one: "2" in str(one) and "c" in str(one)) == [{"a": [2], "b": {"c": 4}}]
