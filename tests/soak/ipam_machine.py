"""Random hosts against the control plane's addressing: `python -m tests.soak.ipam_machine --steps N --seed S`.

Several hosts allocate, lose contact, restart, reboot, forget everything; classes change; blocks and spans are claimed,
given back, retired and freed. After each step: no address has two endpoints, none is used before it has rested, none
is given to somebody while a host that is cut off takes it for somebody else's. In the end everything is given back, and
nothing is left: nothing was lost, nothing leaked. The same seed makes the same steps; each part of the run has a seed
of its own, which is printed when it fails.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from romana.core.ipam import AddressBook, Need, candidate_networks
from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Exhausted, RomanaError, Unavailable
from romana.model.ipam import Allocation, Block
from romana.model.tenancy import Identity, Owner
from romana.model.view import BlockReturned, BlockTaken, Claim, Publication, Released
from tests.soak.ipam_control import GROUPS, IDENTITIES, NETWORKS, Control, Sight

REST = 40
PATIENCE = 20
PART = 2000
"""Steps after which everything is given back, and a new part begins."""


Choice = Callable[[int], int]
"""Where decisions come from, a seed or hypothesis: answers one of 0 to the argument - 1."""


class Host:
    """One host: its agent, what the agent has on disk, and what the kernel has."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name
        self.boot = 0
        self.cut = False
        self.was_wiped = False
        self.forget()
        self.live: dict[str, Endpoint] = {}
        self.view = self.kept = machine.control.sight(name)
        self.start()

    def forget(self) -> None:
        """The disk is lost."""
        self.epoch = self.machine.control.epochs[self.name]
        self.endpoints: dict[str, Endpoint] = {}
        self.resting: dict[Address, tuple[int, str, str]] = {}
        self.closed: dict[Prefix, int] = {}
        self.log: list[Endpoint | Released | BlockTaken | BlockReturned] = []
        self.number = 0
        self.sequence = 0
        self.rest_first = False
        self.recovering_until: int | None = None
        self.taken: dict[Prefix, BlockTaken] = {}
        self.seen: dict[Prefix, tuple[tuple[int, int], int]] = {}

    @property
    def boot_id(self) -> str:
        return f"{self.name} {self.boot}"

    def start(self) -> None:
        """The agent starts, from what is on disk."""
        self.view = self.kept
        self.book = AddressBook(self.name, boot_id=self.boot_id, rest=REST, sequence=self.sequence)
        self.seen = {}
        self.synced = False
        self.reopened: dict[Prefix, int] = {}
        self.confirmed: dict[Prefix, int] = {}
        self._show()
        self.book.restore(
            self.endpoints.values(),
            self.resting,
            taken=self.taken.values(),
            closed=self.closed,
            now=self.machine.now,
        )
        for name in sorted(self.live.keys() - self.endpoints.keys()):
            self._adopt(name)
        if self.recovering_until is not None:
            self.recover()

    def _adopt(self, name: str) -> None:
        """A link without a memory: all that is known of it are its addresses."""
        allocations = tuple(
            Allocation(address=one.address, block=one.address, endpoint=name, sequence=0)
            for one in self.live[name].allocations
        )
        nobody = Identity(owner=Owner("", ""))
        self.live[name] = Endpoint(
            id=name, name=name, host=self.name, identity=nobody, allocations=allocations, link="rom"
        )
        self.book.restore([self.live[name]], {}, now=self.machine.now)

    def _show(self) -> None:
        own = {cidr: block for cidr, block in self.view.blocks.items() if block.host == self.name}
        names = {name for block in own.values() for name in block.identities}
        networks = {name: NETWORKS[name] for name in GROUPS[self.name]}
        self.book.update(networks, own, {name: self.view.classes[name] for name in names})

    def recover(self) -> None:
        """An agent whose memory the control plane does not know: what is alive stays, all else rests."""
        now = self.machine.now
        self.rest_first = True
        self.recovering_until = now + REST
        self.cut = False
        known = {one.id: one for one in self.machine.control.endpoints.values() if one.host == self.name}
        for name, endpoint in sorted(known.items()):
            alive = self.live.get(name)
            if name in self.endpoints:
                continue
            if alive is not None and {one.address for one in alive.allocations} == set(endpoint.addresses):
                self.book.release(name, now)
                self.live[name] = endpoint
            elif alive is not None or any(map(self.book.holder, endpoint.addresses)):
                # it came again, or another one came, after the last publication
                sequences = {one.address: one.sequence for one in endpoint.allocations}
                self.log.append(Released(endpoint=name, sequences=sequences))
                continue
            self.book.restore([endpoint], {}, now=now)
            self.started(endpoint)
            if alive is None:
                self.released(endpoint)
        self.receive()

    def receive(self) -> None:
        """The next view comes in."""
        self.view = self.machine.control.sight(self.name)
        self.synced = True
        self._show()
        if self.rest_first:
            self.rest_first = False
            self.book.rest_everything(self.machine.now)
        settled = self.book.settled()
        self.reopened |= settled.reopened
        self.confirmed |= settled.confirmed

    def keep(self) -> None:
        """The view is kept on disk."""
        self.kept = self.view
        for cidr, sequence in self.reopened.items():
            if self.closed.get(cidr, sequence + 1) <= sequence:
                del self.closed[cidr]
        for cidr, sequence in self.confirmed.items():
            if cidr in self.taken and self.taken[cidr].sequence <= sequence:
                del self.taken[cidr]
        self.reopened, self.confirmed = {}, {}

    def end_recovery(self) -> None:
        if self.recovering_until is not None and self.machine.now >= self.recovering_until and not self.rest_first:
            self.closed |= self.book.closed()
            self.recovering_until = None

    def started(self, endpoint: Endpoint) -> None:
        """It is durable."""
        self.endpoints[endpoint.id] = endpoint
        self.log.append(endpoint)
        for allocation in endpoint.allocations:
            self.resting.pop(allocation.address, None)
            self.sequence = max(self.sequence, allocation.sequence)

    def released(self, endpoint: Endpoint) -> None:
        """Its end is durable, and then its addresses rest."""
        now = self.machine.now
        for allocation in endpoint.allocations:
            self.resting[allocation.address] = (now, self.boot_id, endpoint.identity.id)
        if self.endpoints.pop(endpoint.id, None) is not None:
            sequences = {one.address: one.sequence for one in endpoint.allocations}
            self.log.append(Released(endpoint=endpoint.id, sequences=sequences))
        self.book.release(endpoint.id, now)

    def publish(self, *, answered: bool) -> None:
        """The log's entries reach the control plane; without an answer they stay in the log."""
        number = self.number + len(self.log)
        self.machine.control.publish(
            Publication(
                host=self.name,
                epoch=self.epoch,
                number=number,
                taken=tuple(one for one in self.log if isinstance(one, BlockTaken)),
                started=tuple(one for one in self.log if isinstance(one, Endpoint)),
                released=tuple(one for one in self.log if isinstance(one, Released)),
                returned=tuple(one for one in self.log if isinstance(one, BlockReturned)),
            )
        )
        if answered:
            self.number, self.log = number, []


class Machine:
    """All hosts, the control plane, and what must be true."""

    def __init__(self, choose: Choice) -> None:
        self.choose = choose
        self.now = 1
        self.control = Control()
        for name in GROUPS:
            self.control.refill(name)
        self.hosts = {name: Host(self, name) for name in GROUPS}
        self.users: dict[Address, str] = {}
        self.freed: dict[Address, int] = {}
        self.past: dict[Address, list[tuple[str, Allocation]]] = {}
        """The identities that had an address, since its block was last free, each with the use."""
        self.counts: dict[str, int] = {}

    def step(self) -> None:
        """One operation, chosen at random, and a look at what must be true."""
        operation = OPERATIONS[self.choose(len(OPERATIONS))]
        operation(self)
        self.counts[operation.__name__] = self.counts.get(operation.__name__, 0) + 1
        if self.choose(16) == 0:
            self.check()

    def host(self) -> Host:
        return list(self.hosts.values())[self.choose(len(self.hosts))]

    def add(self) -> None:
        host, identity = self.host(), IDENTITIES[self.choose(len(IDENTITIES))]
        name = f"{host.name}{self.choose(10)}"
        if name in host.live:
            if name in host.endpoints:
                again = self._allocate(host, name, identity, Need.USUAL)
                assert again == host.endpoints[name].allocations
            return
        allocations = self._find(host, name, identity)
        if allocations is not None:
            self._start(host, name, identity, allocations)

    def _find(self, host: Host, name: str, identity: Identity) -> tuple[Allocation, ...] | None:
        """As the agent does: what there is, else a claim, else sharing, the stock, a shorter rest."""
        known = any(identity.id in block.identities for block in host.view.blocks.values() if block.host == host.name)
        if known:
            with suppress(Exhausted):
                return self._allocate(host, name, identity, Need.USUAL)
        if not host.cut and host.name not in self.control.draining:
            with suppress(Exhausted, Unavailable):
                self._claim(host, identity)
                known = True
                return self._allocate(host, name, identity, Need.USUAL)
        if not known or not self.choose(3):
            return None
        with suppress(Exhausted):
            return self._allocate(host, name, identity, Need.SHARE)
        if self.choose(2):
            for networks in candidate_networks(NETWORKS, identity.owner.tenant).values():
                for network in networks:
                    if not host.book.serves(identity.id, network.name) and host.book.stock(network.name):
                        taken = host.book.take(identity, network.name)
                        host.taken[taken.cidr] = taken
                        host.log.append(taken)
        with suppress(Exhausted):
            return self._allocate(host, name, identity, Need.HURRY)
        return None

    def _claim(self, host: Host, identity: Identity) -> None:
        names = _names(identity)
        full = host.book.full(identity.id, names, self.now)
        request = Claim(
            host=host.name,
            epoch=host.epoch,
            identity=identity,
            full=tuple(cidr for cidr in full if cidr in host.view.blocks),
            present=host.book.present(identity.owner),
        )
        self.control.claim(request)
        host.receive()

    def _allocate(self, host: Host, name: str, identity: Identity, need: Need) -> tuple[Allocation, ...]:
        return host.book.allocate(name, identity, _names(identity), self.now, need)

    def _start(self, host: Host, name: str, identity: Identity, allocations: tuple[Allocation, ...]) -> None:
        for one in allocations:
            address = one.address
            assert address not in self.users, f"{address} twice: {self.users[address]} and {name}"
            hurried = host.book.hurried > 0
            rest = min(REST, 30) if hurried else REST
            assert self.freed.get(address, -REST) + rest <= self.now, f"{address} has not rested"
            for network in NETWORKS.values():
                kept = (*network.reserved, *network.static)
                assert not any(cidr.contains(address) for cidr in kept), f"{address} is kept out"
            self._check_readers(host, identity, one)
            self.users[address] = name
        made = Endpoint(id=name, name=name, host=host.name, identity=identity, allocations=allocations, link="rom")
        host.live[name] = made
        host.started(made)

    def _check_readers(self, host: Host, identity: Identity, allocation: Allocation) -> None:
        """Nobody gets an address after another class; no host, however old its view is, takes it for somebody's who
        had it before its block was somebody else's.
        """
        address, classes = allocation.address, host.view.classes
        past = self.past.setdefault(address, [])
        if past and past[-1][1] in self.control.shown and not (host.was_wiped and _is_computed(host, allocation)):
            last = past[-1][0]
            assert last == identity.id or classes[last] == classes[identity.id], f"{address} was of {last}"
        for reader in self.hosts.values():
            for sight in (reader.view, reader.kept):
                believed = sight.believed(address, allocation.block.length)
                if isinstance(believed, Block):
                    assert believed.owner == identity.owner, f"{reader.name} takes it for {believed.owner}'s"
                elif believed is not None:
                    assert believed in (identity.id, *(one for one, _ in past)), (
                        f"{reader.name} takes {address} for {believed}"
                    )
        past.append((identity.id, allocation))

    def delete(self) -> None:
        host = self.host()
        if host.live:
            self._delete(host, sorted(host.live)[self.choose(len(host.live))])

    def _delete(self, host: Host, name: str) -> None:
        endpoint = host.live.pop(name)
        for one in endpoint.allocations:
            del self.users[one.address]
            self.freed[one.address] = self.now
        host.released(host.endpoints.get(name, endpoint))

    def wait(self) -> None:
        self.now += 1 + self.choose(REST // 2)

    def tidy(self) -> None:
        host = self.host()
        if host.synced:
            for address in host.book.rested(self.now):
                host.resting.pop(address, None)
        host.end_recovery()

    def claim(self) -> None:
        host = self.host()
        if not host.cut and host.name not in self.control.draining:
            with suppress(Exhausted, Unavailable):
                self._claim(host, IDENTITIES[self.choose(len(IDENTITIES))])

    def publish(self) -> None:
        host = self.host()
        if not host.cut:
            host.publish(answered=self.choose(4) > 0)

    def receive(self) -> None:
        host = self.host()
        if not host.cut:
            host.receive()

    def keep(self) -> None:
        self.host().keep()

    def acknowledge(self) -> None:
        host = self.host()
        if not host.cut:
            self.control.applied[host.name] = min(host.view.revision, host.kept.revision)

    def cut(self) -> None:
        host = self.host()
        host.cut = not host.cut

    def restart(self) -> None:
        host = self.host()
        if self.choose(3) == 0:
            host.boot += 1
        host.start()

    def wipe(self) -> None:
        if self.choose(12):
            return
        host = self.host()
        self.control.revision += 1
        self.control.epochs[host.name] += 1
        host.forget()
        host.was_wiped = True
        host.recovering_until = 0
        host.kept = Sight(0, {}, {}, {}, False)
        host.start()

    def change_policy(self) -> None:
        self.control.revision += 1
        identity = IDENTITIES[self.choose(len(IDENTITIES))]
        self.control.classes[identity.id] = (identity.owner.segment, "one", "two")[self.choose(3)]

    def drain(self) -> None:
        if self.choose(4):
            return
        self.control.revision += 1
        self.control.draining ^= {self.host().name}

    def give_back(self) -> None:
        host = self.host()
        if not host.cut:
            self._give_back(host)

    def _give_back(self, host: Host) -> None:
        idle = host.book.idle(self.now, draining=host.view.draining)
        before, published = host.seen, not host.log
        host.seen = {}
        for cidr, use in idle.items():
            known = before.get(cidr)
            since = known[1] if known is not None and known[0] == use else self.now
            if since + PATIENCE > self.now:
                host.seen[cidr] = (use, since)
            elif cidr not in host.book.closed() or published:
                returned = host.book.close(cidr)
                host.closed[cidr] = returned.sequence
                host.log.append(returned)

    def retire_spans(self) -> None:
        self.control.retire_spans(self.host().name)

    def free(self) -> None:
        before = set(self.control.retired)
        self.control.free()
        for cidr in before.difference(self.control.retired):
            for address in [address for address in self.past if cidr.contains(address)]:
                del self.past[address]

    def check(self) -> None:
        """What must be true after each step."""
        self.control.check()
        for host in self.hosts.values():
            held = [one.address for endpoint in host.live.values() for one in endpoint.allocations]
            assert host.book.counts(self.now)["in-use"] == len(held)
            for address in held:
                assert host.book.holder(address) is not None, f"{address} is lost to its endpoint"

    def finish(self) -> None:
        """Everybody is back, every endpoint ends, everything is given back: then nothing is left."""
        self.control.revision += 1
        self.control.draining = set(self.hosts)
        for host in self.hosts.values():
            host.cut = False
            for name in sorted(host.live):
                self._delete(host, name)
        for _ in range(6):
            self.now += REST + PATIENCE
            for host in self.hosts.values():
                host.receive()
                host.end_recovery()
                self._give_back(host)
                host.publish(answered=True)
                self.control.retire_spans(host.name)
                host.receive()
                host.keep()
            for host in self.hosts.values():
                host.receive()
                host.keep()
                self.control.applied[host.name] = host.view.revision
            self.free()
        self.check()
        control = self.control
        left = [*control.endpoints, *control.blocks, *control.spans, *control.retired, *self.users]
        assert not left, f"left: {', '.join(map(str, left))}"
        assert not any(host.log for host in self.hosts.values())


OPERATIONS: list[Callable[[Machine], None]] = [
    *([Machine.add] * 8),
    *([Machine.delete] * 5),
    *([Machine.wait] * 3),
    *([Machine.publish] * 3),
    *([Machine.receive] * 3),
    *([Machine.keep] * 2),
    *([Machine.acknowledge] * 2),
    *([Machine.give_back] * 3),
    Machine.tidy,
    Machine.claim,
    Machine.cut,
    Machine.restart,
    Machine.wipe,
    Machine.change_policy,
    Machine.drain,
    Machine.retire_spans,
    Machine.free,
]


def run_part(seed: int, steps: int) -> Machine:
    """One part of a run, from an empty control plane to an empty one."""
    chance = random.Random(seed)
    machine = Machine(chance.randrange)
    for _ in range(steps):
        machine.step()
    machine.finish()
    return machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first part; each part's is one more")
    chosen = parser.parse_args()
    began = shown = time.monotonic()
    done, seed = 0, chosen.seed
    while done < chosen.steps:
        steps = min(PART, chosen.steps - done)
        try:
            run_part(seed, steps)
        except (AssertionError, KeyError, RomanaError):
            print(f"failed: seed {seed}, within {steps} steps; --seed {seed} --steps {steps} repeats it", flush=True)
            raise
        done, seed = done + steps, seed + 1
        if time.monotonic() - shown >= 10 or done >= chosen.steps:
            shown = time.monotonic()
            print(f"{done:,} steps, {shown - began:.0f} s; the next seed is {seed}", flush=True)
    return 0


def _is_computed(host: Host, allocation: Allocation) -> bool:
    return NETWORKS[host.view.blocks[allocation.block].network].bits is not None


def _names(identity: Identity) -> tuple[str, ...]:
    found = candidate_networks(NETWORKS, identity.owner.tenant)
    return tuple(network.name for networks in found.values() for network in networks)


if __name__ == "__main__":
    sys.exit(main())
