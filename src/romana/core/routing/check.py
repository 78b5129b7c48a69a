"""What a host has beside what the plan says it should have: its kernel, and its routing daemon.

Owns the words for every difference. Refuses to know how a host is looked at. Invariant: what the agent could not know
yet, because it is newer than the view that it works by, is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from romana.model.address import Prefix
from romana.model.report import Observation
from romana.model.route import DevicePlan, Mismatch, ObservedRoutes, RouteDifference

MOST = 100
"""Differences of one host that are kept."""


def route_differences(
    plan: DevicePlan, observation: Observation, is_new: Callable[[Prefix], bool]
) -> tuple[RouteDifference, ...]:
    """Everything in which a host differs from its plan, at most `MOST`; `is_new` tells what its view may not have yet.

    Nothing for an agent that does not say what routes it has.
    """
    seen = observation.routes
    if seen is None:
        return ()
    planned = [prefix for prefix in plan.originates if not is_new(prefix)]
    found = [
        *_kernel(planned, plan, observation, seen),
        *(_daemon(planned, plan, observation.host, seen) if seen.daemon else ()),
        *_endpoints(plan, observation, seen),
    ]
    return tuple(found[:MOST])


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
    for prefix in sorted(there.difference(plan.originates)):
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
            why = "there is no include file" if seen.announced is None else "it is not in the include file"
            sentence = f"{prefix} is not announced, because {why}: its rack router discards what is sent to it"
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
