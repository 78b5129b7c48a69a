from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from romana.codec.text import parse_prefix
from romana.core.routing.vpc.changes import TableChanges, table_changes
from romana.model.address import Family, Prefix
from romana.model.vpc import RouteTable, TableRoute
from tests.unit.core.routing.vpc.sites import prefixes

LOCAL = {"10.0.0.0/16": "local"}


def table(routes: dict[str, str], counted: int | None = None) -> RouteTable:
    held = {parse_prefix(text): TableRoute(target=target, local=target == "local") for text, target in routes.items()}
    counts = {family: sum(one.family is family for one in held) for family in Family}
    if counted is not None:
        counts[Family.V4] = counted
    return RouteTable(id="rtb-1", vpc="vpc-1", routes=held, counted=counts)


A, B, C = prefixes("100.96.0.0/13", "100.104.0.0/13", "100.112.0.0/13")


def test_only_what_differs_is_changed_and_nothing_of_others() -> None:
    held = table({**LOCAL, "0.0.0.0/0": "igw-1", str(A): "eni-1", str(B): "eni-2", str(C): "eni-3"})
    found = table_changes(held, {A: "eni-1", B: "eni-9"}, {A, B, C}, 50)
    assert found == TableChanges(table="rtb-1", replace={B: "eni-9"}, unused=(C,), owned=(A, B, C))
    assert len(table_changes(held, {A: "eni-1", B: "eni-2", C: "eni-3"}, {A, B, C}, 50)) == 0


def test_a_route_of_others_at_the_same_destination_is_told_and_left_alone() -> None:
    held = table({**LOCAL, str(A): "nat-1"})
    found = table_changes(held, {A: "eni-1", B: "eni-2"}, (), 50)
    assert (found.add, found.replace, found.remove, found.unused) == ({B: "eni-2"}, {}, (), ())
    (told,) = found.problems
    assert "rtb-1 has a route to 100.96.0.0/13 that is not ours (to nat-1); it stays" in told
    adopted = table_changes(held, {A: "eni-1"}, (), 50, adopt=True)
    assert adopted == TableChanges(table="rtb-1", replace={A: "eni-1"}, owned=(A,))


def test_the_vpcs_own_range_is_no_destination_and_never_ours() -> None:
    inside, around = prefixes("10.0.4.0/22", "10.0.0.0/12")
    for prefix in (inside, around, parse_prefix("10.0.0.0/16")):
        found = table_changes(table(LOCAL), {prefix: "eni-1"}, {prefix}, 50, adopt=True)
        assert len(found) == 0
        assert f"{prefix} overlaps with 10.0.0.0/16, which is the VPC's own" in found.problems[0]


def test_what_does_not_fit_is_refused_whole_with_numbers_and_the_rest_goes_on() -> None:
    held = table({**LOCAL, str(A): "eni-1"}, counted=49)
    found = table_changes(held, {A: "eni-2", B: "eni-1", C: "eni-1", parse_prefix("fd00::/44"): "eni-1"}, {A}, 50)
    assert found.replace == {A: "eni-2"}
    assert list(map(str, found.add)) == ["fd00::/44"]
    (told,) = found.problems
    assert "rtb-1: 2 more IPv4 routes would not fit, and none was added: it has 49 (1 of ours, 48 of others)" in told
    assert "of at most 50, and 1 can come" in told
    assert len(table_changes(held, {A: "eni-1", B: "eni-1"}, {A}, 50).add) == 1


def test_routes_that_nobody_uses_make_room_and_others_wait_for_their_replacement() -> None:
    whole = parse_prefix("100.96.0.0/12")
    held = table({**LOCAL, str(whole): "eni-1", str(C): "eni-1"}, counted=50)
    found = table_changes(held, {A: "eni-1"}, {whole, C}, 50)
    assert (found.unused, found.add, found.remove) == ((C,), {A: "eni-1"}, (whole,))
    refused = table_changes(held, {A: "eni-1", B: "eni-1"}, {whole, C}, 50)
    assert (refused.unused, refused.add, refused.remove) == ((C,), {}, ())


def test_a_route_that_nobody_can_take_stays_as_it_is_or_is_not_made() -> None:
    held = table({str(A): "eni-1"})
    found = table_changes(held, {A: "", B: ""}, {A}, 50)
    assert len(found) == 0
    assert found.owned == (A,)


def test_a_plan_without_routes_takes_nothing_out() -> None:
    found = table_changes(table({str(A): "eni-1"}), {}, {A}, 50)
    assert len(found) == 0
    assert "the plan has no route for it, so the 1 that it has from us stay" in found.problems[0]
    assert table_changes(table({str(A): "eni-1"}), {}, (), 50).problems == ()


PREFIXES = [
    one for text in ("100.96.0.0/12", "100.112.0.0/12") for one in (parse_prefix(text), *parse_prefix(text).subnets(13))
]
ROUTES = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(["eni-1", "eni-2", "nat-1"]))


@given(
    ROUTES,
    st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(["eni-1", "eni-2"])),
    st.sets(st.sampled_from(PREFIXES)),
    st.integers(0, 8),
)
def test_any_changes_keep_the_promises(
    routes: dict[Prefix, str], plan: dict[Prefix, str], owned: set[Prefix], quota: int
) -> None:
    held = table({str(prefix): target for prefix, target in routes.items()})
    found = table_changes(held, plan, owned, quota)
    now = dict(routes)
    for prefix, target in found.replace.items():
        assert prefix in owned
        assert prefix in now
        now[prefix] = target
    for prefix in found.unused:
        assert not any(prefix.overlaps(one) for one in plan)
        del now[prefix]
    now |= found.add
    if found.add:
        assert len(now) <= quota
    assert not routes.keys() & found.add.keys()
    for prefix in found.remove:
        assert found.problems or plan.keys() <= now.keys()
        del now[prefix]
    foreign = {prefix: target for prefix, target in routes.items() if prefix not in owned}
    assert foreign.items() <= now.items()
    assert now.keys() - foreign.keys() <= set(found.owned)
    if not found.problems and plan:
        assert now == {**foreign, **plan}
        again = table({str(prefix): target for prefix, target in now.items()})
        assert len(table_changes(again, plan, found.owned, quota)) == 0
