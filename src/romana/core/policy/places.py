"""Where classes live: which block, or which single address, means which class.

Owns the rule that not knowing can only deny: what is not listed here belongs to the null class. Knows no rules of
policies. Invariant: a block is listed only when it has an owner and all its identities are of one class.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from romana.core.policy.classes import Classes
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Family, Prefix

NULL_CLASS = ""
"""The class of an address that belongs to no known identity; no selector matches it."""

UNKNOWN_CLASS = "?"
"""The class of an address of a network of which it is not known who has it: whoever could live there."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Class ids by prefix (whole blocks, and addresses of endpoints in other blocks), and the same by class.

    `nested` are those inside another one: they must be told from what covers them in every row. `networks` are the
    CIDRs of all networks.
    """

    at: dict[Prefix, str]
    by_class: dict[str, tuple[Prefix, ...]]
    nested: tuple[Prefix, ...]
    networks: tuple[Prefix, ...] = ()

    def class_of(self, address: Address) -> str:
        """The class an address counts as; when nothing is known of it UNKNOWN_CLASS in a network, else NULL_CLASS."""
        for prefix in address.supernets():
            class_id = self.at.get(prefix)
            if class_id is not None:
                return class_id
        return UNKNOWN_CLASS if any(network.contains(address) for network in self.networks) else NULL_CLASS


def find_places(world: PolicyWorld, classes: Classes) -> Places:
    """All blocks of one class, and the addresses of all endpoints outside them."""
    lodgers: dict[Prefix, set[str]] = {}
    for endpoint in world.endpoints.values():
        for allocation in endpoint.allocations:
            lodgers.setdefault(allocation.block, set()).add(classes.of[endpoint.identity.id])
    at: dict[Prefix, str] = {}
    for cidr, block in world.blocks.items():
        found = {classes.of.get(identity, NULL_CLASS) for identity in block.identities} | lodgers.get(cidr, set())
        if block.owner is not None and len(found) == 1 and NULL_CLASS not in found:
            at[cidr] = found.pop()
    places = _places(at | _addresses(world, classes, at))
    return msgspec.structs.replace(places, networks=tuple(sorted(one.cidr for one in world.networks.values())))


def in_order(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """Sorted so that a prefix comes right before everything inside it."""
    return sorted(prefixes, key=lambda prefix: (prefix.family, prefix.value, prefix.length))


def whole_space(family: Family) -> Prefix:
    """All addresses of a family."""
    return Prefix(family, 0, 0)


def _addresses(world: PolicyWorld, classes: Classes, blocks: dict[Prefix, str]) -> dict[Prefix, str]:
    """Addresses that need an entry of their own. One that two endpoints of different classes claim is not known."""
    found: dict[Prefix, str] = {}
    for endpoint in world.endpoints.values():
        class_id = classes.of[endpoint.identity.id]
        for allocation in endpoint.allocations:
            if allocation.block in blocks and allocation.block.contains(allocation.address):
                continue
            address = Prefix(allocation.address.family, allocation.address.value, allocation.address.length)
            found[address] = class_id if found.get(address, class_id) == class_id else UNKNOWN_CLASS
    return found


def _places(at: dict[Prefix, str]) -> Places:
    by_class: dict[str, list[Prefix]] = {}
    nested = []
    cover: Prefix | None = None
    ordered = in_order(at)
    for prefix in ordered:
        by_class.setdefault(at[prefix], []).append(prefix)
        if cover is not None and cover.contains(prefix):
            nested.append(prefix)
        else:
            cover = prefix
    return Places(
        at={prefix: at[prefix] for prefix in ordered},
        by_class={class_id: tuple(prefixes) for class_id, prefixes in sorted(by_class.items())},
        nested=tuple(nested),
    )
