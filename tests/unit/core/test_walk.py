"""The elements that the kernel finds, and that they say what the program says."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from romana.codec.text import parse_address
from romana.core.policy.compile import compile_program
from romana.core.policy.profile import covers
from romana.core.policy.trace import trace
from romana.core.walk import Walk, walk, walk_host
from romana.model.policy import Direction, Failsafe, Traffic
from romana.model.program import RowIds
from tests.fakes.rulesets import HTTP, WEB, endpoint, entries, view
from tests.fakes.views import view_of_world
from tests.proof.random_worlds import PROBES, random_world
from tests.unit.core.policy.evaluate import verdict

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


def host_steps(direction: Direction, peer: str, first: int, last: int) -> tuple[tuple[str, ...], bool]:
    rows = {"in_host": entries(f"10.0.0.8/29 {HTTP.id}"), "out_host": entries("0.0.0.0/0 accept")}
    state = view(rows, host_rows=RowIds("in_host", "out_host"))
    found = walk_host(
        state, direction, parse_address(peer), Traffic(6, first, last), Failsafe(ingress=((6, 22), (6, 79)))
    )
    return found.steps, found.accepted


def test_a_hosts_own_end_is_its_guard_what_none_can_close_and_its_row() -> None:
    guard, safe = "chain guard_in_host: the ingress of this host", "set failsafe_in: tcp/22 -> accept"
    block = f"map in_host_4_block29: 10.0.0.8/29 -> profile_{HTTP.id} (icmp/8, tcp/80, tcp/8000-8080, icmpv6/128)"
    nothing = "chain in_host: nothing of it is about that peer"
    assert host_steps(Direction.INGRESS, "203.0.113.1", 22, 22) == ((guard, safe), True)
    assert host_steps(Direction.INGRESS, "203.0.113.1", 22, 23) == ((guard, safe, nothing), False)
    assert host_steps(Direction.INGRESS, "10.0.0.9", 80, 80) == ((guard, block), True)
    assert host_steps(Direction.INGRESS, "10.0.0.9", 81, 81) == ((guard, block), False)
    assert host_steps(Direction.INGRESS, "10.0.0.9", 79, 80)[1]
    sent = ("chain guard_out_host: the egress of this host", "map out_host_4_range: 0.0.0.0-255.255.255.255 -> accept")
    assert host_steps(Direction.EGRESS, "203.0.113.1", 22, 22) == (sent, True)


def test_a_host_that_no_policy_governs_looks_nothing_up() -> None:
    found = walk_host(view(ROWS), Direction.INGRESS, parse_address("10.0.0.9"), WEB_HTTP, Failsafe())
    assert found == Walk((), accepted=True)


@pytest.mark.parametrize("seed", range(40))
def test_the_elements_of_hosts_say_what_the_program_says(seed: int) -> None:
    world = random_world(seed).world
    random = Random(seed)
    safe = Failsafe(*(tuple(one for one in PROBES if one[0] in (6, 17, 132) and random.random() < 0.2) for _ in "io"))
    hosts = {name: msgspec.structs.replace(one, failsafe=safe) for name, one in world.hosts.items()}
    world = msgspec.structs.replace(world, hosts=hosts)
    program = compile_program(world)
    for name, ids in program.host_rows.items():
        state = view_of_world(world, program, name)
        host = hosts[name].addresses[0]
        for peer in random.sample(random_world(seed).addresses, 20):
            if peer.family is not host.family or peer in hosts[name].addresses:
                continue
            protocol, port = random.choice(PROBES)
            traffic = Traffic(protocol, port, port)
            found = trace(world, program, peer, host, traffic).ingress
            assert walk_host(state, Direction.INGRESS, peer, traffic, safe).accepted == found.verdict
            found = trace(world, program, host, peer, traffic).egress
            assert walk_host(state, Direction.EGRESS, peer, traffic, safe).accepted == found.verdict
            assert bool(found.row) == bool(ids.egress)


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
