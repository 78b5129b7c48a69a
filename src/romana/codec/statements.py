"""Statements as people write them, one sentence a line.

Owns the grammar. Knows no world. Invariant: every line is a statement, empty, or a comment; or Invalid with every line
that is none.

    tenant red never reaches tenant blue
    tenant red never reaches segment shop/db on tcp/5432, udp
    segment shop/db accepts only tcp/5432 from segment shop/api, cidr 192.0.2.0/24
    nothing outside reaches segment shop/db
    segment shop/web always reaches segment shop/api on tcp/80
"""

from __future__ import annotations

import re

from romana.codec.text import parse_prefix
from romana.codec.traffic import parse_traffic
from romana.model.errors import Fault, Invalid
from romana.model.policy import CidrPeer, Operator, Requirement, Selector, Traffic
from romana.model.statement import Claimed, Somebody, Statement

MOST = 1000
"""Statements in one document at most."""
_FORMS = (
    re.compile(r"(?P<claim>nothing) outside reaches (?P<to>.+?)(?: on (?P<traffic>[^()]+))?"),
    re.compile(r"(?P<from>.+?) (?P<claim>never reaches|always reaches) (?P<to>.+?)(?: on (?P<traffic>[^()]+))?"),
    re.compile(r"(?P<to>.+?) (?P<claim>accepts only) (?P<traffic>.+?) from (?P<from>.+)"),
)
_HELP = (
    "write `WHO never reaches WHO`, `WHO always reaches WHO on TRAFFIC`, `WHO accepts only TRAFFIC from WHO`, or "
    "`nothing outside reaches WHO`; WHO is `tenant T`, `segment T/S`, `labels K=V`, `cidr CIDR`, `anyone`, `outside`, "
    "or several with commas"
)


def read_statements(text: str) -> list[Statement]:
    """All statements of a text; Invalid with every line that is none."""
    found: list[Statement] = []
    wrong: list[Fault] = []
    for number, line in enumerate(text.splitlines(), start=1):
        sentence = line.partition("#")[0].strip().rstrip(".")
        if not sentence:
            continue
        try:
            found.append(_statement(sentence))
        except ValueError as error:
            wrong.append(Fault(f"line {number}", str(error)))
    if len(found) > MOST:
        wrong.append(Fault("", f"has {len(found)} statements; at most {MOST} are looked at in one go"))
    if not found and not wrong:
        wrong.append(Fault("", f"has no statement; {_HELP}"))
    if wrong:
        raise Invalid(*wrong)
    return found


def _statement(sentence: str) -> Statement:
    for form in _FORMS:
        match = form.fullmatch(sentence)
        if match is None:
            continue
        said = match.groupdict()
        nothing = said["claim"] == "nothing"
        destination = _who(said["to"])
        if len(destination) != 1:
            raise ValueError(f"{said['to']!r} is more than one; write a statement for each of them")
        return Statement(
            text=sentence,
            claim=Claimed.NEVER if nothing else Claimed(said["claim"]),
            destination=destination[0],
            sources=tuple(_who("outside" if nothing else said["from"])),
            traffic=_traffic(said["traffic"]),
        )
    raise ValueError(f"{sentence!r} is no statement; {_HELP}")


def _traffic(text: str | None) -> tuple[Traffic, ...]:
    return tuple(parse_traffic(part) for part in text.split(",")) if text else (Traffic(),)


def _who(text: str) -> list[Somebody]:
    return [_somebody(part.strip()) for part in text.split(",")]


def _somebody(text: str) -> Somebody:
    kind, _, name = text.partition(" ")
    name = name.strip()
    if text == "outside":
        return Somebody(words=text, outside=True)
    if text == "anyone":
        return Somebody(words=text, selector=Selector())
    if kind == "tenant" and name and " " not in name:
        return Somebody(words=text, selector=Selector(tenants=(name,)))
    tenant, slash, segment = name.partition("/")
    if kind == "segment" and slash and tenant and segment and " " not in name:
        return Somebody(words=text, selector=Selector(tenants=(tenant,), segments=(segment,)))
    if kind == "labels" and name:
        return Somebody(words=text, selector=Selector(labels=tuple(map(_label, name.split()))))
    if kind == "cidr" and name:
        return Somebody(words=text, cidr=CidrPeer(cidr=parse_prefix(name)))
    raise ValueError(f"{text!r} is nobody; {_HELP}")


def _label(text: str) -> Requirement:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"{text!r} is no label; write KEY=VALUE")
    return Requirement(key, Operator.IN, (value,))
