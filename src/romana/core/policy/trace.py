"""Why a connection is accepted or not, by the compiled program, explained by the policies behind it.

The verdict is the program's alone; the explanation names the tier, policies and rules that gave it. Owns the sentences
of `romana trace`. Knows no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from romana.core.policy.classes import classify
from romana.core.policy.compile import HOST, verdicts_for
from romana.core.policy.places import NULL_CLASS, UNKNOWN_CLASS, find_places
from romana.core.policy.profile import covers, meets, profile_from, profile_words, union
from romana.core.policy.tiers import ISOLATION, Contact, Decision, Tiers, decisions
from romana.core.policy.verdicts import Verdicts
from romana.core.policy.world import PolicyWorld
from romana.core.ruleset import failsafe_name
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Fault, Invalid
from romana.model.policy import Action, Direction, Traffic
from romana.model.program import Program, Row
from romana.model.tenancy import Isolation
from romana.model.topology import Host


class DecidingRule(msgspec.Struct, frozen=True):
    """A rule (counted from 0 within its policy and direction) that decides about some of the traffic."""

    policy: str
    rule: int
    action: Action = Action.ACCEPT


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What one end of the connection decides: egress at the source, ingress at the destination.

    `endpoint` is the id of the endpoint there, empty when there is none; then only `verdict` and `sentence` mean
    something, unless it is a host that policies govern (`row`). `tier` names the tiers that decided, `fail-safe` where
    what no policy about the host can close does; `policies` are those that govern the end in this direction; `rules`
    those of their rules that decide about some of the traffic. `matched` is the row's entry that decided (none: the
    one about the endpoint's own host), `accepts` its profile in words. `staged` says what staged policies would
    change. `steps` are the elements that the kernel finds, where a host was asked.
    """

    direction: Direction
    address: Address
    verdict: bool
    sentence: str
    endpoint: str = ""
    name: str = ""
    owner: str = ""
    class_id: str = ""
    tier: str = ""
    policies: tuple[str, ...] = ()
    rules: tuple[DecidingRule, ...] = ()
    row: str = ""
    matched: Prefix | None = None
    profile: str = ""
    accepts: str = ""
    staged: str = ""
    steps: tuple[str, ...] = ()


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A connection's verdict (accepted only when both ends accept all of the traffic) and both ends' reasons."""

    source: Address
    destination: Address
    traffic: Traffic
    verdict: bool
    egress: End
    ingress: End

    def lines(self) -> list[str]:
        """The trace for a person, one fact a line."""
        return [
            f"{self.traffic} from {_end_name(self.egress)} to {_end_name(self.ingress)}: {_word(self.verdict)}",
            *_end_lines("sender", self.egress),
            *_end_lines("receiver", self.ingress),
        ]


def trace(
    world: PolicyWorld, program: Program, source: Endpoint | Address, destination: Endpoint | Address, traffic: Traffic
) -> Trace:
    """Explain a connection. An address that an endpoint has stands for it; Invalid when the ends share no family.

    Between two endpoints with addresses of both families the IPv4 addresses are meant.
    """
    tracer = _Tracer(world, program, traffic)
    from_address, to_address = _common_family(source, destination)
    sender, receiver = tracer.endpoint(source, from_address), tracer.endpoint(destination, to_address)
    if sender is not None and sender == receiver:
        egress, ingress = (tracer.itself(direction, sender, from_address) for direction in _BOTH)
    else:
        egress = tracer.end(Direction.EGRESS, sender, from_address, to_address)
        ingress = tracer.end(Direction.INGRESS, receiver, to_address, from_address)
    return Trace(
        source=from_address,
        destination=to_address,
        traffic=traffic,
        verdict=egress.verdict and ingress.verdict,
        egress=egress,
        ingress=ingress,
    )


FAILSAFE = "fail-safe"
"""Stands for a tier where what no policy can close decides."""
_BOTH = (Direction.EGRESS, Direction.INGRESS)


class _Tracer:
    """What explaining both ends needs."""

    def __init__(self, world: PolicyWorld, program: Program, traffic: Traffic) -> None:
        self._world = world
        self._program = program
        self._traffic = traffic
        self._classes = classify(world)
        self._places = find_places(world, self._classes)

    def endpoint(self, end: Endpoint | Address, address: Address) -> Endpoint | None:
        if isinstance(end, Endpoint):
            return end
        found = (one for one in self._world.endpoints.values() if address in one.addresses)
        return min(found, key=lambda one: one.id, default=None)

    def itself(self, direction: Direction, endpoint: Endpoint, address: Address) -> End:
        sentence = "an endpoint always reaches itself"
        return _end(direction, address, endpoint, verdict=True, sentence=sentence)

    def end(self, direction: Direction, endpoint: Endpoint | None, address: Address, peer: Address) -> End:
        if endpoint is None:
            return self._no_endpoint(direction, address, peer)
        class_id = self._program.classes.get(endpoint.identity.id)
        if class_id is None:
            sentence = "the program does not know this endpoint's identity yet, so it has no rows"
            return _end(direction, address, endpoint, verdict=False, sentence=sentence)
        row = self._program.rows[self._program.row_ids[class_id].of(direction)]
        host = self._world.hosts.get(endpoint.host)
        own = host is not None and peer in host.addresses
        one = self._classes.by_id.get(self._classes.of.get(endpoint.identity.id, ""))
        isolation = None if one is None else one.isolation
        return _end(
            direction,
            address,
            endpoint,
            class_id=class_id,
            **self._decided(row, peer, "" if one is None else one.id, own=own, isolation=isolation),
        )

    def _no_endpoint(self, direction: Direction, address: Address, peer: Address) -> End:
        host = next((one for one in self._world.hosts.values() if address in one.addresses), None)
        ids = self._program.host_rows.get(host.name) if host is not None else None
        if host is not None and peer in host.addresses:
            sentence = "a host always reaches itself"
            return End(direction=direction, address=address, name=host.name, verdict=True, sentence=sentence)
        if host is not None and ids is not None and ids.of(direction):
            row = self._program.rows[ids.of(direction)]
            found = self._decided(row, peer, f"{HOST}{host.name}", own=False, isolation=None)
            found |= self._failsafe(host, row, found)
            return End(direction=direction, address=address, name=host.name, **found)
        if host is not None:
            sentence = f"no policy governs {direction} of host {host.name}"
            return End(direction=direction, address=address, name=host.name, verdict=True, sentence=sentence)
        networks = [one.name for one in self._world.networks.values() if one.cidr.contains(address)]
        if networks:
            sentence = f"no endpoint has this address of network {min(networks)}"
        else:
            sentence = "outside of all networks; not decided here"
        return End(direction=direction, address=address, verdict=not networks, sentence=sentence)

    def _failsafe(self, host: Host, row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
        """What differs at a host's end because of what no policy can close there."""
        where = f"its agent's `[host] {failsafe_name(row.direction)}`"
        if host.failsafe is None:
            more = "" if found["verdict"] else f"; what {where} lists passes all the same"
            return {"sentence": f"{found['sentence']}{more}"}
        listed = [Traffic(protocol, port, port) for protocol, port in host.failsafe.of(row.direction)]
        named = [one for one in listed if meets(profile_from((one,)), self._traffic)]
        if not named:
            return {}
        safe = profile_from(named)
        words = f"no policy closes {', '.join(sorted(map(str, named)))}, which {where} lists"
        if covers(safe, self._traffic):
            return {"verdict": True, "sentence": words, "tier": FAILSAFE, "rules": (), "staged": ""}
        if not found["verdict"] and covers(union(safe, self._program.profiles[found["profile"]]), self._traffic):
            return {"verdict": True, "sentence": f"{words}; {found['sentence']}"}
        return {}

    def _decided(self, row: Row, peer: Address, who: str, *, own: bool, isolation: Isolation | None) -> dict[str, Any]:
        """What a row says about a peer, and why; `who` it is about as `verdicts_for` names it, empty when unknown."""
        entries = row.own if own else row.entries
        matched = next(prefix for prefix in peer.supernets() if prefix in entries)
        profile = self._program.profile(entries[matched])
        accepted = covers(profile, self._traffic)
        tier = ""
        rules: tuple[DecidingRule, ...] = ()
        sentence = "the state behind the program has no such identity any more"
        if who:
            verdicts = verdicts_for(self._world, self._classes, who, row.direction)
            tier, rules, sentence = self._explain(verdicts, peer, own=own, accepted=accepted, isolation=isolation)
        return {
            "verdict": accepted,
            "sentence": sentence,
            "tier": tier,
            "policies": row.policies,
            "rules": rules,
            "row": row.id,
            "matched": None if own else matched,
            "profile": profile.id,
            "accepts": profile_words(profile),
            "staged": self._staged(row, entries[matched], accepted=accepted),
        }

    def _staged(self, row: Row, found: str, *, accepted: bool) -> str:
        """What staged policies would change for this traffic."""
        planned = covers(self._program.profiles[found.rpartition("~")[2]], self._traffic)
        if planned == accepted:
            return ""
        return f"would be {'accepted' if planned else 'denied'} if {', '.join(row.staged)} were in force"

    def _explain(
        self, verdicts: Verdicts, peer: Address, *, own: bool, accepted: bool, isolation: Isolation | None
    ) -> tuple[str, tuple[DecidingRule, ...], str]:
        tiers = verdicts.tiers
        class_id = NULL_CLASS if own else self._places.class_of(peer)
        matched = verdicts.matches(class_id, verdicts.inside(peer))
        ports = verdicts.receiver_ports(class_id)
        contact = Contact(matched, ports, is_own_host=own)
        found = [one for one in decisions(tiers, contact) if meets(one.profile, self._traffic)]
        rules = tuple(
            DecidingRule(clause.policy, clause.rule, clause.action)
            for clause in (tiers.clauses[place] for place in _behind(tiers, found, matched))
            if clause.policy and not clause.staged and meets(profile_from(clause.traffic, ports), self._traffic)
        )
        names = list(dict.fromkeys(one.tier for one in found)) or [ISOLATION]
        if class_id == UNKNOWN_CLASS and not accepted and not verdicts.null_is_least:
            sentence = "nobody is known to have that address, and some who could are refused"
        elif own and (accepted or not rules) and (tiers.own_host or names == [ISOLATION]):
            sentence = _own_host_sentence(accepted=accepted)
        else:
            sentence = _sentence(tiers, rules, isolation, names, accepted=accepted)
        return ", ".join(names), rules, sentence


def _own_host_sentence(*, accepted: bool) -> str:
    if accepted:
        return "an endpoint and the host that it is on reach each other, as its tenant says (`own_host`)"
    return "no policy accepts it, and its tenant does not say that it and its own host reach each other (`own_host`)"


def _behind(tiers: Tiers, found: Iterable[Decision], matched: Iterable[int]) -> list[int]:
    """The clauses (by place) behind decisions."""
    places: list[int] = []
    for one in found:
        if one.clause is not None:
            places.append(one.clause)
        elif one.action is Action.ACCEPT:
            places += [place for place in sorted(matched) if tiers.clauses[place].tier == one.tier]
    return places


def _sentence(
    tiers: Tiers, rules: Sequence[DecidingRule], isolation: Isolation | None, names: Sequence[str], *, accepted: bool
) -> str:
    if names == [ISOLATION] and isolation is None:
        return "no rule is about it, and policies about hosts close only what their rules close"
    if names == [ISOLATION]:
        default = "default for sending" if tiers.direction is Direction.EGRESS else f"isolation default `{isolation}`"
        return f"no policy governs it; its {default} {'accepts' if accepted else 'does not accept'} this"
    accepting = [one for one in rules if one.action is Action.ACCEPT]
    denying = [one for one in rules if one.action is Action.DENY]
    if accepted:
        return "; ".join(f"rule {one.rule} of policy {one.policy} accepts it" for one in accepting)
    if denying:
        return "; ".join(f"rule {one.rule} of policy {one.policy} denies it" for one in denying)
    if accepting:
        return (
            f"only a part of it is accepted, by {', '.join(f'rule {r.rule} of policy {r.policy}' for r in accepting)}"
        )
    whose = "it" if len(tiers.policies) == 1 else "them"
    return f"selected by {', '.join(tiers.policies)}, and no rule of {whose} accepts it"


def _end(direction: Direction, address: Address, endpoint: Endpoint, **decided: Any) -> End:
    return End(
        direction=direction,
        address=address,
        endpoint=endpoint.id,
        name=endpoint.name,
        owner=str(endpoint.identity.owner),
        **decided,
    )


def _common_family(source: Endpoint | Address, destination: Endpoint | Address) -> tuple[Address, Address]:
    from_addresses, to_addresses = (
        one.addresses if isinstance(one, Endpoint) else (one,) for one in (source, destination)
    )
    for one in from_addresses:
        for other in to_addresses:
            if one.family is other.family:
                return one, other
    raise Invalid(
        Fault("destination", "has no address of a family that the source has; name two of the same IP version")
    )


def _end_name(end: End) -> str:
    return f"{end.name} ({end.address})" if end.name else str(end.address)


def _word(accepted: bool) -> str:
    return "ACCEPTED" if accepted else "DROPPED"


def _end_lines(role: str, end: End) -> list[str]:
    lines = [f"{role}: {end.direction} of {_end_name(end)}: {_word(end.verdict)}", f"  why: {end.sentence}"]
    if not end.row:
        return lines
    return [
        *lines,
        *((f"  staged: {end.staged}",) if end.staged else ()),
        f"  who: {end.owner}, class {end.class_id}" if end.endpoint else f"  who: host {end.name}",
        f"  tier: {end.tier}" + (f", policies: {', '.join(end.policies)}" if end.policies else ""),
        f"  program: row {end.row}, entry {end.matched or 'own host'}, profile {end.profile} ({end.accepts})",
        *(f"  kernel: {step}" for step in end.steps),
    ]
