"""Hosts say what they really hold, to a store that was restored from a backup or never knew them.

Owns which records that changes; whose word counts is `core.ipam.inventory`'s. Invariant: a host is settled only when
the store knows everything that the host may keep, and nothing that it does not hold.
"""

from __future__ import annotations

import msgspec
import structlog

from romana.codec.records import (
    BLOCK,
    ENDPOINT,
    HOST,
    PLAN_KEY,
    PUBLISHED,
    RETIRED,
    SEEN,
    SPAN,
    UNSETTLED,
    Seen,
)
from romana.core.ipam.inventory import InventoryState, drop, take_over
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, Unavailable
from romana.model.topology import Host
from romana.model.view import Inventory, InventoryAnswer
from romana.services.control.core import Core, Draft
from romana.services.control.fixed_inventory import FixedTakeOver, end_gone, is_fixed, put_identity, unbind
from romana.services.control.hosts import bound_host
from romana.services.control.state import State

log = structlog.get_logger()


class InventoryVerbs:
    """What agents say of their hosts after a restore."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def inventory(self, inventory: Inventory) -> InventoryAnswer:
        """Take over what a host holds; repeating it is harmless.

        Conflict for another agent; Unavailable while a host that did not say yet what it holds may hold some of it.
        """
        refused: list[str] = []
        if inventory.memory and inventory.first:
            await self._core.commit(lambda state, draft: _drop(state, draft, inventory))
            _, refused = await self._core.commit(lambda state, draft: _take_over(state, draft, inventory))
        await self._core.commit(lambda state, draft: _make_way(state, draft, inventory))
        revision, more = await self._core.commit(lambda state, draft: _endpoints(state, draft, inventory))
        refused += more
        if inventory.last:
            log.info("host said what it holds", host=inventory.host, refused=refused)
        return InventoryAnswer(revision=revision, refused=tuple(refused))


def _current(state: State, draft: Draft, inventory: Inventory) -> Host:
    """The host, of which nothing may have been heard since its agent reported in; Conflict when something was.

    A part that was held up would take away what began after it.
    """
    host = bound_host(state, inventory.host, inventory.epoch)
    later = (SEEN.key(host.name), PUBLISHED.key(host.name))
    draft.read(HOST.key(host.name), UNSETTLED.key(host.name), *later)
    if any(draft.compares[key] > inventory.since for key in later):
        raise Conflict(
            f"host {host.name} was settled, or published something, after this inventory began; report in again"
        )
    return host


def _state(state: State, host: Host) -> InventoryState:
    return InventoryState(
        networks=state.networks,
        spans=state.spans,
        blocks=state.blocks_on(host.name),
        retired=state.retired,
        unsettled=state.unsettled,
    )


def _drop(state: State, draft: Draft, inventory: Inventory) -> None:
    """Retire what the store says the host holds and the host does not; its endpoints go first."""
    host = _current(state, draft, inventory)
    if host.name not in state.unsettled:  # it says more than the store knows, never less
        return
    gone = drop(_state(state, host), inventory)
    ids = set(inventory.ids)
    for endpoint in state.endpoints_on(host.name):
        if endpoint.id not in ids:
            draft.delete(ENDPOINT.key(endpoint.id))
            end_gone(state, draft, endpoint)
    for cidr in gone.spans:
        draft.delete(SPAN.key(cidr))
    for cidr in gone.blocks:
        draft.delete(BLOCK.key(cidr))
    for one in gone.retired:
        draft.put(RETIRED, RETIRED.key(one.cidr), one)
    if gone.spans or gone.blocks:
        draft.put(HOST, HOST.key(host.name), host)


def _take_over(state: State, draft: Draft, inventory: Inventory) -> list[str]:
    host = _current(state, draft, inventory)
    draft.read(PLAN_KEY)
    found = take_over(_state(state, host), inventory)
    if found.waiting:
        raise Unavailable(
            f"host {host.name} holds addresses that the backup gives to {', '.join(found.waiting)}, which did not say "
            "yet what they hold; start their agents, or say `romana host lost NAME` of a machine that is off"
        )
    for span in found.spans:
        draft.read(RETIRED.key(span.cidr))
        draft.put(SPAN, SPAN.key(span.cidr), span)
    for block in found.blocks:
        draft.read(RETIRED.key(block.cidr))
        draft.put(BLOCK, BLOCK.key(block.cidr), block)
    for cidr in found.revived:
        draft.delete(RETIRED.key(cidr))
    for identity in inventory.identities:
        put_identity(state, draft, identity)
    if found.spans or found.blocks:
        draft.put(HOST, HOST.key(host.name), host)
    return [found.refused[cidr] for cidr in sorted(found.refused)]


def _make_way(state: State, draft: Draft, inventory: Inventory) -> None:
    """Endpoints of the host whose addresses it has given to others since: they are told again, with their own."""
    host = _current(state, draft, inventory)
    for endpoint in inventory.endpoints:
        if endpoint.host == host.name:
            unbind(state, draft, host, endpoint)
        for allocation in endpoint.allocations:
            holder = state.holder(allocation.address)
            if holder not in (None, endpoint.id) and state.endpoints[holder].host == host.name:
                draft.delete(ENDPOINT.key(holder))


def _endpoints(state: State, draft: Draft, inventory: Inventory) -> list[str]:
    """Take over endpoints; with the last part the host is settled."""
    host = _current(state, draft, inventory)
    refused = []
    fixed = FixedTakeOver(state, draft, host)
    for endpoint in inventory.endpoints:
        why = _fault(state, host, endpoint) or fixed.take_over(endpoint)
        if why:
            refused.append(why)
        elif state.endpoints.get(endpoint.id) != endpoint:
            draft.put(ENDPOINT, ENDPOINT.key(endpoint.id), endpoint)
    if inventory.last:
        if host.name in state.unsettled:
            draft.delete(UNSETTLED.key(host.name))
        seen = state.seen.get(host.name) or Seen(epoch=host.epoch, applied=0)
        settled = msgspec.structs.replace(seen, epoch=host.epoch, applied=0, silent=0)
        if settled != state.seen.get(host.name):
            draft.put(SEEN, SEEN.key(host.name), settled)
    return refused


def _fault(state: State, host: Host, endpoint: Endpoint) -> str:
    """Why the host may not keep an endpoint, empty when it may."""
    if endpoint.host != host.name:
        return f"endpoint {endpoint.id} is on host {endpoint.host}, not on {host.name}"
    known = state.endpoints.get(endpoint.id)
    if known is not None and known.host != host.name and known.host not in state.unsettled:
        return f"endpoint {endpoint.id} is on host {known.host}"
    for allocation in endpoint.allocations:
        if is_fixed(state, allocation):
            continue
        block = state.blocks.get(allocation.block)
        if block is None or block.host != host.name:
            return f"endpoint {endpoint.id} has {allocation.address} in {allocation.block}, which is not the host's"
        holder = state.holder(allocation.address)
        if holder not in (None, endpoint.id):
            return f"endpoint {endpoint.id} has {allocation.address}, which endpoint {holder} has"
    return ""
