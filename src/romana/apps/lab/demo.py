"""The demo: a data centre on this machine, its tenants, who reaches whom, and why it costs so little.

Owns the seven steps and their expectations. Every figure is read from kernels, daemons or romanad; nothing is assumed.
Invariant: it ends with status 0 only when every expectation held, and takes the lab down whatever happens.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from romana.apps.lab import api, build, planned, programs
from romana.apps.lab import record as records
from romana.apps.lab.expected import Expected, expected
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.matrix import EVERYTHING, PROTOCOLS, Probers, differences, table
from romana.apps.lab.nodes import run
from romana.apps.lab.observe import Capture, RouteCounts, RulesetSize, ruleset_size
from romana.apps.lab.picture import draw
from romana.apps.lab.pods import Pod, add_pods
from romana.apps.lab.reading import Lab, read_lab
from romana.apps.lab.screen import Screen
from romana.apps.lab.tables import costs_table, plan_table
from romana.codec.policy import read_policies
from romana.core.routing import RoutePlan
from romana.model.address import Prefix
from romana.model.errors import AlreadyExists, RomanaError

TRIES = 3
"""How often the matrix is tried until it is as it should be."""
MORE = 50
"""Endpoints that step 6 adds."""


def demo(path: Path, console: Console, *, keep: bool) -> None:
    """Run all steps on a lab file; Unexpected at the first expectation that does not hold."""
    lab = read_lab(path)
    screen = Screen(console)
    if lab.file.name in records.names():
        raise AlreadyExists(f"lab {lab.file.name} is there already; `romana lab down {lab.file.name}` takes it away")
    try:
        _Demo(lab, path, screen).run()
    finally:
        if lab.file.name in records.names():
            record = records.read(lab.file.name)
            if keep:
                _keep(screen, record, lab)
            else:
                build.take_down(record)
                screen.report(f"lab {lab.file.name} is taken down: no namespace, process or file of it is left")
    screen.show(f"\nAll {screen.held} expectations held; {screen.seconds:.0f} seconds.")


class _Demo:
    """The steps, and what each leaves for the next."""

    def __init__(self, lab: Lab, path: Path, screen: Screen) -> None:
        self.lab = lab
        self.file = lab.file
        self.path = path
        self.screen = screen
        self.pods: list[Pod] = []
        self.networks: list[Prefix] = [network.cidr for network in lab.plan.networks]

    def run(self) -> None:
        self.data_centre()
        self.address_plan()
        self.endpoints()
        with Probers(self.record, self.pods) as self.probers:
            self.isolation()
            self.policy()
            self.basics()
            self.restart()

    def data_centre(self) -> None:
        words = (
            "A spine, racks with a router each, hosts. Every node is a network namespace with its own files; routers "
            "and hosts run BIRD and speak BGP, so this is a routed layer 3 fabric, IPv4 and IPv6. One romanad, one "
            "romana-agent a host and router: real processes."
        )
        self.screen.step(1, "A data centre on this machine", words)
        built = build.build(self.lab, self.path, self.screen.report)
        self.record, self.fabric, self.plans = build.finish(built.record), built.fabric, built.plans
        numbers = {name: one.asn for name, one in RoutePlan(self.lab.plan).fabric.devices.items()}
        self.screen.show("\n" + draw(self.fabric, numbers) + "\n")
        hosts = {host["name"] for host in api.items(self.record, "/v1/hosts")}
        self.screen.expect(hosts == set(self.file.hosts), f"all {len(self.file.hosts)} hosts joined the address plan")

    def address_plan(self) -> None:
        words = (
            "Each group of the topology owns a prefix, so an address says where it is. A document of Romana v2 is "
            "taken as it is; then ours, with both families, replaced it."
        )
        self.screen.step(2, "The address plan", words)
        for name, plan in self.plans.items():
            self.screen.show(plan_table(name, plan))
            self.screen.show("")
        names = [network["name"] for network in api.items(self.record, "/v1/networks")]
        wanted = [network.name for network in self.lab.plan.networks]
        self.screen.expect(sorted(names) == sorted(wanted), f"romanad has the networks {', '.join(wanted)} in force")

    def endpoints(self) -> None:
        words = (
            "Tenants are layer 3 networks of their own, segments their parts. The CNI plugin is run as a container "
            "runtime runs it (spec 1.1.0, ADD); the agent gives an address from a block of its own host."
        )
        self.screen.step(3, "Tenants, segments, endpoints", words)
        build.make_tenants(self.record, self.file.tenants, self.screen.report)
        self.pods = build.make_endpoints(self.record, self.lab, self.screen.report)
        drawn = Table(box=None, pad_edge=False)
        for head in ("endpoint", "owner", "host", "IPv4", "IPv6"):
            drawn.add_column(head, no_wrap=True)
        for pod in self.pods:
            one = pod.endpoint
            drawn.add_row(pod.name, f"{one.tenant}/{one.segment}", one.host, *(each.text for each in pod.addresses))
        self.screen.show(drawn)
        self.screen.show("")
        wrong = self.misplaced()
        self.screen.expect(not wrong, "every address is inside its rack's prefix, one of each family", *wrong)

    def misplaced(self) -> list[str]:
        wrong = []
        plans = planned.device_plans(self.record, self.fabric, self.lab.plan)
        routers = {node.group: node.name for node in self.fabric.roles("router")}
        for pod in self.pods:
            cidrs = plans[routers[self.fabric.nodes[pod.endpoint.host].group]].originates
            if len(pod.addresses) != len(self.networks):
                wrong.append(f"{pod.name} has {len(pod.addresses)} addresses")
            wrong += [
                f"{pod.name} on {pod.endpoint.host} has {address}"
                for address in pod.addresses
                if not any(cidr.contains(address) for cidr in cidrs)
            ]
        return wrong

    def isolation(self) -> None:
        words = (
            "Every endpoint tries every other one, with real packets. T: TCP 8080, U: UDP 8080, I: ping, each over "
            "IPv4 and IPv6 (a small letter: one family only). There is no policy yet; isolation alone decides."
        )
        self.screen.step(4, "Who reaches whom", words)
        same = expected(self.pods, self.file.tenants, [])
        self.show_matrix(same, "within a tenant everything gets through, across tenants nothing")

    def policy(self) -> None:
        words = (
            "Two documents: Kubernetes' NetworkPolicy for one tenant, romana's own for the other, saying the same. "
            "They are compiled to prefixes; the endpoints they select now take TCP 8080 from one segment only."
        )
        self.screen.step(5, "Policy", words)
        build.make_policies(self.record, self.lab, self.screen.report)
        policies = [policy for _, document in self.lab.policies for policy in read_policies(document)]
        wanted = expected(self.pods, self.file.tenants, policies)
        self.show_matrix(wanted, "exactly what the policies say gets through")
        for pair, verdict in self.examples(wanted):
            self.trace(pair, verdict)

    def trace(self, pair: tuple[str, str], verdict: str) -> None:
        """Have `romana trace` explain a pair; it fails by itself when the verdict is another one."""
        command = ["romana", "trace", *pair, "tcp/8080", "--expect", verdict]
        self.screen.show(f"\n$ {' '.join(command)}")
        try:
            self.screen.show(run(self.record.process(self.file.control), command).rstrip() + "\n")
        except RomanaError as error:
            self.screen.expect(False, f"romana trace says {verdict}", str(error))
        self.screen.expect(True, f"romana trace explains the {verdict}")

    def examples(self, wanted: Expected) -> list[tuple[tuple[str, str], str]]:
        """An allowed and a denied pair, of one tenant, where a policy made the difference."""
        pairs = [
            (one.name, other.name)
            for one, other in itertools.permutations(self.pods, 2)
            if one.endpoint.tenant == other.endpoint.tenant and one.endpoint.host != other.endpoint.host
        ]
        partly = [pair for pair in pairs if (4, "tcp") in wanted(*pair) and wanted(*pair) != EVERYTHING]
        denied = [pair for pair in pairs if not wanted(*pair)]
        return [(one, verdict) for found, verdict in ((partly, "accept"), (denied, "deny")) for one in found[:1]]

    def show_matrix(self, wanted: Expected, sentence: str) -> None:
        matrix = self.probers.matrix()
        for _ in range(TRIES - 1):
            if not differences(matrix, wanted):
                break
            matrix = self.probers.matrix()  # agents take a change in one by one
        self.screen.show(table(matrix, self.pods, wanted))
        self.screen.show("")
        families, protocols = len(self.networks), len(PROTOCOLS)
        count = f"{len(matrix) * families * protocols} connections tried"
        wrong = differences(matrix, wanted)
        self.screen.expect(not wrong, f"{sentence} ({count})", *wrong)

    def basics(self) -> None:
        words = f"What the network holds for {len(self.pods)} endpoints, and for {MORE} more in the same segments."
        self.screen.step(6, "Just the basics", words)
        before, sizes = self.all_routes(), self.all_sizes()
        started = time.monotonic()
        add_pods(self.record, self.more())
        self.screen.report(f"{MORE} more endpoints in {time.monotonic() - started:.1f} s")
        after, larger = self.all_routes(), self.all_sizes()
        self.screen.show(costs_table(before, after, sizes, larger))
        self.screen.show("")
        self.check_routes(before, after)
        grown = [
            f"{host}: {sizes[host].rules} before, {larger[host].rules} after"
            for host in sizes
            if sizes[host].rules != larger[host].rules
        ]
        self.screen.expect(not grown, f"no host has a rule more than before the {MORE} endpoints", *grown)
        self.capture()

    def more(self) -> list[LabEndpoint]:
        """Endpoints like those that are there, on the same hosts."""
        present = [pod.endpoint for pod in self.pods]
        return [
            msgspec.structs.replace(present[number % len(present)], name=f"more-{number + 1}") for number in range(MORE)
        ]

    def all_routes(self) -> dict[str, RouteCounts]:
        return planned.all_routes(self.record, self.fabric, self.networks)

    def all_sizes(self) -> dict[str, RulesetSize]:
        return {host.name: ruleset_size(self.record, host.name) for host in self.fabric.roles("host")}

    def check_routes(self, before: Mapping[str, RouteCounts], after: Mapping[str, RouteCounts]) -> None:
        spine = self.file.spine
        wanted = len(self.file.racks) * len(self.networks)
        count = len(after[spine].learned)
        self.screen.expect(
            count == wanted, f"the spine holds {wanted} endpoint routes: one a rack and family", f"it holds {count}"
        )
        plans = planned.device_plans(self.record, self.fabric, self.lab.plan)
        wrong = planned.differences(plans, after)
        self.screen.expect(not wrong, "every device's kernel holds the routes of the plan, and no others", *wrong)
        above = [node.name for node in self.fabric.roles("spine", "router")]
        changed = [name for name in above if before[name] != after[name]]
        self.screen.expect(not changed, f"{MORE} more endpoints changed no route of spine and rack routers", *changed)

    def capture(self) -> None:
        router = self.file.racks[0].router
        with Capture(self.record, router, f"to-{self.file.spine}") as capture:
            self.probers.matrix()
        frames = capture.frames()
        own = {address for pod in self.pods for address in pod.addresses}
        self.screen.show(
            f"\nOn the link {router} - {self.file.spine}, {len(frames)} packets while all tried all; some:"
        )
        for frame in frames[:3] + [one for one in frames if one.source.family == 6][:3]:
            self.screen.show(f"  {frame.source} > {frame.destination}: {frame.words[:48]}")
        self.screen.show("")
        foreign = [frame.line for frame in frames if not {frame.source, frame.destination} <= own]
        sentence = "every packet there has endpoints' own addresses outside: no tunnel, no overlay"
        self.screen.expect(bool(frames) and not foreign, sentence, *(foreign or ["nothing was captured"]))

    def restart(self) -> None:
        words = "The agent of one host is ended and started again, under a ping and a TCP stream (every 10 ms)."
        self.screen.step(7, "Restart an agent", words)
        source, destination = self.stream_ends()
        stop = self.probers.stream(source.name, destination.addresses[0].text)
        time.sleep(0.5)
        started = time.monotonic()
        self.record = programs.restart_agent(self.record, destination.endpoint.host)
        seconds = time.monotonic() - started
        time.sleep(0.5)
        result = stop()
        self.screen.report(f"agent of {destination.endpoint.host} ended, started, in sync again after {seconds:.1f} s")
        said = ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in result.items())
        lost = result["pings_lost"] or result["bytes_lost"] or result["retransmits"]
        sentence = f"no packet was lost from {source.name} to {destination.name}: {said}"
        self.screen.expect(result["pings"] > 0 and result["bytes"] > 0 and not lost, sentence, said)

    def stream_ends(self) -> tuple[Pod, Pod]:
        """Two endpoints of one segment on hosts of different racks."""
        return next(
            (one, other)
            for one, other in itertools.permutations(self.pods, 2)
            if (one.endpoint.tenant, one.endpoint.segment) == (other.endpoint.tenant, other.endpoint.segment)
            and self.fabric.nodes[one.endpoint.host].rack != self.fabric.nodes[other.endpoint.host].rack
        )


def _keep(screen: Screen, record: records.LabRecord, lab: Lab) -> None:
    screen.show(f"\nThe lab stays up. Five commands to try, then `romana lab down {record.name}`:")
    endpoint = lab.file.endpoints[0] if lab.file.endpoints else None
    host = endpoint.host if endpoint else lab.file.hosts[0]
    other = lab.file.endpoints[-1].name if endpoint else ""
    for command in (
        f"romana lab status {record.name}",
        f"romana lab exec {lab.file.spine} -- ip route",
        f"romana lab exec {host} -- nft list table inet romana",
        f"romana lab exec {lab.file.control} -- romana trace {endpoint.name if endpoint else 'A'} {other} tcp/8080",
        f"romana lab exec {host} -- ip netns exec {endpoint.name if endpoint else 'POD'} ip route",
    ):
        screen.show(f"  {command}")
