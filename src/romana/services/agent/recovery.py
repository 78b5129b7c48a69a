"""An agent whose memory is not the one that the control plane knows: lost, cloned, declared lost, or of another store.

Owns what is done before anything is allocated. Invariants: an address that the agent before may have given out is
either known again, with its endpoint, or rests in full; an endpoint that the control plane does not confirm is stopped.
A recovery that a restart interrupts is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import msgspec
import structlog

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.ipam import Block
from romana.model.view import BlockTaken, Inventory, Welcome
from romana.ports import AgentMemory, ControlPlane
from romana.services.agent.kernel import Kernel
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Workers

log = structlog.get_logger()

AT_ONCE = 500
"""Endpoints in one part of an inventory at most."""


class Recovery:
    """Brings a memory and the control plane's copy together."""

    def __init__(self, ledger: Ledger, control: ControlPlane, kernel: Kernel, workers: Workers) -> None:
        self.workers = workers
        self.stop: Callable[[Endpoint], Awaitable[None]]
        """How an endpoint is stopped for good; set by who makes this."""
        self.stop_gone: Callable[[Endpoint], Awaitable[None]]
        """The same, unless its link is there; set by who makes this."""
        self.cut: Callable[[str], Awaitable[bool]]
        """How a link is cut off that nobody allocated; set by who makes this."""
        self.turn: Callable[[str], AbstractAsyncContextManager[None]]
        """The turn of an endpoint, in which no verb changes it; set by who makes this."""
        self.publishing: asyncio.Lock
        """Held while something is published; set by who makes this."""
        self._ledger = ledger
        self._control = control
        self._kernel = kernel
        self._epoch = 0
        self._over_at = 0
        self._finding_out = not ledger.joined
        self._known: dict[str, Endpoint] = {}

    def check(self) -> None:
        """Unavailable while the control plane has not said yet which of this host's endpoints and blocks are its."""
        if self._finding_out:
            since = f" since epoch {self._epoch}" if self._epoch else ""
            raise Unavailable(
                f"the memory of host {self._ledger.host} is not the one that romanad knows{since}; the agent finds out "
                "there first what it may keep"
            )

    async def begin(self, welcome: Welcome) -> bool:
        """What comes before the first view of an epoch or a store that is new to us; whether `confirm` is to follow.

        Unavailable while a restored store cannot say yet what is whose.
        """
        other_store = self._ledger.view.incarnation not in ("", welcome.incarnation)
        other_epoch = welcome.epoch != self._ledger.joined
        if not welcome.unsettled and not other_store and not other_epoch:
            return False
        self._ledger.epoch = 0
        self._finding_out |= other_epoch  # nothing begins from here on
        async with self.publishing:
            pass  # from here on nothing is published until all is said
        if welcome.unsettled or other_store:
            await self._say_what_is_held(welcome)
        if not other_store and not other_epoch:
            return False
        if other_epoch:
            memory = await self.workers.slow(self._ledger.state.load)
            self._epoch = welcome.epoch
            self._over_at = self._ledger.clock.boottime()
            if welcome.epoch == 1 and not memory.endpoints:  # nobody was here before
                await self.end()
                self._finding_out = False
                return False
            log.warning("this host had an agent with another memory; free addresses rest first", epoch=welcome.epoch)
            self._ledger.rest_first = True
            self._over_at += self._ledger.book.rest
            if self._ledger.joined:  # a restart before this is over has to begin it again, also without romanad
                await self.workers.slow(self._ledger.state.joined, 0)
                self._ledger.joined = 0
            for endpoint in await self.workers.kernel(self._without_link):
                log.warning("an endpoint without a link is taken for ended", endpoint=endpoint.id)
                await self.stop_gone(endpoint)
        known = await self._control.endpoints(self._ledger.host)
        self._known = {endpoint.id: endpoint for endpoint in known}
        for endpoint in known if other_epoch else ():
            await self._take_in(endpoint)
        return True

    async def confirm(self) -> None:
        """Stop what the first view does not confirm to be this host's, and say anew what the control plane lacks."""
        # On the kernel's worker, so what was being started under the view before is there by now.
        memory = await self.workers.kernel(self._ledger.state.load)
        taken = {one.cidr: one for one in memory.taken}
        for endpoint in memory.endpoints.values():
            known = self._known.get(endpoint.id)
            if known is not None and known.allocations == endpoint.allocations:
                continue
            uses = self._ledger.view.uses.get(endpoint.id) == endpoint.allocations
            if not uses and not all(self._serves(one.block, endpoint, taken) for one in endpoint.allocations):
                log.error("an endpoint's addresses are not this host's any more; it is stopped", endpoint=endpoint.id)
                await self.stop(endpoint)
        for orphan in list(self._ledger.orphans.values()):
            if not orphan.addresses:
                log.warning("a link has no address, and nobody knows it; what is left of it goes", link=orphan.link)
                await self.cut(orphan.link)
            elif not all(map(self._is_own, orphan.addresses)):
                log.error("a link has addresses that are not this host's any more; it is cut off", link=orphan.link)
                await self.cut(orphan.link)
        await self.workers.kernel(self._say_anew)
        self._finding_out = False

    async def end(self) -> None:
        """When the rests of a recovery are over, write that memory and control plane agree."""
        now = self._ledger.clock.boottime()
        if self._ledger.rest_first:  # the rests begin with the first view
            self._over_at = now + self._ledger.book.rest
        elif self._epoch and now >= self._over_at:
            epoch = self._epoch  # two may be here at once
            try:
                if closed := self._ledger.book.closed():
                    await self.workers.slow(self._ledger.state.close_blocks, closed)
                await self.workers.slow(self._ledger.state.joined, epoch)
            except Unavailable as error:
                log.warning("the end of a recovery could not be written", error=str(error))
                return
            self._ledger.joined = epoch
            if self._epoch == epoch:
                self._epoch = 0

    def _is_own(self, address: Address) -> bool:
        """Whether an address lies in this host's blocks, or is one that it asked for."""
        view = self._ledger.view
        fixed = (one.address for given in view.uses.values() for one in given)
        return any(block.contains(address) for block in view.blocks) or address in fixed

    def _without_link(self) -> list[Endpoint]:
        memory = self._ledger.state.load()
        return [endpoint for endpoint in memory.endpoints.values() if self._kernel.is_gone(endpoint)]

    def _serves(self, cidr: Prefix, endpoint: Endpoint, taken: Mapping[Prefix, BlockTaken]) -> bool:
        """Whether a block is this host's and serves an endpoint, as far as the first view and our log say."""
        block, mine = self._ledger.view.blocks.get(cidr), taken.get(cidr)
        if block is None:
            return False
        if endpoint.identity.id in block.identities:
            return True
        return mine is not None and mine.sequence == block.sequence + 1 and mine.identity == endpoint.identity.id

    async def _say_what_is_held(self, welcome: Welcome) -> None:
        """The inventory, in parts; afterwards the control plane has everything that is in the log before it."""
        ledger, view = self._ledger, self._ledger.view
        memory = await self.workers.slow(ledger.state.load)
        endpoints = [memory.endpoints[name] for name in sorted(memory.endpoints)]
        whole = Inventory(
            host=ledger.host,
            epoch=welcome.epoch,
            since=welcome.revision,
            spans=tuple(view.spans[cidr] for cidr in sorted(view.spans)),
            blocks=_held_blocks(ledger, memory),
            identities=tuple(view.identities[name].identity for name in sorted(view.identities)),
            ids=tuple(memory.endpoints),
            memory=ledger.has_view,
        )
        for first in range(0, max(1, len(endpoints)), AT_ONCE):
            part = tuple(endpoints[first : first + AT_ONCE])
            last = first + AT_ONCE >= len(endpoints)
            bare = Inventory(host=ledger.host, epoch=welcome.epoch, since=welcome.revision)
            base = whole if not first else msgspec.structs.replace(bare, first=False)
            answer = await self._control.inventory(msgspec.structs.replace(base, endpoints=part, last=last))
            for why in answer.refused:
                log.error("the restored store has given away what this host holds", what=why)
        log.warning("told a restored store what this host holds", endpoints=len(endpoints), blocks=len(whole.blocks))
        if whole.memory and memory.pending:
            await self.workers.slow(ledger.state.published, _last(memory))

    def _say_anew(self) -> None:
        """On the kernel's worker, where endpoints start and end: a log of what differs from the control plane's copy.

        It takes the place of the whole log, which may be of another history. What is sent first must not clash with
        what comes later: every release is before every start, and blocks go back last.
        """
        state, blocks = self._ledger.state, self._ledger.view.blocks
        memory = state.load()
        for entry in memory.pending:
            taken = entry.taken
            if taken is not None and taken.cidr in blocks and blocks[taken.cidr].sequence + 1 == taken.sequence:
                state.take(taken)
        ended = {entry.released.allocations for entry in memory.pending if entry.released is not None}
        for name, endpoint in self._known.items():
            mine = memory.endpoints.get(name)
            if mine is None and endpoint.allocations not in ended:
                state.release(endpoint, self._ledger.clock.boottime())
            elif mine is None or mine.allocations != endpoint.allocations:
                state.say_released(endpoint)
        for name, endpoint in memory.endpoints.items():
            if self._known.get(name) != endpoint:
                state.start(endpoint)
        for entry in memory.pending:
            if entry.returned is not None and entry.returned.cidr in blocks:
                state.give_back(entry.returned)
        state.published(_last(memory))
        self._known = {}
        self._ledger.grown.ring()

    async def _take_in(self, endpoint: Endpoint) -> None:
        """Remember an endpoint that the control plane knows of, or that it has ended."""
        async with self.turn(endpoint.id):
            if endpoint.id not in self._ledger.endpoints:
                await self._remember(endpoint)

    async def _remember(self, endpoint: Endpoint) -> None:
        stand_in = self._ledger.orphans.get(endpoint.link)
        holders = filter(None, map(self._ledger.book.holder, endpoint.addresses))
        same = stand_in is None or set(stand_in.addresses) <= set(endpoint.addresses)
        if not same or any(stand_in is None or holder.endpoint != stand_in.id for holder in holders):
            log.error("an endpoint came to an end, and its address or its name to another use", endpoint=endpoint.id)
            return
        if stand_in is not None:
            await self.workers.kernel(self._ledger.state.start, endpoint)
            await self.workers.kernel(self._kernel.adopt, endpoint, stand_in)
            self._ledger.recover(endpoint)
        else:  # it is never remembered as started: a kill in between would leave it so
            await self.workers.kernel(self._ledger.state.release, endpoint, self._ledger.clock.boottime())
            self._ledger.recover(endpoint)
            self._ledger.released(endpoint)
        log.info("endpoint taken in from the control plane", endpoint=endpoint.id, alive=stand_in is not None)
        self._ledger.grown.ring()


def _last(memory: AgentMemory) -> int:
    return max((entry.number for entry in memory.pending), default=0)


def _held_blocks(ledger: Ledger, memory: AgentMemory) -> tuple[Block, ...]:
    """The blocks that this host allocates, as it remembers them."""
    blocks: dict[Prefix, Block] = {
        cidr: block for cidr, block in ledger.view.blocks.items() if block.allocator == block.host == ledger.host
    }
    for taken in memory.taken:
        if taken.cidr in blocks and blocks[taken.cidr].sequence < taken.sequence:
            blocks[taken.cidr] = msgspec.structs.replace(
                blocks[taken.cidr], owner=taken.owner, identities=(taken.identity,), sequence=taken.sequence
            )
    for cidr, sequence in memory.closed.items():
        if cidr in blocks and blocks[cidr].sequence <= sequence:
            del blocks[cidr]
    return tuple(blocks[cidr] for cidr in sorted(blocks))
