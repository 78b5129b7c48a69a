"""Whether a recorded run kept the three promises: no address twice, none lost, none leaked.

Pure: it reads a history, and the caller did the looking. Only what is certain counts against anybody. What is there at
the end is looked at in `ends.py`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.faults.ends import Fault, at_the_end, listed, overlapping
from tests.faults.history import Held, History, Operation, Outcome, Stories, Use, Verb

GRAIN = 1.0
"""Seconds by which a rest may look shorter: rests are counted in whole seconds."""


def judge(history: History) -> list[Fault]:
    """Every promise that this run broke; empty when all were kept."""
    stories = Stories(history.operations, history.lost)
    found = [Fault("lost", words) for words in stories.contradictions]
    found += _overlaps(stories.uses)
    found += _misnamed(stories.uses, history.names)
    found += _claimed_twice(history.operations)
    if history.rest:
        found += _rests(stories.uses, history.rest)
    found += at_the_end(history, stories.fates)
    return sorted(set(found))


def _overlaps(uses: list[Use]) -> Iterator[Fault]:
    for address, having in _by_address(uses).items():
        latest: Use | None = None
        for use in having:
            other = latest is not None and (latest.host, latest.container) != (use.host, use.container)
            if latest is not None and other and use.start < latest.end:
                yield Fault("twice", f"{address} was given to {latest} and to {use}")
            if latest is None or use.end > latest.end:
                latest = use


def _misnamed(uses: list[Use], names: dict[str, tuple[str, ...]]) -> Iterator[Fault]:
    """A name gives its own addresses, and nothing else gives them."""
    named = {address: name for name, addresses in names.items() for address in addresses}
    for use in uses:
        if use.fixed:
            if set(use.addresses) != set(names.get(use.fixed, ())):
                has = listed(names.get(use.fixed))
                yield Fault("lost", f"{use.fixed} has {has}, and {use} was answered {listed(use.addresses)} for it")
            continue
        for address in use.addresses:
            if address in named:
                yield Fault("twice", f"{address} of {named[address]} was given to {use}, which did not ask for it")


def _rests(uses: list[Use], rest: float) -> Iterator[Fault]:
    for address, having in _by_address(uses).items():
        for before, after in itertools.pairwise(having):
            same = (before.host, before.container) == (after.host, after.container)
            if (same and not before.sure) or after.start < before.end:
                continue
            if before.fixed and before.fixed == after.fixed:  # an address goes with its name, at once
                continue
            if after.start >= before.taken:  # what a person said to be lost does not rest
                continue
            rested = after.start - before.end
            if rested < rest - GRAIN:
                yield Fault("twice", f"{address} of {before} was given to {after} after a rest of {rested:.3f} s")


def _by_address(uses: list[Use]) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = defaultdict(list)
    for use in sorted(uses, key=lambda use: use.start):
        for address in use.addresses:
            found[address].append(use)
    return found


def _claimed_twice(operations: Iterable[Operation]) -> Iterator[Fault]:
    claims = (one for one in operations if one.verb is Verb.CLAIM and one.outcome is Outcome.DONE)
    held = [Held(cidr=cidr, host=one.host) for one in claims for cidr in one.addresses]
    return overlapping(held, "was answered to")
