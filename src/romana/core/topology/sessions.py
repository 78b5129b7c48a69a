"""What can be wrong with the options of a session.

Owns the limits of BGP and of the daemons that run it. Refuses to know who has the session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from romana.model.errors import Fault
from romana.model.fabric import Protocol, SessionOptions

LEAST_HOLD = 3
"""Seconds: the shortest hold time (RFC 4271, section 4.2)."""
MOST_SECONDS = 65535
WELL_KNOWN = ("no-export", "no-advertise")
_COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})")
_LARGE = re.compile(r"(\d{1,10}):(\d{1,10}):(\d{1,10})")
_PATH = re.compile(r"/[\w./+@-]{1,200}")


def option_faults(options: SessionOptions, where: str, protocol: Protocol) -> Iterator[Fault]:
    """Everything that is wrong with a session's options."""
    if options.password_file is not None and not _PATH.fullmatch(options.password_file):
        yield Fault(f"{where}.password_file", "is the path of a file on the device, such as /etc/romana/rack.password")
    hold, keepalive = options.hold_seconds, options.keepalive_seconds
    if hold is not None and not LEAST_HOLD <= hold <= MOST_SECONDS:
        yield Fault(f"{where}.hold_seconds", f"must be between {LEAST_HOLD} and {MOST_SECONDS}, got {hold}")
    if keepalive is not None and not 1 <= keepalive <= (hold or MOST_SECONDS) // 3:
        sentence = "must be at least 1, and at most a third of `hold_seconds` (RFC 4271, section 4.4)"
        yield Fault(f"{where}.keepalive_seconds", f"{sentence}, got {keepalive}")
    if protocol is Protocol.OSPF:
        for key, value in (
            ("communities", options.communities),
            ("import", options.accepts),
            ("export", options.announces),
        ):
            if value:
                yield Fault(f"{where}.{key}", "is for BGP; OSPF floods to everybody in an area alike")
    for index, text in enumerate(options.communities):
        if not is_community(text):
            sentence = f"{text[:40]!r} is no community: 65001:100, 65001:1:2, {' or '.join(WELL_KNOWN)}"
            yield Fault(f"{where}.communities[{index}]", sentence)


def is_community(text: str) -> bool:
    """Whether a text is a community: two parts of 16 bits (RFC 1997), three of 32 (RFC 8092), or a well-known one."""
    if text in WELL_KNOWN:
        return True
    standard, large = _COMMUNITY.fullmatch(text), _LARGE.fullmatch(text)
    if standard is not None:
        return all(int(part) < 1 << 16 for part in standard.groups())
    return large is not None and all(int(part) < 1 << 32 for part in large.groups())
