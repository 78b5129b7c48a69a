"""Reading addresses and prefixes from text."""

from __future__ import annotations

import ipaddress

from romana.model.address import Address, Family, Prefix


def parse_address(text: str) -> Address:
    """An address such as `10.0.0.1` or `2001:db8::1`; ValueError with a sentence when it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, such as 10.0.0.1 or 2001:db8::1") from None
    return Address(Family(address.version), int(address))


def parse_prefix(text: str) -> Prefix:
    """A CIDR such as `10.0.0.0/8`; ValueError with a sentence when it is none, or when it has bits after its length."""
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
