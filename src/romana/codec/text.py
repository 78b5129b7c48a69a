"""Reading addresses and prefixes from text."""

from __future__ import annotations

import functools
import ipaddress
import re

from romana.model.address import Address, Family, Prefix

_V4 = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?:/(\d{1,2}))?", re.ASCII)


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """An address such as `10.0.0.1` or `2001:db8::1`; ValueError with a sentence when it is none."""
    plain = _plain(text)
    if plain is not None and plain[1] is None:
        return Address(Family.V4, plain[0])
    try:
        address = ipaddress.ip_address(text)
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
        network = ipaddress.ip_network(text, strict=False)
        if not slash or not length.isdigit():
            raise ValueError  # noqa: TRY301 - one sentence for all of it
    except ValueError:
        raise ValueError(f"{text!r} is not a CIDR, such as 10.0.0.0/8 or 2001:db8::/48") from None
    prefix = Prefix(Family(network.version), int(network.network_address), network.prefixlen)
    if int(ipaddress.ip_address(address)) != prefix.value:
        raise ValueError(f"{text!r} has bits set after its length; did you mean {prefix}?")
    return prefix


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
