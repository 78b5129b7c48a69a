"""Endpoints: the network interfaces of pods, VMs and bare-metal workloads."""

from __future__ import annotations

import msgspec

from romana.model.address import Address
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity


def endpoint_id(container: str, interface: str) -> str:
    """The id of the endpoint that a container's interface is: `<container>/<interface>`."""
    return f"{container}/{interface}"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as its host's agent made it and published it.

    `link` is the name of the host's side of the interface, `interface` the name inside the workload; `name` is for
    people
    (a pod's `namespace/name`). One allocation per family at most.
    """

    id: str
    name: str
    host: str
    identity: Identity
    allocations: tuple[Allocation, ...]
    link: str
    interface: str = "eth0"
    netns: str = ""
    mac: str = ""
    mtu: int = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its addresses, IPv4 first."""
        return tuple(sorted(allocation.address for allocation in self.allocations))
