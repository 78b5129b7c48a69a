"""What goes wrong in a data centre, one thing after another, under pings between all hosts.

`python -m tests.soak.routing` has four sites, one after the other: eBGP, iBGP with reflectors and OSPF with two spines,
four racks of four hosts, two of them with two routers; and a rack of layer 2 beside one of layer 3. In each, every kind
of fault; which link, router or host it is, the seed says. A fault fails when it disturbs a pair that does not cross it,
when a packet goes round, when a pair that has another way is without connectivity for longer than `PATIENCE`, or when
the site is not as planned again. `--site ospf --fault link --seed S` repeats one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from romana.apps.lab import api
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.pods import Pod, add_pod, remove_pod
from romana.apps.lab.waiting import wait
from romana.model.errors import RomanaError
from tests.lab.sites import Site, site
from tests.probes.pings import Pair, Pings, Result

PATIENCE = {"ebgp": 1.0, "ibgp": 1.0, "ospf": 3.0}
"""Seconds that a pair with another way may be without connectivity: carrier loss and a session more, or two of OSPF's
calculations, which BIRD makes once a second.
"""
INTERVAL = 0.1
Crosses = Callable[[Pair], bool]


class Trial(msgspec.Struct, kw_only=True):
    """A fault: what was done, which pairs cross it, whether they have another way, and what was lost.

    Where it `wavers`, packets to what moves may go round for a moment: OSPF's routers calculate their routes once a
    second, not all at once (micro-loops, RFC 5715).
    """

    words: str
    crosses: Crosses
    spared: bool
    wavers: bool = False
    results: list[Result] = []


class Bench:
    """A site under pings, and the choice of what breaks."""

    def __init__(self, found: Site, pings: Pings, choice: random.Random) -> None:
        self.site = found
        self.pings = pings
        self.choice = choice
        self.rack_of = {name: node.rack for name, node in found.fabric.nodes.items()}
        self.routers = {rack.name: list(rack.all_routers) for rack in found.lab.file.racks}
        self.layer2 = {rack.name for rack in found.lab.file.racks if rack.layer2}
        self.spines = list(found.lab.file.all_spines)
        self.hosts = list(found.pods)

    def of(self, *names: str) -> Crosses:
        """Pairs with one of these hosts."""
        return lambda pair: pair.source in names or pair.destination in names

    def leaving(self, rack: str) -> Crosses:
        """Pairs between a rack and another one."""
        return lambda pair: (self.rack_of[pair.source] == rack) != (self.rack_of[pair.destination] == rack)

    def within(self, rack: str) -> Crosses:
        """Pairs with an end in a rack."""
        return lambda pair: rack in (self.rack_of[pair.source], self.rack_of[pair.destination])

    def through(self, node: str) -> Crosses:
        """Pairs that may cross a node."""
        role, rack = self.site.fabric.nodes[node].role, self.rack_of[node]
        if role == "host":
            return self.of(node)
        if role == "router":
            return self.within(rack)
        return lambda pair: self.rack_of[pair.source] != self.rack_of[pair.destination]

    def a_host(self, *, two: bool | None = None) -> str:
        """A host; of a rack with two routers, or with one, where that is asked."""
        fitting = [host for host in self.hosts if two is None or (len(self.routers[self.rack_of[host]]) > 1) == two]
        return self.choice.choice(fitting)

    def a_router(self) -> str:
        return self.choice.choice([router for routers in self.routers.values() for router in routers])

    def lap(self) -> Result:
        return self.pings.lap()

    def settled(self) -> None:
        """Until plan, daemons and kernels agree."""
        self.site.until_checked(60)


def link(bench: Bench) -> Trial:
    """A cut link between a rack's router and a spine."""
    router, spine = bench.a_router(), bench.choice.choice(bench.spines)
    rack = bench.rack_of[router]
    trial = Trial(
        words=f"link {spine} - {router} cut, mended",
        crosses=bench.leaving(rack),
        spared=len(bench.spines) > 1 or len(bench.routers[rack]) > 1,
    )
    return cut(bench, trial, spine, router)


def downlink(bench: Bench) -> Trial:
    """One of two rack routers loses its link to one host; or the only one, where no rack has two."""
    two = any(len(routers) > 1 for routers in bench.routers.values())
    host = bench.a_host(two=two)
    rack = bench.rack_of[host]
    if rack in bench.layer2:
        other = f"switch{[one.name for one in bench.site.lab.file.racks].index(rack) + 1}"
    else:
        other = bench.choice.choice(bench.routers[rack])
    trial = Trial(words=f"link {other} - {host} cut, mended", crosses=bench.of(host), spared=two)
    return cut(bench, trial, other, host)


def between(bench: Bench) -> Trial | None:
    """The link between two routers of a rack."""
    racks = [routers for routers in bench.routers.values() if len(routers) > 1]
    if not racks:
        return None
    one, other = bench.choice.choice(racks)[:2]
    return cut(
        bench, Trial(words=f"link {one} - {other} cut, mended", crosses=lambda _: False, spared=True), one, other
    )


def cut(bench: Bench, trial: Trial, one: str, other: str) -> Trial:
    bench.site.cut(one, other)
    time.sleep(3)
    trial.results.append(bench.lap())
    bench.site.mend(one, other)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def flapping(bench: Bench) -> Trial:
    """A link that goes and comes, eight times."""
    router, spine = bench.a_router(), bench.choice.choice(bench.spines)
    rack = bench.rack_of[router]
    spared = len(bench.spines) > 1 or len(bench.routers[rack]) > 1
    trial = Trial(words=f"link {spine} - {router} flaps", crosses=bench.leaving(rack), spared=spared)
    for _ in range(8):
        bench.site.cut(spine, router)
        time.sleep(bench.choice.uniform(0.1, 0.6))
        bench.site.mend(spine, router)
        time.sleep(bench.choice.uniform(0.1, 0.6))
    trial.results.append(bench.lap())
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def router_off(bench: Bench) -> Trial:
    """A rack's router is switched off: its links lose their carrier, its programs are gone; then it comes back."""
    router = bench.a_router()
    rack = bench.rack_of[router]
    spared = len(bench.routers[rack]) > 1
    trial = Trial(words=f"router {router} off, on again", crosses=bench.within(rack), spared=spared)
    switch_off(bench, router)
    time.sleep(3)
    trial.results.append(bench.lap())
    switch_on(bench, router)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def spine_off(bench: Bench) -> Trial:
    """A spine is switched off, and comes back."""
    spine = bench.choice.choice(bench.spines)
    trial = Trial(
        words=f"spine {spine} off, on again",
        crosses=lambda pair: bench.rack_of[pair.source] != bench.rack_of[pair.destination],
        spared=len(bench.spines) > 1,
    )
    switch_off(bench, spine)
    time.sleep(3)
    trial.results.append(bench.lap())
    switch_on(bench, spine)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def switch_off(bench: Bench, node: str) -> None:
    for end in bench.site.fabric.interfaces(node):
        bench.site.run(node, "ip", "link", "set", end.name, "down")
    for program in ("bird", "romana-agent"):
        bench.site.kill(node, program)
    for family in ("-4", "-6"):  # a machine that starts has no routes of daemons
        bench.site.run(node, "ip", family, "route", "flush", "proto", "bird")


def switch_on(bench: Bench, node: str) -> None:
    for end in bench.site.fabric.interfaces(node):
        bench.site.run(node, "ip", "link", "set", end.name, "up")
    for line in bench.site.way_to_control(node):
        bench.site.run(node, "ip", *line.split())
    bench.site.restart_bird(node, graceful=False)
    bench.site.start_agent(node)


def bird(bench: Bench) -> Trial:
    """BIRD is killed anywhere, and starts again: graceful restart, which OSPF has for planned restarts alone."""
    node = bench.choice.choice([key.partition("/")[0] for key in bench.site.record.programs if key.endswith("/bird")])
    ospf = bench.site.lab.file.fabric == "ospf"
    trial = Trial(
        words=f"BIRD on {node} killed, back after a second",
        crosses=bench.through(node) if ospf else lambda _: False,
        spared=not ospf,
    )
    bench.site.kill(node, "bird")
    time.sleep(1)
    bench.site.restart_bird(node)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def agent(bench: Bench) -> Trial:
    """Agents are killed on a host and a router, and start again."""
    nodes = [bench.a_host(), bench.a_router(), bench.choice.choice(bench.spines)]
    trial = Trial(words=f"agents of {', '.join(nodes)} killed, back", crosses=lambda _: False, spared=True)
    for node in nodes:
        bench.site.kill(node, "romana-agent")
    time.sleep(2)
    for node in nodes:
        bench.site.start_agent(node)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def romanad(bench: Bench) -> Trial:
    """romanad is away while a link is cut and mended, agents of a router and a host start again, and, but for OSPF, a
    BIRD is killed.
    """
    router, spine, host = bench.a_router(), bench.choice.choice(bench.spines), bench.a_host()
    rack = bench.rack_of[router]
    spared = len(bench.spines) > 1 or len(bench.routers[rack]) > 1
    trial = Trial(
        words=f"romanad away; link {spine} - {router} cut, mended; agents of {router}, {host} and a BIRD killed, back",
        crosses=bench.leaving(rack),
        spared=spared,
    )
    bench.site.kill("ctl", "romanad")
    bench.site.cut(spine, router)
    time.sleep(2)
    for node in (router, host):
        bench.site.kill(node, "romana-agent")
        bench.site.start_agent(node)
    bench.site.mend(spine, router)
    time.sleep(5)
    if bench.site.lab.file.fabric != "ospf":
        bench.site.kill(router, "bird")
        time.sleep(1)
        bench.site.restart_bird(router)
        time.sleep(3)
    trial.results.append(bench.lap())
    bench.site.start_romanad()
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def grown(bench: Bench) -> Trial:
    """The topology gets a rack more, with its router and links, while traffic runs; and loses it again."""
    trial = Trial(words="a rack more in the plan, and gone again", crosses=lambda _: False, spared=True)
    _, document = bench.site.lab.topologies[-1]
    assert isinstance(document, dict)
    ospf = bench.site.lab.file.fabric == "ospf"
    ebgp = bench.site.lab.file.fabric == "ebgp"
    router = {
        "name": "tnew",
        "addresses": ["192.168.200.1", "fd00:192:168:200::1"],
        **({"asn": 4200000200} if ebgp else {}),
    }
    group: dict[str, Any] = {"name": "racknew", "routers": [router], "underlay": ["192.168.200.0/24"]}
    group |= {"asn": 4200100200} if ebgp else {"area": 200} if ospf else {}
    links = [
        {
            "ends": [spine, "tnew"],
            "addresses": [[f"192.168.200.{128 + 2 * number}", f"192.168.200.{129 + 2 * number}"]],
            "interfaces": ["to-tnew", f"to-{spine}"],
        }
        for number, spine in enumerate(bench.spines)
    ]
    (topology,) = document["topologies"]
    larger = {
        **document,
        "topologies": [{**topology, "groups": [*topology["groups"], group], "spare": topology["spare"] - 1}],
        "routing": {**document["routing"], "links": [*document["routing"]["links"], *links]},
    }
    api.put(bench.site.record, "/v1/topology", larger)
    time.sleep(3)
    trial.results.append(bench.lap())
    api.put(bench.site.record, "/v1/topology", document)
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def moved(bench: Bench) -> Trial:
    """A fixed address moves from one rack to another, and everybody reaches it there."""
    one, other = bench.choice.sample(bench.hosts, 2)
    trial = Trial(
        words=f"an address moves from {one} to {other}",
        crosses=lambda _: False,
        spared=True,
        wavers=bench.site.lab.file.fabric == "ospf",
    )
    api.post(bench.site.record, "/v1/addresses", {"name": "mover", "tenant": "blue", "segment": "web", "sticky": True})
    for host in (one, other):
        began = time.monotonic()
        pod = add_fixed(bench.site, host)
        wait(f"the address on {host}", lambda pod=pod: unreached(bench, pod), seconds=20)  # type: ignore[misc]
        print(f"    reached by all on {host} after {time.monotonic() - began:.2f} s", flush=True)
        remove_pod(bench.site.record, host, "mover")
        wait(f"the end of its use on {host}", lambda: used(bench, "mover"), seconds=20)
    api.delete(bench.site.record, "/v1/addresses/mover")
    bench.settled()
    trial.results.append(bench.lap())
    return trial


def add_fixed(found: Site, host: str) -> Pod:
    """An endpoint with the addresses of the name `mover`."""
    endpoint = LabEndpoint(name="mover", host=host, tenant="blue", segment="web")
    return add_pod(found.record, endpoint, address="mover")


def used(bench: Bench, name: str) -> list[str]:
    """By whom a fixed address is used."""
    (found,) = [one for one in api.items(bench.site.record, "/v1/addresses") if one["name"] == name]
    return [found["host"]] if found.get("host") else []


def unreached(bench: Bench, pod: Pod) -> list[str]:
    """Hosts whose endpoint does not reach a pod."""
    found = []
    for host, own in bench.site.pods.items():
        for address in pod.addresses:
            try:
                bench.site.run(host, "ip", "netns", "exec", own.name, "ping", "-c1", "-W1", address.text)
            except RomanaError:
                found.append(f"{host} {address}")
    return found


def lost(bench: Bench) -> Trial:
    """A host's machine dies and is declared lost; its routes go everywhere. The last fault: the host stays away."""
    host = bench.a_host()
    trial = Trial(words=f"host {host} lost", crosses=bench.of(host), spared=False)
    spans = [one["cidr"] for one in api.items(bench.site.record, "/v1/spans") if one["host"] == host]
    for end in bench.site.fabric.interfaces(host):
        bench.site.run(host, "ip", "link", "set", end.name, "down")
    for program in ("bird", "romana-agent"):
        if f"{host}/{program}" in bench.site.record.programs:
            bench.site.kill(host, program)
    bench.site.kill("ctl", "romanad")  # which remembers for a minute whom it heard
    bench.site.start_romanad()
    api.post(bench.site.record, f"/v1/hosts/{host}/lost", {})

    def left() -> list[str]:
        nodes = [node.name for node in bench.site.fabric.roles("spine", "router", "host") if node.name != host]
        return [
            f"{node} has {span}"
            for node in nodes
            for span in spans
            if span in bench.site.run(node, "ip", "-6" if ":" in span else "-4", "route")
        ]

    wait("its routes to go", left, seconds=30)
    trial.results.append(bench.lap())
    return trial


FAULTS: dict[str, Callable[[Bench], Trial | None]] = {
    "link": link,
    "downlink": downlink,
    "between": between,
    "flapping": flapping,
    "router": router_off,
    "spine": spine_off,
    "bird": bird,
    "agent": agent,
    "romanad": romanad,
    "grown": grown,
    "moved": moved,
}
"""All but the one that ends a site."""


def racks(shape: list[int], hosts: int) -> list[dict[str, Any]]:
    """Racks with so many routers each."""
    return [
        {
            "name": f"rack{number}",
            "routers": [f"t{number}{letter}" for letter in "ab"[:routers]],
            "hosts": [f"h{number}{index}" for index in range(1, hosts + 1)],
        }
        for number, routers in enumerate(shape, 1)
    ]


@contextmanager
def site_of(name: str) -> Iterator[Site]:
    """A site by its name."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        if name == "mixed":
            built = racks([1, 2], 3)
            built[0]["layer2"] = True
            with site(path, "sm", built, spines=["s1", "s2"], spare=4) as found:
                yield found
        else:
            with site(path, f"s{name[0]}", racks([2, 2, 1, 1], 4), fabric=name, spines=["s1", "s2"], spare=4) as found:
                yield found


SITES = ("ebgp", "ibgp", "ospf", "mixed")


def judge(trial: Trial, patience: float) -> list[str]:
    """What is wrong with a fault's results, as sentences."""
    wrong = []
    for result in trial.results:
        wrong += result.harm(trial.crosses)
        if result.strays and not trial.wavers:
            wrong.append(f"{result.strays} packets to what moves went round: {result.rounds}")
        if trial.spared and result.worst() > patience:
            wrong.append(f"pairs with another way were without connectivity for {result.worst():.1f} s")
    return wrong


def play(bench: Bench, name: str, fault: Callable[[Bench], Trial | None]) -> tuple[str, float, float] | None:
    """One fault, judged; its words, and the time without connectivity when it came and when it went."""
    bench.settled()
    bench.lap()
    trial = fault(bench)
    if trial is None:
        return None
    worst = [result.worst() for result in trial.results]
    shown = " and ".join(f"{seconds:.1f} s" for seconds in worst)
    print(f"  {name:9} {trial.words}: without connectivity for {shown}", flush=True)
    wrong = judge(trial, PATIENCE[bench.site.lab.file.fabric])
    time.sleep(1)
    if bench.lap().lossy(lambda pair: not trial.crosses(pair) or name != "lost"):
        wrong.append("packets are lost after it is over")
    if wrong:
        raise AssertionError(f"{name}: {trial.words}: {'; '.join(wrong)}")
    return trial.words, worst[0], worst[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--site", choices=SITES)
    parser.add_argument("--fault", choices=[*FAULTS, "lost"])
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.minutes * 60
    for name in [arguments.site] if arguments.site else SITES:
        began = time.monotonic()
        with site_of(name) as found, found.pings(INTERVAL) as pings:
            print(f"{name}: {len(found.fabric.nodes)} nodes up after {time.monotonic() - began:.0f} s", flush=True)
            order = [arguments.fault] if arguments.fault else list(FAULTS)
            random.Random(arguments.seed).shuffle(order)
            for fault in order:
                if time.monotonic() > until:
                    break
                choice = random.Random(f"{arguments.seed} {name} {fault}")
                try:
                    play(Bench(found, pings, choice), fault, {**FAULTS, "lost": lost}[fault])
                except (AssertionError, RomanaError) as error:
                    print(f"soak: {error}", file=sys.stderr)
                    again = f"make soak NAME=routing SEED={arguments.seed}"
                    print(f"soak: repeat with `--site {name} --fault {fault}`, or {again}", file=sys.stderr)
                    return 1
            if not arguments.fault:
                play(Bench(found, pings, random.Random(f"{arguments.seed} {name} lost")), "lost", lost)
    return 0


if __name__ == "__main__":
    sys.exit(main())
