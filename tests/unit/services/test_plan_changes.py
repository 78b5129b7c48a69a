"""Changing the plan by its verb, with hosts and endpoints living under it, and bits placement from end to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from romana.codec.records import HOST, NUMBERS, SPAN
from romana.codec.text import parse_prefix
from romana.core.topology import PlanChange
from romana.model.errors import Conflict, Exhausted, Invalid
from romana.model.ipam import SERVER, Span
from romana.model.route import Away
from romana.model.topology import Host
from romana.ports import Transaction
from romana.services.control import plan as plan_module
from romana.services.control.addresses import AddressVerbs
from tests.unit.services.machines import Machines, with_machines


def document(*groups: dict[str, Any], root: dict[str, Any] | None = None, **network: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "networks": [{"name": "n", "cidr": "10.0.0.0/16", "span_length": 24, "stock": 0, "mixed": 0} | network],
        "topologies": [{"name": "t", "networks": ["n"], "groups": list(groups)} | (root or {})],
    }


RACKS = ({"name": "a", "assignment": {"rack": "a"}}, {"name": "b", "assignment": {"rack": "b"}})
PLAN = document(*RACKS)
BITS: dict[str, Any] = {
    "version": 1,
    "networks": [
        {
            "name": "n",
            "cidr": "10.0.0.0/8",
            "placement": "bits",
            "bits": {"host": 8, "tenant": 4, "segment": 4, "endpoint": 8},
        }
    ],
    "topologies": [{"name": "t", "networks": ["n"]}],
}


def run(test: Callable[[Machines], Awaitable[None]], plan: dict[str, Any] = PLAN) -> None:
    with_machines(plan, test)


def watch_commits(site: Machines) -> list[Transaction]:
    """Every transaction from now on."""
    seen: list[Transaction] = []
    commit = site.core.store.commit

    async def watched(transaction: Transaction) -> int:
        seen.append(transaction)
        return await commit(transaction)

    site.core.store.commit = watched  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize(
    "other",
    [
        document(*RACKS, cidr="10.1.0.0/16"),
        document(*RACKS, block_length=28),
        document(*RACKS, root={"spare": 6}),
        document(*RACKS, tenants=["beta"]),
        document(*RACKS, reserved=["10.0.0.0/30"]),
        document(*RACKS, static=["10.0.0.0/28"]),
        document({"name": "a", "assignment": {"rack": "b"}, "hosts": ["x"]}, {"name": "b"}),
        BITS,
        {"version": 1, "networks": [{"name": "n", "cidr": "10.0.0.0/16"}]},
        {"version": 1, "networks": [{"name": "n", "cidr": "10.0.0.0/8"}, {"name": "m", "cidr": "10.0.0.0/8"}]},
    ],
    ids=["cidr", "block", "spare", "tenants", "reserved", "static", "sole", "bits", "no-topology", "overlap"],
)
def test_weak_point_6_a_refused_plan_leaves_every_record_as_it_was(other: dict[str, Any]) -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", "h2", rack="a")
        await site.join("h3", rack="b")
        await site.allocate("pod", "h1", "t:s")
        await site.allocate("other", "h3", "t:s")
        await site.blackouts.add({"cidr": "10.0.200.0/24"})
        before = await site.contents()
        plan, hosts = site.core.state.plan, dict(site.core.state.hosts)
        with pytest.raises(Invalid):
            await site.plan.set_topology(other)
        assert await site.contents() == before
        assert (site.core.state.plan, site.core.state.hosts) == (plan, hosts)
        assert await site.allocate("next", "h1", "t:s") == "10.0.0.1"

    run(test)


def test_a_plan_that_would_cover_a_hosts_own_address_is_refused_whole() -> None:
    async def test(site: Machines) -> None:
        await site.control.hosts.set_host("h1", {"addresses": ["10.1.0.9"], "labels": {"rack": "a"}})
        before, text = site.core.state.plan, site.core.state.plan_document
        with pytest.raises(Invalid, match=r"hosts\.h1\.addresses: 10\.1\.0\.9 lies in network n \(10\.0\.0\.0/15\)"):
            await site.plan.set_topology(document(*RACKS, cidr="10.0.0.0/15"))
        assert (site.core.state.plan, site.core.state.plan_document) == (before, text)
        with pytest.raises(Invalid, match=r"10\.0\.3\.3 lies in network n"):
            await site.control.hosts.set_host("h2", {"addresses": ["10.0.3.3"], "labels": {"rack": "a"}})
        assert "h2" not in site.core.state.hosts
        await site.blackouts.add({"cidr": "10.0.3.0/24"})
        await site.control.hosts.set_host("h2", {"addresses": ["10.0.3.3"], "labels": {"rack": "a"}})
        await site.plan.set_topology(document(*RACKS, cidr="10.0.0.0/15", reserved=["10.1.0.0/24"]))

    run(test)


def test_weak_point_6_hosts_that_joined_and_blackouts_stay_over_a_change() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", "h2", rack="a")
        await site.blackouts.add({"cidr": "10.0.200.0/24"})
        before = dict(site.core.state.hosts)
        await site.plan.set_topology(document(*RACKS, tenants=["t"], static=["10.0.255.0/24"]))
        assert site.core.state.hosts == before
        assert list(map(str, site.core.state.blackouts)) == ["10.0.200.0/24"]

    run(test)


def test_a_dry_run_names_what_moves_and_what_would_be_orphaned_and_writes_nothing() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", rack="a")
        await site.join("h2", rack="b")
        await site.allocate("pod", "h2", "t:s")
        before = await site.contents()
        _, change = site.plan.preview(document(*RACKS, root={"spare": 1}))
        (refusal,) = change.refusals
        assert str(refusal) == (
            "hosts.h2: holds 10.0.128.0/24 (1 block(s), 1 endpoint(s)) of network n, outside the group the new plan "
            "gives it (10.0.64.0/18, group /b); 10.0.128.0/24 is to be in /spare-3, which is closed; "
            "keep its group's CIDR, or move it with what it holds (`romana topology apply --move h2`), "
            "or empty it first"
        )
        assert {(one.group, str(one.before), str(one.after)) for one in change.groups} == {
            ("/a", "10.0.0.0/17", "10.0.0.0/18"),
            ("/b", "10.0.128.0/17", "10.0.64.0/18"),
            ("/spare-3", "None", "10.0.128.0/18"),
            ("/spare-4", "None", "10.0.192.0/18"),
        }
        assert site.plan.preview(PLAN)[1] == PlanChange()
        assert await site.contents() == before

    run(test)


def test_what_is_put_in_force_is_what_the_dry_run_said() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", rack="a")
        renamed = document({"name": "x"}, {"name": "y"}, stock=3)
        said = site.plan.preview(renamed)[1]
        assert [(move.host, move.before, move.after) for move in said.hosts] == [("h1", "/a", "/x")]
        assert (await site.plan.set_topology(renamed))[1] == said
        assert site.core.state.hosts["h1"].groups == {"t": "/x"}

    run(test)


def test_a_host_moves_with_its_spans_which_are_exceptions_until_they_are_empty_or_it_is_back() -> None:
    async def test(site: Machines) -> None:
        away = document(RACKS[0], {"name": "b", "hosts": ["h1", "x"]})
        home = document({"name": "a", "hosts": ["h1", "x"]}, RACKS[1])
        await site.plan.set_topology(home)
        await site.join("h1")
        await site.join("h2", rack="b")
        assert await site.allocate("pod", "h1") == "10.0.0.0"
        before = await site.contents()
        with pytest.raises(Invalid, match=r"hosts\.h1: is listed in group /b .* --move h1"):
            await site.plan.set_topology(away)
        said = site.plan.preview(away, ("h1",))[1]
        assert [(move.host, move.before, move.after) for move in said.hosts] == [("h1", "/a", "/b")]
        assert said.refusals == ()
        assert await site.contents() == before
        assert (await site.plan.set_topology(away, ("h1",)))[1] == said
        routes = site.core.state.routes
        (lone,) = routes.exceptions()
        assert (str(lone.prefix), lone.host, lone.reason, lone.home) == ("10.0.0.0/24", "h1", Away.SPAN, "/a")
        assert routes.exceptions_of("h1") == (lone.prefix,)
        assert await site.allocate("same-owner", "h1") == "10.0.0.1"
        assert (await site.allocate("new-owner", "h1", "u:s")).startswith("10.0.128."), "new blocks are where it is"
        await site.plan.set_topology(away)
        with pytest.raises(
            Invalid, match=r"hosts\.h1: is listed in group /a of topology t, but holds 10\.0\.128\.0/24"
        ):
            await site.plan.set_topology(home)
        await site.plan.set_topology(home, ("h1",))
        assert [str(one.prefix) for one in routes.exceptions()] == ["10.0.128.0/24"]

    run(test)


def test_a_change_under_five_thousand_hosts_writes_the_plan_and_those_that_move() -> None:
    async def test(site: Machines) -> None:
        puts: dict[str, bytes] = {}
        for number in range(5000):
            name, rack = f"h{number}", "ab"[number % 2]
            puts[HOST.key(name)] = HOST.encode(Host(name=name, labels={"rack": rack}, groups={"t": f"/{rack}"}))
            span = parse_prefix(("10.0.0.0/9", "10.128.0.0/9")[number % 2]).subnet(24, number // 2)
            puts[SPAN.key(span)] = SPAN.encode(Span(cidr=span, network="n", host=name))
        await site.core.reached(await site.core.store.commit(Transaction(puts=puts)))
        commits = watch_commits(site)
        _, change = await site.plan.set_topology(document(*RACKS, cidr="10.0.0.0/8", stock=4))
        assert change.hosts == ()
        (made,) = commits
        assert made.puts.keys() == {"plan/current"}
        assert made.compares.keys() == {"plan/current", "roster/current"}
        renamed = document({"name": "c", "assignment": {"rack": "a"}}, RACKS[1], cidr="10.0.0.0/8", stock=4)
        _, change = await site.plan.set_topology(renamed)
        assert len(change.hosts) == 2500
        moved = {key for key in commits[-1].puts if key != "plan/current"}
        assert moved == {HOST.key(f"h{number}") for number in range(0, 5000, 2)}

    run(test, document(*RACKS, cidr="10.0.0.0/8"))


@pytest.mark.parametrize(
    ("other", "tries"),
    [
        pytest.param(document(*RACKS, stock=4), 1, id="nobody-is-affected"),
        pytest.param(document(*RACKS, tenants=["t", "u"]), 2, id="tenants-shrink"),
        pytest.param(document(*RACKS, static=["10.0.127.0/24"]), 2, id="a-static-range-in-the-group"),
        pytest.param(document(*RACKS, static=["10.0.255.0/24"]), 1, id="a-static-range-elsewhere"),
    ],
)
def test_a_claim_made_meanwhile_counts_where_it_may_matter(other: dict[str, Any], tries: int) -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", rack="a")
        commits: list[Transaction] = []
        commit = site.core.store.commit

        async def late(transaction: Transaction) -> int:
            if "plan/current" not in transaction.puts:
                return await commit(transaction)
            commits.append(transaction)
            if len(commits) == 1:
                await site.allocate("pod", "h1", "t:s")
            return await commit(transaction)

        site.core.store.commit = late  # type: ignore[method-assign]
        await site.plan.set_topology(other)
        assert len(commits) == tries

    run(test)


def test_a_claim_decided_under_the_old_plan_is_decided_again() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", rack="a")
        await site.own("t:s")
        answers = await asyncio.gather(
            site.plan.set_topology(document(*RACKS, tenants=["u"])),
            site.allocate("pod", "h1", "t:s"),
            return_exceptions=True,
        )
        state = site.core.state
        owners = {block.owner.tenant for block in state.blocks.values() if block.owner}
        assert not owners or not state.plan.networks[0].tenants, answers

    run(test)


STATIC = document(*RACKS, static=["10.0.4.0/24", "10.0.200.0/28"])


async def give(site: Machines, name: str, address: str = "", tenant: str = "t") -> str:
    await site.own(f"{tenant}:s")
    wanted = {"name": name, "tenant": tenant, "segment": "s"} | ({"addresses": [address]} if address else {})
    return str((await AddressVerbs(site.core).give(wanted)).allocations[0].address)


def held_by_romanad(site: Machines) -> dict[str, list[str]]:
    """The control plane's own spans with their blocks."""
    state = site.core.state
    blocks = sorted(state.blocks_on(SERVER).values(), key=lambda block: block.cidr)
    return {
        str(span): [str(block.cidr) for block in blocks if block.span == span]
        for span in sorted(state.spans_on(SERVER))
    }


def test_blocks_of_reservations_go_with_the_static_range_around_them() -> None:
    async def test(site: Machines) -> None:
        assert [await give(site, "vm1"), await give(site, "vm2", "10.0.4.128")] == ["10.0.4.0", "10.0.4.128"]
        assert held_by_romanad(site) == {"10.0.4.0/24": ["10.0.4.0/29", "10.0.4.128/29"]}
        await site.plan.set_topology(document(*RACKS, static=["10.0.0.0/21"]))
        assert held_by_romanad(site) == {"10.0.0.0/21": ["10.0.4.0/29", "10.0.4.128/29"]}
        assert await give(site, "vm3", tenant="u") == "10.0.0.0"
        await site.join("h1", rack="a")
        assert await site.allocate("pod", "h1") == "10.0.8.0"
        await site.plan.set_topology(document(*RACKS, static=["10.0.0.0/24", "10.0.4.0/25", "10.0.4.128/25"]))
        assert held_by_romanad(site) == {
            "10.0.0.0/24": ["10.0.0.0/29"],
            "10.0.4.0/25": ["10.0.4.0/29"],
            "10.0.4.128/25": ["10.0.4.128/29"],
        }

    run(test, STATIC)


def test_a_static_range_with_reservations_stays_and_an_empty_one_goes() -> None:
    async def test(site: Machines) -> None:
        await give(site, "vm1")
        before = await site.contents()
        with pytest.raises(Invalid, match=r"10\.0\.4\.0/24 is no longer static, but has .* vm1 \(10\.0\.4\.0\)"):
            await site.plan.set_topology(PLAN)
        with pytest.raises(Invalid, match=r"networks\.n: is not in the new plan, but 10\.0\.4\.0/24"):
            await site.plan.set_topology({"version": 1, "networks": []})
        with pytest.raises(Invalid, match="they cannot become spans of /24 with blocks of /28"):
            await site.plan.set_topology(document(*RACKS, static=["10.0.4.0/24"], block_length=28))
        assert await site.contents() == before
        await AddressVerbs(site.core).release("vm1")
        await site.plan.set_topology(PLAN)
        assert held_by_romanad(site) == {}
        assert list(map(str, site.core.state.retired)) == ["10.0.4.0/29"], "readers have it in their views"
        await site.join("h1", rack="a")
        assert await site.allocate("pod", "h1") == "10.0.0.0"

    run(test, STATIC)


def test_a_reservation_made_while_its_range_is_dropped_is_not_lost() -> None:
    async def test(site: Machines) -> None:
        # without a block of the range, with one that is there already, and with one beside it
        for first, tenant in ((False, "t"), (True, "t"), (True, "u")):
            await site.plan.set_topology(STATIC)
            if first:
                await give(site, "early")
                await AddressVerbs(site.core).release("early")
            commit = site.core.store.commit

            async def late(transaction: Transaction, commit: Any = commit, tenant: str = tenant) -> int:
                if "plan/current" in transaction.puts:
                    site.core.store.commit = commit  # type: ignore[method-assign]
                    await give(site, "vm", tenant=tenant)
                done: int = await commit(transaction)
                return done

            site.core.store.commit = late  # type: ignore[method-assign]
            with pytest.raises((Invalid, Conflict)):
                await site.plan.set_topology(PLAN)
            state = site.core.state
            assert "vm" in state.reservations
            assert state.plan.networks[0].static
            await AddressVerbs(site.core).release("vm")

    run(test)


def test_weak_point_10_a_fixed_address_is_in_a_block_of_its_owner_and_of_nobody_else() -> None:
    async def test(site: Machines) -> None:
        await give(site, "vm1", "10.0.4.9")
        await give(site, "vm2", "10.0.4.10")
        block = site.core.state.blocks[parse_prefix("10.0.4.8/29")]
        assert (str(block.owner), block.allocator, block.span) == ("t/s", SERVER, parse_prefix("10.0.4.0/24"))
        await site.own("u:s")
        before = await site.contents()
        with pytest.raises(Conflict, match=r"in block .* of t/s, so u/s cannot have it"):
            await give(site, "vm3", "10.0.4.11", tenant="u")
        assert await site.contents() == before

    run(test, STATIC)


def test_a_large_block_of_the_control_plane_keeps_its_range() -> None:
    wide = document(*RACKS, static=["10.0.4.0/22"], block_length=20, span_length=20, cidr="10.0.0.0/16")
    wide["networks"][0] |= {"static": ["10.0.0.0/20"]}

    async def test(site: Machines) -> None:
        await give(site, "vm1")
        await AddressVerbs(site.core).release("vm1")
        with pytest.raises(
            Invalid, match=r"10\.0\.0\.0/20 is a block of the control plane, too large to be given back"
        ):
            await site.plan.set_topology(document(*RACKS, block_length=20, span_length=20))

    run(test, wide)


def test_a_plan_that_no_store_takes_as_one_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(site: Machines) -> None:
        monkeypatch.setattr(plan_module, "MOST_BYTES", 1024)
        with pytest.raises(
            Invalid, match="the plan is 2 KiB with its document, at most 1 are possible; list fewer hosts"
        ):
            await site.plan.set_topology(document(*RACKS, tenants=[f"tenant-{number}" for number in range(50)]))

    run(test)


def test_romana_v1s_example_from_end_to_end() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", "h2", "h3")
        for name, owner in (("a", "zero:s"), ("b", "one:s0"), ("c", "one:s1")):
            await site.allocate(name, "h1", owner)
        assert await site.allocate("d", "h2", "one:s2") == "10.1.18.3"
        assert await site.allocate("e", "h2", "one:s2") == "10.1.18.4"
        assert await site.allocate("f", "h1", "one:s2") == "10.0.18.3"
        assert await site.allocate("g", "h3", "zero:s") == "10.2.0.3"
        numbers = site.core.state.numbers["n"]
        assert (numbers.tenants, numbers.segments) == (
            {"zero": 0, "one": 1},
            {"zero/s": 0, "one/s0": 0, "one/s1": 1, "one/s2": 2},
        )

    run(test, BITS)


def test_weak_point_v1_the_seventeenth_tenant_is_refused_and_takes_nobodys_bits() -> None:
    async def test(site: Machines) -> None:
        await site.join("h1", "h2")
        for number in range(16):
            assert await site.allocate(f"pod-{number}", "h1", f"t{number}:s") == f"10.0.{number << 4}.3"
        with pytest.raises(Exhausted, match="4 bit"):
            await site.allocate("one-more", "h1", "t16:s")
        assert await site.allocate("other-host", "h2", "t0:s") == "10.1.0.3"

    run(test, BITS)


def test_ids_are_given_anew_when_a_bits_network_gets_other_widths() -> None:
    async def test(site: Machines) -> None:
        await site.own("t:s")
        network = BITS["networks"][0]
        wider = {**BITS, "networks": [{**network, "bits": {"host": 8, "tenant": 5, "segment": 3, "endpoint": 8}}]}
        numbers = NUMBERS.encode({"tenants": {"gone": 0, "t": 1}, "segments": {"t/s": 0}})  # type: ignore[arg-type]
        await site.core.reached(await site.core.store.commit(Transaction(puts={NUMBERS.key("n"): numbers})))
        await site.plan.set_topology({**BITS, "networks": [{**network, "tenants": ["t"]}]})
        assert site.core.state.numbers["n"].tenants == {"gone": 0, "t": 1}
        await site.plan.set_topology(wider)
        assert "n" not in site.core.state.numbers

    run(test, BITS)
