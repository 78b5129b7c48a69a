"""Allocations in one process, without a disk: how many a second, and whether their time grows with endpoints or fill.

The baseline chooses as host-local does: the next address after the last one that no file (here: no key) has. All cases
take turns of a hundred allocations, so that none has the processor's caches for itself.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable

from bench.report import Report, arguments, quantile, versions
from romana.core.ipam import AddressBook
from romana.model.address import Family, Prefix
from romana.model.ipam import Block
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Network

NETWORK = Network(name="n", cidr=Prefix(Family.V4, 10 << 24, 8), block_length=29, span_length=24)
OWNERS = 100
"""In every case as many, so that only the number of endpoints differs, or how full their blocks are."""
REST = 10
BATCH = 100
"""Addresses that are freed before as many are allocated: few beside all of them."""


class Filled:
    """An address book with endpoints of OWNERS, in which addresses are allocated and released."""

    def __init__(self, endpoints: int, *, fill: float) -> None:
        """`fill` is the part of the addresses that are in use."""
        self.owners = [Identity(owner=Owner("t", f"s{number}")) for number in range(OWNERS)]
        blocks = {}
        for number in range(round(endpoints / fill / 8 / len(self.owners)) * len(self.owners)):
            cidr = NETWORK.cidr.subnet(29, number)
            owner = self.owners[number % len(self.owners)]
            blocks[cidr] = Block(
                cidr=cidr,
                span=cidr.supernet(24),
                network="n",
                host="h",
                allocator="h",
                owner=owner.owner,
                identities=(owner.id,),
                sequence=1,
            )
        self.book = AddressBook("h", boot_id="b", rest=REST)
        self.book.update({"n": NETWORK}, blocks)
        self.names = [f"container-{number:032x}/eth0" for number in range(endpoints)]
        surplus = [f"gone-{number}" for number in range(8 * len(blocks) - endpoints)]
        for number, name in enumerate((*self.names, *surplus)):  # every address was used before
            self.book.allocate(name, self.owners[number % len(self.owners)], ("n",), 0)
        for name in surplus:
            self.book.release(name, 0)
        self.now = REST
        self.chance = random.Random(endpoints)

    def turn(self) -> float:
        """Release and allocate again BATCH times; the time of the allocations, in seconds of this process."""
        book, names, owners = self.book, self.names, self.owners
        chosen = self.chance.sample(range(len(names)), BATCH)
        for number in chosen:
            book.release(names[number], self.now)
        self.now += REST
        began = time.process_time()
        for number in chosen:
            book.allocate(names[number], owners[number % len(owners)], ("n",), self.now)
        return time.process_time() - began


class NextFree:
    """The baseline: one range, one table, the next free address after the last one."""

    def __init__(self, endpoints: int, *, fill: float) -> None:
        self.size = int(endpoints / fill)
        self.held = dict.fromkeys(range(endpoints), "")
        self.addresses = list(self.held)
        self.last = endpoints - 1
        self.chance = random.Random(endpoints)

    def turn(self) -> float:
        """The same as `Filled.turn`."""
        for _ in range(BATCH):
            place = self.chance.randrange(len(self.addresses))
            del self.held[self.addresses[place]]
            self.addresses[place] = self.addresses[-1]
            self.addresses.pop()
        began = time.process_time()
        for _ in range(BATCH):
            number = (self.last + 1) % self.size
            while number in self.held:
                number = (number + 1) % self.size
            self.held[number] = ""
            self.addresses.append(number)
            self.last = number
        return time.process_time() - began


def main() -> None:
    chosen = arguments(__doc__ or "", endpoints=1_000_000, few=1_000, turns=50, rounds=15)
    report = Report(benchmark="ipam", versions=versions())
    cases: dict[str, Callable[[], Filled | NextFree]] = {
        "few": lambda: Filled(chosen.few, fill=0.5),
        "many": lambda: Filled(chosen.endpoints, fill=0.5),
        "tenth_full": lambda: Filled(50_000, fill=0.1),
        "nearly_full": lambda: Filled(50_000, fill=0.99),
        "few_base": lambda: NextFree(chosen.few, fill=0.5),
        "many_base": lambda: NextFree(chosen.endpoints, fill=0.5),
        "tenth_full_base": lambda: NextFree(50_000, fill=0.1),
        "nearly_full_base": lambda: NextFree(50_000, fill=0.99),
    }
    made = {name: make() for name, make in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(chosen.rounds):
        gc.collect()
        gc.freeze()  # as a program does after its start: what it holds is not looked through again and again
        spent = dict.fromkeys(cases, 0.0)
        for _ in range(chosen.turns):
            for name, case in made.items():
                spent[name] += case.turn()
        for name, seconds in spent.items():
            micros = seconds / (chosen.turns * BATCH) * 1e6
            times[name].append(micros)
            report.runs.append({"case": name, "allocation_us": micros})
    for name, found in times.items():
        report.figures[f"allocation_us_{name}"] = quantile(found, 0.5)
        report.figures[f"allocation_us_{name}_spread"] = (max(found) - min(found)) / quantile(found, 0.5)
    for name in ("few", "many"):
        report.figures[f"allocations_per_second_{name}"] = 1e6 / quantile(times[name], 0.5)
    for key, over, under in (
        ("allocation_us_many_to_few", "many", "few"),
        ("allocation_us_nearly_to_tenth_full", "nearly_full", "tenth_full"),
        ("allocation_us_nearly_to_tenth_full_base", "nearly_full_base", "tenth_full_base"),
        ("allocation_us_many", "many", "many_base"),
        ("allocation_us_nearly_full", "nearly_full", "nearly_full_base"),
    ):
        pairs = zip(times[over], times[under], strict=True)
        report.ratios[key] = quantile([one / other for one, other in pairs], 0.5)
    report.show(chosen.json)


if __name__ == "__main__":
    main()
