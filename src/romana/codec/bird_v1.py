"""Configurations of BIRD 1, as Romana v2 wrote them, in the words of BIRD 2.

Owns one difference between the two: in BIRD 2 a protocol has channels, and `import`, `export` and their like belong to
the channel `ipv4`. Everything else stays as it is. Invariant: what already has channels is not changed.

Source: BIRD's wiki, "Transition notes from BIRD 1.6.x to 2.0.x".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

CHANNEL_WORDS = (
    "import",
    "export",
    "preference",
    "table",
    "next hop",
    "missing lladdr",
    "gateway",
    "igp table",
    "receive limit",
    "secondary",
    "add paths",
)
WITH_CHANNELS = frozenset({"static", "bgp", "ospf", "kernel", "direct", "rip"})
_HEAD = re.compile(r"\bprotocol\s+(\w+)\b[^{;]*\{")
_SKIPPED = re.compile(r'#[^\n]*|/\*.*?\*/|"[^"\n]*"', re.DOTALL)
_CHANNEL = re.compile(r"\s*ipv[46]\b")


def as_bird2(text: str) -> str:
    """The text with channels where protocols lack them."""
    out, at = [], 0
    plain = _SKIPPED.sub(lambda found: " " * len(found[0]), text)  # braces and words in comments and strings are none
    for head in _HEAD.finditer(plain):
        if head.start() < at:
            continue
        end = _closing(plain, head.end())
        body = text[head.end() : end]
        out.append(text[at : head.end()])
        out.append(_with_channel(body) if head[1] in WITH_CHANNELS else body)
        at = end
    return "".join([*out, text[at:]])


def _closing(plain: str, start: int) -> int:
    """Where the brace that is open at `start` closes."""
    depth = 1
    for place in range(start, len(plain)):
        depth += {"{": 1, "}": -1}.get(plain[place], 0)
        if not depth:
            return place
    return len(plain)


def _with_channel(body: str) -> str:
    statements = list(_statements(body))
    if any(_CHANNEL.match(_bare(one)) for one in statements):
        return body
    inner = [one for one in statements if _bare(one).startswith(CHANNEL_WORDS)]
    outer = [one for one in statements if one not in inner]
    channel = f" {{{''.join(inner)}\n\t}}" if inner else ""
    return f"\n\tipv4{channel};{''.join(outer)}"


def _bare(statement: str) -> str:
    return _SKIPPED.sub(" ", statement).strip()


def _statements(body: str) -> Iterator[str]:
    """The statements at the outermost level, each with the blanks and comments before it; then what is left."""
    plain = _SKIPPED.sub(lambda found: " " * len(found[0]), body)
    depth = start = 0
    for place, mark in enumerate(plain):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if (mark == ";" and not depth) or (
            mark == "}" and not depth and not plain[place + 1 :].lstrip().startswith(";")
        ):
            yield body[start : place + 1]
            start = place + 1
    if start < len(body):
        yield body[start:]
