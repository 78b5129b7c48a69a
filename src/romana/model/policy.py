"""Policies in the one neutral form that native, Kubernetes and Romana v2 documents are all translated into."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.model.address import Address, Prefix

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PORT_PROTOCOLS = frozenset({TCP, UDP, SCTP})
"""IP protocol numbers (IANA) whose traffic is told apart by destination port."""
ICMP_PROTOCOLS = frozenset({ICMP, ICMPV6})
"""IP protocol numbers whose traffic is told apart by type * 256 + code."""
PROTOCOL_NAMES = {TCP: "tcp", UDP: "udp", SCTP: "sctp", ICMP: "icmp", ICMPV6: "icmpv6"}
"""How documents and people name them."""


class Direction(StrEnum):
    """Seen from the endpoint that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"


class PolicyTier(StrEnum):
    """Where a policy stands: tiers decide in this order, and the last word is the tenant's isolation default."""

    ADMIN = "admin"
    POLICIES = "policies"
    BASELINE = "baseline"


class Action(StrEnum):
    """What a rule does with what it matches. In the policies tier rules only accept; Pass leaves the admin tier."""

    ACCEPT = "accept"
    DENY = "deny"
    PASS = "pass"  # noqa: S105 - a verb


class Operator(StrEnum):
    """How a label requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, frozen=True):
    """One condition on a label. NotIn is also true where the label is absent (Kubernetes' rule)."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, frozen=True, kw_only=True, tag="selector"):
    """Which endpoints: all conditions must hold. None is no condition; an empty tuple of names matches nothing."""

    tenants: tuple[str, ...] | None = None
    segments: tuple[str, ...] | None = None
    tenant_labels: tuple[Requirement, ...] = ()
    labels: tuple[Requirement, ...] = ()


class CidrPeer(msgspec.Struct, frozen=True, kw_only=True, tag="cidr"):
    """Every address in `cidr` but those in `excluded`, whoever has it."""

    cidr: Prefix
    excluded: tuple[Prefix, ...] = ()

    def holds(self, address: Address) -> bool:
        """Whether the address is one of them."""
        return self.cidr.contains(address) and not any(excluded.contains(address) for excluded in self.excluded)


class HostPeer(msgspec.Struct, frozen=True, kw_only=True, tag="hosts"):
    """The hosts with one of these names (None: any) and these labels, at their own (underlay) addresses."""

    labels: tuple[Requirement, ...] = ()
    names: tuple[str, ...] | None = None


class LocalPeer(msgspec.Struct, frozen=True, kw_only=True, tag="local"):
    """The endpoints of the very host that the policy is about; nobody, where it is about endpoints."""


Peer = Selector | CidrPeer | HostPeer | LocalPeer


class Traffic(msgspec.Struct, frozen=True):
    """A protocol (IANA number, None for any) and an inclusive range: destination ports, or ICMP type * 256 + code.

    With a `name` it is the port that the receiving endpoint gives that name in that protocol (None: in any); the range
    means nothing then.
    """

    protocol: int | None = None
    first: int = 0
    last: int = 65535
    name: str = ""

    def __str__(self) -> str:
        """As people write it: `any`, `tcp`, `tcp/80`, `udp/53-60`, `icmp/8` (a type), `icmp/3/4` (type and code),
        `tcp/http` (a named port).
        """
        if self.name:
            return f"{'any' if self.protocol is None else PROTOCOL_NAMES.get(self.protocol, self.protocol)}/{self.name}"
        if self.protocol is None and (self.first, self.last) == (0, 65535):
            return "any"
        name = "any" if self.protocol is None else PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        if (self.first, self.last) == (0, 65535):
            return name
        if self.protocol in ICMP_PROTOCOLS:
            kind, code = divmod(self.first, 256)
            if self.first == self.last:
                return f"{name}/{kind}/{code}"
            if (self.first, self.last) == (kind * 256, kind * 256 + 255):
                return f"{name}/{kind}"
        return f"{name}/{self.first}" if self.first == self.last else f"{name}/{self.first}-{self.last}"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule of a policy is about: these peers (None: anyone), this traffic (empty: all); and what it does."""

    peers: tuple[Peer, ...] | None = None
    traffic: tuple[Traffic, ...] = ()
    action: Action = Action.ACCEPT
    name: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """In the policies tier, endpoints that any of `subjects` selects accept, in a governed direction, only what some
    policy's rule accepts; so do `hosts` for their own traffic. In the admin and baseline tiers the first rule that
    matches decides, policies with the lower `priority` first, those of equal priority by id.

    A direction that is None is not governed by this policy; an empty tuple governs it and accepts nothing. A `staged`
    policy decides nothing: where it would, connections are told of. `kind` and `document` say what it was translated
    from (the document is JSON text, as it came).
    """

    id: str
    kind: str
    subjects: tuple[Selector, ...]
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None
    description: str = ""
    document: str = ""
    tier: PolicyTier = PolicyTier.POLICIES
    priority: int = 0
    hosts: tuple[HostPeer, ...] = ()
    staged: bool = False

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """Its rules in a direction, None when it does not govern it."""
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def names_local(self) -> bool:
        """Whether a rule is about the endpoints of each host itself."""
        rules = (*(self.ingress or ()), *(self.egress or ()))
        return any(isinstance(peer, LocalPeer) for rule in rules for peer in rule.peers or ())


class Failsafe(msgspec.Struct, frozen=True):
    """What no policy about hosts can close: protocols with their destination ports, by direction."""

    ingress: tuple[tuple[int, int], ...] = ()
    egress: tuple[tuple[int, int], ...] = ()

    def of(self, direction: Direction) -> tuple[tuple[int, int], ...]:
        """That of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


NO_FAILSAFE = Failsafe()
