"""Statements about random worlds: what is proved no question refutes, and what is refuted a question confirms."""

from __future__ import annotations

from random import Random

import pytest

from romana.codec.statements import read_statements
from romana.core.policy.classes import classify
from romana.core.policy.compile import compile_program
from romana.core.policy.places import find_places
from romana.core.policy.profile import allows
from romana.core.policy.verify import Verifier
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address
from romana.model.errors import Invalid
from romana.model.policy import Direction, Rule
from romana.model.program import Program
from romana.model.statement import Finding
from romana.model.tenancy import Identity
from tests.proof.random_worlds import PROBES, random_world
from tests.unit.core.policy.evaluate import verdict
from tests.worlds import policy_states as states

WHO = ("tenant a", "tenant b", "segment a/web", "segment c/db", "labels app=x", "outside", "cidr 10.0.0.0/26", "anyone")


def verifier(world: PolicyWorld) -> Verifier:
    classes = classify(world)
    return Verifier(world, compile_program(world), classes, find_places(world, classes))


def passes(
    world: PolicyWorld, program: Program, source: Address, destination: Address, protocol: int, port: int
) -> bool:
    """By the program alone, with who is known to live where."""
    for direction, own, other in ((Direction.EGRESS, source, destination), (Direction.INGRESS, destination, source)):
        identity = lodger(world, own)
        if identity is not None:
            _, profile = verdict(program, direction, program.classes[identity.id], other)
            if not allows(profile, protocol, port):
                return False
    return True


def lodger(world: PolicyWorld, address: Address) -> Identity | None:
    for endpoint in world.endpoints.values():
        if address in endpoint.addresses:
            return endpoint.identity
    classes = classify(world)
    places = find_places(world, classes)
    for cidr, block in world.blocks.items():
        if cidr.contains(address) and cidr in places.at:
            return world.all_identities()[block.identities[0]] if block.identities else None
    return None


@pytest.mark.parametrize("seed", range(60))
def test_a_counterexample_is_a_connection_that_the_program_decides_so(seed: int) -> None:
    random = Random(seed)
    world = random_world(seed).world
    program = compile_program(world)
    judge = verifier(world)
    for _ in range(6):
        one, other = random.sample(WHO, 2)
        for text in (f"{one} never reaches {other}", f"{one} always reaches {other} on tcp/80"):
            finding = judge.judge(read_statements(text)[0])
            if finding.holds or "there is no" in finding.sentence:
                continue
            assert finding.source is not None
            assert finding.destination is not None
            assert finding.traffic is not None
            assert finding.traffic.protocol is not None
            asked = passes(
                world, program, finding.source, finding.destination, finding.traffic.protocol, finding.traffic.first
            )
            assert asked == ("never" in text), finding


@pytest.mark.parametrize("seed", range(60))
def test_what_is_proved_is_never_refuted_by_an_endpoint(seed: int) -> None:
    random = Random(seed)
    world = random_world(seed).world
    program = compile_program(world)
    judge = verifier(world)
    endpoints = sorted(world.endpoints.values(), key=lambda one: one.id)
    for tenant in ("a", "b", "c"):
        for other in ("a", "b", "c"):
            if not judge.judge(read_statements(f"tenant {tenant} never reaches tenant {other}")[0]).holds:
                continue
            for one in endpoints:
                for two in endpoints:
                    owners = (one.identity.owner.tenant, two.identity.owner.tenant)
                    same = one.addresses[0].family is two.addresses[0].family
                    if owners == (tenant, other) and one is not two and same:
                        protocol, port = random.choice(PROBES)
                        assert not passes(world, program, one.addresses[0], two.addresses[0], protocol, port)


@pytest.mark.parametrize("seed", range(60))
def test_accepts_only_means_nobody_else(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    judge = verifier(world)
    statement = read_statements("segment a/web accepts only tcp/80, tcp/443 from tenant b, cidr 10.0.0.0/26")[0]
    finding = judge.judge(statement)
    here = [one for one in world.endpoints.values() if str(one.identity.owner) == "a/web"]
    for endpoint in here if finding.holds else ():
        for address in made.addresses:
            if address.family is not endpoint.addresses[0].family or address in endpoint.addresses:
                continue
            identity = lodger(world, address)
            invited = (identity is not None and identity.owner.tenant == "b") or _in(address)
            for protocol, port in PROBES:
                _, profile = verdict(program, Direction.INGRESS, program.classes[endpoint.identity.id], address)
                if allows(profile, protocol, port):
                    assert invited
                    assert (protocol, port) in ((6, 80), (6, 443))


def _in(address: Address) -> bool:
    return address.family == 4 and 0x0A000000 <= address.value <= 0x0A00003F


def test_lines_that_are_no_statements_are_all_named() -> None:
    with pytest.raises(Invalid) as caught:
        read_statements("tenant a never reaches tenant b\nhello\n# fine\nsegment a never reaches outside\n")
    assert [fault.path for fault in caught.value.faults] == ["line 2", "line 4"]


def test_a_finding_says_what_it_found() -> None:
    world = random_world(1).world
    found: list[Finding] = [verifier(world).judge(one) for one in read_statements("anyone always reaches outside")]
    assert found[0].sentence


@pytest.mark.parametrize("claim", ["never reaches", "always reaches"])
def test_that_an_endpoint_reaches_itself_is_no_example(claim: str) -> None:
    there = states.endpoint("e1", states.A_DB, "10.0.7.1", "10.0.7.0/29")
    rules = () if "always" in claim else (Rule(),)
    alone = states.world(endpoints=(there,), policies=(states.policy("db", states.DB, ingress=rules),))
    (statement,) = read_statements(f"segment a/db {claim} segment a/db on tcp/80")
    assert verifier(alone).judge(statement).holds


def test_an_endpoint_in_a_block_of_one_address_is_looked_at() -> None:
    there = states.endpoint("e1", states.A_DB, "10.0.7.1", "10.0.7.1/32")
    open_ = states.policy("db", states.DB, ingress=(Rule(),))
    stock = states.world(states.block("10.0.7.1/32"), endpoints=(there,), policies=(open_,))
    (statement,) = read_statements("outside never reaches segment a/db")
    assert not verifier(stock).judge(statement).holds


@pytest.mark.parametrize(
    "text", ["segment a/dbb accepts only tcp/80 from tenant a", "outside never reaches segment a/x"]
)
def test_a_segment_that_is_not_there_proves_nothing(text: str) -> None:
    made = states.world(*states.THREE, identities=(states.A_WEB,))
    finding = verifier(made).judge(read_statements(text)[0])
    assert not finding.holds
    assert finding.sentence.startswith("there is no segment 'a/")


def test_a_statement_about_nobody_says_so() -> None:
    made = states.world(*states.THREE, identities=(states.A_WEB,))
    classes = classify(made)
    judge = Verifier(made, compile_program(made), classes, find_places(made, classes), {("a", "empty")})
    for text in ("outside never reaches segment a/empty", "labels app=none always reaches tenant a"):
        finding = judge.judge(read_statements(text)[0])
        assert finding.holds
        assert "nobody" in finding.sentence
