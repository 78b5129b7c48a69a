"""A rack router that is FRR, configured by what is printed for a person, between a spine and hosts that run BIRD."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from romana.apps.lab.file import FabricKind
from romana.apps.lab.wiring import Fabric, wire
from romana.codec.bird_router import render
from romana.codec.daemons import configured
from romana.codec.text import parse_prefix
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.model.address import Prefix
from tests.probes.frr import frr
from tests.probes.spaces import shell, spaces, within
from tests.unit.core.routing.fabrics import fabric, lab_file

ROUTERS = {"r1a"}
ABOVE = (("-4", "10.112.0.0/12"), ("-6", "fd00:10:112::/48"))
QUIET = "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0; ip link set lo up"


@contextmanager
def wired(found: Fabric, names: list[str]) -> Iterator[dict[str, str]]:
    """The nodes of a fabric as namespaces, with their links and addresses."""
    with spaces(*names, tag="kf") as made:
        for name in names:
            with within(made[name]):
                shell(QUIET)
        for link in found.links_between("spine", "router", "host"):
            with within(made[link.above.node]):
                other = Path(made[link.below.node]).name
                shell(f"ip link add {link.above.name} type veth peer name {link.below.name} netns {other}")
        for name in names:
            with within(made[name]):
                for address in found.nodes[name].loopbacks:
                    shell(f"ip address add {address}/{address.length} dev lo")
                for end in found.interfaces(name):
                    if "ctl" in end.name:
                        continue
                    for address in end.addresses:
                        shell(f"ip address add {address}/{address.length - 1} dev {end.name}")
                    shell(f"ip link set {end.name} up")
        yield made


@contextmanager
def bird(directory: Path, routes: RoutePlan, name: str) -> Iterator[None]:
    """BIRD in the caller's namespace, as the plan says."""
    found = speaker(routes, name)
    assert found is not None
    prefixes = routes.device_plan(name).originates if found.is_host else ()
    (directory / f"{name}.conf").write_text(render(found, prefixes))
    command = ["bird", "-f", "-c", f"{directory}/{name}.conf", "-s", f"{directory}/{name}.ctl"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def held(networks: list[Prefix]) -> dict[Prefix, bool]:
    """The kernel's routes inside these networks in the caller's namespace; whether each discards."""
    found = {}
    for family in ("-4", "-6"):
        for route in json.loads(shell(f"ip -json {family} route show table main")):
            if route["dst"] == "default":
                continue
            text = route["dst"] if "/" in route["dst"] else f"{route['dst']}/{128 if ':' in route['dst'] else 32}"
            prefix = parse_prefix(text)
            if any(network.contains(prefix) for network in networks):
                found[prefix] = route.get("type") == "blackhole"
    return found


def both_ways(space: str) -> bool:
    """Whether a router uses both spines for what is above it."""
    with within(space):
        shown = [shell(f"ip {option} route show {prefix}") for option, prefix in ABOVE]
    return all(text.count("nexthop") == 2 for text in shown)


@pytest.mark.parametrize("kind", [FabricKind.EBGP, FabricKind.IBGP, FabricKind.OSPF])
def test_bird_and_frr_agree_on_the_routes_of_the_plan(kind: FabricKind, tmp_path: Path) -> None:
    shape = (kind, 2, [(1, 2), (1, 2)])
    routes, made_of = fabric(*shape), wire(lab_file(*shape))
    names = [name for name in routes.devices() if name in made_of.nodes]
    networks = [cidr for path in routes.fabric.routers for cidr in routes.fabric.cidrs_at(path)]
    with wired(made_of, names) as made, ExitStack() as running:
        for name in names:
            with within(made[name]):
                if name in ROUTERS:
                    router = running.enter_context(frr(tmp_path / "frr"))
                    router.load(configured(routes, name, "frr").text)
                else:
                    running.enter_context(bird(tmp_path, routes, name))
        deadline = time.monotonic() + 40
        missing = ["all"]
        while missing:
            assert time.monotonic() < deadline, missing
            time.sleep(0.5)
            missing = []
            for name in names:
                with within(made[name]):
                    kernel = held(networks)
                plan = {route.prefix: route for route in routes.device_plan(name).routes}
                if routes.seat(name) is not None:  # a host's own blackholes are its agent's
                    plan = {
                        prefix: route
                        for prefix, route in plan.items()
                        if prefix not in routes.device_plan(name).originates
                    }
                missing += [f"{name} {prefix}" for prefix in sorted(plan.keys() ^ kernel.keys())]
        while lone := [name for name in ("r1a", "r2a") if not both_ways(made[name])]:
            assert time.monotonic() < deadline, lone
            time.sleep(0.5)
        with within(made["r1a"]):
            assert {prefix for prefix, discards in held(networks).items() if discards} == set(
                routes.device_plan("r1a").originates
            )
