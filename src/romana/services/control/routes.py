"""The route plan as the control plane knows it: what devices should hold, and what hosts really have."""

from __future__ import annotations

from romana.codec.records import RESERVATION, SPAN
from romana.core.routing.check import route_differences
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

    return route_differences(state.routes.device_plan(observation.host), observation, is_new)


def route_check(state: State, asked: set[str], heard: set[str]) -> RouteCheck:
    """What the last observations of the hosts that answered showed."""
    found = [one for name in sorted(heard) if name in state.audited for one in state.audited[name].routes]
    silent = sorted(name for name in asked - heard if name in state.hosts)
    return RouteCheck(differences=tuple(found), observed=len(heard), unreachable=tuple(silent))
