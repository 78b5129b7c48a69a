"""ports.Vpcs and ports.VpcControl: boto3 on moto's server, a real romanad and their fakes keep one contract each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.adapters.ec2 import PAGES, Ec2
from romana.adapters.romanad import RomanadClient
from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Family
from romana.model.errors import AlreadyExists, Conflict, Exhausted, Invalid, NotFound, Unavailable
from romana.model.vpc import Instance, Interface, OwnedRoutes, RouteTable, TableRoute
from romana.ports import VpcControl, Vpcs
from tests.fakes.vpcs import FakeVpcControl, FakeVpcs
from tests.probes.cloud import CREDENTIALS, REGION, Cloud, cloud
from tests.probes.programs import romanad

FOUR, SIX = parse_prefix("100.96.0.0/13"), parse_prefix("fd00:64::/42")
LOCAL = parse_prefix("10.0.0.0/16")


class World:
    """One VPC with two instances, one of them stopped, and two tables; and its names."""

    def __init__(self, vpcs: Vpcs, ids: dict[str, str], fill: Callable[[int], None]) -> None:
        self.vpcs = vpcs
        self.ids = ids
        self.fill = fill
        """Have at most so many routes of a family in a table."""

    def table(self, name: str = "main") -> RouteTable:
        (found,) = self.vpcs.tables([self.ids[name]], {})
        return found


def on_moto(found: Cloud, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    found.vpc("vpc", "10.0.0.0/16")
    found.subnet("subnet", "vpc", "10.0.1.0/24")
    found.table("main", "vpc")
    found.table("tagged", "vpc", role="pods", stage="live")
    found.instance("one", "subnet", "10.0.1.10")
    found.instance("two", "subnet", "10.0.1.11")
    found.stop("two")

    def fill(quota: int) -> None:
        found.gate.quota = quota

    return World(Ec2(REGION, found.gate.endpoint), found.ids, fill)


def in_memory() -> World:
    fake = FakeVpcs()
    local = {
        LOCAL: TableRoute(target="local", local=True),
        parse_prefix("2001:db8::/56"): TableRoute(target="local", local=True),
    }
    ids = {"vpc": "vpc-1", "subnet": "subnet-1", "main": "rtb-1", "tagged": "rtb-2"}
    for name in ("main", "tagged"):
        fake.put(RouteTable(id=ids[name], vpc="vpc-1", routes=dict(local)))
    fake.tags["rtb-2"] = {"role": "pods", "stage": "live"}
    for name, address, state in (("one", "10.0.1.10", "running"), ("two", "10.0.1.11", "stopped")):
        ids |= {name: f"i-{name}", f"{name}/eni": f"eni-{name}"}
        card = Interface(id=f"eni-{name}", subnet="subnet-1", addresses=(parse_address(address),))
        fake.machines[f"i-{name}"] = Instance(id=f"i-{name}", vpc="vpc-1", state=state, interfaces=(card,))

    def fill(quota: int) -> None:
        fake.quota = quota

    return World(fake, ids, fill)


@pytest.fixture(params=["boto3", "fake"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    if request.param == "fake":
        yield in_memory()
        return
    with cloud(request.getfixturevalue("moto")) as found:
        yield on_moto(found, monkeypatch)


def test_tables_are_found_by_id_or_by_all_tags_with_what_counts(world: World) -> None:
    main, tagged = world.ids["main"], world.ids["tagged"]
    found = world.vpcs.tables([main, "rtb-00000000000000000"], {"role": "pods", "stage": "live"})
    assert {one.id for one in found} == {main, tagged}
    assert world.vpcs.tables([], {"role": "pods", "stage": "test"}) == ()
    assert world.vpcs.tables([], {}) == ()
    table = world.table()
    assert table.vpc == world.ids["vpc"]
    assert table.routes[LOCAL] == TableRoute(target="local", local=True)
    assert table.counted == {Family.V4: 1, Family.V6: 1}


@pytest.mark.parametrize("prefix", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_a_route_is_added_replaced_and_removed(world: World, prefix: Any) -> None:
    one, two = world.ids["one/eni"], world.ids["two/eni"]
    world.vpcs.add_route(world.ids["main"], prefix, one)
    assert world.table().routes[prefix].target == one
    assert world.table().counted[prefix.family] == 2
    with pytest.raises(AlreadyExists):
        world.vpcs.add_route(world.ids["main"], prefix, two)
    world.vpcs.replace_route(world.ids["main"], prefix, two)
    assert world.table().routes[prefix].target == two
    assert prefix not in world.table("tagged").routes
    world.vpcs.remove_route(world.ids["main"], prefix)
    world.vpcs.remove_route(world.ids["main"], prefix)
    assert prefix not in world.table().routes
    with pytest.raises(NotFound):
        world.vpcs.replace_route(world.ids["main"], prefix, one)


def test_what_does_not_exist_is_not_found_and_what_is_full_is_exhausted(world: World) -> None:
    with pytest.raises(NotFound):
        world.vpcs.add_route("rtb-00000000000000000", FOUR, world.ids["one/eni"])
    with pytest.raises(NotFound):
        world.vpcs.add_route(world.ids["main"], FOUR, "eni-00000000000000000")
    with pytest.raises(NotFound):
        world.vpcs.stop_checking("eni-00000000000000000")
    world.fill(1)
    with pytest.raises(Exhausted):
        world.vpcs.add_route(world.ids["main"], FOUR, world.ids["one/eni"])
    assert FOUR not in world.table().routes


def test_instances_have_their_state_interfaces_and_addresses(world: World) -> None:
    found = world.vpcs.instances([world.ids["vpc"]])
    assert {found[world.ids[name]].state for name in ("one", "two")} == {"running", "stopped"}
    one = found[world.ids["one"]]
    assert (one.vpc, one.status) == (world.ids["vpc"], "")
    (card,) = one.interfaces
    assert card == Interface(
        id=world.ids["one/eni"], subnet=world.ids["subnet"], addresses=(parse_address("10.0.1.10"),), checked=True
    )
    assert world.vpcs.instances([]) == {}
    assert world.vpcs.instances(["vpc-00000000000000000"]) == {}
    assert world.vpcs.statuses([world.ids["one"], world.ids["two"]]) == {world.ids["one"]: "ok"}


def test_the_check_of_an_interface_is_turned_off_and_stays_off(world: World) -> None:
    for _ in range(2):
        world.vpcs.stop_checking(world.ids["one/eni"])
        found = world.vpcs.instances([world.ids["vpc"]])
        checked = {name: found[world.ids[name]].interfaces[0].checked for name in ("one", "two")}
        assert checked == {"one": False, "two": True}


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("RequestLimitExceeded", Unavailable, "asks for fewer calls"),
        ("InternalError", Unavailable, "AWS fails"),
        ("AuthFailure", Invalid, "credentials: AWS refuses them"),
        ("UnauthorizedOperation", Invalid, "ec2:CreateRoute: these credentials may not do it"),
        ("RouteLimitExceeded", Exhausted, "CreateRoute"),
        ("RouteAlreadyExists", AlreadyExists, "CreateRoute"),
        ("InvalidParameterCombination", Invalid, "ec2:CreateRoute: AWS refuses it: said the gate"),
    ],
)
def test_aws_errors_are_ours_with_its_own_words(
    moto: int, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception], words: str
) -> None:
    with cloud(moto) as found:
        world = on_moto(found, monkeypatch)
        rule = found.gate.rule("CreateRoute", code=code, times=100)
        with pytest.raises(kind, match=words):
            world.vpcs.add_route(world.ids["main"], FOUR, world.ids["one/eni"])
        assert 100 - rule.times <= 3


def test_pages_are_as_large_as_the_api_takes() -> None:
    """moto takes any; the limits are those of boto3's own description of the API."""
    service = Ec2(REGION)._client.meta.service_model
    for name, size in PAGES.items():
        operation = service.operation_model("".join(word.title() for word in name.split("_")))
        limits = operation.input_shape.members["MaxResults"].metadata
        assert limits.get("min", 1) <= size <= limits.get("max", 1000)


def test_routes_of_others_are_read_whatever_they_lead_to(moto: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud(moto) as found:
        world = on_moto(found, monkeypatch)
        gateway = found.gateway("gateway", "vpc")
        found.add_route("main", "0.0.0.0/0", GatewayId=gateway)
        found.add_route("main", "192.0.2.0/24", InstanceId=world.ids["one"])
        made = found.ec2.create_managed_prefix_list(PrefixListName="p", MaxEntries=7, AddressFamily="IPv4")
        found.ec2.create_route(
            RouteTableId=world.ids["main"],
            DestinationPrefixListId=made["PrefixList"]["PrefixListId"],
            GatewayId=gateway,
        )
        found.gate.blackholes.add(world.ids["two/eni"])
        world.vpcs.add_route(world.ids["main"], FOUR, world.ids["two/eni"])
        table = world.table()
        assert table.routes[parse_prefix("0.0.0.0/0")].target == gateway
        assert table.routes[parse_prefix("192.0.2.0/24")].target == world.ids["one"]
        assert table.routes[FOUR].blackhole
        assert table.counted == {Family.V4: 11, Family.V6: 1}  # a prefix list counts as all that it may have


@pytest.fixture(params=["romanad", "fake"])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Any], None]]:
    """Runs a test with a control plane."""

    async def body(test: Callable[[VpcControl], Awaitable[None]], server: str) -> None:
        if request.param == "fake":
            await test(FakeVpcControl())
            return
        async with RomanadClient(server) as client:
            await test(client)

    if request.param == "fake":
        yield lambda test: asyncio.run(body(test, ""))
        return
    with romanad(tmp_path) as server:
        yield lambda test: asyncio.run(body(test, server))


def test_what_is_ours_is_written_by_who_has_the_lease(control: Callable[[Any], None]) -> None:
    async def test(plane: VpcControl) -> None:
        with pytest.raises(Conflict):
            await plane.own_vpc_routes("rtb-1", OwnedRoutes(holder="one", routes=(FOUR,)))
        await plane.hold_lease("aws", "one", 30)
        await plane.hold_lease("aws", "one", 30)
        with pytest.raises(Conflict, match="one has the lease aws"):
            await plane.hold_lease("aws", "two", 30)
        await plane.own_vpc_routes("rtb-1", OwnedRoutes(holder="one", routes=(SIX, FOUR)))
        assert (await plane.vpc_plan("aws")).owned == {"rtb-1": (FOUR, SIX)}
        await plane.drop_lease("aws", "two")
        await plane.drop_lease("aws", "one")
        await plane.hold_lease("aws", "two", 30)
        with pytest.raises(Conflict):
            await plane.own_vpc_routes("rtb-1", OwnedRoutes(holder="one", routes=()))
        await plane.own_vpc_routes("rtb-1", OwnedRoutes(holder="two", routes=()))
        assert (await plane.vpc_plan("aws")).owned == {}
        await plane.own_vpc_routes("rtb-1", OwnedRoutes(holder="two", routes=(FOUR,)))
        await plane.hold_lease("aws-far", "far", 30)
        with pytest.raises(Conflict, match="under the lease aws"):
            await plane.own_vpc_routes("rtb-1", OwnedRoutes(lease="aws-far", holder="far", routes=(SIX,)))
        await plane.own_vpc_routes("rtb-2", OwnedRoutes(lease="aws-far", holder="far", routes=(SIX,)))
        assert (await plane.vpc_plan("aws")).owned == {"rtb-1": (FOUR,)}
        assert (await plane.vpc_plan("aws-far")).owned == {"rtb-2": (SIX,)}
        with pytest.raises(Invalid):
            await plane.own_vpc_routes("main", OwnedRoutes(holder="two", routes=(FOUR,)))

    control(test)
