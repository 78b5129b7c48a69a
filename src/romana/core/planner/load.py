"""A load: which endpoints there are, on which hosts, and how they come and go.

Owns the model of tenants, workloads and pods. Refuses to know addresses. Invariant: the same load gives the same
events, and every host's events are in the order of their time.

The sizes of workloads are log-normal: most have a few endpoints, a few have very many. A workload belongs to a tenant
drawn with Zipf's weights, so the first tenants are large. An endpoint that ends is replaced by one of its workload on
another host, as in a rolling update, so the number of endpoints stays.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

import msgspec

from romana.core.planner.draws import Draws

PODS_A_HOST = 49
PODS_A_TENANT = 200
ENOUGH = 400
"""Hosts to watch, where a load has more: what they need on average is then known within a percent or two."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much is to run, and how it is spread.

    `median` and `sigma` are of the log-normal distribution of a workload's endpoints, `skew` is Zipf's exponent over
    the tenants, `apart` the share (0 to 1) of tenants whose workloads are not to share blocks: they are segments, or
    policies tell them apart. With `spread`, a workload's endpoints go to as many hosts as possible, else anywhere.
    `churn` is how many endpoints a host starts in an hour; it goes on for `hours`, and `away` hours more.
    """

    hosts: int
    pods: int
    tenants: int
    median: float = 4.0
    sigma: float = 1.9
    skew: float = 1.0
    apart: float = 0.0
    spread: bool = False
    churn: float = 10.0
    hours: float = 24.0
    away: float = 0.5
    seed: int = 1


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An endpoint (by number) starts or ends on a host, so many seconds after the beginning."""

    at: int
    starts: bool
    pod: int
    workload: int


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """A load, drawn: for each watched host its events in order, for each workload its tenant and the owner of its
    blocks.

    Owners are numbers: that of the tenant, or, for a workload that is apart, `tenants` + its own.
    """

    load: Load
    events: list[list[Event]]
    tenant_of: list[int]
    owner_of: list[int]


def draw(load: Load, watched: int | None = None) -> Course:
    """The events of a load, on the first `watched` hosts only, where that is given: any host is as good as another."""
    watched = load.hosts if watched is None else min(watched, load.hosts)
    draws = Draws(load.seed)
    sizes = _sizes(load, draws)
    tenant_of = _tenants(load, len(sizes), draws)
    apart = [tenant for tenant in range(load.tenants) if draws.unit() < load.apart]
    told = set(apart)
    owner_of = [load.tenants + workload if tenant in told else tenant for workload, tenant in enumerate(tenant_of)]
    events: list[list[Event]] = [[] for _ in range(watched)]
    pods = [workload for workload, size in enumerate(sizes) for _ in range(size)]
    hosts = _spread(load, sizes, draws) if load.spread else [draws.below(load.hosts) for _ in pods]
    order = list(range(len(pods)))
    draws.shuffle(order)
    for pod in order:
        if hosts[pod] < watched:
            events[hosts[pod]].append(Event(0, True, pod, pods[pod]))
    _churn(load, draws, pods, hosts, events)
    return Course(load=load, events=events, tenant_of=tenant_of, owner_of=owner_of)


def _sizes(load: Load, draws: Draws) -> list[int]:
    """Endpoints of each workload; together as many as there are to be."""
    sizes = []
    left = load.pods
    while left > 0:
        size = min(left, max(1, round(load.median * math.exp(load.sigma * draws.normal()))))
        sizes.append(size)
        left -= size
    return sizes


def _tenants(load: Load, workloads: int, draws: Draws) -> list[int]:
    """The tenant of each workload; each tenant has one where there are enough."""
    weights = list(accumulate((rank + 1) ** -load.skew for rank in range(load.tenants)))
    found = [bisect_right(weights, draws.unit() * weights[-1]) for _ in range(workloads)]
    places = list(range(workloads))
    draws.shuffle(places)
    for tenant, place in zip(range(load.tenants), places, strict=False):
        found[place] = tenant
    return found


def _spread(load: Load, sizes: list[int], draws: Draws) -> list[int]:
    """Each workload goes around all hosts, from a random one on, in steps that meet every host."""
    found = []
    for size in sizes:
        host, step = draws.below(load.hosts), _step(load.hosts, draws)
        for _ in range(size):
            found.append(host)
            host = (host + step) % load.hosts
    return found


def _step(hosts: int, draws: Draws) -> int:
    while True:
        step = draws.below(hosts) + 1
        if math.gcd(step, hosts) == 1:
            return step


def _churn(load: Load, draws: Draws, pods: list[int], hosts: list[int], events: list[list[Event]]) -> None:
    """Endpoints are replaced one by one, by such with new numbers: the new one starts, then the old one ends."""
    total = round(load.churn * load.hosts * (load.hours + load.away))
    seconds = round((load.hours + load.away) * 3600)
    alive = list(range(len(pods)))
    for number in range(total if alive else 0):
        at = 1 + seconds * number // total
        place = draws.below(len(alive))
        pod, workload = alive[place], pods[alive[place]]
        host = draws.below(load.hosts)
        alive[place] = len(hosts)
        pods.append(workload)
        hosts.append(host)
        if host < len(events):
            events[host].append(Event(at, True, alive[place], workload))
        if hosts[pod] < len(events):
            events[hosts[pod]].append(Event(at, False, pod, workload))
