"""Step after step of random worlds: what is kept up is what would be made from nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from romana.core.policy.compile import compile_program
from romana.core.policy.compiler import Compiler
from romana.core.policy.world import PolicyWorld, Touched
from romana.model.program import Program
from tests.proof.random_worlds import random_world

PARTS = PolicyWorld.__struct_fields__


@pytest.mark.parametrize("seed", range(60))
def test_a_program_that_is_kept_up_is_the_one_made_from_nothing(seed: int) -> None:
    random = Random(seed)
    worlds = [random_world(seed * 10 + number).world for number in range(3)]
    world = worlds[0]
    compiler = Compiler()
    touched: Touched | None = None
    last = Program(classes={}, row_ids={}, rows={}, profiles={})
    for _ in range(12):
        if random.random() < 0.3:  # classes are asked for before the endpoints are known
            compiler.classify(msgspec.structs.replace(world, endpoints={}), touched)
            touched = Touched()
        program = compiler.update(world, touched)
        assert program == compile_program(world)
        changed = compiler.take_changed()
        for old, new in ((last.rows, program.rows), (last.classes, program.classes), (last.row_ids, program.row_ids)):
            assert {id_ for id_ in {**old, **new} if old.get(id_) != new.get(id_)} <= changed
        for name in {**last.host_rows, **program.host_rows}:
            assert last.host_rows.get(name) == program.host_rows.get(name) or f"host {name}" in changed
        last = program
        before, world = world, _step(random, world, random.choice(worlds))
        touched = _between(random, before, world) if random.random() < 0.8 else None


def _between(random: Random, before: PolicyWorld, after: PolicyWorld) -> Touched:
    """What may differ: what does, and now and then something that does not."""
    found: dict[str, Any] = {}
    for name in ("tenants", "policies", "identities", "blocks"):
        old, new = getattr(before, name), getattr(after, name)
        keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        found[name] = keys | ({random.choice(sorted(new, key=str))} if new and random.random() < 0.2 else set())
    return Touched(**found)


def _step(random: Random, world: PolicyWorld, other: PolicyWorld) -> PolicyWorld:
    """A few things of one world become as they are in another one, or go."""
    parts: dict[str, dict[Any, Any]] = {name: dict(getattr(world, name)) for name in PARTS}
    for _ in range(random.randint(1, 3)):
        name = random.choice(PARTS)
        own, theirs = parts[name], getattr(other, name)
        if random.random() < 0.4 and own and name != "networks":
            del own[random.choice(sorted(own, key=str))]
        elif theirs:
            key = random.choice(sorted(theirs, key=str))
            own[key] = theirs[key]
    if random.random() < 0.2 and parts["policies"]:
        id_ = random.choice(sorted(parts["policies"]))
        policy = parts["policies"][id_]
        parts["policies"][id_] = msgspec.structs.replace(policy, ingress=policy.egress, egress=policy.ingress)
    return PolicyWorld(**parts)
