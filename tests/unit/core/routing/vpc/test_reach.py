from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from romana.core.routing.vpc.groups import vpc_routes
from romana.core.routing.vpc.places import place_hosts
from romana.core.routing.vpc.reach import reach_of
from romana.core.routing.vpc.relays import preference
from romana.model.vpc import Instance, Interface, VpcHost, VpcPlan
from tests.unit.core.routing.vpc.sites import LABEL, instance, longest, places, prefixes, route, vpc_host
from tests.unit.core.routing.worlds import some_address, world


def test_a_host_is_found_by_its_label_or_by_an_address_that_one_instance_has() -> None:
    labelled = msgspec.structs.replace(vpc_host("h1", "192.0.2.9"), labels={LABEL: "i-one"})
    wrong = msgspec.structs.replace(vpc_host("h4", "10.0.0.2"), labels={LABEL: "i-none"})
    hosts = [labelled, vpc_host("h2", "10.0.0.2"), vpc_host("h3", "10.0.0.3"), wrong, vpc_host("h5", "10.0.0.5")]
    known = [
        instance("one", "10.0.0.1"),
        instance("two", "10.0.0.2"),
        instance("three", "10.0.0.3"),
        instance("also", "10.0.0.3", vpc="vpc-2"),
    ]
    found = place_hosts(hosts, {one.id: one for one in known}, LABEL)
    assert {name: place.instance.id for name, place in found.by_host.items()} == {"h1": "i-one", "h2": "i-two"}
    assert "are on i-also, i-three; label it romana.io/instance=ID" in found.problems["h3"]
    assert "romana.io/instance=i-none" in found.problems["h4"]
    assert "no instance of the tables' VPCs has an address of host h5 (10.0.0.5)" in found.problems["h5"]


def test_the_interface_is_the_one_with_the_hosts_address_else_the_primary_one() -> None:
    def two(name: str) -> Instance:
        one = instance(name, "10.0.0.1")
        more = Interface(
            id="eni-more", subnet="subnet-b", addresses=instance("x", "10.0.1.1").interfaces[0].addresses, index=1
        )
        return msgspec.structs.replace(one, interfaces=(more, *one.interfaces))

    by_address = place_hosts([vpc_host("h1", "10.0.1.1")], {"i-one": two("one")}, LABEL)
    assert by_address.by_host["h1"].interface.id == "eni-more"
    labelled = msgspec.structs.replace(vpc_host("h1", "192.0.2.1"), labels={LABEL: "i-one"})
    assert place_hosts([labelled], {"i-one": two("one")}, LABEL).by_host["h1"].interface.id == "eni-one"
    gone = msgspec.structs.replace(instance("one", "10.0.0.1"), interfaces=(), state="terminated")
    assert "is terminated and has no interface" in place_hosts([labelled], {"i-one": gone}, LABEL).problems["h1"]


def test_a_group_is_led_to_the_subnet_of_most_of_its_hosts_and_others_have_their_own_routes() -> None:
    plan = VpcPlan(
        revision=1,
        routes=(route("100.96.0.0/13", "h1", "h2", "h3", group="site:/a"),),
        hosts=(
            vpc_host("h1", "10.0.0.1", "100.96.0.0/24"),
            vpc_host("h2", "10.0.1.2", "100.96.1.0/24", "100.96.9.9/32"),
            vpc_host("h3", "10.0.0.3", "100.96.2.0/24"),
        ),
    )
    known = [instance("one", "10.0.0.1"), instance("two", "10.0.1.2", subnet="subnet-b"), instance("three", "10.0.0.3")]
    found = reach_of(plan, places(plan, *known), "vpc-1")
    assert {str(one.prefix): one.hosts for one in found.routes.values()} == {
        "100.96.0.0/13": ("h1", "h3"),
        "100.96.1.0/24": ("h2",),
        "100.96.9.9/32": ("h2",),
    }
    assert found.apart == prefixes("100.96.1.0/24", "100.96.9.9/32")


def test_a_vpc_has_no_route_to_what_has_no_host_in_it() -> None:
    plan = VpcPlan(
        revision=1,
        routes=(route("10.32.0.0/13", "h1", group="a:/z"), route("10.48.0.0/13", "h2", group="b:/z")),
        hosts=(vpc_host("h1", "10.0.0.1"), vpc_host("h2", "10.9.0.1")),
    )
    known = [instance("one", "10.0.0.1"), instance("two", "10.9.0.1", vpc="vpc-2")]
    found = {vpc: reach_of(plan, places(plan, *known), vpc) for vpc in ("vpc-1", "vpc-2")}
    assert {vpc: tuple(map(str, one.routes)) for vpc, one in found.items()} == {
        "vpc-1": ("10.32.0.0/13",),
        "vpc-2": ("10.48.0.0/13",),
    }


@given(st.integers(0, 2**32))
def test_a_packet_reaches_the_host_that_has_its_address_by_one_relay_at_most(seed: int) -> None:
    """Whoever relays passes it on within its own subnet, or it would come back by the same table."""
    draw = random.Random(seed)
    site = world(seed)
    routes = site.routes()
    known = {}
    hosts = []
    for number, name in enumerate(sorted(site.hosts)):
        subnet = f"subnet-{draw.choice('aaabc')}"
        known[f"i-{name}"] = instance(name, f"192.0.2.{number}", subnet=subnet)
        hosts.append(
            VpcHost(
                name=name,
                addresses=known[f"i-{name}"].interfaces[0].addresses,
                announced=routes.device_plan(name).originates,
            )
        )
    planned = vpc_routes(site.plan, site.hosts.values(), routes.held())
    plan = VpcPlan(revision=1, routes=planned, hosts=tuple(hosts))
    where = place_hosts(plan.hosts, known, LABEL).by_host
    reach = reach_of(plan, where, "vpc-1")
    table = reach.routes
    assert table.keys() == {route.prefix for route in planned} | set(reach.apart)
    for _ in range(40):
        address = some_address(draw, site)
        holder, next_hop = site.holder(address), longest(table, address)
        if holder:
            assert next_hop is not None
            relay = preference("rtb-1", next_hop)[draw.randrange(len(next_hop.hosts))]
            assert where[relay].interface.subnet == where[holder].interface.subnet
