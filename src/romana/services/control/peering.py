"""What devices say of their routing daemons, and what that says of the plan.

Owns the records of it, one a device, written when it differs. Refuses to ask. Invariant: what is known of a device that
is gone is forgotten with the next report of another one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import msgspec

from romana.codec.records import PEERING
from romana.core.routing.check import router_differences
from romana.core.routing.speakers import speaker
from romana.model.daemon import DaemonReport, DaemonState, Peering, SessionState
from romana.model.errors import NotFound
from romana.model.fabric import Protocol
from romana.services.control.core import Core, Draft
from romana.services.control.state import State

GONE_AT_ONCE = 20
UNKNOWN = "its agent has not said yet how it is"
ALONE = "it has no neighbours: give it a link, a peer, or addresses in a network of its group's routers"


class PeeringVerbs:
    """Daemons, as their agents see them."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def report(self, report: DaemonReport) -> None:
        """Note how a device's daemon is; NotFound for one that is neither a host nor a router of the plan."""

        def decide(state: State, draft: Draft) -> None:
            if not is_known(state, report.device):
                raise NotFound(f"no host and no router of the plan is named {report.device!r}")
            known = state.peerings.get(report.device)
            differences = () if known is None else known.differences
            audit = 0 if known is None else known.audit
            if report.held is not None:
                plan = state.routes.device_plan(report.device)
                differences, audit = router_differences(plan, report), report.audit
            new = Peering(
                device=report.device,
                state=report.state,
                problem=report.problem,
                audit=audit,
                differences=differences,
            )
            if new == known:
                return
            draft.put(PEERING, PEERING.key(report.device), new)
            for gone in islice((name for name in state.peerings if not is_known(state, name)), GONE_AT_ONCE):
                draft.delete(PEERING.key(gone))

        await self._core.commit(decide)


def is_known(state: State, device: str) -> bool:
    """Whether it is a host, or a router that the plan names."""
    return device in state.hosts or device in state.routes.fabric.devices


def peerings(
    state: State, device: str | None = None, is_connected: Callable[[str], bool] = lambda _: True
) -> list[Peering]:
    """What is known of every device that should speak to others, or of one; also of those that said nothing yet.
    `is_connected` says whether a host's agent is heard from.
    """
    names = [device] if device is not None else [*state.routes.fabric.devices, *sorted(state.hosts)]
    found = []
    for name in names:
        if not is_known(state, name):
            raise NotFound(f"no host and no router of the plan is named {name!r}")
        known = state.peerings.get(name)
        if known is not None:
            silent = name in state.hosts and not is_connected(name)
            found.append(msgspec.structs.replace(known, silent=silent))
            continue
        planned = speaker(state.routes, name)
        if planned is not None:
            sessions = tuple(
                SessionState(name=one.name, protocol="bgp", up=False, state="unknown", neighbor=one.neighbor)
                for one in planned.sessions
            )
            found.append(Peering(device=name, state=DaemonState(sessions=sessions), problem=UNKNOWN))
        elif _is_alone(state, name):
            found.append(Peering(device=name, state=DaemonState(), problem=ALONE))
    return found


def _is_alone(state: State, name: str) -> bool:
    """Whether a device should have neighbours by the plan's protocol, and nothing says which."""
    seat = state.routes.seat(name)
    return state.plan.routing.protocol is not Protocol.NONE and not (seat is not None and seat.domains)
