"""Reading addresses, prefixes and patterns of prefixes from text."""

from __future__ import annotations

import functools
import ipaddress
import re

from romana.model.address import Address, Family, Prefix
from romana.model.fabric import Pattern

_V4 = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?:/(\d{1,2}))?", re.ASCII)


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """An address such as `10.0.0.1` or `2001:db8::1`; ValueError with a sentence when it is none."""
    plain = _plain(text)
    if plain is not None and plain[1] is None:
        return Address(Family.V4, plain[0])
    try:
        address = ipaddress.ip_address(_unscoped(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, such as 10.0.0.1 or 2001:db8::1") from None
    return Address(Family(address.version), int(address))


@functools.lru_cache(maxsize=4096)
def parse_prefix(text: str) -> Prefix:
    """A CIDR such as `10.0.0.0/8`; ValueError with a sentence when it is none, or when it has bits after its length."""
    plain = _plain(text)
    if plain is not None and plain[1] is not None and not plain[0] & (1 << (32 - plain[1])) - 1:
        return Prefix(Family.V4, plain[0], plain[1])
    address, slash, length = text.partition("/")
    try:
        network = ipaddress.ip_network(_unscoped(text), strict=False)
        if not slash or not length.isdigit():
            raise ValueError  # noqa: TRY301 - one sentence for all of it
    except ValueError:
        raise ValueError(f"{text!r} is not a CIDR, such as 10.0.0.0/8 or 2001:db8::/48") from None
    prefix = Prefix(Family(network.version), int(network.network_address), network.prefixlen)
    if int(ipaddress.ip_address(address)) != prefix.value:
        raise ValueError(f"{text!r} has bits set after its length; did you mean {prefix}?")
    return prefix


_PATTERN = re.compile(r"(\S+)(?:\s+ge\s+(\d{1,3}))?(?:\s+le\s+(\d{1,3}))?", re.ASCII)


def parse_pattern(text: str) -> Pattern:
    """A CIDR, or parts of one: `10.0.0.0/8 ge 16 le 24`; `ge` alone goes up to single addresses, `le` alone begins
    with the CIDR itself. ValueError with a sentence when it is none.
    """
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a CIDR, with `ge LENGTH` and `le LENGTH` after it or without")
    within = parse_prefix(found[1])
    shortest = within.length if found[2] is None else int(found[2])
    longest = int(found[3]) if found[3] is not None else within.length if found[2] is None else within.family.bits
    if not within.length <= shortest <= longest <= within.family.bits:
        raise ValueError(f"{text!r} matches nothing; lengths grow from /{within.length} to /{within.family.bits}")
    return Pattern(within, shortest, longest)


def _unscoped(text: str) -> str:
    """The text itself; ValueError when it names an interface after the address, which would be lost."""
    if "%" in text:
        raise ValueError
    return text


def _plain(text: str) -> tuple[int, int | None] | None:
    """The number and length of an ordinary IPv4 address or CIDR; None for anything else, which may still be one."""
    found = _V4.fullmatch(text)
    if found is None:
        return None
    value = 0
    for octet in found.groups()[:4]:
        if int(octet) > 255:
            return None
        value = value << 8 | int(octet)
    length = None if found[5] is None else int(found[5])
    return None if length is not None and length > 32 else (value, length)
