"""Fixed addresses for endpoints that ask for them: the control plane gives them, never this host.

Owns how an endpoint comes to use a reservation, and that a use of which no endpoint came is ended. Refuses to choose
addresses, and to judge whose they are. Invariant: what this host says of a use, also that it is over, is in the log, so
it comes in order; and what an earlier use left there is known before another one is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from romana.model.address import Address
from romana.model.errors import Fault, Invalid, Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity
from romana.model.view import AddressUse
from romana.ports import ControlPlane
from romana.services.agent.ledger import Ledger, stand_in
from romana.services.agent.publisher import Publisher
from romana.services.agent.work import Backoff, Bell, Workers

log = structlog.get_logger()


class FixedAddresses:
    """The uses of one host."""

    def __init__(
        self,
        ledger: Ledger,
        control: ControlPlane,
        publisher: Publisher,
        workers: Workers,
        backoff: Backoff,
        *,
        wait: float,
    ) -> None:
        """`wait` is how long the control plane and its view may take, in seconds."""
        self.bell = Bell()
        """Rung when a use may be over without an endpoint that says so."""
        self.turn: Callable[[str], AbstractAsyncContextManager[None]]
        """The turn of an endpoint, in which no verb changes it; set by who makes this."""
        self.is_here: Callable[[str], bool]
        """Whether an endpoint, or its link, is on this host; set by who makes this."""
        self._ledger = ledger
        self._control = control
        self._publisher = publisher
        self._workers = workers
        self._backoff = backoff
        self._wait = wait
        self._over: dict[str, tuple[Allocation, ...]] = {}  # what was said, as long as the view has it ...
        self._heard = ""  # ... to the store of this incarnation

    async def use(
        self, endpoint: str, identity: Identity, reservation: str, addresses: tuple[Address, ...]
    ) -> tuple[Allocation, ...]:
        """The addresses of a reservation, or else exactly these. NotFound, Conflict or Invalid as romanad says;
        Unavailable when it is away, or the host's view does not have the use and the identity in time.
        """
        self._ledger.check_lease()
        if reservation and addresses:
            raise Invalid(Fault("ROMANA_ADDRESS", "names a reservation; leave out the addresses beside it"))
        name = reservation or ad_hoc_name(endpoint)
        try:
            async with asyncio.timeout(self._wait):
                await self._publisher.flush()
                use = AddressUse(
                    name=name,
                    host=self._ledger.host,
                    epoch=self._ledger.epoch,
                    endpoint=endpoint,
                    identity=identity,
                    addresses=addresses,
                )
                given = await self._control.use_addresses(use)
                while self._ledger.view.uses.get(endpoint) != given.allocations or not self._ledger.knows(identity):
                    await self._ledger.news()
        except TimeoutError:
            host = self._ledger.host
            raise Unavailable(f"host {host} did not get address {name} from romanad within {self._wait:g} s") from None
        return given.allocations

    async def run(self) -> None:
        """End what is over, for ever: whenever the view changes, and when somebody rings."""
        news = asyncio.create_task(self._listen())
        try:
            while True:
                await self.bell.wait()
                try:
                    await self._end()
                except Unavailable as error:
                    log.warning("the end of a use could not be written", error=str(error))
                    self.bell.ring()
                    await self._backoff.pause()
                else:
                    self._backoff.reset()
        finally:
            news.cancel()

    async def _listen(self) -> None:
        while True:
            await self._ledger.news()
            self.bell.ring()

    async def _end(self) -> None:
        """Say of each use, of which no endpoint came or is here any more, that it is over."""
        uses = self._ledger.view.uses
        if self._heard != self._ledger.view.incarnation:  # a restored store may have the use from before its end
            self._over, self._heard = {}, self._ledger.view.incarnation
        self._over = {name: given for name, given in self._over.items() if uses.get(name) == given}
        for name, given in uses.items():
            if not self._ledger.epoch or name in self._over or self.is_here(name):
                continue
            async with self.turn(name):
                if self.is_here(name):
                    continue
                gone = stand_in(self._ledger.host, "", given, name=name)
                await self._workers.kernel(self._ledger.state.say_released, gone)
            self._over[name] = given
            log.info("a fixed address is used no more", endpoint=name, addresses=[str(one.address) for one in given])
            self._ledger.grown.ring()


def ad_hoc_name(endpoint: str) -> str:
    """The name under which an endpoint has the addresses that it asked for itself."""
    return f"endpoint-{hashlib.sha256(endpoint.encode()).hexdigest()[:20]}"
