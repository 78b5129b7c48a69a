"""An agent's memory without a disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Unavailable
from romana.model.view import BlockReturned, BlockTaken
from romana.ports import AgentMemory, PendingPublication


class MemoryAgentState:
    """`ports.AgentState` in memory; `broken` makes every write fail, as a full disk does."""

    def __init__(self, *, boot_id: str = "boot-1") -> None:
        self.broken = False
        self._boot_id = boot_id
        self._instance = secrets.token_hex(16)
        self._endpoints: dict[str, Endpoint] = {}
        self._resting: dict[Address, tuple[int, str, str]] = {}
        self._closed: dict[Prefix, int] = {}
        self._taken: dict[Prefix, BlockTaken] = {}
        self._unlinking: dict[str, Endpoint] = {}
        self._pending: list[PendingPublication] = []
        self._number = 0
        self._sequence = 0
        self._epoch = 0
        self._view: bytes | None = None
        self._renewed: tuple[int, str, int] | None = None

    def instance(self) -> str:
        return self._instance

    def disown(self) -> None:
        self._writable()
        self._instance = secrets.token_hex(16)
        self._epoch, self._renewed = 0, None

    def load(self) -> AgentMemory:
        return AgentMemory(
            endpoints=dict(self._endpoints),
            resting=dict(self._resting),
            closed=dict(self._closed),
            taken=tuple(self._taken.values()),
            unlinking=dict(self._unlinking),
            pending=tuple(self._pending),
            view=self._view,
            sequence=self._sequence,
            epoch=self._epoch,
            renewed=self._renewed,
        )

    def start(self, endpoint: Endpoint) -> None:
        self._log(started=endpoint)
        self._endpoints[endpoint.id] = endpoint
        self._unlinking.pop(endpoint.id, None)
        for allocation in endpoint.allocations:
            self._resting.pop(allocation.address, None)
        self._count(endpoint)

    def release(self, endpoint: Endpoint, released_at: int) -> None:
        self.forget(endpoint, released_at)
        self._unlinking[endpoint.id] = endpoint

    def forget(self, endpoint: Endpoint, released_at: int) -> None:
        self._log(released=endpoint)
        self._endpoints.pop(endpoint.id, None)
        self._count(endpoint)
        self._resting |= dict.fromkeys(endpoint.addresses, (released_at, self._boot_id, endpoint.identity.id))

    def say_released(self, endpoint: Endpoint) -> None:
        self._log(released=endpoint)

    def unlinked(self, *endpoints: str) -> None:
        self._writable()
        for endpoint in endpoints:
            self._unlinking.pop(endpoint, None)

    def rested(self, rests: Mapping[Address, int]) -> None:
        self._writable()
        for address, over in rests.items():
            since, boot, _ = self._resting.get(address, (over + 1, self._boot_id, ""))
            if boot != self._boot_id or since <= over:
                del self._resting[address]

    def take(self, taken: BlockTaken) -> None:
        self._log(taken=taken)
        self._taken[taken.cidr] = taken

    def give_back(self, returned: BlockReturned) -> None:
        self._log(returned=returned)
        self._closed[returned.cidr] = returned.sequence

    def close_blocks(self, closed: Mapping[Prefix, int]) -> None:
        self._writable()
        self._closed |= closed

    def forget_blocks(self, *, closed: Mapping[Prefix, int], taken: Mapping[Prefix, int]) -> None:
        self._writable()
        for block, sequence in closed.items():
            if self._closed.get(block, sequence + 1) <= sequence:
                del self._closed[block]
        for block, sequence in taken.items():
            if block in self._taken and self._taken[block].sequence <= sequence:
                del self._taken[block]

    def renewed(self, at: int, boot_id: str, lease: int) -> None:
        self._writable()
        self._renewed = (at, boot_id, lease)

    def pending(self, most: int) -> tuple[PendingPublication, ...]:
        return tuple(self._pending[:most])

    def last_number(self) -> int:
        return self._number

    def published(self, number: int) -> None:
        self._writable()
        self._pending = [entry for entry in self._pending if entry.number > number]

    def joined(self, epoch: int) -> None:
        self._writable()
        self._epoch = epoch

    def save_view(self, text: bytes) -> None:
        self._writable()
        self._view = text

    def close(self) -> None:
        """Nothing to let go of."""

    def _log(
        self,
        *,
        started: Endpoint | None = None,
        released: Endpoint | None = None,
        taken: BlockTaken | None = None,
        returned: BlockReturned | None = None,
    ) -> None:
        self._writable()
        self._number += 1
        self._pending.append(
            PendingPublication(number=self._number, started=started, released=released, taken=taken, returned=returned)
        )

    def _count(self, endpoint: Endpoint) -> None:
        self._sequence = max([self._sequence, *(allocation.sequence for allocation in endpoint.allocations)])

    def _writable(self) -> None:
        if self.broken:
            raise Unavailable("writing agent state: disk full")
