"""What an agent begins with: its memory, and the kernel, which went on meanwhile.

Owns who is believed where the two differ. The memory may be an older copy of itself, or new. Invariants: an address
that the kernel routes to a link of ours is given to nobody; what the kernel contradicts is no endpoint any more, and
neither its routes nor its link are touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from romana.model.address import Address, Prefix
from romana.model.endpoint import Endpoint
from romana.model.ipam import Allocation
from romana.ports import AgentState, Clock
from romana.services.agent.kernel import KernelPorts
from romana.services.agent.ledger import Ledger, stand_in

log = structlog.get_logger()


def believe_kernel(state: AgentState, kernel: KernelPorts, clock: Clock) -> None:
    """Take out of a memory what the kernel contradicts: endpoints whose links have addresses of others, or whose
    addresses others' links have; and, of a memory that nobody agreed with, those without a link. One that is
    contradicted was set back, and disowns itself.
    """
    memory = state.load()
    links, routed = kernel.links.read().keys(), _routed(kernel)
    wrong = [one for one in memory.endpoints.values() if _is_contradicted(one, routed)]
    alive = [name for name, gone in memory.unlinking.items() if gone.link in routed.values()]
    if (wrong or alive) and memory.epoch:
        log.warning("the kernel contradicts this agent's memory, which is an older copy of itself")
        state.disown()
    if wrong or alive or not memory.epoch:
        known = {one.id for one in wrong}
        wrong += [one for one in memory.endpoints.values() if one.id not in known and one.link not in links]
    for endpoint in wrong:
        log.warning("an endpoint came to an end that is not in this memory", endpoint=endpoint.id)
        state.forget(endpoint, clock.boottime())
    if alive:
        state.unlinked(*alive)


def adopt_unknown(ledger: Ledger, kernel: KernelPorts) -> None:
    """Keep the addresses of links of ours that the memory does not know."""
    for orphan in _orphans(ledger, kernel):
        log.warning("a link of ours is not in this agent's memory", link=orphan.link)
        ledger.adopt(orphan)


def _routed(kernel: KernelPorts) -> dict[Address, str]:
    routes = kernel.routes.read()
    return {prefix.address(0): route.link for prefix, route in routes.items() if route.link and prefix.is_address}


def _is_contradicted(endpoint: Endpoint, routed: Mapping[Address, str]) -> bool:
    """Whether the kernel gives its link other addresses, or its addresses to other links. It may lack some."""
    own = set(endpoint.addresses)
    taken = any(routed.get(address, endpoint.link) != endpoint.link for address in own)
    return taken or any(link == endpoint.link and address not in own for address, link in routed.items())


def _orphans(ledger: Ledger, kernel: KernelPorts) -> Iterable[Endpoint]:
    """Stand-ins for links that the memory does not know, with the addresses that are routed to them."""
    known = {endpoint.link for endpoint in (*ledger.endpoints.values(), *ledger.unlinking.values())}
    unknown = {link for link in kernel.links.read() if link not in known}
    if not unknown:
        return ()
    routed: dict[str, list[Allocation]] = {link: [] for link in unknown}
    for address, link in sorted(_routed(kernel).items()):
        if link in unknown:
            routed[link].append(_allocation(ledger, address, link))
    return [stand_in(ledger.host, link, tuple(routed[link])) for link in sorted(unknown)]


def _allocation(ledger: Ledger, address: Address, link: str) -> Allocation:
    alone = Prefix(address.family, address.value, address.length)
    block = next((block for block in ledger.view.blocks if block.contains(address)), alone)
    return Allocation(address=address, block=block, endpoint=f"unknown/{link}", sequence=0)
