"""Hosts as the control plane and their address books make them, without kernels: for tests of who gets which address.

The verbs, the store in memory and the agent's choice of addresses are the real ones; only the loops between them are
left out, so an address is given in one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from romana.codec.text import parse_address
from romana.core.ipam import AddressBook
from romana.core.ipam.networks import candidate_networks
from romana.core.topology import group_cidrs
from romana.model.endpoint import Endpoint
from romana.model.errors import Exhausted
from romana.model.tenancy import Identity, Owner
from romana.model.view import Claim, Hello, Publication, Released
from romana.services.control.blackouts import BlackoutVerbs
from romana.services.control.core import Core
from romana.services.control.plan import PlanVerbs
from romana.services.control.tenancy import TenancyVerbs
from tests.fakes.control import FakeControlPlane

BOOT = "boot"


class Machine:
    """One host's book, and what it published."""

    def __init__(self, host: str, epoch: int) -> None:
        self.host = host
        self.epoch = epoch
        self.book = AddressBook(host, boot_id=BOOT)
        self.published = 0


class Machines:
    """A control plane with a plan and hosts. Addresses are text, owners `tenant:segment` as Romana v2 writes them."""

    def __init__(self) -> None:
        self.control = FakeControlPlane()
        self.plan = PlanVerbs(self.control.core)
        self.tenancy = TenancyVerbs(self.control.core)
        self.blackouts = BlackoutVerbs(self.control.core)
        self.hosts: dict[str, Machine] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.now = 0

    @property
    def core(self) -> Core:
        """The control plane's heart."""
        return self.control.core

    async def join(self, *names: str, **labels: str) -> None:
        """Hosts report in, in this order."""
        for name in names:
            number = len(self.hosts) + 1
            hello = Hello(
                host=name, instance=f"i-{name}", addresses=(parse_address(f"192.0.2.{number}"),), labels=labels
            )
            self.hosts[name] = Machine(name, (await self.control.hello(hello)).epoch)

    async def own(self, owner: str) -> Identity:
        """The identity of an owner, which is made when it is new."""
        tenant, segment = owner.split(":")
        await self.tenancy.set_tenant(tenant, {})
        await self.tenancy.set_segment(tenant, segment)
        return Identity(owner=Owner(tenant, segment))

    async def allocate(self, name: str, host: str, owner: str = "t:s") -> str:
        """The first address of a new endpoint; Exhausted with the numbers."""
        identity = await self.own(owner)
        machine = self.hosts[host]
        names = self.networks(host, identity)
        self._follow(machine)
        try:
            allocations = machine.book.allocate(name, identity, names, self.now)
        except Exhausted:
            full = machine.book.full(identity.id, names, self.now)
            present = sum((one.host, one.identity.owner) == (host, identity.owner) for one in self.endpoints.values())
            claim = Claim(host=host, epoch=machine.epoch, identity=identity, full=full, present=present)
            await self.control.claim(claim)
            self._follow(machine)
            allocations = machine.book.allocate(name, identity, names, self.now)
        endpoint = Endpoint(id=name, name=name, host=host, identity=identity, allocations=allocations, link="rom0")
        await self._publish(machine, started=(endpoint,))
        self.endpoints[name] = endpoint
        return str(endpoint.addresses[0])

    async def release(self, name: str) -> None:
        """An endpoint ends; its addresses rest."""
        endpoint = self.endpoints.pop(name)
        machine = self.hosts[endpoint.host]
        machine.book.release(name, self.now)
        sequences = {allocation.address: allocation.sequence for allocation in endpoint.allocations}
        await self._publish(machine, released=(Released(endpoint=name, sequences=sequences),))

    def rest(self, seconds: int = 181) -> None:
        """Time passes."""
        self.now += seconds

    def networks(self, host: str, identity: Identity) -> list[str]:
        """The networks to try for an identity on a host, best first."""
        state = self.core.state
        here = {name: state.networks[name] for name in group_cidrs(state.plan, state.hosts[host])}
        found = candidate_networks(here, identity.owner.tenant)
        return [network.name for networks in found.values() for network in networks]

    def groups(self, topology: str) -> dict[str, str]:
        """Host -> its group."""
        return {name: host.groups.get(topology, "") for name, host in sorted(self.core.state.hosts.items())}

    async def contents(self) -> dict[str, tuple[int, bytes]]:
        """Everything in the store: key -> revision and value."""
        _, records = await self.core.store.scan()
        return {record.key: (record.revision, record.value) for record in records}

    def _follow(self, machine: Machine) -> None:
        state = self.core.state
        names = group_cidrs(state.plan, state.hosts[machine.host])
        networks = {name: state.networks[name] for name in names}
        machine.book.update(networks, state.blocks_on(machine.host), self.core.program.classes)

    async def _publish(self, machine: Machine, **what: Any) -> None:
        machine.published += 1
        publication = Publication(host=machine.host, epoch=machine.epoch, number=machine.published, **what)
        await self.control.publish(publication)


def with_machines(document: dict[str, Any], test: Callable[[Machines], Awaitable[None]]) -> None:
    """Run a test on a control plane with this plan."""

    async def body() -> None:
        machines = Machines()
        await machines.control.open(document, {})
        try:
            await asyncio.wait_for(test(machines), 30)
        finally:
            machines.control.close()

    asyncio.run(body())
