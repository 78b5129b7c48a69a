"""Questions about policy as a whole: whether statements hold, and what a change would open and close."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from romana.codec.policy import read_policies
from romana.codec.statements import read_statements
from romana.core.policy.classes import classify
from romana.core.policy.compile import compile_program
from romana.core.policy.impact import Impact, impact
from romana.core.policy.places import find_places
from romana.core.policy.verify import Verifier
from romana.core.policy.world import PolicyWorld
from romana.model.errors import NotFound
from romana.model.policy import Policy
from romana.model.statement import Finding, Statement
from romana.services.control.core import Core


class ProofVerbs:
    """Answers are about the state at the moment of the question; the work is done beside the event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def verify(self, text: str) -> list[Finding]:
        """A finding for each statement of a text; Invalid with every line that is none."""
        statements = read_statements(text)
        return await asyncio.to_thread(_judge, self._world(), frozenset(self._core.state.segments), statements)

    async def impact(self, document: object, remove: tuple[str, ...] = ()) -> Impact:
        """What putting these policies in force, staged ones as well, and taking those out of it, would open and close.

        Invalid with every fault of the documents; NotFound for a policy to be removed that is not there.
        """
        added = [msgspec.structs.replace(policy, staged=False) for policy in read_policies(document)]
        before = self._world()
        for name in remove:
            if name not in before.policies:
                raise NotFound(f"no policy {name!r}; `romana policy list` shows them")
        return await asyncio.to_thread(impact, before, _changed(before, added, remove))

    def _world(self) -> PolicyWorld:
        """A copy, because the state goes on changing meanwhile."""
        live = self._core.state.world(self._core.exact_endpoints())
        return PolicyWorld(**{name: dict(getattr(live, name)) for name in PolicyWorld.__struct_fields__})


def _changed(before: PolicyWorld, added: list[Policy], remove: tuple[str, ...]) -> PolicyWorld:
    policies = {id_: one for id_, one in before.policies.items() if id_ not in remove}
    policies.update((one.id, one) for one in added)
    return msgspec.structs.replace(before, policies=policies)


def _judge(world: PolicyWorld, segments: Iterable[tuple[str, str]], statements: list[Statement]) -> list[Finding]:
    classes = classify(world)
    verifier = Verifier(world, compile_program(world), classes, find_places(world, classes), segments)
    return [verifier.judge(statement) for statement in statements]
