"""Connections that were tried with real packets, and whether what came of them is what everybody says.

Both ends decide, so a connection is a question to each end that is an endpoint of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from romana.model.address import Address, Family
from romana.model.policy import Direction
from romana.model.tenancy import Identity
from tests.proof.queries import Comparison, Outside, Question, Verdicts, difference
from tests.proof.random_worlds import RandomWorld

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
ECHO = {Family.V4: (1, 8 << 8), Family.V6: (58, 128 << 8)}


class Connection(NamedTuple):
    """One to be tried; `kind` is tcp, udp, sctp or icmp (an echo request, without port)."""

    source: Address
    destination: Address
    kind: str
    port: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.port} from {self.source} to {self.destination}"

    @property
    def is_loopback(self) -> bool:
        """Whether an endpoint tries itself, which no rule of ours sees."""
        return self.source == self.destination

    def questions(self, identities: Mapping[Address, Identity]) -> list[Question]:
        """What its ends are asked; `identities` are those of our endpoints."""
        ends = (
            (Direction.EGRESS, self.source, self.destination),
            (Direction.INGRESS, self.destination, self.source),
        )
        traffic = ECHO[self.source.family] if self.kind == "icmp" else (NUMBERS[self.kind], self.port)
        return [Question(way, identities[own], peer, *traffic) for way, own, peer in ends if own in identities]


class Outcome(NamedTuple):
    """A connection, whether it got through, and what its ends were asked and everybody answered."""

    connection: Connection
    reached: bool
    asked: list[tuple[Question, Verdicts]]

    @property
    def is_expected_outside(self) -> bool:
        """Whether the outside engine expects it, as far as it was asked."""
        return all(said.outside is not False for _, said in self.asked)

    @property
    def is_expected(self) -> bool:
        """Whether the program lets it through."""
        return self.connection.is_loopback or all(said.program for _, said in self.asked)

    def wrong(self, made: RandomWorld, outside: Outside | None = None) -> str:
        """What is wrong about it, in words; empty when nothing is."""
        for question, said in self.asked:
            if not said.agree:
                return difference(made, question, outside=outside)
        if self.reached == self.is_expected:
            return ""
        verb = "lets it through" if self.reached else "drops it"
        return "\n  ".join((f"{self.connection}: the kernel {verb}", *(f"{one} {said}" for one, said in self.asked)))


def outcomes(
    comparison: Comparison, identities: Mapping[Address, Identity], tried: Iterable[tuple[Connection, bool]]
) -> list[Outcome]:
    """What everybody says about connections that were tried; everybody is asked once."""
    asked = [(connection, reached, connection.questions(identities)) for connection, reached in tried]
    answers = iter(comparison.verdicts([one for *_, questions in asked for one in questions]))
    return [
        Outcome(connection, reached, [(one, next(answers)) for one in questions])
        for connection, reached, questions in asked
    ]
