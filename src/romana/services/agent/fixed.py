"""Fixed addresses for endpoints that ask for them: the control plane gives them, never this host.

Owns how an endpoint comes to use a reservation, and how it does not. Refuses to choose addresses, and to judge whose
they are. Invariant: a use that did not become an endpoint is ended.
"""

from __future__ import annotations

import asyncio
import hashlib

import structlog

from romana.model.address import Address
from romana.model.errors import Fault, Invalid, RomanaError, Unavailable
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity
from romana.model.view import AddressUse
from romana.ports import ControlPlane
from romana.services.agent.ledger import Ledger

log = structlog.get_logger()


class FixedAddresses:
    """The uses of one host."""

    def __init__(self, ledger: Ledger, control: ControlPlane, *, wait: float) -> None:
        """`wait` is how long the control plane and its view may take, in seconds."""
        self._ledger = ledger
        self._control = control
        self._wait = wait

    async def use(
        self, endpoint: str, identity: Identity, reservation: str, addresses: tuple[Address, ...]
    ) -> tuple[Allocation, ...]:
        """The addresses of a reservation, or else exactly these. NotFound, Conflict or Invalid as romanad says;
        Unavailable when it is away, or the host's view does not have the identity in time.
        """
        self._ledger.check_lease()
        if reservation and addresses:
            raise Invalid(Fault("ROMANA_ADDRESS", "names a reservation; leave out the addresses beside it"))
        name = reservation or ad_hoc_name(endpoint)
        use = AddressUse(name=name, host=self._ledger.host, endpoint=endpoint, identity=identity, addresses=addresses)
        try:
            async with asyncio.timeout(self._wait):
                given = await self._control.use_addresses(use)
                while not self._ledger.knows(identity):
                    await self._ledger.news()
        except TimeoutError:
            await self.end(name, endpoint)
            host = self._ledger.host
            raise Unavailable(f"host {host} did not get address {name} from romanad within {self._wait:g} s") from None
        return given.allocations

    async def end(self, name: str, endpoint: str) -> None:
        """The use did not become an endpoint. An audit finds it when romanad cannot be told."""
        try:
            await self._control.end_use(name, endpoint)
        except RomanaError as error:
            log.info("the use of a fixed address could not be ended", name=name, endpoint=endpoint, error=str(error))


def ad_hoc_name(endpoint: str) -> str:
    """The name under which an endpoint has the addresses that it asked for itself."""
    return f"endpoint-{hashlib.sha256(endpoint.encode()).hexdigest()[:20]}"
