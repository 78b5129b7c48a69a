"""Faults of links, routers, spines and programs: none of them needs romanad, so all are also made without it."""

from __future__ import annotations

import time

from tests.soak.routing_bench import Bench, Trial


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
    return off_and_on(bench, trial, router)


def spine_off(bench: Bench) -> Trial:
    """A spine is switched off, and comes back."""
    spine = bench.choice.choice(bench.spines)
    trial = Trial(
        words=f"spine {spine} off, on again",
        crosses=lambda pair: bench.rack_of[pair.source] != bench.rack_of[pair.destination],
        spared=len(bench.spines) > 1,
    )
    return off_and_on(bench, trial, spine)


def off_and_on(bench: Bench, trial: Trial, node: str) -> Trial:
    switch_off(bench, node)
    time.sleep(3)
    trial.results.append(bench.lap())
    switch_on(bench, node)
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
    bench.site.restart_bird(node, boot=True)
    bench.site.start_agent(node)


def bird(bench: Bench) -> Trial:
    """BIRD is killed anywhere, and starts again: graceful restart, which OSPF has for planned restarts alone. With
    OSPF a host's packets may go round meanwhile: its routers lose it one after the other, and each believes the other.
    """
    node = bench.choice.choice([key.partition("/")[0] for key in bench.site.record.programs if key.endswith("/bird")])
    ospf = bench.site.lab.file.fabric == "ospf"
    trial = Trial(
        words=f"BIRD on {node} killed, back after a second",
        crosses=bench.through(node) if ospf else lambda _: False,
        spared=not ospf,
        moving=tuple(one.text for one in bench.site.pods[node].addresses) if ospf and node in bench.hosts else (),
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
