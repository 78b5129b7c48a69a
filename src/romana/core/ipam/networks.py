"""Which networks serve a request: the ones it names, or those its tenant may use.

Owns Romana v2's rule: networks that list the tenant first, then those open to all, each in the plan's order. Refuses to
know spans and addresses. Invariant: a network that lists tenants never serves another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from romana.model.address import Family
from romana.model.errors import NotFound
from romana.model.topology import Network


def candidate_networks(
    networks: Mapping[str, Network], tenant: str, named: Sequence[str] = ()
) -> dict[Family, tuple[Network, ...]]:
    """The networks to try, by family, best first; one address comes from each family.

    `networks` are those that the host has a group in. NotFound when none serves the tenant, or when a named one is not
    among them or does not serve it.
    """
    for name in named:
        if name not in networks:
            known = ", ".join(networks) or "none"
            raise NotFound(f"network {name!r} is not one that the host draws from; these are: {known}")
        if not _serves(networks[name], tenant):
            raise NotFound(f"network {name!r} does not serve tenant {tenant!r}; list the tenant in the network")
    chosen = [networks[name] for name in named] or sorted(
        (network for network in networks.values() if _serves(network, tenant)),
        key=lambda network: (not network.tenants, network.order, network.name),
    )
    if not chosen:
        known = ", ".join(networks) or "none"
        raise NotFound(f"no network serves tenant {tenant!r} here; the host draws from: {known}")
    families = sorted({network.cidr.family for network in chosen})
    return {family: tuple(network for network in chosen if network.cidr.family is family) for family in families}


def _serves(network: Network, tenant: str) -> bool:
    return not network.tenants or tenant in network.tenants
