"""Elements as values, and their text."""

from __future__ import annotations

import pytest

from romana.codec.nft_elements import ELEMENTS_MAX, Elements, Entry, KeyType, key_type, single


@pytest.mark.parametrize(
    ("declaration", "key"),
    [
        ("map ipv4_addr : verdict, interval", KeyType("map", ("ipv4_addr",), is_interval=True)),
        ("set ifname . ipv6_addr", KeyType("set", ("ifname", "ipv6_addr"), is_interval=False)),
        ("map nf_proto : verdict", KeyType("map", ("nf_proto",), is_interval=False)),
    ],
)
def test_a_declaration_says_what_keys_are(declaration: str, key: KeyType) -> None:
    assert key_type(declaration) == key


@pytest.mark.parametrize(
    ("declaration", "entry", "text"),
    [
        ("map ipv4_addr : verdict", single(10 << 24, verdict="accept"), "10.0.0.0 : accept"),
        ("map ipv4_addr : verdict, interval", Entry((0,), (0xFFFFFFFF,), "return"), "0.0.0.0/0 : return"),
        ("map ipv4_addr : verdict, interval", Entry((1,), (2,), "goto x"), "0.0.0.1-0.0.0.2 : goto x"),
        ("set ipv6_addr, interval", Entry((0xFD00 << 112,), (0xFD00 << 112 | 63,)), "fd00::/122"),
        ("set ifname . ipv4_addr", single("rom1", 1), '"rom1" . 0.0.0.1'),
        ("set icmp_type . icmp_code, interval", Entry((3, 0), (3, 255)), "3 . 0-255"),
        ("set inet_service, interval", Entry((80,), (80,)), "80"),
    ],
)
def test_an_element_is_spelled_by_the_type_of_its_key(declaration: str, entry: Entry, text: str) -> None:
    (command,) = Elements("add", "m", key_type(declaration), (entry,)).commands("inet t")
    assert command == f"add element inet t m {{ {text} }}"


def test_many_are_several_commands_and_a_flush_is_one() -> None:
    key = key_type("set inet_service, interval")
    many = Elements("add", "m", key, tuple(single(number) for number in range(2 * ELEMENTS_MAX + 1)))
    assert len(list(many.commands("inet t"))) == 3
    assert list(Elements("flush", "m", key).commands("inet t")) == ["flush set inet t m"]
