"""Elements that are sent by netlink are those that nft makes of the same text."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Iterator

import pytest

from romana.adapters.linux.libnftables import Libnftables
from romana.adapters.linux.netns import inside, opened
from romana.adapters.linux.nft_batch import ElementBatch, Refused
from romana.codec.nft import TABLE
from romana.codec.nft_elements import FAMILIES, Elements, Entry, Value, key_type, single

VERDICTS = ("accept", "return", "goto one", "jump two")
FEW = {"nf_proto": (2, 10), "iface_index": (0, 1)}  # nft takes an index only where there is an interface
BITS = {"inet_service": 16}
DECLARATIONS = (
    "set ifname . ipv4_addr",
    "set ifname . ipv6_addr",
    "set ipv4_addr, interval",
    "set ipv6_addr, interval",
    "map ipv4_addr : verdict",
    "map ipv6_addr : verdict",
    "map ipv4_addr : verdict, interval",
    "map ipv6_addr : verdict, interval",
    "map iface_index : verdict",
    "map nf_proto : verdict",
    "set inet_proto . inet_service",
    "set inet_service, interval",
    "set icmp_type . icmp_code, interval",
    "set icmpv6_type . icmpv6_code, interval",
)


@pytest.fixture
def kernel() -> Iterator[tuple[Libnftables, ElementBatch]]:
    name = f"romt-b{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with opened(f"/run/netns/{name}") as space, inside(space):
            nft, batch = Libnftables(), ElementBatch()
        yield nft, batch
        batch.close()
        nft.close()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def declare(nft: Libnftables, declaration: str) -> None:
    noun, _, rest = declaration.partition(" ")
    words = rest.replace(", ", "; flags ")
    nft.run(f"add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}")
    nft.run(f"add chain {TABLE} one\nadd chain {TABLE} two\nadd {noun} {TABLE} m {{ type {words}; }}")


def bits(field: str) -> int:
    family = FAMILIES.get(field)
    return family.bits if family is not None else BITS.get(field, 8)


def value(chance: random.Random, field: str) -> Value:
    if field == "ifname":
        return f"rom{chance.randrange(1 << 40):x}"
    if field in FEW:
        return chance.choice(FEW[field])
    return chance.randrange(1 << bits(field))


def entries(chance: random.Random, declaration: str) -> tuple[Entry, ...]:
    key = key_type(declaration)
    if not key.is_interval:
        number = 60 if FEW.keys().isdisjoint(key.fields) else 2
        found = {tuple(value(chance, field) for field in key.fields) for _ in range(number)}
        verdicts = VERDICTS if " : verdict" in declaration else ("",)
        return tuple(single(*one, verdict=chance.choice(verdicts)) for one in sorted(found, key=str))
    first, *others = key.fields
    top = (1 << bits(first)) - 1
    cuts = sorted({0, top + 1, *(chance.randrange(1, top) for _ in range(40))})
    spans = [(start, end - 1) for start, end in itertools.pairwise(cuts) if chance.random() < 0.8]
    verdicts = VERDICTS if " : verdict" in declaration else ("",)
    if others:
        return tuple(Entry((start, chance.randrange(100)), (end, chance.randrange(100, 256))) for start, end in spans)
    if "set" in declaration:  # nft would join neighbours
        spans = spans[::2]
    return tuple(Entry((start,), (end,), chance.choice(verdicts)) for start, end in spans)


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_the_same_elements_by_netlink_and_by_text(kernel: tuple[Libnftables, ElementBatch], declaration: str) -> None:
    nft, batch = kernel
    for seed in range(5):
        some = entries(random.Random(seed), declaration)
        added = Elements("add", "m", key_type(declaration), some)
        listed = []
        for make in ("text", "netlink"):
            declare(nft, declaration)
            if make == "text":
                nft.run("\n".join(added.commands(TABLE)) + "\n")
            else:
                batch.run([added])
            listed.append(sorted(nft.run(f"list table {TABLE}").replace(",", " ").split()))
        assert some
        assert listed[0] == listed[1]


def test_what_is_taken_away_is_gone(kernel: tuple[Libnftables, ElementBatch]) -> None:
    nft, batch = kernel
    for declaration in DECLARATIONS:
        key = key_type(declaration)
        some = entries(random.Random(1), declaration)
        declare(nft, declaration)
        batch.run([Elements("add", "m", key, some)])
        assert "elements" in nft.run(f"list table {TABLE}")
        batch.run([Elements("flush", "m", key)])
        assert "elements" not in nft.run(f"list table {TABLE}")
        if not key.is_interval:
            batch.run([Elements("add", "m", key, some)])
            batch.run([Elements("delete", "m", key, tuple(one._replace(verdict="") for one in some))])
            assert "elements" not in nft.run(f"list table {TABLE}")


def test_with_one_refused_none_is_done(kernel: tuple[Libnftables, ElementBatch]) -> None:
    nft, batch = kernel
    declare(nft, "map ipv4_addr : verdict")
    key = key_type("map ipv4_addr : verdict")
    batch.run([Elements("add", "m", key, (single(1, verdict="goto one"),))])
    before = nft.run(f"list table {TABLE}")
    new = Elements("add", "m", key, (single(2, verdict="accept"),))
    for wrong in (
        Elements("add", "m", key, (single(1, verdict="goto two"),)),
        Elements("add", "m", key, (single(3, verdict="goto nowhere"),)),
        Elements("delete", "m", key, (single(4),)),
        Elements("add", "other", key, (single(5, verdict="accept"),)),
    ):
        with pytest.raises(Refused, match=rf"\({wrong.name}\)") as refused:
            batch.run([new, wrong, new])
        assert refused.value.is_there != refused.value.is_missing
        assert nft.run(f"list table {TABLE}") == before
    batch.run([Elements("add", "m", key, (single(1, verdict="goto one"),))])  # the same again is no error


def test_a_hundred_thousand_elements_are_one_transaction(kernel: tuple[Libnftables, ElementBatch]) -> None:
    nft, batch = kernel
    declare(nft, "map ipv6_addr : verdict")
    key = key_type("map ipv6_addr : verdict")
    many = tuple(single(number << 40, verdict="goto one") for number in range(100_000))
    with pytest.raises(Refused):
        batch.run([Elements("add", "m", key, many), Elements("delete", "m", key, (single(7),))])
    assert "elements" not in nft.run(f"list table {TABLE}")
    batch.run([Elements("add", "m", key, many)])
    assert nft.run(f"list table {TABLE}").count("goto one") == 100_000
