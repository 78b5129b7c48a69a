"""Rulesets as other implementations write them, for the same worlds: a chain for each policy that selects an endpoint.

Shaped like those of Calico's Felix in its nftables mode: packets are led to their endpoint's chain by its link; there,
connections that are known go on, and each policy's chain is asked in turn. A policy has a set of the addresses that it
lets in, sets a bit of the mark when it accepts, and its caller returns when the bit is set. The sets are hashes of
single addresses, the quickest that they could be. Nobody sends with a source that does not lead back to the sender.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.packet_world import Place, World, ports
from romana.model.address import Address

CLEAR, ACCEPT = "meta mark set meta mark & 0xfffeffff", "meta mark set meta mark | 0x00010000"
IF_ACCEPTED = "meta mark & 0x00010000 == 0x00010000"


def target_table(made: World, target: Place) -> str:
    """The table of the target's host: a set and a chain for each policy, and a jump to each from the endpoint's."""
    parts = [line for number, members in enumerate(made.members()) for line in _policy(number, members)]
    asked = [rule for number in range(made.policies) for rule in (f"jump policy_{number}", f"{IF_ACCEPTED} return")]
    return _table("oifname", target, parts, [*asked, "drop"])


def sender_table(sender: Place) -> str:
    """The table of the peers' host: no policy selects them."""
    return _table("iifname", sender, [], [ACCEPT])


def _table(side: str, place: Place, parts: Iterable[str], decided: Iterable[str]) -> str:
    lines = [
        *parts,
        *_chain(
            f"endpoint_{place.link}",
            ["ct state established,related accept", "ct state invalid drop", CLEAR, *decided],
        ),
        *_chain("endpoints", [f'{side} vmap {{ "{place.link}" : goto endpoint_{place.link} }}', "drop"]),
        *_chain(
            "raw",
            [
                "type filter hook prerouting priority raw; policy accept;",
                'iifname "rom*" fib saddr . iif oif missing drop',
            ],
        ),
        *_chain(
            "forward",
            [
                "type filter hook forward priority filter; policy accept;",
                CLEAR,
                f'{side} "rom*" jump endpoints',
                f"{IF_ACCEPTED} accept",
            ],
        ),
    ]
    return "\n".join(["table inet chains {", *lines, "}", ""])


def _policy(number: int, members: Iterable[Address]) -> Iterator[str]:
    first, last = ports(number)
    texts = ", ".join(one.text for one in members)
    yield f"set peers_{number} {{ type ipv4_addr; elements = {{ {texts} }}; }}"
    yield from _chain(
        f"policy_{number}",
        [f"ip saddr @peers_{number} {protocol} dport {first}-{last} {ACCEPT}" for protocol in ("tcp", "udp")],
    )


def _chain(name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from rules
    yield "}"
