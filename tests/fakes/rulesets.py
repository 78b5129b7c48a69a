"""Small worlds of one host, for tests of rulesets: a view, and endpoints by number."""

from __future__ import annotations

from collections.abc import Mapping

from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation, Span
from romana.model.policy import Direction
from romana.model.program import ACCEPT, DROP, Profile, RowIds
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network
from romana.model.view import IdentityRows, RowHead, View

WEB = Identity(owner=Owner("shop", "web"))
STORE = Identity(owner=Owner("shop", "store"))

HTTP = Profile(protocols=((1, ((2048, 2303),)), (6, ((80, 80), (8000, 8080))), (58, ((32768, 33023),))))
"""TCP 80 and 8000-8080, ICMP echo."""
NOT_HTTP = Profile(default=True, protocols=((6, ((0, 79), (81, 65535))), (17, ())))
"""All but TCP 80 and UDP."""


NOBODYS = RowIds("", "")


def prefix(text: str) -> Prefix:
    """`10.0.0.0/8`, or one address."""
    return parse_prefix(text) if "/" in text else parse_address(text)


def entries(*parts: str) -> dict[Prefix, str]:
    """`prefix verdict`, each; both whole spaces are dropped unless said otherwise."""
    said = {prefix(part.split()[0]): part.split()[1] for part in parts}
    return {prefix("0.0.0.0/0"): "drop", prefix("::/0"): "drop", **said}


def view(
    rows: dict[str, dict[Prefix, str]],
    *,
    profiles: tuple[Profile, ...] = (HTTP, NOT_HTTP),
    identities: dict[str, Identity] | None = None,
    block_lengths: tuple[tuple[int, int], ...] = ((29, 122),),
    own: Mapping[str, str] = {},
    host_rows: RowIds = NOBODYS,
) -> View:
    """A host with span 10.0.0.0/24 and fd00::/116. `rows` are by id; class `web` is the one of WEB, and so on.
    `own` has rows' verdicts about the host itself; that of others is drop.
    """
    networks = {}
    for number, (length4, length6) in enumerate(block_lengths):
        cidr4 = Prefix(Family.V4, (10 + number) << 24, 8)
        cidr6 = Prefix(Family.V6, (0xFD00 + number) << 112, 16)
        networks[f"four{number}"] = Network(name=f"four{number}", cidr=cidr4, block_length=length4, span_length=24)
        networks[f"six{number}"] = Network(name=f"six{number}", cidr=cidr6, block_length=length6, span_length=116)
    spans = {
        cidr: Span(cidr=cidr, network=name, host="host")
        for name, cidr in (("four0", prefix("10.0.0.0/24")), ("six0", prefix("fd00::/116")))
    }
    known = {"web": WEB, "store": STORE} if identities is None else identities
    return View(
        networks=networks,
        spans=spans,
        identities={
            identity.id: IdentityRows(identity=identity, class_id=name, ingress=f"in_{name}", egress=f"out_{name}")
            for name, identity in known.items()
        },
        rows={
            row: RowHead(
                direction=Direction.INGRESS if row.startswith("in_") else Direction.EGRESS,
                words=f"shop/{row.partition('_')[2]}",
                own=own.get(row, "drop"),
            )
            for row in rows
        },
        entries=rows,
        profiles={profile.id: profile for profile in (*profiles, ACCEPT, DROP)},
        host_rows=host_rows,
    )


def endpoint(number: int, identity: Identity = WEB, *, families: tuple[Family, ...] = tuple(Family)) -> Endpoint:
    """The endpoint with addresses 10.0.0.`number` and fd00::`number` (hexadecimal)."""
    starts = {Family.V4: 10 << 24, Family.V6: 0xFD << 120}
    return Endpoint(
        id=f"c{number}/eth0",
        name=f"pod-{number}",
        host="host",
        identity=identity,
        allocations=tuple(
            Allocation(
                address=(address := Address(family, starts[family] + number)),
                block=address.supernet(29 if family is Family.V4 else 122),
                endpoint=f"c{number}/eth0",
                sequence=1,
            )
            for family in families
        ),
        link=f"rom{number:012x}",
    )
