"""Proof by testing, for longer: `python -m tests.soak.policy --help`.

`questions`: random worlds with documents of every kind are asked what documents mean and what the compiled program
says; as many answers again are compared with the outside engine's, in worlds of Kubernetes' policies. `altered`:
documents that were changed a little, and are taken all the same, mean what they say. `worlds`: random worlds in the
kernel, with real connections. `cases`: the engine's own cases at a real romana. Each world has a seed of its own, one
more than that of the world before it; what fails says how it is repeated and gone on from.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random

from romana.codec.document import load
from romana.model.errors import Invalid
from tests.fuzz.mutate import document as nearly_valid
from tests.proof.cases import cluster
from tests.proof.kernel import try_world
from tests.proof.outside import KINDS, Engine
from tests.proof.queries import Comparison, Verdicts, difference
from tests.proof.random_worlds import RandomWorld, random_world, world_with

EACH = 100
"""Questions to a world."""


class DisagreementError(AssertionError):
    """Somebody says what another one refutes."""


def ask(seed: int, wanted: int) -> None:
    """Ask documents and program, then those and the outside engine."""
    asked = unknown = 0
    tell = _teller("questions to documents and program", wanted)
    worlds = count(seed)
    while asked < wanted:
        made, random = random_world(number := next(worlds), odd=True), Random(number)
        said = _agreed(made, Comparison(made.world, made.documents), random, f"questions --seed {number}")
        unknown += sum(one.least != one.most for one in said)
        asked += len(said)
        tell(asked)
    print(f"questions: {asked} in {number - seed + 1} worlds, {unknown} about who is not known; no difference")
    with Engine() as engine:
        ask_engine(engine, seed, wanted)


def ask_engine(engine: Engine, seed: int, wanted: int) -> None:
    """Ask documents, program and the outside engine."""
    asked = 0
    explained = Counter[str]()
    tell = _teller("questions to documents, program and engine", wanted)
    worlds = count(seed)
    while asked < wanted:
        made, random = random_world(number := next(worlds), KINDS, open_tenants=True), Random(number)
        comparison = Comparison(made.world, made.documents, outside=engine)
        said = _agreed(made, comparison, random, f"questions --seed {number}")
        asked += sum(one.outside is not None for one in said)
        explained += comparison.explained
        tell(asked)
    print(f"engine: {asked} answers in {number - seed + 1} worlds agree; explained by its defects: {_shown(explained)}")


def ask_altered(seed: int, wanted: int) -> None:
    """Ask about documents that were changed a little, where they are still taken: one at a time, in its world."""
    taken = 0
    tell = _teller("altered documents", wanted)
    worlds = count(seed)
    while taken < wanted:
        made, random = random_world(number := next(worlds)), Random(number)
        examples = [json.dumps(one).encode() for one in made.documents]
        for _ in range(EACH // 10 if examples else 0):
            changed = _altered(made, nearly_valid(examples, random))
            if changed is not None:
                taken += 1
                _agreed(changed, Comparison(changed.world, changed.documents), random, f"altered --seed {number}")
        tell(taken)
    print(f"altered: {taken} documents were taken, in {number - seed + 1} worlds; no difference")


def _agreed(made: RandomWorld, comparison: Comparison, random: Random, repeat: str) -> list[Verdicts]:
    """What everybody says about a world; DisagreementError when they do not agree."""
    with _repeatable(repeat):
        questions = list(comparison.questions(random, made.addresses, EACH))
        said = comparison.verdicts(questions)
        for question, one in zip(questions, said, strict=True):
            if not one.agree:
                raise DisagreementError(difference(made, question, outside=comparison.outside))
    return said


def _shown(explained: Counter[str]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in sorted(explained.items())) or "nothing"


def _altered(made: RandomWorld, text: bytes) -> RandomWorld | None:
    """The world with this document alone in force; None when it is refused, or is a list."""
    try:
        document = load(text)
        if not isinstance(document, dict) or "items" in document:
            return None
        world = world_with(made.world, [document])
    except Invalid:
        return None
    return RandomWorld(world, (document,), made.addresses)


def try_worlds(seed: int, wanted: int) -> None:
    """Try connections in random worlds."""
    tried = reached = 0
    tell = _teller("worlds in the kernel", wanted)
    for world in range(seed, seed + wanted):
        with _repeatable(f"worlds --seed {world}"):
            found = try_world(world)
            if found.wrong:
                raise DisagreementError("\n".join(found.wrong[:5]))
        tried += found.connections
        reached += found.reached
        tell(world - seed + 1)
    print(f"worlds: {wanted}, {tried} connections tried, {reached} got through; no difference")


def try_cases(seed: int, first: int) -> None:
    """Try the engine's cases, from one of them on."""
    steps = connections = tries = 0
    explained = Counter[str]()
    with Engine() as engine, cluster(engine, seed) as made:
        cases = engine.cases(made.last_address)
        for number, case in enumerate(cases[first - 1 :], first):
            began = time.monotonic()
            with _repeatable(f"cases --seed {seed} --first {number}"):
                found = made.try_case(case)
                if found.wrong:
                    raise DisagreementError("\n".join((case["Description"], *found.wrong[:5], *found.wrong[-3:])))
            steps, connections, tries = steps + found.steps, connections + found.connections, tries + found.tries
            explained += found.explained
            words = f"{found.steps} steps, {found.connections} connections, {found.tries} tries"
            print(f"case {number}/{len(cases)}: {case['Description'][:60]}: {words}, {time.monotonic() - began:.1f} s")
    print(
        f"cases: {len(cases) - first + 1} with {steps} steps, {connections} connections in {tries} tries; no difference"
    )
    print(f"cases: explained by the engine's defects: {_shown(explained)}")


@contextmanager
def _repeatable(arguments: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        print(f"failed: python -m tests.soak.policy {arguments} repeats it and goes on from it", flush=True)
        raise


def _teller(what: str, wanted: int) -> Callable[[int], None]:
    """Tells how far it is, ten times in all."""
    began, next_ = time.monotonic(), max(1, wanted // 10)

    def tell(done: int) -> None:
        nonlocal next_
        if done >= next_:
            print(f"{what}: {done} of {wanted}, {time.monotonic() - began:.0f} s", flush=True)
            next_ = done + max(1, wanted // 10)

    return tell


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("questions", "altered", "worlds", "cases"))
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--count", type=int, default=200, help="of questions, documents or worlds")
    parser.add_argument("--first", type=int, default=1, help="number of the first case")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if wanted.part == "cases":
        try_cases(wanted.seed, wanted.first)
    else:
        {"questions": ask, "altered": ask_altered, "worlds": try_worlds}[wanted.part](wanted.seed, wanted.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
