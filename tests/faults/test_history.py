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
    Fixed,
    Forgot,
    Held,
    History,
    Lost,
    Operation,
    Outcome,
    Seen,
    ServerSeen,
    State,
    Stories,
    Verb,
    open_ends,
    present,
)
from tests.faults.judge import judge

HOSTS = ("h1", "h2", "h3")
REST = 5.0
replace = msgspec.structs.replace


OWN_SPAN = Held(cidr="10.9.0.0/24", host="")
OWN_BLOCK = Held(cidr="10.9.0.0/29", host="", span="10.9.0.0/24")
NAMES: dict[str, tuple[str, ...]] = {"name-1": ("10.9.0.1",), "name-2": ("10.9.0.2",)}


class Plane:
    """A data centre that makes no mistakes: each host has two blocks of its own, `fixed` containers use the names, and
    a host that is declared lost gives its addresses to the next one.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.operations: list[Operation] = []
        self.held: dict[tuple[str, str], str] = {}
        self.free = {host: [f"10.0.{at}.{number}" for number in range(16)] for at, host in enumerate(HOSTS)}
        self.owner = {f"10.0.{at}": host for at, host in enumerate(HOSTS)}
        self.resting: list[tuple[float, str]] = []
        self.users: dict[str, tuple[str, str]] = {}
        self.lost: list[Lost] = []

    def run(self, steps: int) -> History:
        for _ in range(steps):
            host = self.random.choice(HOSTS)
            if self.random.random() < 0.03:
                self.lose(host)
                continue
            container = self.random.choice((*(f"c{number}" for number in range(6)), *NAMES))
            self.step(host, container, self.random.choice((Verb.ADD, Verb.ADD, Verb.DEL)))
        return self.history()

    def lose(self, host: str) -> None:
        """It stops at once; its addresses are the next host's, without a rest."""
        said = self.tick()
        other = HOSTS[(HOSTS.index(host) + 1) % len(HOSTS)]
        gone = [self.held.pop(place) for place in list(self.held) if place[0] == host]
        mine = [prefix for prefix, owner in self.owner.items() if owner == host]
        self.resting = [entry for entry in self.resting if entry[1].rpartition(".")[0] not in mine]
        self.users = {name: place for name, place in self.users.items() if place[0] != host}
        self.free[other] = [one for one in gone if one not in self.names()] + self.free[host] + self.free[other]
        self.free[host] = []
        self.owner |= dict.fromkeys(mine, other)
        self.lost.append(Lost(host=host, said=said, back=self.tick()))

    def names(self) -> set[str]:
        return {address for addresses in NAMES.values() for address in addresses}

    def rest(self) -> None:
        for entry in [entry for entry in self.resting if entry[0] + REST <= self.now]:
            self.resting.remove(entry)
            self.free[self.owner[entry[1].rpartition(".")[0]]].append(entry[1])

    def step(self, host: str, container: str, verb: Verb) -> None:
        invoked = self.tick()
        self.rest()
        outcome = self.random.choices(list(Outcome), (8, 1, 1))[0]
        happens = outcome is Outcome.DONE or (outcome is Outcome.UNKNOWN and self.random.random() < 0.5)
        place, fixed = (host, container), container in NAMES
        refused = container in self.users if fixed else not self.free[host]
        if verb is Verb.ADD and place not in self.held and refused:
            outcome, happens = Outcome.FAILED, False
        if happens and verb is Verb.ADD and place not in self.held:
            self.held[place] = NAMES[container][0] if fixed else self.free[host].pop(0)
            self.users |= {container: place} if fixed else {}
        elif happens and verb is Verb.DEL and place in self.held:
            address = self.held.pop(place)
            if fixed:
                del self.users[container]
            else:
                self.resting.append((self.tick(), address))
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
                fixed=container if fixed else "",
            )
        )

    def tick(self) -> float:
        self.now += self.random.uniform(0.01, 0.5)
        return self.now

    def history(self) -> History:
        hosts = {}
        endpoints: dict[str, dict[str, tuple[str, ...]]] = {}
        for host in HOSTS:
            mine = {container: address for (place, container), address in self.held.items() if place == host}
            endpoints[host] = {container: (address,) for container, address in mine.items()}
            hosts[host] = Seen(
                endpoints=endpoints[host],
                links=frozenset(mine),
                routed={address: container for container, address in mine.items()},
                in_use=len(mine),
                spans=frozenset(f"{prefix}.0/28" for prefix, owner in self.owner.items() if owner == host),
                blocks=frozenset(
                    f"{prefix}.{first}/29" for prefix, owner in self.owner.items() if owner == host for first in (0, 8)
                ),
            )
        spans = (*(Held(cidr=f"{prefix}.0/28", host=host) for prefix, host in self.owner.items()), OWN_SPAN)
        blocks = tuple(
            Held(cidr=f"{prefix}.{first}/29", host=host, span=f"{prefix}.0/28")
            for prefix, host in self.owner.items()
            for first in (0, 8)
        )
        fixed = tuple(
            Fixed(name=name, addresses=addresses, host=host, container=container)
            for name, addresses in NAMES.items()
            for host, container in (self.users.get(name, ("", "")),)
        )
        server = ServerSeen(
            endpoints=endpoints, hosts=frozenset(HOSTS), spans=spans, blocks=(*blocks, OWN_BLOCK), fixed=fixed
        )
        return History(
            operations=tuple(self.operations),
            final=Final(hosts=hosts, server=server),
            rest=REST,
            names=NAMES,
            lost=tuple(self.lost),
        )


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 120))
def test_a_run_without_mistakes_has_no_fault(seed: int, steps: int) -> None:
    history = Plane(seed).run(steps)
    assert judge(history) == []
    told = history.operations, history.lost
    assert set(present(*told)).isdisjoint(open_ends(*told))


def one(
    verb: Verb,
    container: str,
    at: float,
    *addresses: str,
    host: str = "h1",
    outcome: Outcome = Outcome.DONE,
    fixed: str = "",
) -> Operation:
    return Operation(
        verb=verb,
        host=host,
        container=container,
        invoked=at,
        ended=at + 0.1,
        outcome=outcome,
        addresses=addresses,
        fixed=fixed,
    )


def made_of(*operations: Operation, rest: float = 0.0, lost: tuple[Lost, ...] = ()) -> History:
    """A run whose end is as the story says."""
    hosts: dict[str, dict[str, tuple[str, ...]]] = {host: {} for host in HOSTS}
    users: dict[str, tuple[str, str]] = {}
    for (host, container), fate in Stories(operations, lost).fates.items():
        if fate.state is State.PRESENT:
            hosts[host][container] = fate.addresses
            users[fate.fixed] = (host, container)
    seen = {
        host: Seen(
            endpoints=endpoints,
            links=frozenset(endpoints),
            routed={address: container for container, addresses in endpoints.items() for address in addresses},
        )
        for host, endpoints in hosts.items()
    }
    held = Held(cidr="10.0.0.0/24", host="h1", span="10.0.0.0/24")
    known = replace(seen["h1"], spans=frozenset({"10.0.0.0/24"}), blocks=frozenset({"10.0.0.0/24"}))
    fixed = tuple(
        Fixed(name=name, addresses=addresses, host=host, container=container)
        for name, addresses in NAMES.items()
        for host, container in (users.get(name, ("", "")),)
    )
    server = ServerSeen(
        endpoints=hosts, hosts=frozenset(HOSTS), spans=(held, OWN_SPAN), blocks=(held, OWN_BLOCK), fixed=fixed
    )
    final = Final(hosts={**seen, "h1": known}, server=server)
    return History(operations=operations, final=final, rest=rest, names=NAMES, lost=lost)


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


FIRST, SECOND = NAMES["name-1"], NAMES["name-2"]


def test_a_sticky_name_moves_without_a_rest_and_is_in_one_place_at_a_time() -> None:
    story = (
        one(ADD, "a", 1, *FIRST, fixed="name-1"),
        one(DEL, "a", 2),
        one(ADD, "b", 2.2, *FIRST, host="h2", fixed="name-1"),
    )
    assert found(made_of(*story, rest=5)) == set()
    assert found(made_of(story[0], one(DEL, "a", 3), story[2], rest=5)) == {"twice"}


def test_a_rest_of_another_name_or_of_none_is_still_due() -> None:
    story = (one(ADD, "a", 1, *FIRST, fixed="name-1"), one(DEL, "a", 2), one(ADD, "b", 3, *FIRST, fixed="name-2"))
    assert "twice" in found(made_of(*story, rest=5))
    assert "twice" in found(made_of(*story[:2], one(ADD, "b", 3, *FIRST), rest=5))


def test_a_name_that_was_answered_others_addresses_is_found() -> None:
    assert "lost" in found(made_of(one(ADD, "a", 1, *SECOND, fixed="name-1")))
    assert "lost" in found(made_of(one(ADD, "a", 1, "10.0.0.1", fixed="name-3")))


def test_a_fixed_address_that_nobody_asked_for_is_found() -> None:
    assert "twice" in found(made_of(one(ADD, "a", 1, *FIRST), one(DEL, "a", 2)))


def test_what_a_lost_host_had_is_free_from_the_word_on_and_not_before() -> None:
    lost = (Lost(host="h1", said=5, back=9),)
    story = (one(ADD, "a", 1, "10.0.0.1"), one(ADD, "n", 1, *FIRST, fixed="name-1"))
    for at, promises in ((3, {"twice"}), (6, set())):
        again = (one(ADD, "b", at, "10.0.0.1", host="h2"), one(DEL, "b", at + 1, host="h2"))
        assert found(made_of(*story, *again, rest=5, lost=lost)) == promises
        moved = (one(ADD, "m", at, *FIRST, host="h2", fixed="name-1"), one(DEL, "m", at + 1, host="h2"))
        assert found(made_of(*story, *moved, rest=5, lost=lost)) == promises


def test_what_a_host_does_before_it_hears_that_it_is_lost_holds_nothing() -> None:
    lost = (Lost(host="h1", said=5, back=9),)
    late = one(ADD, "a", 6, "10.0.0.1")
    other = (one(ADD, "b", 6.5, "10.0.0.1", host="h2"), one(DEL, "b", 7, host="h2"))
    assert found(made_of(late, *other, lost=lost)) == set()
    assert "twice" in found(made_of(late, *other))
    after = one(ADD, "a", 10, "10.0.0.1")
    assert found(made_of(late, after, *other, one(ADD, "b", 11, "10.0.0.1", host="h2"), lost=lost)) >= {"twice"}


@pytest.mark.parametrize("where", ["agent", "kernel", "romanad"])
def test_what_a_lost_host_still_has_when_it_is_back_is_found(where: str) -> None:
    history = made_of(one(ADD, "a", 1, "10.0.0.1"))
    lost = made_of(*history.operations, lost=(Lost(host="h1", said=5, back=9),))
    assert found(lost) == set()
    stays = with_what_stays(lost, history, where)
    assert found(stays) >= {"lost"}


def with_what_stays(lost: History, before: History, where: str) -> History:
    """The end of a run, with what h1 had in one place before."""
    seen, old = lost.final.hosts["h1"], before.final.hosts["h1"]
    if where == "romanad":
        server = replace(lost.final.server, endpoints=before.final.server.endpoints)
        return replace(lost, final=replace(lost.final, server=server))
    seen = replace(
        seen,
        endpoints=old.endpoints if where == "agent" else seen.endpoints,
        links=old.links if where == "kernel" else seen.links,
        routed=old.routed if where == "kernel" else seen.routed,
    )
    return replace(lost, final=replace(lost.final, hosts={**lost.final.hosts, "h1": seen}))


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
    wiped = (Forgot(host="h1", until=1.5),)
    assert found(replace(history, final=empty, forgot=wiped)) == set()
    assert found(replace(history, final=empty, forgot=(Forgot(host="h1", until=1.0),))) == {"lost"}
    assert found(replace(history, final=empty, forgot=(Forgot(host="h1", since=1.2, until=1.5),))) == {"lost"}
    assert found(replace(history, final=empty, forgot=(Forgot(host="h2", until=1.5),))) == {"lost"}
    gone = replace(forgot, links=frozenset(), routed={})
    nothing = replace(empty, hosts={**empty.hosts, "h1": gone})
    assert found(replace(history, final=nothing, forgot=wiped)) == {"lost", "leaked"}


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


def reserved(server: ServerSeen, name: str, **changes: object) -> ServerSeen:
    """With another name, or another user or other addresses of one."""
    known = next((one for one in server.fixed if one.name == name), Fixed(name=name, addresses=()))
    others = tuple(one for one in server.fixed if one.name != name)
    return replace(server, fixed=(*others, replace(known, **changes)))


SERVER |= {
    "a sticky name is gone": (
        "lost",
        lambda server: replace(server, fixed=tuple(one for one in server.fixed if one.name != "name-2")),
    ),
    "a sticky name has other addresses": ("lost", lambda server: reserved(server, "name-2", addresses=("10.9.0.3",))),
    "a name is used by somebody else": ("lost", lambda server: reserved(server, "name-1", host="h2", container="a")),
    "a name is used by nobody": ("lost", lambda server: reserved(server, "name-1", host="", container="")),
    "a name is used by what is gone": (
        "leaked",
        lambda server: reserved(server, "name-2", host="h1", container="gone"),
    ),
    "a name is used by what nobody asked for": (
        "leaked",
        lambda server: reserved(server, "name-2", host="h2", container="stranger"),
    ),
    "an address of two names": ("twice", lambda server: reserved(server, "name-2", addresses=FIRST)),
    "a name that was not to stay": ("leaked", lambda server: reserved(server, "endpoint-1", addresses=("10.9.0.4",))),
    "a fixed address in no block": (
        "leaked",
        lambda server: replace(server, blocks=tuple(one for one in server.blocks if one.host)),
    ),
    "a block of romanad's own in a host's span": (
        "leaked",
        lambda server: replace(server, blocks=(*server.blocks, replace(OWN_BLOCK, span="10.0.0.0/24"))),
    ),
    "an address of a block of romanad's own that no name has": (
        "leaked",
        lambda server: replace(server, endpoints={"h1": {**server.endpoints["h1"], "a": ("10.9.0.5",)}}),
    ),
}


@pytest.mark.parametrize("bug", SERVER)
def test_what_romanad_should_not_have_at_the_end_is_found(bug: str) -> None:
    promise, change = SERVER[bug]
    history = made_of(
        one(ADD, "a", 1, "10.0.0.1"),
        one(ADD, "named", 1, *FIRST, fixed="name-1"),
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
    living = present(history.operations, history.lost)
    answered = {(one.host, one.container): one for one in history.operations if one.addresses}
    if len(living) < 2:
        return
    victim = answered[choice.choice(sorted(living))]
    address = next(held for place, held in living.items() if place != (victim.host, victim.container))
    operations = tuple(replace(one, addresses=address) if one is victim else one for one in history.operations)
    assert found(replace(history, operations=operations)) & {"twice", "lost"}
