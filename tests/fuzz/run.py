"""Reads nearly valid documents and says what came out that should not have: `python -m tests.fuzz.run --help`.

Owns the bounds: work in processor seconds of this thread, memory as the process's largest size.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from tests.fuzz.mutate import document
from tests.fuzz.parsers import PARSERS, Parser

SECONDS = 2.0
PER_BYTE = 100e-6
"""Processor seconds that a document may take, and for each of its bytes more."""
MEGABYTES = 400
"""By which the process may grow."""


class Surprise(msgspec.Struct, frozen=True):
    """What came out of a parser that should not have."""

    parser: str
    number: int
    sentence: str
    text: bytes

    def __str__(self) -> str:
        shown = self.text if len(self.text) < 2000 else self.text[:2000] + b"..."
        return f"{self.parser}, document {self.number}: {self.sentence}\n{shown!r}"


def read(parser: Parser, number: int, text: bytes) -> Surprise | None:
    """Have a document read; None when it was, or was refused in order."""
    return _read(parser, number, text)[0]


def _read(parser: Parser, number: int, text: bytes) -> tuple[Surprise | None, bool]:
    began = time.thread_time()
    accepted = False
    try:
        parser.read(text)
        accepted = True
    except parser.allowed:
        pass
    except Exception:
        return Surprise(parser.name, number, traceback.format_exc(limit=-6), text), False
    took = time.thread_time() - began
    if took > SECONDS + PER_BYTE * len(text):
        return Surprise(parser.name, number, f"took {took:.1f} s for {len(text)} bytes", text), accepted
    return None, accepted


def documents(
    seed: int, first: int, count: int, parsers: Sequence[Parser] = PARSERS
) -> Iterator[tuple[int, Parser, bytes]]:
    """Documents by number, for each parser in turn."""
    for number in range(first, first + count):
        parser = parsers[number % len(parsers)]
        yield number, parser, document(parser.examples, random.Random(f"{seed}/{number}"))


def memory() -> float:
    """The largest size that this process had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """The program."""
    arguments = argparse.ArgumentParser(description="Read nearly valid documents.")
    arguments.add_argument("--documents", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--first", type=int, default=0, help="number of the first document")
    arguments.add_argument("--parser", choices=[one.name for one in PARSERS], help="only this one")
    arguments.add_argument("--most", type=int, default=10, help="stop after so many surprises")
    wanted = arguments.parse_args()
    parsers = [one for one in PARSERS if wanted.parser in (None, one.name)]
    only = f" --parser {wanted.parser}" if wanted.parser else ""
    before, began = memory(), time.monotonic()
    surprises = []
    accepted: Counter[str] = Counter()
    for number, parser, text in documents(wanted.seed, wanted.first, wanted.documents, parsers):
        surprise, taken = _read(parser, number, text)
        accepted[parser.name] += taken
        if memory() - before > MEGABYTES:
            surprise = Surprise(parser.name, number, f"the process grew to {memory():.0f} MB", text)
            before = memory()
        if surprise is not None:
            print(
                surprise,
                f"\nrepeat: python -m tests.fuzz.run --seed {wanted.seed} --first {number} --documents 1{only}",
            )
            surprises.append(surprise)
            if len(surprises) >= wanted.most:
                break
        if number % 10_000 == 9_999:
            print(f"fuzz: {number + 1} documents, {time.monotonic() - began:.0f} s", flush=True)
    valid = ", ".join(f"{name} {count}" for name, count in sorted(accepted.items()))
    print(f"fuzz: seed {wanted.seed}: {len(surprises)} surprises, {time.monotonic() - began:.0f} s; accepted: {valid}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
