"""The part of the table that is about hosts that come, go and fall silent."""

from __future__ import annotations

import msgspec

from romana.apps.server.http import Call, Endpoint, Page, page
from romana.core.ipam.retirement import waiting_for
from romana.model.errors import Fault, Invalid
from romana.model.topology import Host
from romana.model.view import Heartbeat, HeartbeatAnswer, Inventory, InventoryAnswer
from romana.services.control.agents import AgentVerbs
from romana.services.control.core import Core
from romana.services.control.hosts import HostVerbs, Taken
from romana.services.control.inventory import InventoryVerbs
from romana.services.control.liveness import Liveness
from romana.services.control.retirement import acknowledged_by, is_fenced


class HostLife(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is: `state` is connected, silent, fenced (its lease must be over) or absent (no agent is bound to it).

    `silent` is for how many seconds it was not heard from, as far as somebody watched; `lease` the length of its lease
    in seconds. What is retired waits for a host that is `behind`.
    """

    host: str
    state: str
    silent: int
    lease: int
    epoch: int
    applied: int
    behind: bool = False
    draining: bool = False
    unsettled: bool = False


class HostLives:
    """What romanad knows of hosts besides their records."""

    def __init__(self, core: Core, liveness: Liveness, agents: AgentVerbs) -> None:
        self._core = core
        self._liveness = liveness
        self._agents = agents

    def all(self) -> list[HostLife]:
        """Every host, by name."""
        state = self._core.state
        applied = {one.name: acknowledged_by(state, one) for one in state.hosts.values() if one.instance}
        behind = set(waiting_for(state.retired.values(), applied))
        return [self._one(state.hosts[name], behind) for name in sorted(state.hosts)]

    def _one(self, host: Host, behind: set[str]) -> HostLife:
        state = self._core.state
        seen = state.seen.get(host.name)
        if self._agents.is_connected(host.name):
            word = "connected"
        elif not host.instance:
            word = "absent"
        else:
            word = "fenced" if is_fenced(seen, self._liveness.settings) else "silent"
        return HostLife(
            host=host.name,
            state=word,
            silent=0 if word in ("connected", "absent") else self._liveness.silence(host.name),
            lease=seen.lease if seen is not None else 0,
            epoch=host.epoch,
            applied=acknowledged_by(state, host),
            behind=host.name in behind and word != "fenced",
            draining=host.draining,
            unsettled=host.name in state.unsettled,
        )


def host_endpoints(core: Core, liveness: Liveness, agents: AgentVerbs, hosts: HostVerbs) -> list[Endpoint]:
    """The lines of the table."""
    lives = HostLives(core, liveness, agents)
    inventories = InventoryVerbs(core)

    async def alive(call: Call) -> Page[HostLife]:
        return page(lives.all(), call, lambda one: one.host)

    async def drain(call: Call) -> Host:
        return await hosts.drain(call.path["name"])

    async def undrain(call: Call) -> Host:
        return await hosts.drain(call.path["name"], undo=True)

    async def lost(call: Call) -> Taken:
        return await hosts.lost(call.path["name"])

    async def heartbeat(call: Call) -> HeartbeatAnswer:
        sent: Heartbeat = call.message(Heartbeat)
        _check_host(call, sent.host)
        return await agents.heartbeat(sent)

    async def inventory(call: Call) -> InventoryAnswer:
        sent: Inventory = call.message(Inventory)
        _check_host(call, sent.host)
        return await inventories.inventory(sent)

    return [
        Endpoint(
            method="GET",
            path="/v1/liveness",
            summary="How all hosts are",
            handler=alive,
            gives=Page[HostLife],
            query=("limit", "after"),
            rel="liveness",
        ),
        Endpoint(
            method="PUT",
            path="/v1/hosts/{name}/drain",
            summary="Give a host no more room, and have its agent give back what it does not use",
            handler=drain,
            gives=Host,
        ),
        Endpoint(
            method="DELETE",
            path="/v1/hosts/{name}/drain",
            summary="Give a host room again",
            handler=undrain,
            gives=Host,
        ),
        Endpoint(
            method="POST",
            path="/v1/hosts/{name}/lost",
            summary="Say that a host's machine is off, so that others may have what it held",
            handler=lost,
            gives=Taken,
        ),
        Endpoint(
            method="POST",
            path="/v1/hosts/{host}/heartbeats",
            summary="An agent renews its lease",
            handler=heartbeat,
            takes=Heartbeat,
            gives=HeartbeatAnswer,
        ),
        Endpoint(
            method="POST",
            path="/v1/hosts/{host}/inventory",
            summary="An agent says what its host holds",
            handler=inventory,
            takes=Inventory,
            gives=InventoryAnswer,
        ),
    ]


def _check_host(call: Call, host: str) -> None:
    if host != call.path["host"]:
        raise Invalid(Fault("host", f"is {host!r}, the address says {call.path['host']!r}"))
