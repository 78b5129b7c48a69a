"""Room for endpoints: blocks from the control plane, before they are needed where that can be seen coming.

Owns when a claim is made, when the stock is used, and what comes before a refusal. Refuses to choose addresses.
Invariants: at most one claim for an identity is under way; an identity without rows in the view is never given an
address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from romana.core.ipam import Need
from romana.model.address import Prefix
from romana.model.errors import Exhausted, RomanaError, Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity
from romana.model.view import BlockTaken, Claim, ClaimAnswer
from romana.ports import ControlPlane
from romana.services.agent.fixed import FixedAddresses
from romana.services.agent.ledger import Ledger
from romana.services.agent.work import Workers

log = structlog.get_logger()

LOW = 4
"""With fewer free addresses in a family, an identity's next block is claimed before it is needed."""


class Rooms:
    """Allocations, and the claims behind them."""

    def __init__(
        self, ledger: Ledger, control: ControlPlane, workers: Workers, fixed: FixedAddresses, *, wait: float
    ) -> None:
        """`wait` is how long an allocation may wait for the control plane, in seconds."""
        self.fixed = fixed
        """For endpoints that ask for addresses of their own."""
        self._ledger = ledger
        self._control = control
        self._workers = workers
        self._wait = wait
        self._claims: dict[str, asyncio.Task[ClaimAnswer]] = {}

    async def allocate(self, endpoint: str, identity: Identity) -> tuple[Allocation, ...]:
        """Addresses for an endpoint, from its host's own blocks wherever possible.

        Unavailable when the control plane is needed and away; NotFound for an unknown tenant or segment; Exhausted.
        """
        if not self._ledger.has_view:
            raise Unavailable(
                f"host {self._ledger.host} has not had its view from romanad yet ({self._ledger.no_view}); the agent "
                "goes on asking for it"
            )
        self._ledger.check_lease()
        if self._ledger.knows(identity):
            try:
                allocations = self._ledger.allocate(endpoint, identity)
            except Exhausted:
                pass
            else:
                self._look_ahead(identity)
                return allocations
        try:
            async with asyncio.timeout(self._wait):
                return await self._claimed(endpoint, identity)
        except (TimeoutError, Unavailable, Exhausted) as error:
            if self._ledger.knows(identity):
                return await self._in_need(endpoint, identity, error)
            if isinstance(error, RomanaError):
                raise
            raise Unavailable(
                f"host {self._ledger.host} did not hear from romanad of room for {identity.owner} within "
                f"{self._wait:g} s"
            ) from None

    async def _claimed(self, endpoint: str, identity: Identity) -> tuple[Allocation, ...]:
        while True:
            answer = await asyncio.shield(self._claim(identity, self._full(identity)))
            while not self._ledger.knows(identity) or self._ledger.view.revision < answer.revision:
                await self._ledger.news()
            blocks = [self._ledger.view.blocks.get(cidr) for cidr in answer.blocks]
            # a mixed block in place of one of its own says that there was no other
            short = any(block is not None and block.mixed for block in blocks)
            for need in (Need.USUAL, Need.SHARE) if short else (Need.USUAL,):
                try:
                    return self._ledger.allocate(endpoint, identity, need)
                except Exhausted:
                    if not self._lacks(identity):
                        raise

    async def _in_need(self, endpoint: str, identity: Identity, cause: Exception) -> tuple[Allocation, ...]:
        """Without a new block: sharing a mixed one, then the stock, then a shorter rest. `cause` is why."""
        try:
            return self._ledger.allocate(endpoint, identity, Need.SHARE)
        except Exhausted:
            pass
        try:
            await self._take_stock(identity, cause)
            return self._ledger.allocate(endpoint, identity, Need.SHARE)
        except (Exhausted, Unavailable) as error:
            try:
                allocations = self._ledger.allocate(endpoint, identity, Need.HURRY)
            except Exhausted:
                raise error from None
            log.warning("addresses are used again after a shorter rest", endpoint=endpoint, why=str(cause))
            return allocations

    async def _take_stock(self, identity: Identity, cause: Exception) -> None:
        """Ownerless blocks of this host, which peers deny until the control plane knows of them.

        For when it is away, and for when nothing but the stock is left, which only this agent can give.
        """
        now = self._ledger.clock.boottime()
        for networks in self._ledger.networks_of(identity).values():
            names = [network.name for network in networks]
            if any(self._ledger.book.left(identity, names, now, enough=1, need=Need.SHARE).values()):
                continue
            name = next((name for name in names if self._ledger.book.stock(name)), None)
            if name is None:
                if isinstance(cause, Exhausted):
                    raise cause
                raise Unavailable(
                    f"romanad is away, and host {self._ledger.host} has no free address and no ownerless block for "
                    f"{identity.owner} in {', '.join(names)}"
                )
            taken = self._ledger.book.take(identity, name)
            log.info("block taken from the stock", block=str(taken.cidr), owner=str(taken.owner))
            await self._workers.kernel(self._note_taken, taken)
            self._ledger.grown.ring()

    def _note_taken(self, taken: BlockTaken) -> None:
        """On the kernel's worker, like everything that the log has of blocks and endpoints."""
        if taken.cidr not in self._ledger.view.blocks:
            raise Unavailable(f"block {taken.cidr} is not host {self._ledger.host}'s any more; try again")
        self._ledger.state.take(taken)

    def _look_ahead(self, identity: Identity) -> None:
        """Claim the next block of an owner that has blocks of its own; one that shares may never need another."""
        if identity.id in self._claims:
            return
        names = [name for name in self._ledger.names_of(identity) if self._ledger.book.serves(identity.id, name)]
        left = self._ledger.book.left(identity, names, self._ledger.clock.boottime(), enough=LOW)
        low = {family for family, count in left.items() if count < LOW}
        networks = self._ledger.view.networks
        if low and not all(networks[name].bits for name in names if networks[name].cidr.family in low):
            full = tuple(cidr for cidr in self._serving(identity) if cidr.family in low)
            self._claim(identity, full)

    def _claim(self, identity: Identity, full: Sequence[Prefix]) -> asyncio.Task[ClaimAnswer]:
        """The claim that is under way for an identity, or a new one."""
        task = self._claims.get(identity.id)
        if task is None:
            request = Claim(
                host=self._ledger.host,
                epoch=self._ledger.epoch,
                identity=identity,
                full=tuple(full),
                present=self._ledger.book.present(identity.owner),
            )
            task = asyncio.create_task(self._ask(request))
            self._claims[identity.id] = task
            task.add_done_callback(lambda _: self._claims.pop(identity.id, None))
            task.add_done_callback(_note_failure)
        return task

    async def _ask(self, request: Claim) -> ClaimAnswer:
        if not self._ledger.epoch:
            raise Unavailable(f"host {request.host} has not reached romanad since the agent started")
        return await self._control.claim(request)

    def _full(self, identity: Identity) -> tuple[Prefix, ...]:
        """Blocks without an address for it, as far as the view has them."""
        now = self._ledger.clock.boottime()
        full = self._ledger.book.full(identity.id, list(self._ledger.view.networks), now)
        return tuple(cidr for cidr in full if cidr in self._ledger.view.blocks)

    def _lacks(self, identity: Identity) -> bool:
        """Whether some family has no address left: what was claimed was given to others meanwhile."""
        now = self._ledger.clock.boottime()
        left = self._ledger.book.left(identity, self._ledger.names_of(identity), now, enough=1)
        return not all(left.values())

    def _serving(self, identity: Identity) -> list[Prefix]:
        blocks = self._ledger.view.blocks.values()
        return [block.cidr for block in blocks if identity.id in block.identities and block.allocator == block.host]


def _note_failure(task: asyncio.Task[ClaimAnswer]) -> None:
    """Nobody may be waiting for it: the next allocation that finds no room asks again, and fails with the reason."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("claim failed", error=str(error), reason=getattr(error, "reason", "defect"))
