from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from romana.core.routing.plan import RoutePlan
from romana.core.topology.place import find_group
from romana.model.address import Family, Prefix
from romana.model.route import Away, DevicePlan, Reach
from romana.model.topology import Group
from tests.unit.core.routing.worlds import Plans, World, all_plans, claim, go_away, move, some_address, walk, world

SEEDS = st.integers(0, 1 << 32)


@given(SEEDS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_packet_reaches_who_has_its_address_or_ends_in_one_discard(seed: int, ospf: bool) -> None:
    here = world(seed, ospf=ospf)
    plans = all_plans(here.routes())
    draw = random.Random(seed)
    for _ in range(12):
        address = some_address(draw, here)
        holder = here.holder(address)
        for source in plans:
            end, passed = walk(plans, source, address)
            assert end, f"{address} has no route at {passed[-1]}"
            if holder:
                assert end == holder, (address, passed)


@given(SEEDS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_address_that_nobody_has_ends_at_one_discard_whoever_sends(seed: int, ospf: bool) -> None:
    here = world(seed, ospf=ospf)
    routes = here.routes()
    plans = all_plans(routes)
    draw = random.Random(seed)
    for _ in range(12):
        address = some_address(draw, here)
        if here.holder(address):
            continue
        ends = {source: walk(plans, source, address)[0] for source in plans}
        for source, end in ends.items():
            discards = [one for one in plans[end].routes if one.prefix.contains(address)]
            assert max(discards, key=lambda one: one.prefix.length).reach is Reach.DISCARD, (address, source)
        flat = {name for name in plans if (seat := routes.seat(name)) is not None and seat.is_flat}
        assert all(end == source for source, end in ends.items() if source in flat)
        assert len({routes.place_of(end) for source, end in ends.items() if source not in flat}) <= 1, (address, ends)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_what_a_device_learns_is_what_the_one_it_learns_from_has(seed: int) -> None:
    routes = world(seed).routes()
    plans = all_plans(routes)
    for name, plan in plans.items():
        for route in plan.routes:
            if route.reach is Reach.DISCARD:
                assert not route.toward
                continue
            known = {one.prefix: one for one in plans[plans.device(route.toward, seed)].routes}
            assert route.prefix in known, (name, route)
            if route.exception and route.reach is not Reach.BESIDE:
                assert known[route.prefix].onward == routes.place_of(name)


@given(SEEDS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_device_holds_more_than_the_formula_says(seed: int, ospf: bool) -> None:
    here = world(seed, ospf=ospf)
    routes = here.routes()
    crossing: Counter[str] = Counter(device for one in routes.exceptions() for device in one.devices)
    for device, plan in all_plans(routes).items():
        place = routes.place_of(device)
        assert len(plan.routes) <= bound(here, place) + crossing[place], device
        assert sum(route.exception for route in plan.routes) == crossing[place]
        counts = routes.counts(device)
        assert (counts.total, counts.exceptions) == (len(plan.routes), crossing[place])


def bound(here: World, device: str) -> int:
    """The formula of docs/design/routing.md, without exceptions."""
    if device in here.hosts:
        places = here.hosts[device].groups.items()
        above = {cidr for name, path in places for over in ways(path) for cidr in cidrs_at(here, over, name)}
        routers = {over for _, path in places for over in ways(path)}
        above |= {cidr for over in routers for cidr in cidrs_at(here, over)}
        beside = {name for name in here.hosts if name == device or segments(here, name) & segments(here, device)}
        return len(above) + sum(span.host in beside for span in here.spans.values())
    groups = groups_at(here, device)
    above = {cidr for over in ways(device)[:-1] for cidr in cidrs_at(here, over)}
    roots = groups_at(here, "/")
    if len(roots[0].routers) > 1:
        above |= {cidr for root in roots for child in root.groups for cidr in child.cidrs.values()}
    own = set(cidrs_at(here, device))
    children = {cidr for group in groups for child in group.groups for cidr in child.cidrs.values()}
    under = {
        (topology.name, child.path)
        for topology in here.plan.topologies
        for group in [find_group(topology.root, device)]
        if group is not None
        for child in (group, *(one for one in group.groups if one.sole_host), *(below(group) if group.layer2 else ()))
    }
    hosts = {host.name for host in here.hosts.values() if under & set(host.groups.items())}
    return len(above | own | children) + sum(span.host in hosts for span in here.spans.values())


def segments(here: World, host: str) -> set[str]:
    """The layer 2 networks of a host, by the path of the outermost group that says so."""
    found = set()
    for topology in here.plan.topologies:
        over = ways(here.hosts[host].groups[topology.name]) if topology.name in here.hosts[host].groups else []
        flat = [path for path in over if any(group.layer2 == path for group in groups_at(here, path, topology.name))]
        found |= set(flat[:1])
    return found


def below(group: Group) -> Iterator[Group]:
    for child in group.groups:
        yield child
        yield from below(child)


def ways(path: str) -> list[str]:
    """A path and those above it, from the root."""
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))]


def groups_at(here: World, path: str, topology: str = "") -> list[Group]:
    found = [find_group(one.root, path) for one in here.plan.topologies if topology in ("", one.name)]
    return [group for group in found if group is not None]


def cidrs_at(here: World, path: str, topology: str = "") -> set[Prefix]:
    return {cidr for group in groups_at(here, path, topology) for cidr in group.cidrs.values()}


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_an_exception_is_held_where_it_is_needed_and_nowhere_else(seed: int) -> None:
    here = world(seed)
    routes = here.routes()
    whole = all_plans(routes)
    draw = random.Random(seed)
    exceptions = list(routes.exceptions())
    for one in draw.sample(exceptions, k=min(2, len(exceptions))):
        holding = {routes.place_of(name) for name, plan in whole.items() if one.prefix in exceptions_in(plan)}
        assert holding == set(one.devices)
        for place in one.devices:  # without it there, some packet is lost or goes round
            spoiled = Plans(whole)
            spoiled.members = whole.members
            for name in whole.members.get(place, (place,)):
                spoiled[name] = without(whole[name], one.prefix)
            lone = spoiled[one.devices[-1]].routes if one.devices[-1] in here.hosts else ()
            source = place if any(route.private for route in lone) else one.devices[-1]
            assert not arrives(spoiled, source, one.prefix, one.host), place


def arrives(plans: Plans, source: str, prefix: Prefix, host: str) -> bool:
    device, passed = plans.device(source, 0), 0
    while passed <= len(plans):
        passed += 1
        matching = [route for route in plans[device].routes if route.prefix.contains(prefix)]
        best = max(matching, key=lambda one: one.prefix.length, default=None)
        if best is None:
            return False
        if best.reach is Reach.DISCARD:
            return device == host and best.prefix == prefix
        device = plans.device(best.toward, passed)
    return False


def exceptions_in(plan: DevicePlan) -> set[Prefix]:
    return {route.prefix for route in plan.routes if route.exception}


def without(plan: DevicePlan, prefix: Prefix) -> DevicePlan:
    kept = tuple(route for route in plan.routes if route.prefix != prefix)
    return DevicePlan(device=plan.device, serves=plan.serves, originates=(), routes=kept)


@given(SEEDS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_plan_kept_up_is_the_plan_from_nothing(seed: int, ospf: bool) -> None:
    before, after = world(seed, ospf=ospf), world(seed, ospf=ospf)
    draw = random.Random(seed)
    kept = before.routes()
    for _ in range(14):
        plans = all_plans(kept)
        touched = change(draw, after, kept)
        fresh = after.routes()
        assert list(kept.exceptions()) == list(fresh.exceptions())
        now = all_plans(kept)
        assert now == all_plans(fresh)
        changed = {name for name in now.keys() | plans.keys() if now.get(name) != plans.get(name)}
        assert changed <= touched


def change(draw: random.Random, here: World, routes: RoutePlan) -> set[str]:
    """One change of the world, done to both; what the plan says that it touched."""
    match draw.randrange(7):
        case 0 | 1:
            span = claim(draw, here, draw.choice(sorted(here.hosts)))
            return routes.put_span(span) if span else set()
        case 2 if here.spans:
            cidr = draw.choice(sorted(here.spans))
            del here.spans[cidr]
            return routes.drop_span(cidr)
        case 3:
            return routes.put_exception(go_away(draw, here))
        case 4 if here.away:
            prefix = draw.choice(sorted(here.away))
            del here.away[prefix]
            return routes.drop_exception(prefix)
        case 5:
            return routes.put_host(move(draw, here, draw.choice(sorted(here.hosts))))
        case 6 if here.spans and len(here.hosts) > 1:
            cidr = draw.choice(sorted(here.spans))
            here.spans[cidr] = msgspec.structs.replace(here.spans[cidr], host=draw.choice(sorted(here.hosts)))
            return routes.put_span(here.spans[cidr])
    return set()


def test_the_worlds_are_of_every_shape() -> None:
    """What is tried above holds little for a shape that no world has."""
    seen: Counter[str] = Counter()
    for seed in range(120):
        here = world(seed)
        routes = here.routes()
        fabric = routes.fabric
        groups = [group for topology in here.plan.topologies for group in below(topology.root)]
        plans = all_plans(routes)
        for reach in Reach:
            seen[reach.value] += any(route.reach is reach for plan in plans.values() for route in plan.routes)
        seats = [seat for name in here.hosts if (seat := routes.seat(name)) is not None]
        seen["several routers, with a link"] += any(
            len(router.members) > 1 and fabric.exchange(path) for path, router in fabric.routers.items()
        )
        seen["several routers, handing down"] += any(router.specifics for router in fabric.routers.values())
        seen["a prefix for a host"] += any(group.sole_host for group in groups)
        seen["a prefix for a host, announced whole"] += any(
            group.sole_host and set(group.cidrs.values()) & here.spans.keys() for group in groups
        )
        seen["layer 2 alone"] += any(seat.is_flat for seat in seats)
        seen["layer 2 below a router"] += any(seat.domains and seat.uplinks for seat in seats)
        seen["several topologies"] += len(here.plan.topologies) > 1
        seen["spare parts"] += any(group.closed for group in groups)
        for family in Family:
            seen[f"spans of {family.name}"] += any(cidr.family is family for cidr in here.spans)
            seen[f"exceptions of {family.name}"] += any(one.prefix.family is family for one in routes.exceptions())
        for one in routes.exceptions():
            seen[f"away: {one.reason.value}"] += 1
        seen["exceptions around exceptions"] += any(
            one != other and one.contains(other) for one in here.away for other in here.away
        )
    rare = {shape: count for shape, count in seen.items() if count < 5}
    assert not rare
    assert seen.keys() >= {f"away: {reason.value}" for reason in Away}
