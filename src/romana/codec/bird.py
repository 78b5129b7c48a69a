"""BIRD 2: the include file with a host's prefixes, and the answers on BIRD's control socket.

Owns the names `romana4` and `romana6` of the two static protocols, which the host's own bird.conf exports
(`where proto = "romana4"`), and the control protocol's framing. Refuses to know where the file is. Invariant: the same
prefixes give the same bytes, and what is written is read back as the same set.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from romana.codec.text import parse_prefix
from romana.model.address import Family, Prefix

STATICS = tuple(f"romana{family:d}" for family in Family)
"""The static protocols of the include file."""
_ROUTE = re.compile(r"^\s*route\s+(\S+)\s+blackhole;$", re.MULTILINE)
_NEEDED = re.compile(r"^(router id|protocol (device|direct|kernel))\b", re.MULTILINE)
_COMMENT = re.compile(r"^#.*\n", re.MULTILINE)
_REPLY = re.compile(rb"^(\d{4})([ -])(.*)$")


def include_text(prefixes: Collection[Prefix]) -> str:
    """The include file that originates the prefixes; both protocols are always in it, so that filters may name them."""
    lines = [
        "# Written by romana-agent and replaced whole; edit the agent's configuration instead.",
        '# In bird.conf, export these routes by: where proto = "romana4" (or "romana6").',
    ]
    return "\n".join([*lines, *statics("romana", prefixes)]) + "\n"


def cleared_text(text: str) -> str:
    """What a clean-up leaves of a file of ours: nothing that originates, tells or learns.

    What protocols of the machine's own may need of it stays, as it is: the router id, and the protocols that know
    interfaces and bring routes into the kernel, of which BIRD has one each.
    """
    parts = (_COMMENT.sub("", part) for part in text.split("\n\n"))
    kept = [part for part in parts if _NEEDED.search(part) is not None]
    lines = [
        "# Left by romana-agent --cleanup: no route of romana is announced here any more.",
        "# Remove this file together with the line of bird.conf that includes it.",
    ]
    return "\n\n".join(["\n".join(lines), *kept, *statics("romana", ())]) + "\n"


def statics(name: str, prefixes: Collection[Prefix], preference: int | None = None) -> list[str]:
    """One static protocol a family that originates the prefixes, `<name>4` and `<name>6`; of routes with the same
    prefix BIRD uses the one with the highest preference.
    """
    more = "" if preference is None else f" {{ preference {preference}; }}"
    return [
        "\n".join(
            [
                f"protocol static {name}{family:d} {{",
                f"    ipv{family:d}{more};",
                *(
                    f"    route {prefix.supernet(prefix.length)} blackhole;"
                    for prefix in sorted(prefixes)
                    if prefix.family is family
                ),
                "}",
            ]
        )
        for family in Family
    ]


def read_include(text: str) -> frozenset[Prefix]:
    """The prefixes of an include file that `include_text` wrote; ValueError when it holds something else."""
    return frozenset(parse_prefix(match) for match in _ROUTE.findall(text))


def read_routes(lines: Iterable[str]) -> set[Prefix]:
    """The prefixes that `show route` lists."""
    found = set()
    for line in lines:
        first = line.partition(" ")[0]
        if "/" in first:
            found.add(parse_prefix(first))
    return found


class ControlReply:
    """A reply of BIRD's control socket, fed line by line (BIRD Programmer's Documentation, "Command Line Interface").

    A line begins with a four-digit code and `-` (more follow) or a blank (the last one), or with a blank (goes on).
    Codes of 8000 and more are errors.
    """

    def __init__(self) -> None:
        self.code = 0
        self.lines: list[str] = []

    def feed(self, line: bytes) -> bool:
        """Take in one line without its end; whether the reply is complete."""
        match = _REPLY.match(line)
        if match is None:
            self.lines.append(line.decode(errors="replace").strip())
            return False
        self.code = max(self.code, int(match[1]))
        self.lines.append(match[3].decode(errors="replace").strip())
        return match[2] == b" "

    @property
    def is_error(self) -> bool:
        """Whether BIRD refused."""
        return self.code >= 8000

    @property
    def words(self) -> str:
        """What BIRD said, in one line."""
        return "; ".join(filter(None, self.lines))
