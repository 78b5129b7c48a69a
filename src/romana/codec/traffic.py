"""Traffic as people write it: `tcp/80`, `udp/53-60`, `icmp`, `any`; the reverse of `str(Traffic)`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from romana.model.errors import Fault, Invalid
from romana.model.policy import ICMP_PROTOCOLS, PORT_PROTOCOLS, PROTOCOL_NAMES, Traffic
from romana.model.tenancy import NamedPort

_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", re.ASCII)
"""The name of a port, as Kubernetes and IANA have it."""
PORT_NAME_WORDS = "is no name of a port: 1 to 15 of a-z, 0-9 and single hyphens, with a letter"
_LAST_PORT = 65535
_EXAMPLES = "write any, tcp, tcp/80, udp/53-60, sctp/1, icmp, icmp/8 (a type) or icmpv6/1/4 (type and code)"


def parse_traffic(text: str, *, names: bool = False) -> Traffic:
    """One kind of traffic; ValueError with a sentence when the text is none.

    With `names`, a port may be the name that the receiver gives it, such as `tcp/http`.
    """
    word, slash, rest = text.strip().lower().partition("/")
    if word == "any" and not slash:
        return Traffic()
    protocol = _NUMBERS.get(word)
    if protocol is None:
        raise ValueError(f"{text!r} names no traffic; {_EXAMPLES}")
    if not slash:
        return Traffic(protocol)
    if names and protocol not in ICMP_PROTOCOLS and PORT_NAME.fullmatch(rest):
        return Traffic(protocol, name=rest)
    first, last = _icmp(text, rest) if protocol in ICMP_PROTOCOLS else _ports(text, rest)
    return Traffic(protocol, first, last)


def parse_ports(texts: Iterable[str], path: str) -> tuple[tuple[int, int], ...]:
    """Single ports of protocols, such as `tcp/22`, as numbers; Invalid with a fault for each other text."""
    found: list[tuple[int, int]] = []
    wrong: list[Fault] = []
    for index, text in enumerate(texts):
        try:
            found.append(_port(text))
        except ValueError as error:
            wrong.append(Fault(f"{path}[{index}]", str(error)))
    if wrong:
        raise Invalid(*wrong)
    return tuple(found)


def parse_named_port(name: str, text: str) -> NamedPort:
    """The port of an endpoint that has this name, from `tcp/80`; ValueError with a sentence when either is none."""
    if not PORT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} {PORT_NAME_WORDS}")
    return NamedPort(name, *_port(text))


def _port(text: str) -> tuple[int, int]:
    traffic = parse_traffic(text)
    if traffic.protocol not in PORT_PROTOCOLS or traffic.first != traffic.last:
        raise ValueError(f"{text!r} is not one port of tcp, udp or sctp; write such as tcp/22")
    return traffic.protocol, traffic.first


def _ports(text: str, rest: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", rest, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} has no port or range of ports; {_EXAMPLES}")
    first = int(found[1])
    last = int(found[2] or found[1])
    if not 1 <= first <= last <= _LAST_PORT:
        raise ValueError(f"{text!r}: ports are 1 to {_LAST_PORT}, and a range starts with the lower one")
    return first, last


def _icmp(text: str, rest: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,3})(?:/(\d{1,3}))?", rest, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} has no ICMP type; {_EXAMPLES}")
    kind, code = int(found[1]), int(found[2] or 0)
    if kind > 255 or code > 255:
        raise ValueError(f"{text!r}: ICMP types and codes are 0 to 255")
    return (kind * 256 + code, kind * 256 + code) if found[2] else (kind * 256, kind * 256 + 255)
