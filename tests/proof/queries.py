"""Questions about random worlds, and what everybody answers: the documents, the compiled program, an outside engine.

A question is what one endpoint decides about one peer's address. Who has an address is not always known; then the
documents allow a range of answers: nothing may be accepted that somebody who could be there would be denied, and, as
far as rules only accept, nothing denied that everybody would be accepted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Protocol

import msgspec

from romana.core.policy.classes import port_names
from romana.core.policy.compile import compile_program
from romana.core.policy.profile import allows
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address
from romana.model.errors import RomanaError
from romana.model.policy import ICMP_PROTOCOLS, PROTOCOL_NAMES, Direction, Traffic
from romana.model.program import Program
from romana.model.tenancy import Identity, NamedPort, Owner
from tests.proof import facts
from tests.proof.facts import Peer, Pod
from tests.proof.naive import Naive, Site
from tests.proof.random_documents import LABELS, SEGMENTS, TENANTS, Document
from tests.proof.random_worlds import PROBES, RandomWorld, world_with
from tests.proof.readings import reading
from tests.proof.shrink import shrunk


class Question(msgspec.Struct, frozen=True):
    """Whether `own`, an endpoint or a host by its name, accepts from (or sends to) an address.

    `port` is type * 256 + code for ICMP. `own_host`: the address is that of the host that the endpoint is on. `staged`:
    as if staged documents decided, too.
    """

    direction: Direction
    own: Identity | str
    peer: Address
    protocol: int
    port: int
    own_host: bool = False
    staged: bool = False

    def __str__(self) -> str:
        verb = "accept {} from {}" if self.direction is Direction.INGRESS else "send {} to {}"
        who = f"host {self.own}" if isinstance(self.own, str) else _words(self.own)
        also = " (its own host)" if self.own_host else ""
        when = ", with what is staged" if self.staged else ""
        return f"may {who} {verb.format(Traffic(self.protocol, self.port, self.port), self.peer)}{also}{when}?"


class Verdicts(msgspec.Struct, frozen=True):
    """Answers to one question: `least` and `most` bound what the documents allow, `outside` is None when it was not
    asked.
    """

    least: bool
    most: bool
    program: bool
    outside: bool | None = None

    @property
    def agree(self) -> bool:
        """Whether nobody says what another one refutes."""
        said = [one for one in (self.program, self.outside) if one is not None]
        return self.least <= min(said) and max(said) <= self.most

    def __str__(self) -> str:
        words = {False: "denied", True: "accepted", None: "not asked"}
        documents = words[self.most] if self.least == self.most else "either"
        return f"documents: {documents}, program: {words[self.program]}, outside: {words[self.outside]}"


class Outside(Protocol):
    """An engine of somebody else."""

    def answers(
        self, world: PolicyWorld, documents: Sequence[Document], asked: Sequence[tuple[Question, Identity | None]]
    ) -> list[bool]:
        """Its answers to questions, each with the peer, of which everything is known; all these documents decide."""

    def explains(self, site: Site, question: Question, peer: Identity | None, *, answer: bool) -> str:
        """The name of its known defect because of which it gives this answer; empty when there is none."""


Compile = Callable[[PolicyWorld], Program]

NEWCOMERS: tuple[Identity | None, ...] = tuple(
    Identity(owner=Owner(tenant, segment), labels={**app, **tier}, ports=ports)
    for tenant in (*TENANTS, "new")
    for segment in SEGMENTS
    for app in ({}, *({"app": one} for one in LABELS["app"]))
    for tier in ({}, *({"tier": one} for one in LABELS["tier"]))
    for ports in ((), (NamedPort("dns", 17, 53), NamedPort("http", 6, 80)))
)
"""Who may have an address before anybody hears of it, whatever the world's own endpoints are."""


class Comparison:
    """One world with its documents. `explained` counts the answers of the outside engine that a known defect of it
    explains, by its name; they are left out of the verdicts.
    """

    def __init__(
        self,
        world: PolicyWorld,
        documents: Sequence[Document],
        compiling: Compile = compile_program,
        outside: Outside | None = None,
    ) -> None:
        self.world = world
        self.documents = documents
        self.program = compiling(world)
        self.explained: Counter[str] = Counter()
        self.outside = outside
        self._site = site_of(world, documents)
        self._naive = {staged: Naive(self._site, staged=staged) for staged in (False, True)}
        self._everybody = world.all_identities()
        self._bounded = not any(port_names(world.policies.values())) and all(
            reading(one).tier == "policies" for one in documents
        )
        """Whether everybody who could come is like somebody here, so that documents say the least about an address."""

    def questions(self, random: Random, addresses: Sequence[Address], count: int) -> Iterator[Question]:
        """So many of them, half of the peers endpoints, some of the ports with a name; none when there is nobody."""
        identities = list(self._everybody.values())
        lodgers = [address for one in self.world.endpoints.values() for address in one.addresses]
        hosts = [address for one in self.world.hosts.values() for address in one.addresses]
        named = [(port.protocol, port.port) for one in identities for port in one.ports]
        for _ in range(count if identities else 0):
            own: Identity | str = random.choice(identities)
            peer = random.choice(lodgers if lodgers and random.random() < 0.5 else addresses)
            traffic = random.choice(named if named and random.random() < 0.3 else PROBES)
            chance, own_host = random.random(), False
            if chance < 0.1:
                own_host, peer = True, random.choice(hosts)
            elif chance < 0.2:
                own = random.choice(sorted(self.world.hosts))
            staged = random.random() < 0.2
            yield Question(random.choice(list(Direction)), own, peer, *traffic, own_host, staged)

    def verdicts(self, questions: Sequence[Question]) -> list[Verdicts]:
        """What everybody answers."""
        found = [self._verdicts(question) for question in questions]
        return found if self.outside is None else self._with_outside(self.outside, questions, found)

    def _verdicts(self, question: Question) -> Verdicts:
        evaluator = self._naive[question.staged]
        possible, exact = self.possible(question)
        most = all(decides(evaluator, question, one) for one in possible)
        least = most if exact else self._bounded and all(decides(evaluator, question, one) for one in self._anybody)
        return Verdicts(least, most, self._by_program(question))

    def _by_program(self, question: Question) -> bool:
        program, own = self.program, question.own
        if isinstance(own, str):
            ids = program.host_rows.get(own)
            row = program.rows.get(ids.of(question.direction)) if ids is not None else None
            if row is None:
                return True
        else:
            row = program.row(program.classes[own.id], question.direction)
            assert row is not None
        entries = row.own if question.own_host else row.entries
        found = next(entries[prefix] for prefix in question.peer.supernets() if prefix in entries)
        profile = program.profiles[found.split("~")[-1 if question.staged else 0]]
        return allows(profile, question.protocol, question.port)

    def _with_outside(
        self, outside: Outside, questions: Sequence[Question], found: Sequence[Verdicts]
    ) -> list[Verdicts]:
        """The same with the outside engine's answers, where it knows such questions and who the peer is is known."""
        result = list(found)
        for staged in (False, True):
            asked: list[tuple[int, Question, Identity | None]] = []
            for at, one in enumerate(questions):
                possible, _ = self.possible(one)
                if one.staged is staged and not isinstance(one.own, str) and not one.own_host and len(possible) == 1:
                    asked.append((at, one, possible[0]))
            if not asked:
                continue
            documents = [one for one in self.documents if staged or not reading(one).staged]
            answers = outside.answers(self.world, documents, [(question, peer) for _, question, peer in asked])
            for (at, question, peer), answer in zip(asked, answers, strict=True):
                defect = ""
                if answer != found[at].least:
                    defect = outside.explains(self._site, question, peer, answer=answer)
                if defect:
                    self.explained[defect] += 1
                else:
                    result[at] = msgspec.structs.replace(found[at], outside=answer)
        return result

    def possible(self, question: Question) -> tuple[list[Identity | None], bool]:
        """Who may have the peer's address, and whether they are all the same to the policies."""
        address = question.peer
        if question.own_host:
            return [None], True
        claimants = [one.identity for one in self.world.endpoints.values() if address in one.addresses]
        if claimants:
            return list(claimants), self._are_alike(claimants)
        if not any(network.cidr.contains(address) for network in self.world.networks.values()):
            return [None], True
        block = next((one for cidr, one in self.world.blocks.items() if cidr.contains(address)), None)
        if block is None or block.owner is None:
            return [*self._anybody, *NEWCOMERS], False
        lodgers = {
            one.identity.id
            for one in self.world.endpoints.values()
            for allocation in one.allocations
            if allocation.block == block.cidr
        }
        ids = sorted(lodgers | set(block.identities))
        if not ids or not set(ids) <= self._everybody.keys():
            return [*self._anybody, *NEWCOMERS], False
        known = [self._everybody[id_] for id_ in ids]
        return list(known), self._are_alike(known)

    def _are_alike(self, identities: Sequence[Identity]) -> bool:
        return len({self.program.classes[one.id] for one in identities}) == 1

    @property
    def _anybody(self) -> list[Identity | None]:
        return [None, *self._everybody.values()]


def difference(
    made: RandomWorld, question: Question, compiling: Compile = compile_program, outside: Outside | None = None
) -> str:
    """A question about which somebody disagrees, in words, with the fewest documents that show it."""

    def verdicts(documents: Sequence[Document]) -> Verdicts:
        return Comparison(world_with(made.world, documents), documents, compiling, outside).verdicts([question])[0]

    def disagree(documents: Sequence[Document]) -> bool:
        try:
            return not verdicts(documents).agree
        except RomanaError:
            return False  # what was left out made a document that is not valid

    documents = shrunk(list(made.documents), disagree)
    world = made.world
    known = [one for one in world.endpoints.values() if question.peer in one.addresses]
    lines = [
        str(question),
        str(verdicts(documents)),
        *(f"{question.peer} is {one.id}: {_words(one.identity)}" for one in known),
        *(
            f"tenant {one.name}: isolation {one.isolation}, own host {one.own_host}, {one.labels}"
            for one in world.tenants.values()
        ),
        f"the fewest of {len(made.documents)} documents that show it:",
        *map(json.dumps, documents),
    ]
    return "\n  ".join(lines)


def decides(evaluator: Naive, question: Question, peer: Identity | None) -> bool:
    """What the documents say when the peer is that one. An endpoint's own address is a peer's like any other here:
    that an endpoint reaches itself is no matter of rows.
    """
    way, other = question.direction.value, end_of(question.peer, peer)
    traffic = traffic_of(question.protocol, question.port)
    if isinstance(question.own, str):
        (host,) = (one for one in evaluator.site.hosts if one.name == question.own)
        return evaluator.host_decides(way, host, other, traffic)
    return evaluator.decides(way, pod_of(question.own), other, traffic, own_host=question.own_host)


def site_of(world: PolicyWorld, documents: Sequence[Document]) -> Site:
    """A world in the words of the naive evaluator."""
    tenants = {name: facts.Tenant(one.isolation.value, one.labels, one.own_host) for name, one in world.tenants.items()}
    hosts = [
        facts.Host(
            one.name,
            one.labels,
            tuple(address.text for address in one.addresses),
            tuple(map(str, world.local.get(one.name, ()))),
        )
        for one in world.hosts.values()
    ]
    return Site(documents, tenants, hosts)


def end_of(address: Address, identity: Identity | None) -> Peer:
    """One end of a connection in the words of the naive evaluator."""
    return Peer(facts.address(address.text), None if identity is None else pod_of(identity))


def pod_of(identity: Identity) -> Pod:
    """An endpoint in the words of the naive evaluator."""
    ports = tuple((one.name, PROTOCOL_NAMES[one.protocol], one.port) for one in identity.ports)
    return Pod(identity.owner.tenant, identity.owner.segment, identity.labels, ports)


def traffic_of(protocol: int, port: int) -> facts.Traffic:
    """Traffic in the words of the naive evaluator."""
    name = PROTOCOL_NAMES.get(protocol, str(protocol))
    if protocol in ICMP_PROTOCOLS:
        return facts.Traffic(name, kind=port >> 8, code=port & 255)
    return facts.Traffic(name, port)


def _words(identity: Identity) -> str:
    ports = ", ".join(f"{one.name}={Traffic(one.protocol, one.port, one.port)}" for one in identity.ports)
    return f"{identity.owner} {identity.labels}{f' ({ports})' if ports else ''}"
