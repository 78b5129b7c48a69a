"""Step after step of random worlds: what is kept up is what would be made from nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from romana.codec.json import encode
from romana.core.policy.compile import compile_program
from romana.core.policy.compiler import Compiler
from romana.core.policy.world import PolicyWorld

from .random_worlds import random_world

PARTS = PolicyWorld.__struct_fields__


@pytest.mark.parametrize("seed", range(60))
def test_a_program_that_is_kept_up_is_the_one_made_from_nothing(seed: int) -> None:
    random = Random(seed)
    worlds = [random_world(seed * 10 + number).world for number in range(3)]
    world = worlds[0]
    compiler = Compiler()
    for _ in range(12):
        if random.random() < 0.3:  # classes are asked for before the endpoints are known
            compiler.classify(msgspec.structs.replace(world, endpoints={}))
        assert encode(compiler.update(world)) == encode(compile_program(world))
        world = _step(random, world, random.choice(worlds))


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
