"""The route plan as the control plane knows it: what devices should hold, and what they really have."""

from __future__ import annotations

from romana.codec.records import RESERVATION, SPAN
from romana.core.routing.check import Around, route_differences
from romana.core.routing.segment import segment_routes
from romana.core.routing.speakers import speaker
from romana.model.address import Prefix
from romana.model.report import Observation
from romana.model.route import RouteCheck, RouteDifference
from romana.services.control.state import State


def judged_routes(state: State, observation: Observation) -> tuple[RouteDifference, ...]:
    """How a host that is known differs from its plan, as far as its view could say so."""
    seen, names = observation.routes, dict[Prefix, str]()
    for name, held in state.reservations_on(observation.host).items():
        names |= dict.fromkeys((one.address for one in held.allocations), name)

    def is_new(prefix: Prefix) -> bool:
        key = RESERVATION.key(names[prefix]) if prefix in names else SPAN.key(prefix)
        return seen is not None and not seen.problem and state.revisions.of(key) > seen.revision

    host = observation.host
    planned = speaker(state.routes, host)
    around = Around(
        via=segment_routes(state.routes, host),
        learns=planned is not None and bool(planned.sessions or planned.ospf),
        peering=state.peerings.get(host) if seen is not None and seen.daemon else None,
    )
    return route_differences(state.routes.device_plan(host), observation, is_new, around)


def routers_heard(state: State, audit: int) -> set[str]:
    """The named routers whose agents answered a check."""
    known = state.routes.fabric.devices
    return {name for name, one in state.peerings.items() if name in known and one.audit >= audit}


def route_check(state: State, asked: set[str], heard: set[str], audit: int) -> RouteCheck:
    """What the last observations of the hosts and routers that answered showed.

    A router whose agent never said anything is configured by people, and is not missed.
    """
    routers = routers_heard(state, audit)
    found = [one for name in sorted(routers) for one in state.peerings[name].differences]
    found += [one for name in sorted(heard) if name in state.audited for one in state.audited[name].routes]
    silent = sorted(name for name in asked - heard if name in state.hosts)
    silent += sorted(name for name in state.routes.fabric.devices if name in state.peerings and name not in routers)
    return RouteCheck(differences=tuple(found), observed=len(heard) + len(routers), unreachable=tuple(silent))
