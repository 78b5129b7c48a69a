"""An engine for tests of the comparison: our own evaluator, with the errors that it is given."""

from __future__ import annotations

from collections.abc import Sequence

from romana.core.policy.world import PolicyWorld
from romana.model.tenancy import Identity
from tests.proof.facts import Labels
from tests.proof.naive import Naive
from tests.proof.outside import explanation
from tests.proof.queries import Question, decides, site_of
from tests.proof.random_documents import Document


class Misreading:
    """An engine that reads label selectors in its own way, and is wrong about UDP when it is `careless`."""

    def __init__(self, labels: Labels, *, careless: bool = False) -> None:
        self.labels = labels
        self.careless = careless

    def answers(
        self, world: PolicyWorld, documents: Sequence[Document], asked: Sequence[tuple[Question, Identity | None]]
    ) -> list[bool]:
        evaluator = Naive(site_of(world, documents), self.labels, staged=True)
        return [
            decides(evaluator, question, peer) != (self.careless and question.protocol == 17)
            for question, peer in asked
        ]

    explains = staticmethod(explanation)
