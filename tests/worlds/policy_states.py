"""Named whole states for policy: what a world is, and the rows it must have, both to be read by people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from romana.codec.text import parse_address, parse_prefix
from romana.core.policy.world import PolicyWorld
from romana.model.address import Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Block
from romana.model.policy import TCP, CidrPeer, Operator, Policy, Requirement, Rule, Selector, Traffic
from romana.model.tenancy import Identity, Isolation, Owner, Tenant
from romana.model.topology import Network

Rows = Mapping[str, Mapping[str, str]]
"""Entries with profiles in words, by `ingress of OWNER` or `egress of OWNER` (with labels after it, if it has any)."""

OPEN = {"0.0.0.0/0": "accept", "::/0": "accept"}
CLOSED = {"0.0.0.0/0": "drop", "::/0": "drop"}
HTTP = (Traffic(TCP, 80, 80),)


class State(msgspec.Struct, frozen=True):
    """A world and the rows that matter in it."""

    world: PolicyWorld
    rows: Rows


def identity(owner: str, **labels: str) -> Identity:
    tenant, segment = owner.split("/")
    return Identity(owner=Owner(tenant, segment), labels=labels)


def block(cidr: str, *lodgers: Identity, owner: str | None = None) -> Block:
    """A block of its first lodger's owner; `owner` "" is none."""
    prefix = parse_prefix(cidr)
    of = lodgers[0].owner if lodgers and owner is None else None
    ids = tuple(one.id for one in lodgers)
    return Block(cidr=prefix, span=prefix, network="n", host="h1", allocator="h1", owner=of, identities=ids)


def endpoint(name: str, who: Identity, address: str, cidr: str) -> Endpoint:
    allocation = Allocation(address=parse_address(address), block=parse_prefix(cidr), endpoint=name, sequence=1)
    return Endpoint(id=name, name=name, host="h1", identity=who, allocations=(allocation,), link=f"rom{name}")


def policy(id_: str, subject: Selector, **rules: tuple[Rule, ...]) -> Policy:
    return Policy(id=id_, kind="native", subjects=(subject,), ingress=rules.get("ingress"), egress=rules.get("egress"))


def world(
    *blocks: Block,
    tenants: Mapping[str, Isolation] | None = None,
    policies: tuple[Policy, ...] = (),
    endpoints: tuple[Endpoint, ...] = (),
    identities: tuple[Identity, ...] = (),
) -> PolicyWorld:
    network = Network(name="n", cidr=parse_prefix("10.0.0.0/16"), block_length=29, span_length=24)
    return PolicyWorld(
        tenants={name: Tenant(name=name, isolation=isolation) for name, isolation in (tenants or {}).items()},
        policies={one.id: one for one in policies},
        identities={one.id: one for one in identities},
        networks={"n": network},
        blocks={one.cidr: one for one in blocks},
        endpoints={one.id: one for one in endpoints},
    )


A_WEB, A_DB, B_WEB = identity("a/web"), identity("a/db"), identity("b/web")
A_WEB_LIVE, A_WEB_TEST = identity("a/web", env="live"), identity("a/web", env="test")
THREE = (block("10.0.0.0/29", A_WEB), block("10.0.0.8/29", A_DB), block("10.0.1.0/29", B_WEB))
DB = Selector(tenants=("a",), segments=("db",))
WEB = Selector(tenants=("a",), segments=("web",))
LIVE = Selector(labels=(Requirement("env", Operator.IN, ("live",)),))


def two_tenants_without_policy() -> State:
    a = {**CLOSED, "10.0.0.0/29": "accept", "10.0.0.8/29": "accept"}
    return State(
        world(*THREE, tenants={"a": Isolation.TENANT}, identities=(A_WEB, A_DB, B_WEB)),
        {
            "ingress of a/web": a,
            "ingress of a/db": a,
            "ingress of b/web": {**CLOSED, "10.0.1.0/29": "accept"},
            "egress of a/web": OPEN,
        },
    )


def segments_of_a_tenant_are_isolated() -> State:
    return State(
        world(*THREE, tenants={"a": Isolation.SEGMENT, "b": Isolation.NONE}, identities=(A_WEB, A_DB, B_WEB)),
        {
            "ingress of a/web": {**CLOSED, "10.0.0.0/29": "accept"},
            "ingress of a/db": {**CLOSED, "10.0.0.8/29": "accept"},
            "ingress of b/web": OPEN,
        },
    )


def a_policy_replaces_the_isolation_default() -> State:
    rules = (Rule(peers=(WEB,), traffic=HTTP),)
    return State(
        world(*THREE, policies=(policy("db", DB, ingress=rules),), identities=(A_WEB, A_DB, B_WEB)),
        {
            "ingress of a/db": {**CLOSED, "10.0.0.0/29": "tcp/80"},
            "egress of a/db": OPEN,
            "ingress of a/web": {**CLOSED, "10.0.0.0/29": "accept", "10.0.0.8/29": "accept"},
        },
    )


def policies_of_one_endpoint_add_up() -> State:
    anyone = Rule(traffic=(Traffic(TCP, 443, 443),))
    one, other = (policy(name, DB, ingress=(rule,)) for name, rule in (("x", Rule(peers=(WEB,))), ("y", anyone)))
    return State(
        world(*THREE, policies=(one, other), identities=(A_WEB, A_DB, B_WEB)),
        {"ingress of a/db": {"0.0.0.0/0": "tcp/443", "::/0": "tcp/443", "10.0.0.0/29": "accept"}},
    )


def an_empty_direction_is_closed() -> State:
    nothing = policy("nothing", DB, ingress=(), egress=())
    return State(
        world(*THREE, policies=(nothing,), identities=(A_WEB, A_DB, B_WEB)),
        {"ingress of a/db": CLOSED, "egress of a/db": CLOSED},
    )


def a_mixed_block_means_nothing_but_its_endpoints() -> State:
    """Labels that a policy tells apart in one block: live addresses become exact entries, the rest stays closed."""
    rules = (Rule(peers=(LIVE,)),)
    mixed = block("10.0.0.0/29", A_WEB_LIVE, A_WEB_TEST)
    lodgers = (
        endpoint("e1", A_WEB_LIVE, "10.0.0.1", "10.0.0.0/29"),
        endpoint("e2", A_WEB_TEST, "10.0.0.2", "10.0.0.0/29"),
    )
    return State(
        world(mixed, THREE[1], policies=(policy("db", DB, ingress=rules),), endpoints=lodgers, identities=(A_DB,)),
        {"ingress of a/db": {**CLOSED, "10.0.0.1/32": "accept"}},
    )


def labels_that_no_policy_looks_at_share_a_block() -> State:
    shared = block("10.0.0.0/29", A_WEB_LIVE, A_WEB_TEST)
    return State(
        world(shared, identities=(A_WEB_LIVE, A_WEB_TEST)),
        {"ingress of a/web env=live": {**CLOSED, "10.0.0.0/29": "accept"}},
    )


def stock_and_unknown_identities_are_denied() -> State:
    stock = block("10.0.0.8/29")
    strange = block("10.0.0.16/29", A_WEB, identity("a/unknown"))
    return State(
        world(THREE[0], stock, strange, identities=(A_WEB,)),
        {"ingress of a/web": {**CLOSED, "10.0.0.0/29": "accept"}},
    )


def an_endpoint_in_stock_is_known_by_its_address() -> State:
    lodger = endpoint("e1", A_WEB, "10.0.0.9", "10.0.0.8/29")
    return State(
        world(block("10.0.0.8/29"), endpoints=(lodger,)), {"ingress of a/web": {**CLOSED, "10.0.0.9/32": "accept"}}
    )


def a_cidr_cuts_inside_a_block() -> State:
    """The /30 half of a block: the block's entry gives way to its halves, so that looking up blocks first is right."""
    peer = CidrPeer(cidr=parse_prefix("10.0.0.0/30"))
    rules = (Rule(peers=(WEB,), traffic=HTTP), Rule(peers=(peer,), traffic=(Traffic(TCP, 443, 443),)))
    return State(
        world(*THREE, policies=(policy("db", DB, ingress=rules),), identities=(A_WEB, A_DB, B_WEB)),
        {"ingress of a/db": {**CLOSED, "10.0.0.0/30": "tcp/80, tcp/443", "10.0.0.4/30": "tcp/80"}},
    )


def a_cidr_around_a_network_with_exceptions() -> State:
    peer = CidrPeer(
        cidr=parse_prefix("0.0.0.0/0"), excluded=(parse_prefix("10.0.0.0/16"), parse_prefix("192.0.2.0/24"))
    )
    rules = (Rule(peers=(peer, WEB), traffic=HTTP),)
    return State(
        world(*THREE, policies=(policy("db", DB, egress=rules),), identities=(A_WEB, A_DB, B_WEB)),
        {
            "egress of a/db": {
                "0.0.0.0/0": "tcp/80",
                "10.0.0.0/16": "drop",
                "10.0.0.0/29": "tcp/80",
                "192.0.2.0/24": "drop",
                "::/0": "drop",
            }
        },
    )


def the_address_of_two_classes_is_nobodys() -> State:
    lodgers = (endpoint("e1", A_WEB, "10.0.9.1", "10.0.9.0/29"), endpoint("e2", B_WEB, "10.0.9.1", "10.0.9.0/29"))
    return State(world(endpoints=lodgers), {"ingress of a/web": CLOSED, "ingress of b/web": CLOSED})


def a_block_inside_a_block_is_told_apart() -> State:
    """It cannot be made, but were it there, the inner one must not pass as the outer one."""
    outer, inner = block("10.0.0.0/28", A_WEB), block("10.0.0.8/29", B_WEB)
    return State(
        world(outer, inner, identities=(A_WEB, B_WEB)),
        {
            "ingress of a/web": {**CLOSED, "10.0.0.0/28": "accept", "10.0.0.8/29": "drop"},
            "ingress of b/web": {**CLOSED, "10.0.0.8/29": "accept"},
        },
    )


STATES: tuple[Callable[[], State], ...] = (
    two_tenants_without_policy,
    segments_of_a_tenant_are_isolated,
    a_policy_replaces_the_isolation_default,
    policies_of_one_endpoint_add_up,
    an_empty_direction_is_closed,
    a_mixed_block_means_nothing_but_its_endpoints,
    labels_that_no_policy_looks_at_share_a_block,
    stock_and_unknown_identities_are_denied,
    an_endpoint_in_stock_is_known_by_its_address,
    a_cidr_cuts_inside_a_block,
    a_cidr_around_a_network_with_exceptions,
    the_address_of_two_classes_is_nobodys,
    a_block_inside_a_block_is_told_apart,
)


def readable_rows(of: PolicyWorld, entries: Callable[[str, str], Mapping[Prefix, str]]) -> dict[str, dict[str, str]]:
    """The rows of all identities of a world in the form of `Rows`; `entries(identity id, direction)` gives them."""
    found = {}
    for id_, one in of.all_identities().items():
        labels = "".join(f" {key}={value}" for key, value in sorted(one.labels.items()))
        for direction in ("ingress", "egress"):
            row = entries(id_, direction)
            found[f"{direction} of {one.owner}{labels}"] = {str(prefix): row[prefix] for prefix in sorted(row)}
    return dict(sorted(found.items()))
