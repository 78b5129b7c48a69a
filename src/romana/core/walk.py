"""How a host's table decides about a connection: the elements that the kernel finds, one after the other.

Owns the order of the lookups, as `core.ruleset` lays them out. Refuses to know policies. Invariant: for a connection of
an endpoint, or of a host itself, the verdict is the one that the kernel comes to with the ruleset of the same view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from romana.core.policy.profile import covers, meets, profile_from, profile_words, union
from romana.core.ruleset import (
    ACCEPT,
    DROP,
    Element,
    Kind,
    Lookup,
    Ruleset,
    desired_ruleset,
    failsafe_name,
    guard_name,
    lookups,
)
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.policy import Direction, Failsafe, Traffic
from romana.model.program import DROP as DROP_ALL
from romana.model.program import Profile, Staged, enforced_id
from romana.model.view import View


class Walk(msgspec.Struct, frozen=True):
    """The elements that were found, in words, and whether all of the traffic is accepted."""

    steps: tuple[str, ...]
    accepted: bool


def walk(
    view: View, endpoint: Endpoint, direction: Direction, address: Address, peer: Address | None, traffic: Traffic
) -> Walk:
    """What the endpoint's host finds for a connection of its address with a peer; None is the host itself."""
    ruleset = desired_ruleset(view, [endpoint])
    word = "out" if direction is Direction.EGRESS else "in"
    first = f"endpoints_{word}{address.family:d}"
    row = ruleset.maps[first].get(Element(first, address))
    if row is None:
        return Walk((f"map {first}: {address} is not there",), False)
    return _decided(ruleset, row, peer, traffic, [f"map {first}: {address} -> {row}"], DROP_ALL)


def _decided(
    ruleset: Ruleset, row: str, peer: Address | None, traffic: Traffic, before: Sequence[str], safe: Profile
) -> Walk:
    """The steps before, and that of a row, which decides about what is not `safe` by now."""
    for name, key, verdict in _found(ruleset, row, peer):
        step = f"map {name}: {key} -> {_words(ruleset, verdict)}"
        profile = ruleset.profiles.get(enforced_id(verdict))
        if isinstance(profile, Profile):
            return Walk((*before, step), covers(union(safe, profile), traffic))
        return Walk((*before, step), enforced_id(verdict) == ACCEPT)
    return Walk((*before, f"chain {row}: nothing of it is about that peer"), False)


def walk_host(view: View, direction: Direction, peer: Address, traffic: Traffic, failsafe: Failsafe) -> Walk:
    """What a host finds for a connection of its own with a peer that is not itself."""
    row = view.host_rows.of(direction)
    if not row:
        return Walk((), accepted=True)
    ruleset = desired_ruleset(view, (), failsafe)
    steps = [f"chain {guard_name(row)}: the {direction} of this host"]
    safe = DROP_ALL
    for one in (Traffic(protocol, port, port) for protocol, port in failsafe.of(direction)):
        profile = profile_from((one,))
        if meets(profile, traffic):
            steps.append(f"set {failsafe_name(direction)}: {one} -> {ACCEPT}")
            safe = union(safe, profile)
    if covers(safe, traffic):
        return Walk(tuple(steps), accepted=True)
    return _decided(ruleset, row, peer, traffic, steps, safe)


def _found(ruleset: Ruleset, row: str, peer: Address | None) -> Iterator[tuple[str, str, str]]:
    """The elements of a row that are about a peer, first the one that decides: map, key, verdict."""
    for name, lookup in lookups(ruleset.shape, (row,), common=False).items():
        if lookup.kind is Kind.OWN:
            yield from ((name, "the host itself", part.verdict) for part in ruleset.ranges[name] if peer is None)
        elif peer is not None and lookup.family is peer.family:
            yield from _looked_up(ruleset, name, lookup, peer)


def _looked_up(ruleset: Ruleset, name: str, lookup: Lookup, peer: Address) -> Iterator[tuple[str, str, str]]:
    if lookup.kind is Kind.RANGE:
        for part in ruleset.ranges[name]:
            if part.first <= peer.value <= part.last:
                first, last = (Address(peer.family, value) for value in (part.first, part.last))
                yield name, f"{first}-{last}", part.verdict
        return
    key = peer.supernet(lookup.length) if lookup.length else peer
    verdict = ruleset.maps[name].get(Element(name, key))
    if verdict is not None:
        yield name, str(key), verdict


def _words(ruleset: Ruleset, verdict: str) -> str:
    if enforced_id(verdict) in (ACCEPT, DROP):
        return verdict if "~" not in verdict else f"{enforced_id(verdict)}, staged otherwise"
    profile = ruleset.profiles[verdict]
    if isinstance(profile, Staged):
        return f"profile_{profile.enforced.id} ({profile_words(profile.enforced)}), staged otherwise"
    return f"profile_{profile.id} ({profile_words(profile)})"
