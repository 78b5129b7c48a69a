"""Which identities a selector matches. Knows no addresses: what has no identity matches no selector.

The meaning of the operators is that of Kubernetes' label selectors (apimachinery, `LabelSelectorRequirement`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from romana.model.policy import HostPeer, Operator, Requirement, Selector
from romana.model.tenancy import Identity, Tenant
from romana.model.topology import Host

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that every tenant has, with its name as the value, as every Kubernetes namespace has."""


def matches(selector: Selector, identity: Identity, tenant: Tenant) -> bool:
    """Whether all conditions hold for an endpoint of that identity; `tenant` is the identity's own."""
    owner = identity.owner
    return (
        (selector.tenants is None or owner.tenant in selector.tenants)
        and (selector.segments is None or owner.segment in selector.segments)
        and all(holds(requirement, identity.labels) for requirement in selector.labels)
        and (not selector.tenant_labels or _tenant_matches(selector, tenant))
    )


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether one requirement holds for some labels."""
    value = labels.get(requirement.key)
    if requirement.operator is Operator.IN:
        return value is not None and value in requirement.values
    if requirement.operator is Operator.NOT_IN:
        return value is None or value not in requirement.values
    return (value is not None) == (requirement.operator is Operator.EXISTS)


def selects(peer: HostPeer, host: Host) -> bool:
    """Whether a host is one of those that are meant."""
    named = peer.names is None or host.name in peer.names
    return named and all(holds(one, host.labels) for one in peer.labels)


def canonical(selector: Selector) -> Selector:
    """The same selector with its parts in order and none twice, so that equal wording in another order is equal."""
    return Selector(
        tenants=None if selector.tenants is None else tuple(sorted(set(selector.tenants))),
        segments=None if selector.segments is None else tuple(sorted(set(selector.segments))),
        tenant_labels=_ordered(selector.tenant_labels),
        labels=_ordered(selector.labels),
    )


def is_unconditional(selector: Selector) -> bool:
    """Whether it matches every identity there can be, and so tells nothing apart."""
    return selector == Selector()


def selector_text(selector: Selector) -> str:
    """A canonical selector as text that is the same everywhere, for hashing and sorting."""
    return msgspec.json.encode(selector).decode()


def _tenant_matches(selector: Selector, tenant: Tenant) -> bool:
    labels = {**tenant.labels, NAME_LABEL: tenant.name}
    return all(holds(requirement, labels) for requirement in selector.tenant_labels)


def _ordered(requirements: tuple[Requirement, ...]) -> tuple[Requirement, ...]:
    tidy = {Requirement(one.key, one.operator, tuple(sorted(set(one.values)))) for one in requirements}
    return tuple(sorted(tidy, key=lambda one: (one.key, one.operator, one.values)))
