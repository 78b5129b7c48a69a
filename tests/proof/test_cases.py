"""A case like the outside engine's at a real romana: every kind of change, and an engine that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.proof.cases import LOOPBACK, Cluster, cluster
from tests.proof.facts import Labels
from tests.proof.misreading import Misreading

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "base", "namespace": "x"},
    "spec": {
        "podSelector": {"matchLabels": {"pod": "a"}},
        "ingress": [
            {
                "from": [{"namespaceSelector": {"matchLabels": {"new": "yes"}}, "podSelector": {}}],
                "ports": [{"port": "serve-80-tcp"}, {"port": 80, "protocol": "SCTP"}],
            }
        ],
    },
}
NAME = {"Namespace": "x", "Name": "base"}
UPDATED = {**POLICY, "spec": {**POLICY["spec"], "podSelector": {"matchLabels": {"new": "yes"}}}}  # type: ignore[dict-item]
CASE = {
    "Description": "every kind of change",
    "Steps": [
        {"Actions": [{"CreatePolicy": {"Policy": POLICY}, "DeletePod": None}]},
        {
            "Actions": [
                {"CreateNamespace": {"Namespace": "w", "Labels": {"new": "yes"}}},
                {"CreatePod": {"Namespace": "w", "Pod": "d", "Labels": {}}},
                {"SetNamespaceLabels": {"Namespace": "y", "Labels": {"ns": "y", "new": "yes"}}},
            ]
        },
        {
            "Actions": [
                {"UpdatePolicy": {"Policy": UPDATED}},
                {"SetPodLabels": {"Namespace": "x", "Pod": "b", "Labels": {"new": "yes"}}},
                {"DeletePod": {"Namespace": "w", "Pod": "d"}},
            ]
        },
        {"Actions": [{"DeletePolicy": NAME}, {"DeleteNamespace": {"Namespace": "w"}}]},
    ],
}


@pytest.fixture(scope="module")
def made() -> Iterator[Cluster]:
    with cluster(Misreading(Labels()), seed=1) as made:
        yield made


def test_a_case_of_all_changes_is_as_everybody_says(made: Cluster) -> None:
    before = {key: one.pod.endpoint.labels for key, one in made.pods.items()}
    tried = made.try_case(CASE)
    assert tried.wrong == []
    assert tried.steps == 4
    assert tried.connections > 4 * 1000
    assert tried.explained[LOOPBACK] > 0
    assert {key: one.pod.endpoint.labels for key, one in made.pods.items()} == before
    assert (made.policies, sorted(made.tenants)) == ({}, ["x", "y", "z"])


def test_an_engine_that_is_wrong_is_found(made: Cluster) -> None:
    made.engine, made.tries = Misreading(Labels(), careless=True), 1
    case: dict[str, Any] = {**CASE, "Steps": CASE["Steps"][:1]}
    assert any("udp" in sentence for sentence in made.try_case(case).wrong)
