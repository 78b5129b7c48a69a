"""The elements that the kernel finds, and that they say what the program says."""

from __future__ import annotations

from random import Random

import pytest

from romana.codec.text import parse_address
from romana.core.policy.compile import compile_program
from romana.core.policy.evaluate import verdict
from romana.core.policy.profile import covers
from romana.core.walk import walk
from romana.model.policy import Direction, Traffic
from tests.fakes.rulesets import HTTP, WEB, endpoint, entries, view
from tests.fakes.views import view_of_world
from tests.proof.random_worlds import PROBES, random_world

WEB_HTTP = Traffic(6, 80, 80)
ROWS = {
    "in_web": entries("10.0.0.17 drop", f"10.0.0.8/29 {HTTP.id}", "192.168.0.0/16 accept"),
    "out_web": entries("0.0.0.0/0 accept"),
}


def steps(peer: str | None, traffic: Traffic = WEB_HTTP) -> tuple[tuple[str, ...], bool]:
    lodger = endpoint(1, WEB)
    state = view(ROWS, own={"in_web": f"accept~{HTTP.id}"})
    found = walk(
        state, lodger, Direction.INGRESS, lodger.addresses[0], None if peer is None else parse_address(peer), traffic
    )
    return found.steps[1:], found.accepted


def test_each_lookup_is_told() -> None:
    profile = f"profile_{HTTP.id} (icmp/8, tcp/80, tcp/8000-8080, icmpv6/128)"
    assert steps("10.0.0.17") == (("map in_web_4: 10.0.0.17 -> drop",), False)
    assert steps("10.0.0.9") == ((f"map in_web_4_block29: 10.0.0.8/29 -> {profile}",), True)
    assert steps("10.0.0.9", Traffic(6, 443, 443))[1] is False
    assert steps("192.168.7.7") == (("map in_web_4_range: 192.168.0.0-192.168.255.255 -> accept",), True)
    assert steps("203.0.113.1") == (("chain in_web: nothing of it is about that peer",), False)
    assert steps(None) == (("map in_web_own: the host itself -> accept, staged otherwise",), True)


def test_an_endpoint_that_is_not_there_is_told() -> None:
    lodger = endpoint(1, WEB)
    found = walk(view({}, identities={}), lodger, Direction.EGRESS, lodger.addresses[0], None, WEB_HTTP)
    assert found.steps == ("map endpoints_out4: 10.0.0.1 is not there",)
    assert not found.accepted


@pytest.mark.parametrize("seed", range(40))
def test_the_elements_say_what_the_program_says(seed: int) -> None:
    world = random_world(seed).world
    program = compile_program(world)
    state = view_of_world(world, program, "h1")
    here = [one for one in world.endpoints.values() if one.identity.id in state.identities]
    random = Random(seed)
    for one in here:
        for peer in random.sample(random_world(seed).addresses, 10):
            if peer.family is not one.addresses[0].family:
                continue
            protocol, port = random.choice(PROBES)
            for direction in Direction:
                traffic = Traffic(protocol, port, port)
                _, profile = verdict(program, direction, program.classes[one.identity.id], peer)
                found = walk(state, one, direction, one.addresses[0], peer, traffic)
                assert found.accepted == covers(profile, traffic)
