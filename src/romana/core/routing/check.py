"""What a device has beside what the plan says it should have: its kernel, and its routing daemon.

Owns the words for every difference. Refuses to know how a device is looked at. Invariant: what the agent could not know
yet, because it is newer than the view that it works by, is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from romana.model.address import Address, Prefix
from romana.model.daemon import DaemonReport, DaemonState, Peering
from romana.model.report import Observation
from romana.model.route import DevicePlan, Mismatch, ObservedRoutes, Reach, RouteDifference

LEAVES = "packets to what is unused in it leave by other routes"
NOT_READ = "BIRD does not have it; `birdc configure` makes it read our file again"
MOST = 100
"""Differences of one device that are kept."""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds a host: the routes that its agent is to set itself with their next hops, whether a daemon is to
    learn the rest, and the state of that daemon as the host said last.
    """

    via: Mapping[Prefix, tuple[Address, ...]] = {}
    learns: bool = False
    peering: Peering | None = None


def route_differences(
    plan: DevicePlan, observation: Observation, is_new: Callable[[Prefix], bool], around: Around | None = None
) -> tuple[RouteDifference, ...]:
    """Everything in which a host differs from its plan, at most `MOST`; `is_new` tells what its view may not have yet.

    Nothing for an agent that does not say what routes it has.
    """
    seen = observation.routes
    if seen is None:
        return ()
    around = around or Around()
    planned = [prefix for prefix in plan.originates if not is_new(prefix)]
    found = [
        *_sessions(observation.host, around.peering),
        *_kernel(planned, plan, observation, seen),
        *_segment(observation.host, seen, {one: hops for one, hops in around.via.items() if not is_new(one)}, around),
        *(_learned(plan, observation.host, seen, around, is_new) if seen.learned is not None else ()),
        *(_daemon(planned, plan, observation.host, seen) if seen.daemon else ()),
        *_endpoints(plan, observation, seen),
    ]
    return tuple(found[:MOST])


def router_differences(plan: DevicePlan, report: DaemonReport) -> tuple[RouteDifference, ...]:
    """Everything in which a router's kernel differs from its plan, at most `MOST`."""
    held = {one.prefix: one for one in report.held or ()}
    peering = Peering(device=report.device, state=report.state, problem=report.problem)
    found = [*_sessions(report.device, peering)]
    why = _why_missing(report.state)
    for route in plan.routes:
        one = held.pop(route.prefix, None)
        if one is None and route.reach is Reach.DISCARD:
            sentence = (
                f"the kernel does not discard {route.prefix}: packets to what is unused in it leave by other routes"
            )
            found.append(_one(report.device, Mismatch.NO_BLACKHOLE, route.prefix, sentence, report.problem))
        elif one is None:
            sentence = f"the kernel has no route to {route.prefix}, which comes from {route.toward}{why}"
            found.append(_one(report.device, Mismatch.NOT_LEARNED, route.prefix, sentence, report.problem))
        elif one.discard and route.reach is not Reach.DISCARD:
            sentence = f"the kernel discards {route.prefix}, which leads to {route.toward}{why}"
            found.append(_one(report.device, Mismatch.STRAY_BLACKHOLE, route.prefix, sentence, report.problem))
    for prefix in sorted(held):
        sentence = f"the kernel has a route to {prefix}, which the plan does not give to this router"
        found.append(_one(report.device, Mismatch.STRAY_ROUTE, prefix, sentence, report.problem))
    return tuple(found[:MOST])


def _sessions(device: str, peering: Peering | None) -> Iterator[RouteDifference]:
    if peering is None:
        return
    if peering.problem:
        yield RouteDifference(host=device, kind=Mismatch.DAEMON_PROBLEM, prefix=None, sentence=peering.problem)
    for one in peering.state.sessions:
        if not one.up:
            sentence = f"{one.name} is {one.state}: {one.sentence}"
            yield RouteDifference(host=device, kind=Mismatch.SESSION_DOWN, prefix=None, sentence=sentence)


def _why_missing(state: DaemonState) -> str:
    down = [one.name for one in state.sessions if not one.up]
    if down:
        return f"; {', '.join(down[:3])} {'is' if len(down) == 1 else 'are'} down"
    return "; all sessions are up, so it is not announced, or not accepted" if state.sessions else ""


def _segment(
    host: str, seen: ObservedRoutes, wanted: Mapping[Prefix, tuple[Address, ...]], around: Around
) -> Iterator[RouteDifference]:
    """The routes that the agent sets itself."""
    for prefix, hops in sorted(wanted.items()):
        if prefix not in seen.via:
            known = ", ".join(map(str, hops)) or "nobody knows an address of it"
            sentence = (
                f"the kernel has no route to {prefix} beside this host: no network of it has a next hop ({known})"
            )
            yield _one(host, Mismatch.NO_NEXT_HOP, prefix, sentence, seen.problem)
        elif not set(seen.via[prefix]) <= set(hops):
            sentence = (
                f"the kernel's route to {prefix} goes by {', '.join(map(str, seen.via[prefix]))}, which is not there"
            )
            yield _one(host, Mismatch.STRAY_ROUTE, prefix, sentence, seen.problem)
    for prefix in sorted(seen.via.keys() - around.via.keys()):
        sentence = f"the kernel has a route of ours to {prefix}, which is not beside this host; the agent removes it"
        yield _one(host, Mismatch.STRAY_ROUTE, prefix, sentence, seen.problem)


def _learned(
    plan: DevicePlan, host: str, seen: ObservedRoutes, around: Around, is_new: Callable[[Prefix], bool]
) -> Iterator[RouteDifference]:
    """What a daemon brings."""
    if not around.learns or not seen.daemon:
        return
    there = set(seen.learned or ())
    why = _why_missing(around.peering.state) if around.peering is not None else ""
    for route in plan.routes:
        if route.reach is Reach.ABOVE and route.prefix not in there and not is_new(route.prefix):
            sentence = f"the kernel has no route to {route.prefix}, which comes from {route.toward}{why}"
            yield _one(host, Mismatch.NOT_LEARNED, route.prefix, sentence, seen.problem)
    planned = {route.prefix for route in plan.routes}
    for prefix in sorted(there - planned):
        sentence = f"the kernel has a route to {prefix} from another program, which the plan does not have"
        yield _one(host, Mismatch.STRAY_ROUTE, prefix, sentence, seen.problem)


def _kernel(
    planned: Iterable[Prefix], plan: DevicePlan, observation: Observation, seen: ObservedRoutes
) -> Iterator[RouteDifference]:
    host, there = observation.host, set(seen.blackholes)
    for prefix in planned:
        if prefix not in there and not _is_endpoint(prefix, observation):
            sentence = (
                f"the kernel has no blackhole for {prefix}: packets to what is unused in it go round until their time "
                "is over; the agent sets it in its next round"
            )
            yield _one(host, Mismatch.NO_BLACKHOLE, prefix, sentence, seen.problem)
    private = {route.prefix for route in plan.routes if route.private}
    for prefix in sorted(private - there):
        sentence = f"the kernel does not discard {prefix}: {LEAVES}"
        yield _one(host, Mismatch.NO_BLACKHOLE, prefix, sentence, seen.problem)
    for prefix in sorted(there.difference(plan.originates) - private):
        sentence = (
            f"the kernel discards {prefix}, which the plan does not give to this host; the agent removes it in its "
            "next full round"
        )
        yield _one(host, Mismatch.STRAY_BLACKHOLE, prefix, sentence, seen.problem)


def _is_endpoint(prefix: Prefix, observation: Observation) -> bool:
    """Whether it is one address, whose endpoint's route has the blackhole's place."""
    return prefix.is_address and any(prefix in uses for uses in observation.endpoints.values())


def _daemon(planned: Iterable[Prefix], plan: DevicePlan, host: str, seen: ObservedRoutes) -> Iterator[RouteDifference]:
    said = set(seen.announced or ())
    if not seen.held:
        for prefix in sorted(said):
            sentence = f"{prefix} is announced, although the host's lease is over; the agent withdraws it when it can"
            yield _one(host, Mismatch.STRAY_ANNOUNCEMENT, prefix, sentence, seen.problem)
        return
    for prefix in planned:
        if prefix not in said:
            why = "BIRD has not read our file; does bird.conf include it?" if seen.announced is None else NOT_READ
            sentence = f"{prefix} is not announced: {why}; its rack router discards what is sent to it"
            yield _one(host, Mismatch.NOT_ANNOUNCED, prefix, sentence, seen.problem)
    for prefix in sorted(said.difference(plan.originates)):
        sentence = f"{prefix} is announced, but the plan does not give it to this host; the agent withdraws it"
        yield _one(host, Mismatch.STRAY_ANNOUNCEMENT, prefix, sentence, seen.problem)


def _endpoints(plan: DevicePlan, observation: Observation, seen: ObservedRoutes) -> Iterator[RouteDifference]:
    host, pending = observation.host, set(observation.pending_endpoints)
    lost = set(seen.unrouted)
    for name, uses in sorted(observation.endpoints.items()) if lost else ():
        for address in sorted(lost.intersection(uses)) if name not in pending else ():
            sentence = f"the kernel has no route to {address} of endpoint {name}: its link is down or gone"
            yield _one(host, Mismatch.NO_ENDPOINT_ROUTE, address, f"{sentence}; start the workload again", "")
    for address, link in sorted(observation.strays.items()):
        sentence = f"the kernel routes {address} to {link}, but no endpoint has it; `romana ipam check` follows it up"
        yield _one(host, Mismatch.STRAY_ENDPOINT_ROUTE, address, sentence, "")
    own = set(plan.originates)
    lengths = {prefix.length for prefix in own}
    for cidr, block in sorted(observation.blocks.items()):
        if block.used and not any(cidr.supernet(length) in own for length in lengths if length <= cidr.length):
            sentence = f"{block.used} addresses of block {cidr} are in use here, but all routes lead elsewhere"
            yield _one(host, Mismatch.LED_ELSEWHERE, cidr, f"{sentence}; `romana ipam check` says whose it is", "")


def _one(host: str, kind: Mismatch, prefix: Prefix, sentence: str, problem: str) -> RouteDifference:
    because = f"; its last round failed: {problem}" if problem else ""
    plain = prefix.supernet(prefix.length)  # an address is written as a prefix here
    return RouteDifference(host=host, kind=kind, prefix=plain, sentence=sentence + because)
