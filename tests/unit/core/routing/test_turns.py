"""Which interfaces a packet must not turn at, by who is around a router."""

from __future__ import annotations

from romana.codec.text import parse_address, parse_prefix
from romana.core.routing.turns import turns
from romana.model.route import Around, Turns

INSIDE = (parse_prefix("10.112.0.0/12"),)
NETWORKS = {
    parse_prefix("192.0.2.0/31"): {"up1"},
    parse_prefix("2001:db8::/126"): {"up1"},
    parse_prefix("192.0.2.2/31"): {"up2"},
    parse_prefix("198.51.100.0/24"): {"rack"},
    parse_prefix("203.0.113.0/24"): {"port1", "port2"},
}


def at(neighbor: str, *addresses: str, interface: str = "") -> Around:
    return Around(neighbor=neighbor, interface=interface, addresses=tuple(map(parse_address, addresses)))


def back(*around: Around, others: tuple[str, ...] = ()) -> tuple[tuple[str, ...], ...]:
    made = turns(around, map(parse_address, others), NETWORKS, INSIDE)
    assert made == Turns(back=made.back, inside=INSIDE)
    return made.back


def test_interfaces_are_found_by_name_or_by_the_network_of_an_address() -> None:
    around = (at("s1", "192.0.2.0", "2001:db8::1"), at("s2", interface="swp2"), at("t1b", "192.0.2.2"))
    assert back(*around) == (("swp2",), ("up1",), ("up2",))


def test_interfaces_that_lead_to_the_same_neighbour_are_together() -> None:
    assert back(at("s1", "192.0.2.0"), at("s1", interface="swp2"), at("s2", "192.0.2.2")) == (("swp2", "up1"), ("up2",))


def test_a_network_with_room_for_others_is_no_link_between_two_but_where_the_plan_says_so() -> None:
    assert back(at("h11", "198.51.100.7")) == ()
    assert back(at("s1", "198.51.100.1", interface="rack")) == (("rack",),)


def test_who_else_is_there_takes_an_interface_out() -> None:
    spine = at("s1", "198.51.100.1", interface="rack")
    assert back(spine, at("s2", interface="rack")) == ()
    assert back(spine, at("h11", "198.51.100.7")) == ()  # reached by its address, without a link
    assert back(spine, others=("198.51.100.7",)) == ()
    anybody = Around(neighbor="198.51.100.64/26", network=parse_prefix("198.51.100.64/26"))
    assert back(spine, anybody, at("s2", "192.0.2.0")) == (("up1",),)
    assert back(at("s1", "192.0.2.0"), at("s2", "2001:db8::2")) == ()


def test_a_network_on_several_interfaces_is_on_each() -> None:
    ports = at("s1", interface="port1"), at("s2", interface="port2")
    assert back(*ports) == (("port1",), ("port2",))
    assert back(*ports, at("h11", "203.0.113.7")) == ()
    assert back(*ports, others=("203.0.113.7",)) == ()


def test_an_address_in_no_network_says_nothing() -> None:
    assert back(at("s1", "192.0.2.99")) == ()
