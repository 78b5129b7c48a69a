"""Fixed addresses: what a request says, which networks and addresses it may have, and how a reservation is written.

Owns the rules and the records. Refuses to choose among free addresses, and to wait. Invariant: a reservation's record
and its addresses' records are written and deleted together; an endpoint uses one at most, on a host that is there.
"""

from __future__ import annotations

import msgspec

from romana.codec.records import (
    BLOCK,
    BOUND,
    FIXED,
    HOST,
    RESERVATION,
    RETIRED,
    SPAN,
    Bound,
    FixedAddress,
)
from romana.core.ipam.networks import candidate_networks
from romana.core.ipam.reservations import static_range
from romana.model.address import Address, Family, Prefix
from romana.model.errors import AlreadyExists, Conflict, Fault, Invalid, NotFound
from romana.model.ipam import SERVER, Block, Reservation, Retired, Span
from romana.model.tenancy import Identity, Owner
from romana.model.topology import Host, Network
from romana.services.control.core import Draft
from romana.services.control.state import State


class AddressDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for fixed addresses: one of each family that `networks` have (empty: those that serve the tenant), or
    exactly `addresses`. `host` and `endpoint` say who uses them at once, and `epoch` that the host's agent says so. A
    sticky one outlives its use.
    """

    name: str
    tenant: str
    segment: str
    labels: dict[str, str] = {}
    networks: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    sticky: bool = False
    host: str = ""
    endpoint: str = ""
    epoch: int = 0

    @property
    def identity(self) -> Identity:
        """Who has the addresses, for policy."""
        return Identity(owner=Owner(self.tenant, self.segment), labels=self.labels)


class UseDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who uses a reservation: the endpoint's id, and the host that it runs on; with `tenant` also its identity, which
    must be the reservation's. With `epoch` the host's agent says so, of an endpoint that it is about to start.
    """

    host: str
    endpoint: str
    tenant: str = ""
    segment: str = ""
    labels: dict[str, str] = {}
    epoch: int = 0


def known_reservation(state: State, name: str) -> Reservation:
    """The reservation of that name; NotFound with what to do."""
    found = state.reservations.get(name)
    if found is None:
        raise NotFound(f"no address {name!r}; `romana address list` shows them")
    return found


def check_identity(known: Reservation, wanted: UseDocument) -> None:
    """Invalid when a use says that it is of another identity than the reservation."""
    identity = Identity(owner=Owner(wanted.tenant, wanted.segment), labels=wanted.labels)
    if wanted.tenant and known.identity != identity:
        theirs, ours = (f"{one.owner} with labels {one.labels or 'none'}" for one in (known.identity, identity))
        raise Invalid(Fault("endpoint", f"address {known.name} was given to {theirs}, the endpoint is of {ours}"))


def put_released(draft: Draft, reservation: Reservation) -> None:
    """The reservation is gone, and its addresses begin to rest."""
    draft.delete(RESERVATION.key(reservation.name))
    for allocation in reservation.allocations:
        draft.put(FIXED, FIXED.key(allocation.address), FixedAddress(reservation=""))


def put_use_ended(state: State, draft: Draft, reservation: Reservation) -> None:
    """Nobody uses the reservation any more: a sticky one stays, any other goes."""
    draft.delete(BOUND.key(reservation.endpoint))
    if reservation.sticky:
        draft.put(RESERVATION, RESERVATION.key(reservation.name), with_use(state, reservation))
    else:
        put_released(draft, reservation)


def put_bound(draft: Draft, name: str, host: Host, endpoint: str) -> None:
    """An endpoint begins to use a reservation: whoever removes its host meanwhile, or has it use another, sees that."""
    draft.put(HOST, HOST.key(host.name), host)
    draft.put(BOUND, BOUND.key(endpoint), Bound(reservation=name))


def with_use(
    state: State, reservation: Reservation, host: str = "", endpoint: str = "", *, epoch: int = 0
) -> Reservation:
    """A new use, or that there is none. It has new sequences, so that what is said late about an earlier one changes
    nothing.
    """
    allocations = tuple(
        msgspec.structs.replace(one, endpoint=endpoint, sequence=state.revision + 1) for one in reservation.allocations
    )
    return msgspec.structs.replace(reservation, host=host, endpoint=endpoint, epoch=epoch, allocations=allocations)


def put_block(state: State, draft: Draft, identity: Identity, network: Network, cidr: Prefix) -> Block:
    """A block of a static range for an identity, which the control plane allocates from."""
    static = static_range(network, cidr) or cidr
    # written also when it is there: a plan that drops the range compares it, and so sees this block
    draft.put(SPAN, SPAN.key(static), Span(cidr=static, network=network.name, host=SERVER))
    draft.read(RETIRED.key(cidr))
    block = Block(
        cidr=cidr,
        span=static,
        network=network.name,
        host=SERVER,
        allocator=SERVER,
        owner=identity.owner,
        identities=(identity.id,),
        sequence=state.revision + 1,
    )
    draft.put(BLOCK, BLOCK.key(cidr), block)
    return block


def put_retired(cidr: Prefix, state: State, draft: Draft) -> None:
    """A block of the control plane in which nobody has an address goes, and may be another owner's when every host has
    forgotten it. Conflict when somebody has one.
    """
    block = state.blocks.get(cidr)
    if block is None or block.allocator != SERVER:
        return
    for address in map(cidr.address, range(cidr.size)):
        key = FIXED.key(address)
        fixed = state.fixed.get(address)
        if fixed is not None and fixed.reservation:
            raise Conflict(f"{address} was given to {fixed.reservation} meanwhile")
        if fixed is None:
            draft.read(key)
        else:
            draft.delete(key)
    draft.delete(BLOCK.key(cidr))
    draft.put(RETIRED, RETIRED.key(cidr), Retired(cidr=cidr, network=block.network, host=SERVER))


def candidates(state: State, wanted: AddressDocument) -> dict[Family, tuple[Network, ...]]:
    """The networks to try, by family."""
    static = {name: network for name, network in state.networks.items() if network.static}
    known = f"networks with static ranges: {', '.join(static) or 'none'}"
    for name in wanted.networks:
        if name not in state.networks:
            raise NotFound(f"no network {name!r}; {known}")
        if name not in static:
            raise Invalid(Fault("networks", f"network {name} has no static range, so no fixed addresses; {known}"))
        if static[name].tenants and wanted.tenant not in static[name].tenants:
            raise NotFound(f"network {name} does not serve tenant {wanted.tenant}; {known}")
    try:
        return candidate_networks(static, wanted.tenant, wanted.networks)
    except NotFound:
        raise NotFound(f"no network with a static range serves tenant {wanted.tenant}; {known}") from None


def network_of(state: State, tenant: str, address: Address) -> Network:
    """The network in a static range of which an address lies; a refusal says where it lies instead."""
    network = next((one for one in state.networks.values() if one.cidr.contains(address)), None)
    if network is not None and static_range(network, address) is not None:
        if network.tenants and tenant not in network.tenants:
            raise NotFound(f"{address} is of network {network.name}, which does not serve tenant {tenant}")
        reserved = next((one for one in network.reserved if one.contains(address)), None)
        if reserved is not None:
            raise Invalid(Fault("addresses", f"{address} is in {reserved}, which is reserved"))
        return network
    ranges = [str(static) for one in state.networks.values() for static in one.static]
    where = f"fixed addresses come from static ranges: {', '.join(ranges) or 'no network has one'}"
    if network is not None:
        block = state.blocks.get(address.supernet(network.block_length))
        if block is not None:
            raise Invalid(
                Fault(
                    "addresses", f"{address} is in block {block.cidr}, which is delegated to host {block.host}; {where}"
                )
            )
    raise Invalid(Fault("addresses", f"{address} is outside every static range; {where}"))


def refuse_retired(state: State, cidr: Prefix) -> None:
    """Conflict while a block cannot be made because what it was before is not forgotten everywhere."""
    over = state.served.touching(cidr)
    if over is not None:
        raise Conflict(f"{over} was given back, and not every host has forgotten it yet; try later")


def check_document(wanted: AddressDocument) -> None:
    """Invalid for what no state makes right."""
    faults = []
    if bool(wanted.host) != bool(wanted.endpoint):
        faults.append(Fault("endpoint", "a use needs both a host and an endpoint"))
    if len({address.family for address in wanted.addresses}) != len(wanted.addresses):
        faults.append(Fault("addresses", "one address of each family at most"))
    if wanted.addresses and wanted.networks:
        faults.append(Fault("networks", "give networks or addresses, not both"))
    if faults:
        raise Invalid(*faults)


def check_free_endpoint(state: State, endpoint: str) -> None:
    """Conflict when an endpoint uses another reservation already."""
    other = state.reservation_of(endpoint)
    if other is not None:
        raise Conflict(f"endpoint {endpoint} uses the addresses of {other.name} already")


def same_or_refuse(state: State, known: Reservation, wanted: AddressDocument) -> Reservation:
    """The answer to a repeated request; AlreadyExists when it asks for something else."""
    addresses = {one.address for one in known.allocations}
    networks = {state.blocks[one.block].network for one in known.allocations if one.block in state.blocks}
    same = {
        "owner or labels": known.identity == wanted.identity,
        "sticky or not": known.sticky == wanted.sticky,
        "use": not wanted.host or (known.host, known.endpoint) == (wanted.host, wanted.endpoint),
        "addresses": not wanted.addresses or addresses == set(wanted.addresses),
        "networks": not wanted.networks or networks <= set(wanted.networks),
    }
    if not all(same.values()):
        listed = ", ".join(map(str, sorted(addresses)))
        other = ", ".join(what for what, is_same in same.items() if not is_same)
        kind = "sticky, " if known.sticky else ""
        raise AlreadyExists(
            f"address {known.name} exists, {kind}{listed} of {known.identity.owner}; what was asked for differs: "
            f"{other}; choose another name, or remove it first"
        )
    return known
