"""What the kernel tells of: remembered within bounds, sent while somebody wants it, named by the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from romana.codec.text import parse_address
from romana.model.address import Address
from romana.model.errors import Conflict
from romana.model.flow import FlowReason, Packet, ToldPacket
from romana.model.tenancy import Identity, Owner
from romana.services.agent.flows import KEPT
from romana.services.control.flows import FlowLine
from tests.unit.services.agent.site import Site, run

OTHER = Identity(owner=Owner("blue", "web"))
OUTSIDE = parse_address("198.51.100.1")


def told(source: Address, destination: Address, port: int = 80) -> ToldPacket:
    packet = Packet(source=source, destination=destination, protocol=6, port=port)
    return ToldPacket(reason=FlowReason.INGRESS, packet=packet)


async def first_flow(lines: AsyncIterator[FlowLine]) -> FlowLine:
    async for line in lines:
        if line.flow is not None:
            return line
    raise AssertionError


def test_a_follower_gets_what_is_remembered_and_what_is_new() -> None:
    async def test(site: Site) -> None:
        one, other = (await site.add(1)).endpoint, (await site.add(2, OTHER)).endpoint
        source, destination = one.addresses[0], other.addresses[0]
        site.agent.flows.note([told(source, destination), told(source, destination)])
        lines = site.control.flows.follow()
        assert (await anext(lines)).hosts == ("h1",)
        found = (await first_flow(lines)).flow
        assert found is not None
        assert (found.host, found.count, found.source_name, found.destination_name) == ("h1", 2, "c1", "c2")
        assert "tenant blue" in found.policies
        site.agent.flows.note([told(source, destination)])
        again = (await first_flow(lines)).flow
        assert again is not None
        assert again.count == 1
        await lines.aclose()  # type: ignore[attr-defined]
        await site.until(lambda: site.agent.ledger.view.flows == 0)
        second = site.control.flows.follow()
        await anext(second)
        remembered = (await first_flow(second)).flow
        assert remembered is not None
        assert remembered.count == 3
        await second.aclose()  # type: ignore[attr-defined]

    run(test)


def test_nothing_is_sent_while_nobody_follows() -> None:
    async def test(site: Site) -> None:
        one = (await site.add(1)).endpoint
        sent = []
        tell = site.control.tell_flows

        async def noted(host: str, epoch: int, flows: object) -> None:
            sent.append(flows)
            await tell(host, epoch, flows)  # type: ignore[arg-type]

        site.control.tell_flows = noted  # type: ignore[method-assign]
        site.agent.flows.note([told(OUTSIDE, one.addresses[0])])
        await asyncio.sleep(0.05)
        assert sent == []

    run(test)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    async def test(site: Site) -> None:
        one = (await site.add(1)).endpoint
        site.agent.flows.note([told(OUTSIDE, one.addresses[0], port) for port in range(1, KEPT + 11)])
        kept = site.agent.flows.since(0)
        assert len(kept) == KEPT
        assert kept[0].packet.port == 11
        assert [flow.packet.port for flow in site.agent.flows.since(KEPT + 9)] == [KEPT + 10]

    run(test)


def test_condemned_connections_are_told_of() -> None:
    async def test(site: Site) -> None:
        one, other = (await site.add(1)).endpoint, (await site.add(2, OTHER)).endpoint
        site.kernel.connections.append((one.addresses[0], other.addresses[0]))
        site.agent.reconciler.disturbed()
        await site.add(3)
        await site.until(lambda: bool(site.agent.flows.since(0)))
        (found,) = site.agent.flows.since(0)
        assert found.reason is FlowReason.CONDEMNED
        assert found.destination_name == "c2"

    run(test)


def test_an_agent_of_another_epoch_tells_nothing() -> None:
    async def test(site: Site) -> None:
        with pytest.raises(Conflict, match="epoch"):
            await site.control.tell_flows("h1", 99, [])

    run(test)


def test_a_follower_of_one_host_gets_no_others_flows_and_ends_in_time() -> None:
    async def test(site: Site) -> None:
        one = (await site.add(1)).endpoint
        site.agent.flows.note([told(OUTSIDE, one.addresses[0])])
        lines = [line async for line in site.control.flows.follow("h2", 0.2)]
        assert [line.flow for line in lines] == [None]

    run(test)
