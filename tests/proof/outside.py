"""The outside engine: cyclonus' matcher, as a process that answers questions, and what is known to be wrong with it.

Only Kubernetes' NetworkPolicy can be asked about, in namespaces that are open where no policy says otherwise. Its
defects are `DEFECTS`: each is a way of reading documents, so an answer of the engine counts as explained only when
exactly that reading gives it.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from romana.core.policy.world import PolicyWorld
from romana.model.address import Address
from romana.model.policy import PROTOCOL_NAMES, Direction
from romana.model.tenancy import Identity
from tests.proof.facts import Labels
from tests.proof.naive import Naive, Site
from tests.proof.queries import Question, decides
from tests.proof.random_documents import Document

SCRIPT = Path(__file__).parents[2] / "scripts/engine.sh"
KINDS = (("kubernetes",),)
"""The kinds of documents that it understands, for random worlds."""


class NotInNeedsTheLabel(Labels):
    """It takes NotIn for false where the label is absent; Kubernetes takes it for true."""

    def holds(self, expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        present = expression["operator"] != "NotIn" or expression["key"] in labels
        return present and super().holds(expression, labels)


class AbsentIsEmpty(Labels):
    """It takes a label that is absent for an empty one in `matchLabels`."""

    def has(self, labels: Mapping[str, str], key: str, value: str) -> bool:
        return labels.get(key, "") == value


DEFECTS: dict[str, type[Labels]] = {"NotIn of an absent label": NotInNeedsTheLabel, "absent label": AbsentIsEmpty}


class Engine:
    """The process. It is built when it is not there yet."""

    def __init__(self) -> None:
        program = subprocess.run([SCRIPT], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answers(
        self, world: PolicyWorld, documents: Sequence[Document], asked: Sequence[tuple[Question, Identity | None]]
    ) -> list[bool]:
        """Its answers to questions about a world, each with who the peer is."""
        policies = [as_stored(one) for one in documents]
        questions = [_question(world, question, peer) for question, peer in asked]
        return list(self._ask({"policies": policies, "questions": questions})["answers"])

    def explains(self, site: Site, question: Question, peer: Identity | None, *, answer: bool) -> str:
        """The known defects that make it give this answer."""
        return explanation(site, question, peer, answer=answer)

    def cases(self, address: Address) -> list[Any]:
        """The cases that it runs by default; `address` is that of pod z/c."""
        return list(self._ask({"cases": address.text})["cases"])

    def _ask(self, request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, (answer["error"], request)
        return answer


def explanation(site: Site, question: Question, peer: Identity | None, *, answer: bool) -> str:
    """The fewest of the defects with which documents mean this answer; empty when none do."""
    for count in range(1, len(DEFECTS) + 1):
        for names in itertools.combinations(DEFECTS, count):
            reading = type("Reading", tuple(DEFECTS[name] for name in names), {})()
            if decides(Naive(site, reading, staged=question.staged), question, peer) == answer:
                return " and ".join(names)
    return ""


def as_stored(document: Document) -> Document:
    """The document as an API server keeps it: with its defaults, without which the engine refuses it."""
    spec = document["spec"]
    types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    return {**document, "spec": {**spec, "policyTypes": types}}


def _question(world: PolicyWorld, question: Question, peer: Identity | None) -> dict[str, Any]:
    assert isinstance(question.own, Identity)
    receiver = question.own if question.direction is Direction.INGRESS else peer
    ports = receiver.ports if receiver is not None else ()
    return {
        "Ingress": question.direction is Direction.INGRESS,
        "Own": _end(world, question.own, question.peer),
        "Peer": _end(world, peer, question.peer),
        "Protocol": PROTOCOL_NAMES.get(question.protocol, str(question.protocol)).upper(),
        "Port": question.port,
        "Names": [one.name for one in ports if (one.protocol, one.port) == (question.protocol, question.port)],
    }


def _end(world: PolicyWorld, identity: Identity | None, address: Address) -> dict[str, Any]:
    """An end; the address matters for a peer only."""
    if identity is None:
        return {"IP": address.text}
    tenant = world.tenant(identity.owner.tenant)
    return {
        "IP": address.text,
        "Namespace": tenant.name,
        "NamespaceLabels": {**tenant.labels, "kubernetes.io/metadata.name": tenant.name},
        "PodLabels": identity.labels,
    }
