"""Compiling a cluster's policies from nothing, and one more policy, in a process of its own: seconds and memory.

Prints JSON. The cluster has ten endpoints in each namespace, in blocks of their own, and a policy in the first of them.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import msgspec

from bench.policy_world import PER_NAMESPACE, identity, namespace, policy
from romana.codec.policy import read_policies
from romana.codec.text import parse_prefix
from romana.core.policy.compiler import Compiler
from romana.core.policy.world import PolicyWorld, Touched
from romana.model.address import Prefix
from romana.model.ipam import Block
from romana.model.policy import Policy
from romana.model.tenancy import Identity, Isolation, Tenant
from romana.model.topology import Network

NETWORKS = (("pods4", "10.0.0.0/8", 29), ("pods6", "fd00::/64", 122))
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Arguments: how many namespaces, how many policies."""
    namespaces, governed = map(int, sys.argv[1:3])
    policies: dict[str, Policy] = {}
    for number in range(governed):
        for one in read_policies(policy(number, "web-from-api", "api", 8000 + number % 10)):
            policies[one.id] = one
    people = [identity(number, app) for number in range(namespaces) for app in ("web", "api")]
    tenants = {name: Tenant(name=name, isolation=Isolation.NONE) for name in map(namespace, range(namespaces))}
    networks = {
        name: Network(name=name, cidr=parse_prefix(cidr), block_length=length, span_length=length - 5)
        for name, cidr, length in NETWORKS
    }
    blocks = _blocks(people, networks)
    compiler = Compiler()

    def world(these: dict[str, Policy]) -> PolicyWorld:
        return PolicyWorld(
            tenants=tenants,
            policies=these,
            identities={one.id: one for one in people},
            networks=networks,
            blocks=blocks,
        )

    before, begun = _resident(), time.perf_counter()
    compiler.update(world(policies))
    took = time.perf_counter() - begun
    figures = {"seconds": took, "mib": (_resident() - before) / (1 << 20)}
    (probe,) = read_policies(policy(0, "probe", "web", 7777))
    with_probe, other = world({**policies, probe.id: probe}), world(policies)
    changes = []
    for turn in range(20):
        begun = time.perf_counter()
        compiler.update(other if turn % 2 else with_probe, Touched(policies={probe.id}))
        changes.append((time.perf_counter() - begun) * 1000)
    figures["one_policy_ms_p50"] = statistics.median(changes)
    label = f"compile_{governed}_policies_{namespaces * PER_NAMESPACE}_endpoints"
    sys.stdout.buffer.write(msgspec.json.encode({f"{label}_{key}": value for key, value in figures.items()}))


def _blocks(people: list[Identity], networks: dict[str, Network]) -> dict[Prefix, Block]:
    """Every identity has a block of each network on each of two hosts."""
    found = {}
    for number, one in enumerate(people * 2):
        for network in networks.values():
            cidr = network.cidr.subnet(network.block_length, number)
            found[cidr] = Block(
                cidr=cidr,
                span=cidr,
                network=network.name,
                host=f"h{number % 97}",
                allocator=f"h{number % 97}",
                owner=one.owner,
                identities=(one.id,),
            )
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
