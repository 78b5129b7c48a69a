"""The outside engine's own cases, at a real romana: romanad, agents, BIRD and the CNI plugin of a lab.

Each case is steps of changes (policies, namespaces, pods and their labels); after each step everybody tries everybody,
on all ports and protocols of the case's cluster, over both families. What gets through must be what the documents mean,
what the program says and what the engine expects. romana is told who a pod is at its ADD only, so a pod that gets other
labels is taken away and started again.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from romana.adapters.linux.netns import opened
from romana.apps.lab import api, build
from romana.apps.lab import record as records
from romana.apps.lab.file import LabEndpoint
from romana.apps.lab.pods import Pod, add_pod, namespace, remove_pod
from romana.apps.lab.reading import read_lab
from romana.apps.lab.record import LabRecord
from romana.apps.lab.waiting import wait
from romana.codec.traffic import parse_named_port
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict
from romana.model.ipam import Allocation
from romana.model.policy import Traffic
from romana.model.tenancy import Identity, Isolation, Owner, Tenant
from tests.probes.traffic import Probe, accepted, bound
from tests.proof.connections import Connection, Outcome, outcomes
from tests.proof.queries import Comparison, Outside
from tests.proof.random_documents import Document
from tests.proof.random_worlds import RandomWorld, world_with

LAB = Path(__file__).parent / "lab/lab.yaml"
NAMES, PODS, HOSTS = ("x", "y", "z"), ("a", "b", "c"), ("h1", "h2", "h3")
SEGMENT = "default"
SERVED = tuple((protocol, port) for protocol in ("tcp", "udp", "sctp") for port in (80, 81))
PORTS = {f"serve-{port}-{protocol}": f"{protocol}/{port}" for protocol, port in SERVED}
TRIED = (*SERVED, ("icmp", 0))
TRIES = 6
PAUSE = 0.3
"""Seconds before each try: agents take a change in one by one."""
TRACED = 6
"""Connections of each step about which `trace` is asked."""


class Running(NamedTuple):
    """A pod that runs, its namespace, and what ends its servers."""

    pod: Pod
    space: int
    stack: ExitStack
    servers: list[Any]


class Tried(NamedTuple):
    """What came of a case: `explained` counts answers of the engine by the defect that explains them; `wrong` is empty
    when everybody agrees.
    """

    steps: int
    connections: int
    tries: int
    explained: Counter[str]
    wrong: list[str]


class Cluster:
    """Namespaces, pods and policies, as romana has them."""

    def __init__(self, record: LabRecord, engine: Outside, seed: int) -> None:
        self.tries = TRIES
        self.record = record
        self.engine = engine
        self.random = Random(seed)
        self.tenants: dict[str, Tenant] = {}
        self.pods: dict[tuple[str, str], Running] = {}
        self.policies: dict[str, Document] = {}

    def open(self) -> None:
        """Nine pods in three namespaces."""
        for name in NAMES:
            self.set_namespace(name, {"ns": name})
            for pod in PODS:
                self.start(name, pod, {"pod": pod})

    def close(self) -> None:
        """Close all sockets; namespaces and pods end with the lab."""
        for one in self.pods.values():
            one.stack.close()

    @property
    def last_address(self) -> Address:
        """That of pod z/c, about which some cases are."""
        return self.pods["z", "c"].pod.addresses[0]

    def try_case(self, case: Any) -> Tried:
        """All steps of a case, and everything as it was before."""
        connections, tries = 0, 0
        explained, wrong = Counter[str](), list[str]()
        for number, step in enumerate(case["Steps"]):
            for action in step["Actions"]:
                self.act(action)
            for _ in range(self.tries):
                time.sleep(PAUSE)
                tries += 1
                count, wrong, explained_now = self.compare()
                if not wrong:
                    break
            connections += count
            explained += explained_now
            if wrong:
                wrong = [f"step {number + 1}: {sentence}" for sentence in wrong]
                wrong += [f"in force: {msgspec.json.encode(one).decode()}" for one in self.policies.values()]
                break
        self.reset()
        return Tried(len(case["Steps"]), connections, tries, explained, wrong)

    # what a step does

    def act(self, action: Any) -> None:
        """One change."""
        ((kind, body),) = ((kind, body) for kind, body in action.items() if body is not None)
        if kind in ("CreatePolicy", "UpdatePolicy"):
            self.apply(body["Policy"])
        elif kind == "DeletePolicy":
            self.remove(f"kube.{body['Namespace']}.{body['Name']}")
        elif kind in ("CreateNamespace", "SetNamespaceLabels"):
            self.set_namespace(body["Namespace"], body["Labels"])
        elif kind == "DeleteNamespace":
            self.remove_namespace(body["Namespace"])
        elif kind == "CreatePod":
            self.start(body["Namespace"], body["Pod"], body["Labels"])
        elif kind == "SetPodLabels":
            self.stop(body["Namespace"], body["Pod"])
            self.start(body["Namespace"], body["Pod"], body["Labels"])
        elif kind == "DeletePod":
            self.stop(body["Namespace"], body["Pod"])
        else:
            raise AssertionError(kind)

    def reset(self) -> None:
        """As it was before the case."""
        for id_ in list(self.policies):
            self.remove(id_)
        for name in list(self.tenants):
            if name not in NAMES:
                self.remove_namespace(name)
            elif self.tenants[name].labels != {"ns": name}:
                self.set_namespace(name, {"ns": name})
        for (name, pod), one in list(self.pods.items()):
            if pod not in PODS or one.pod.endpoint.labels != {"pod": pod}:
                self.stop(name, pod)
                if pod in PODS:
                    self.start(name, pod, {"pod": pod})

    def apply(self, document: Document) -> None:
        (made,) = api.post(self.record, "/v1/policies", document)
        self.policies[made["id"]] = document

    def remove(self, id_: str) -> None:
        api.delete(self.record, f"/v1/policies/{id_}")
        del self.policies[id_]

    def set_namespace(self, name: str, labels: dict[str, str]) -> None:
        self.tenants[name] = Tenant(name=name, isolation=Isolation.NONE, labels=labels)
        api.put(self.record, f"/v1/tenants/{name}", {"isolation": "none", "labels": labels})
        api.put(self.record, f"/v1/tenants/{name}/segments/{SEGMENT}", {})

    def remove_namespace(self, name: str) -> None:
        for namespace_, pod in list(self.pods):
            if namespace_ == name:
                self.stop(namespace_, pod)

        def refused() -> list[str]:
            try:
                api.delete(self.record, f"/v1/tenants/{name}")
            except Conflict as error:  # its agents' last words are on their way
                return [str(error)]
            return []

        wait(f"end of {name}", refused, seconds=20)
        del self.tenants[name]

    def start(self, name: str, pod: str, labels: dict[str, str]) -> None:
        host = HOSTS[PODS.index(pod)] if pod in PODS else HOSTS[0]
        endpoint = LabEndpoint(
            name=f"{name}-{pod}", host=host, tenant=name, segment=SEGMENT, labels=labels, ports=PORTS
        )
        started = add_pod(self.record, endpoint)
        stack = ExitStack()
        space = stack.enter_context(opened(str(namespace(self.record, host, endpoint.name))))
        servers = [
            stack.enter_context(bound(space, kind, address, port))
            for kind, port in (*SERVED[:4], ("sctp", 0))
            for address in ("0.0.0.0", "::")
        ]
        self.pods[name, pod] = Running(started, space, stack, servers)

    def stop(self, name: str, pod: str) -> None:
        one = self.pods.pop((name, pod))
        one.stack.close()
        remove_pod(self.record, one.pod.endpoint.host, one.pod.name)

    # what comes of it

    def compare(self) -> tuple[int, list[str], Counter[str]]:
        """How many connections were tried, where somebody disagrees, and what the engine's defects explain."""
        owners = {address: one for one in self.pods.values() for address in one.pod.addresses}
        chosen = [
            Connection(source, destination, *traffic)
            for source in owners
            for destination in owners
            if source.family is destination.family
            for traffic in TRIED
        ]
        probes = [
            Probe(owners[one.source].space, one.kind, one.destination.text, one.port, one.source.text) for one in chosen
        ]
        reached = accepted(probes, [server for one in self.pods.values() for server in one.servers])
        made = self.world()
        comparison = Comparison(made.world, made.documents, outside=self.engine)
        identities = {address: _identity(one.pod) for address, one in owners.items()}
        judged = outcomes(comparison, identities, zip(chosen, reached, strict=True))
        wrong = [sentence for one in judged if (sentence := one.wrong(made, self.engine))]
        explained = comparison.explained
        explained[LOOPBACK] += sum(one.connection.is_loopback and not one.is_expected_outside for one in judged)
        others = [one for one in judged if not one.connection.is_loopback]
        wrong += filter(None, map(self.traced, self.random.sample(others, TRACED)))
        return len(chosen), wrong, +explained

    def world(self) -> RandomWorld:
        """What romana knows, for those who are compared with it."""
        documents = tuple(self.policies.values())
        endpoints = {one.pod.name: _endpoint(one.pod) for one in self.pods.values()}
        world = PolicyWorld(tenants=self.tenants, endpoints=endpoints)
        return RandomWorld(world_with(world, documents), documents, ())

    def traced(self, outcome: Outcome) -> str:
        """What is wrong with romana's own explanation of a connection; empty when nothing is."""
        ((question, _), *_) = outcome.asked
        traffic = str(Traffic(question.protocol, question.port, question.port))
        ends = {"source": outcome.connection.source.text, "destination": outcome.connection.destination.text}
        told = api.post(self.record, "/v1/trace", {**ends, "traffic": traffic})
        if told["trace"]["verdict"] == outcome.reached:
            return ""
        return "\n  ".join((f"{outcome.connection}: reached {outcome.reached}, but traced as", *told["lines"]))


LOOPBACK = "loopback"
"""The engine lets policies keep a pod from itself; Kubernetes does not."""


@contextmanager
def cluster(engine: Outside, seed: int) -> Iterator[Cluster]:
    """A lab with nine pods in three namespaces."""
    lab = read_lab(LAB)
    name = f"romt-pc{os.getpid()}"
    lab = msgspec.structs.replace(lab, file=msgspec.structs.replace(lab.file, name=name))
    try:
        made = Cluster(build.build(lab, LAB, print).record, engine, seed)
        try:
            made.open()
            yield made
        finally:
            made.close()
    finally:
        if name in records.names():
            build.take_down(records.read(name))


def _identity(pod: Pod) -> Identity:
    owner = Owner(pod.endpoint.tenant, pod.endpoint.segment)
    ports = tuple(sorted(parse_named_port(name, text) for name, text in PORTS.items()))
    return Identity(owner=owner, labels=pod.endpoint.labels, ports=ports)


def _endpoint(pod: Pod) -> Endpoint:
    allocations = tuple(
        Allocation(address=one, block=Prefix(one.family, one.value, one.length), endpoint=pod.name, sequence=1)
        for one in pod.addresses
    )
    return Endpoint(
        id=pod.name, name=pod.name, host=pod.endpoint.host, identity=_identity(pod), allocations=allocations, link=""
    )
