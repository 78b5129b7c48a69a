"""Everything that policy depends on, as one value. Owns nothing else; knows no store and no document.

Invariant: the compiled program is a function of this value alone, whatever the order of its mappings.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Block
from romana.model.policy import Policy
from romana.model.tenancy import Identity, Tenant
from romana.model.topology import Host, Network


class Touched(msgspec.Struct):
    """What may differ between two worlds: names and ids of what came, went or changed. Endpoints and networks are
    compared anyway. `everything` is for when that is not known.
    """

    tenants: set[str] = msgspec.field(default_factory=set)
    policies: set[str] = msgspec.field(default_factory=set)
    identities: set[str] = msgspec.field(default_factory=set)
    blocks: set[Prefix] = msgspec.field(default_factory=set)
    everything: bool = False

    def join(self, other: Touched) -> None:
        """Add what else may differ."""
        self.tenants |= other.tenants
        self.policies |= other.policies
        self.identities |= other.identities
        self.blocks |= other.blocks
        self.everything = self.everything or other.everything


class PolicyWorld(msgspec.Struct, frozen=True, kw_only=True):
    """Tenants by name, policies by id, identities by id, networks by name, blocks by CIDR, endpoints by id, hosts by
    name; and by the name of a host where its endpoints live: its spans, and the fixed addresses in use there.

    Rows are compiled for `identities` and for the identities of `endpoints`. A tenant that is not listed is isolated
    by tenant and has no labels.
    """

    tenants: Mapping[str, Tenant] = {}
    policies: Mapping[str, Policy] = {}
    identities: Mapping[str, Identity] = {}
    networks: Mapping[str, Network] = {}
    blocks: Mapping[Prefix, Block] = {}
    endpoints: Mapping[str, Endpoint] = {}
    hosts: Mapping[str, Host] = {}
    local: Mapping[str, tuple[Prefix, ...]] = {}

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name, with the defaults when it is not listed."""
        return self.tenants.get(name) or Tenant(name=name)

    def strangers(self) -> dict[str, Identity]:
        """The identities that only endpoints have, by id."""
        found = {}
        for endpoint in self.endpoints.values():
            if endpoint.identity.id not in self.identities:
                found[endpoint.identity.id] = endpoint.identity
        return found

    def all_identities(self) -> dict[str, Identity]:
        """Those listed and those of endpoints, by id."""
        return {**self.strangers(), **self.identities}
