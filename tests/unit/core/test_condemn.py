"""Live connections are judged as the rows judge new ones."""

from __future__ import annotations

from random import Random

import pytest

from romana.codec.text import parse_address
from romana.core.condemn import Judgement, rows_in_use
from romana.core.policy.compile import compile_program
from romana.core.policy.profile import allows
from romana.model.address import Address
from romana.model.policy import Direction, Failsafe
from romana.model.program import RowIds
from tests.fakes.rulesets import STORE, WEB, endpoint, entries, view
from tests.fakes.views import view_of_world
from tests.proof.random_worlds import PROBES, random_world
from tests.unit.core.policy.evaluate import verdict


@pytest.mark.parametrize("seed", range(40))
def test_a_connection_is_accepted_as_the_program_accepts_it(seed: int) -> None:
    made = random_world(seed)
    world = made.world
    program = compile_program(world)
    state = view_of_world(world, program, "h1")
    here = [one for one in world.endpoints.values() if one.identity.id in state.identities]
    judgement = Judgement(state, here)
    random = Random(seed)
    for one in here:
        for peer in random.sample(made.addresses, min(15, len(made.addresses))):
            others = [other for other in world.endpoints.values() if peer in other.addresses]
            if peer.family is not one.addresses[0].family or others:
                continue
            protocol, port = random.choice(PROBES)
            _, profile = verdict(program, Direction.EGRESS, program.classes[one.identity.id], peer)
            assert judgement.accepts(one.addresses[0], peer, protocol, port) == allows(profile, protocol, port)
            _, profile = verdict(program, Direction.INGRESS, program.classes[one.identity.id], peer)
            assert judgement.accepts(peer, one.addresses[0], protocol, port) == allows(profile, protocol, port)


def test_an_endpoint_without_rows_accepts_nothing_but_itself() -> None:
    lodger = endpoint(1, WEB)
    judgement = Judgement(view({}, identities={}), [lodger])
    own, other = parse_address("10.0.0.1"), parse_address("10.0.0.2")
    assert not judgement.accepts(own, other, 6, 80)
    assert not judgement.accepts(other, own, 6, 80)
    assert judgement.accepts(own, own, 6, 80)
    assert judgement.accepts(other, other, 6, 80)


def test_what_decides_for_an_endpoint_is_the_same_until_its_rows_say_something_else() -> None:
    one, other = endpoint(1, WEB), endpoint(65, STORE)
    rows = {name: entries("10.0.0.0/8 accept") for name in ("in_web", "out_web", "in_store", "out_store")}
    before = rows_in_use(view(rows), [one, other])
    assert rows_in_use(view({**rows, "in_more": entries()}), [one, other]) == before
    after = rows_in_use(view({**rows, "in_store": entries()}), [one, other])
    assert after[one.id] == before[one.id]
    assert after[other.id] != before[other.id]


@pytest.mark.parametrize("reverse", [False, True], ids=["as it began", "picked up in the middle, by a reply"])
def test_no_policy_about_hosts_ends_a_connection_that_none_can_close(reverse: bool) -> None:
    rows = {"in_host": entries(), "out_host": entries()}
    host, other = parse_address("192.0.2.1"), parse_address("198.51.100.1")
    safe = Failsafe(ingress=((6, 22),), egress=((6, 9600),))
    judgement = Judgement(view(rows, host_rows=RowIds("in_host", "out_host")), [], [host], safe)

    def accepts(client: Address, server: Address, port: int) -> bool:
        if reverse:
            return judgement.accepts(server, client, 6, 47862, source_port=port)
        return judgement.accepts(client, server, 6, port, source_port=47862)

    assert accepts(host, other, 9600)
    assert accepts(other, host, 22)
    assert not accepts(host, other, 22)
    assert not accepts(other, host, 9600)
    assert not accepts(other, host, 80)
