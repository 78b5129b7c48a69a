"""What lives elsewhere afterwards: addresses and hosts that move, a rack more, a host that is lost."""

from __future__ import annotations

import time

from romana.apps.lab import api
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.pods import Pod, add_pod, remove_pod
from romana.apps.lab.waiting import wait
from romana.model.errors import RomanaError
from tests.lab.sites import Site
from tests.soak.routing_bench import Bench, Trial


def span(bench: Bench) -> Trial:
    """A host moves to another rack with its endpoints, so that its spans are away from their group; and comes back."""
    racks = {one.name: one for one in bench.site.lab.file.racks}
    home, rack = bench.choice.sample(list(racks), 2)
    host = racks[home].hosts[-1]
    trial = Trial(
        words=f"host {host} moves from {home} to {rack} with its spans, and back",
        crosses=bench.of(host),
        spared=False,
        moving=tuple(one.text for one in bench.site.pods[host].addresses),
    )
    spans = {one["cidr"] for one in api.items(bench.site.record, "/v1/spans") if one["host"] == host}
    for place, away in ((rack, spans), (home, set[str]())):
        bench.site.move(host, place)
        bench.settled()
        found = api.get(bench.site.record, "/v1/routes/exceptions")
        said = {one["prefix"] for one in found if one["reason"] == "span-away" and one["host"] == host}
        assert said == away, f"exceptions are {found}"
        trial.results.append(bench.lap())
        shown = "; ".join(f"{one['prefix']} on {', '.join(one['devices'])}" for one in found)
        print(f"    {host} in {place}, exceptions: {shown or 'none'}", flush=True)
        circling = sum(trial.results[-1].exceeded.values())
        print(
            f"    {trial.results[-1].worst():.1f} s without connectivity, {circling} pings to it went round", flush=True
        )
        time.sleep(2)
        after = bench.lap()
        assert not after.lossy(), f"not reached in {place}: {after.lossy()[:4]}"
    return trial


def grown(bench: Bench) -> Trial:
    """A rack more joins while traffic runs: a router, two hosts, their cables, and a pod on each; it stays."""
    number = len(bench.routers) + 1
    rack = {"name": f"rack{number}", "routers": [f"t{number}"], "hosts": [f"h{number}1", f"h{number}2"]}
    trial = Trial(words=f"{rack['name']} joins with two hosts", crosses=lambda _: False, spared=True)
    began = time.monotonic()
    bench.site.grow(rack)
    up = time.monotonic()
    bench.settled()
    print(f"    its pods run after {up - began:.1f} s", flush=True)
    trial.results.append(bench.lap())
    bench.pings.again(bench.site.places())
    time.sleep(2)
    trial.results.append(bench.lap())
    assert len(trial.results[-1].pairs) > len(trial.results[0].pairs)
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
