"""The judge is judged: a run in which all went well has no fault, and each planted bug is found."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.history import (
    Final,
    Held,
    History,
    Operation,
    Outcome,
    Seen,
    ServerSeen,
    Verb,
    open_ends,
    present,
)
from tests.faults.judge import judge

HOSTS = ("h1", "h2", "h3")
REST = 5.0
replace = msgspec.structs.replace


class Plane:
    """A data centre that makes no mistakes: each host has two blocks of its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.operations: list[Operation] = []
        self.held: dict[tuple[str, str], str] = {}
        self.free = {host: [f"10.0.{at}.{number}" for number in range(16)] for at, host in enumerate(HOSTS)}
        self.resting: list[tuple[float, str, str]] = []

    def run(self, steps: int) -> History:
        for _ in range(steps):
            host = self.random.choice(HOSTS)
            self.step(host, f"c{self.random.randrange(6)}", self.random.choice((Verb.ADD, Verb.ADD, Verb.DEL)))
        return self.history()

    def step(self, host: str, container: str, verb: Verb) -> None:
        invoked = self.tick()
        for entry in [entry for entry in self.resting if entry[0] + REST <= self.now]:
            self.resting.remove(entry)
            self.free[entry[1]].append(entry[2])
        outcome = self.random.choices(list(Outcome), (8, 1, 1))[0]
        happens = outcome is Outcome.DONE or (outcome is Outcome.UNKNOWN and self.random.random() < 0.5)
        place = (host, container)
        if verb is Verb.ADD and place not in self.held and not self.free[host]:
            outcome, happens = Outcome.FAILED, False
        if happens and verb is Verb.ADD and place not in self.held:
            self.held[place] = self.free[host].pop(0)
        elif happens and verb is Verb.DEL and place in self.held:
            self.resting.append((self.tick(), host, self.held.pop(place)))
        told = (self.held[place],) if verb is Verb.ADD and outcome is Outcome.DONE else ()
        self.operations.append(
            Operation(
                verb=verb,
                host=host,
                container=container,
                invoked=invoked,
                ended=self.tick(),
                outcome=outcome,
                addresses=told,
            )
        )

    def tick(self) -> float:
        self.now += self.random.uniform(0.01, 0.5)
        return self.now

    def history(self) -> History:
        hosts = {}
        endpoints: dict[str, dict[str, tuple[str, ...]]] = {}
        for at, host in enumerate(HOSTS):
            mine = {container: address for (place, container), address in self.held.items() if place == host}
            endpoints[host] = {container: (address,) for container, address in mine.items()}
            hosts[host] = Seen(
                endpoints=endpoints[host],
                links=frozenset(mine),
                routed={address: container for container, address in mine.items()},
                in_use=len(mine),
                spans=frozenset({f"10.0.{at}.0/28"}),
                blocks=frozenset({f"10.0.{at}.0/29", f"10.0.{at}.8/29"}),
            )
        spans = tuple(Held(cidr=f"10.0.{at}.0/28", host=host) for at, host in enumerate(HOSTS))
        blocks = tuple(
            Held(cidr=f"10.0.{at}.{first}/29", host=host, span=f"10.0.{at}.0/28")
            for at, host in enumerate(HOSTS)
            for first in (0, 8)
        )
        server = ServerSeen(endpoints=endpoints, hosts=frozenset(HOSTS), spans=spans, blocks=blocks)
        return History(operations=tuple(self.operations), final=Final(hosts=hosts, server=server), rest=REST)


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 120))
def test_a_run_without_mistakes_has_no_fault(seed: int, steps: int) -> None:
    history = Plane(seed).run(steps)
    assert judge(history) == []
    assert set(present(history.operations)).isdisjoint(open_ends(history.operations))


def one(
    verb: Verb, container: str, at: float, *addresses: str, host: str = "h1", outcome: Outcome = Outcome.DONE
) -> Operation:
    return Operation(
        verb=verb,
        host=host,
        container=container,
        invoked=at,
        ended=at + 0.1,
        outcome=outcome,
        addresses=addresses,
    )


def made_of(*operations: Operation, rest: float = 0.0, final: Final | None = None) -> History:
    """A run whose end is as the story says, unless told otherwise."""
    hosts: dict[str, dict[str, tuple[str, ...]]] = {host: {} for host in HOSTS}
    for (host, container), addresses in present(operations).items():
        hosts[host][container] = addresses
    seen = {
        host: Seen(
            endpoints=endpoints,
            links=frozenset(endpoints),
            routed={address: container for container, addresses in endpoints.items() for address in addresses},
        )
        for host, endpoints in hosts.items()
    }
    held = tuple(Held(cidr="10.0.0.0/24", host="h1", span="10.0.0.0/24") for _ in range(1))
    known = replace(seen["h1"], spans=frozenset({"10.0.0.0/24"}), blocks=frozenset({"10.0.0.0/24"}))
    server = ServerSeen(endpoints=hosts, hosts=frozenset(HOSTS), spans=held, blocks=held)
    whole = Final(hosts={**seen, "h1": known}, server=server)
    return History(operations=operations, final=final or whole, rest=rest)


def found(history: History) -> set[str]:
    return {fault.promise for fault in judge(history)}


ADD, DEL, CLAIM = Verb.ADD, Verb.DEL, Verb.CLAIM


def test_an_address_of_two_endpoints_at_once_is_found() -> None:
    assert "twice" in found(made_of(one(ADD, "a", 1, "10.0.0.1"), one(ADD, "b", 2, "10.0.0.1")))
    elsewhere = one(ADD, "a", 2, "10.0.0.1", host="h2")
    assert "twice" in found(made_of(one(ADD, "a", 1, "10.0.0.1"), elsewhere))


def test_an_overlap_that_has_ended_is_found_even_between_long_lives() -> None:
    story = (
        one(ADD, "long", 1, "10.0.0.1"),
        one(ADD, "a", 2, "10.0.0.2"),
        one(DEL, "a", 3),
        one(ADD, "b", 4, "10.0.0.1"),
        one(DEL, "b", 5),
        one(DEL, "long", 6),
    )
    assert [str(fault) for fault in judge(made_of(*story))] == [
        "twice: 10.0.0.1 was given to long on h1 (1.100 to 6.000) and to b on h1 (4.100 to 5.000)"
    ]


def test_what_nobody_was_answered_is_not_held_against_anybody() -> None:
    lost = one(DEL, "a", 2, outcome=Outcome.UNKNOWN)
    assert found(made_of(one(ADD, "a", 1, "10.0.0.1"), lost, one(DEL, "a", 3), one(ADD, "b", 4, "10.0.0.1"))) == set()
    again = made_of(one(ADD, "a", 1, "10.0.0.1"), lost, one(ADD, "a", 2.5, "10.0.0.1"), rest=5)
    assert found(again) == set()


@pytest.mark.parametrize("container", ["a", "b"])
def test_a_rest_that_was_cut_short_is_found(container: str) -> None:
    story = (one(ADD, "a", 1, "10.0.0.1"), one(DEL, "a", 2), one(ADD, container, 4, "10.0.0.1"))
    assert found(made_of(*story, rest=5)) == {"twice"}
    assert found(made_of(*story, rest=3)) == set()
    assert found(made_of(*story)) == set()


def test_a_repeated_add_with_another_answer_is_found() -> None:
    assert "lost" in found(made_of(one(ADD, "a", 1, "10.0.0.1"), one(ADD, "a", 2, "10.0.0.2")))


def test_a_cidr_that_two_hosts_were_answered_is_found() -> None:
    first = one(CLAIM, "", 1, "10.0.0.0/28")
    assert found(made_of(first, one(CLAIM, "", 2, "10.0.0.8/29", host="h2"))) == {"twice"}
    assert found(made_of(first, one(CLAIM, "", 2, "10.0.0.16/29", host="h2"))) == set()


def test_a_host_that_lost_its_memory_still_has_its_links() -> None:
    history = made_of(one(ADD, "a", 1, "10.0.0.1"))
    seen = history.final.hosts["h1"]
    forgot = replace(seen, endpoints={}, in_use=1)
    final = replace(history.final, hosts={**history.final.hosts, "h1": forgot})
    empty = replace(final, server=replace(final.server, endpoints={}))
    assert found(replace(history, final=empty)) == {"lost"}
    assert found(replace(history, final=empty, wiped={"h1": 1.5})) == set()
    assert found(replace(history, final=empty, wiped={"h1": 1.0})) == {"lost"}
    gone = replace(forgot, links=frozenset(), routed={})
    nothing = replace(empty, hosts={**empty.hosts, "h1": gone})
    assert found(replace(history, final=nothing, wiped={"h1": 1.5})) == {"lost", "leaked"}


Change = Callable[[Seen, str, str], Seen]


def without(mapping: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in mapping.items() if key != name}


PLANTED: dict[str, tuple[str, Change]] = {
    "the agent forgot it": ("lost", lambda seen, c, a: replace(seen, endpoints=without({**seen.endpoints}, c))),
    "the agent has another address": (
        "lost",
        lambda seen, c, a: replace(seen, endpoints={**seen.endpoints, c: ("9.9.9.9",)}),
    ),
    "its link is gone": (
        "lost",
        lambda seen, c, a: replace(seen, links=seen.links - {c}, routed=without({**seen.routed}, a)),
    ),
    "its route is gone": ("lost", lambda seen, c, a: replace(seen, routed=without({**seen.routed}, a))),
    "another link stays": ("leaked", lambda seen, c, a: replace(seen, links=seen.links | {"other"})),
    "another endpoint stays": (
        "leaked",
        lambda seen, c, a: replace(seen, endpoints={**seen.endpoints, "o": ("9.9.9.9",)}),
    ),
    "the book counts another address": ("leaked", lambda seen, c, a: replace(seen, in_use=2)),
    "the log is not empty": ("leaked", lambda seen, c, a: replace(seen, unpublished=1)),
    "a block that the agent does not know": ("leaked", lambda seen, c, a: replace(seen, blocks=frozenset())),
    "a span that the agent does not know": ("leaked", lambda seen, c, a: replace(seen, spans=frozenset())),
    "a block that the agent alone knows": (
        "twice",
        lambda seen, c, a: replace(seen, blocks=seen.blocks | {"10.9.0.0/29"}),
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_what_a_host_should_not_have_at_the_end_is_found(bug: str) -> None:
    promise, change = PLANTED[bug]
    history = made_of(one(ADD, "a", 1, "10.0.0.1"))
    changed = change(history.final.hosts["h1"], "a", "10.0.0.1")
    bad = replace(history, final=replace(history.final, hosts={**history.final.hosts, "h1": changed}))
    assert found(history) == set()
    assert promise in found(bad)


SERVER: dict[str, tuple[str, Callable[[ServerSeen], ServerSeen]]] = {
    "the endpoint is not published": ("lost", lambda server: replace(server, endpoints={})),
    "a released endpoint is still published": (
        "lost",
        lambda server: replace(server, endpoints={"h1": {**server.endpoints["h1"], "gone": ("10.0.0.2",)}}),
    ),
    "an endpoint is published for two hosts": (
        "twice",
        lambda server: replace(server, endpoints={**server.endpoints, "h2": {"a": ("10.0.0.1",)}}),
    ),
    "an endpoint of a failed ADD is published": (
        "leaked",
        lambda server: replace(server, endpoints={"h1": {**server.endpoints["h1"], "failed": ("10.0.0.2",)}}),
    ),
    "an endpoint lies outside of its host's blocks": (
        "leaked",
        lambda server: replace(server, blocks=(Held(cidr="10.0.0.8/29", host="h1", span="10.0.0.0/24"),)),
    ),
    "a block of nobody": (
        "leaked",
        lambda server: replace(server, blocks=(*server.blocks, Held(cidr="10.0.1.0/29", host="h9", span=""))),
    ),
    "a block outside of its span": ("leaked", lambda server: replace(server, spans=())),
    "spans that overlap": (
        "twice",
        lambda server: replace(server, spans=(*server.spans, Held(cidr="10.0.0.0/26", host="h2"))),
    ),
    "blocks of one host that overlap": (
        "twice",
        lambda server: replace(
            server, blocks=(*server.blocks, Held(cidr="10.0.0.128/25", host="h1", span="10.0.0.0/24"))
        ),
    ),
}


@pytest.mark.parametrize("bug", SERVER)
def test_what_romanad_should_not_have_at_the_end_is_found(bug: str) -> None:
    promise, change = SERVER[bug]
    history = made_of(
        one(ADD, "a", 1, "10.0.0.1"),
        one(ADD, "gone", 2, "10.0.0.2"),
        one(DEL, "gone", 3),
        one(ADD, "failed", 4, outcome=Outcome.FAILED),
    )
    bad = replace(history, final=replace(history.final, server=change(history.final.server)))
    assert found(history) == set()
    assert promise in found(bad)


def test_a_block_that_waits_for_readers_need_not_be_known_to_its_host() -> None:
    history = made_of()
    seen = replace(history.final.hosts["h1"], blocks=frozenset(), spans=frozenset())
    server = replace(history.final.server, retired=frozenset({"10.0.0.0/24"}))
    retired = replace(history.final, hosts={**history.final.hosts, "h1": seen}, server=server)
    assert found(replace(history, final=retired)) == set()


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(20, 80), st.randoms(use_true_random=False))
def test_an_address_planted_in_a_recorded_run_is_found(seed: int, steps: int, choice: random.Random) -> None:
    """The last answer to somebody who is there at the end is changed to what somebody else has there."""
    history = Plane(seed).run(steps)
    living = present(history.operations)
    answered = {(one.host, one.container): one for one in history.operations if one.addresses}
    if len(living) < 2:
        return
    victim = answered[choice.choice(sorted(living))]
    address = next(held for place, held in living.items() if place != (victim.host, victim.container))
    operations = tuple(replace(one, addresses=address) if one is victim else one for one in history.operations)
    assert found(replace(history, operations=operations)) & {"twice", "lost"}
