"""A host's kernel as values: links, routes and connections that know of each other; and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from romana.core.diff import Changes
from romana.model.address import Address, Prefix
from romana.model.errors import AlreadyExists, NotFound, Unavailable
from romana.model.route import Route, Turns
from romana.ports import Connection, LinkPlan, LinkState
from romana.services.agent.kernel import KernelPorts
from tests.fakes.filter import FakeFilter

HOST_MAC = "02:00:00:00:00:01"


class FakeKernel:
    """What the ports of one host share. `namespaces` are the paths that exist; `broken` names ports that refuse."""

    def __init__(self, *namespaces: str) -> None:
        self.namespaces = set(namespaces)
        self.plans: dict[str, LinkPlan] = {}
        self.routing: dict[Prefix, Route] = {}
        self.others: dict[Prefix, Route] = {}  # of other programs
        self.networks: dict[Prefix, frozenset[str]] = {}  # that the host has an address of, with their interfaces
        self.connections: list[tuple[Address, Address]] = []
        self.traffic: dict[tuple[Address, Address], int] = {}  # TCP ports of connections, 80 where none is said
        self.condemned: set[tuple[Address, Address]] = set()
        self.turns: Turns | None = None
        self.turned = 0  # packets that were dropped for it
        self.broken: set[str] = set()
        self.filter = FakeFilter()
        self.fence = FakeFence(self)
        self.ports = KernelPorts(
            links=FakeLinks(self),
            routes=FakeRoutes(self),
            filter=self.filter,
            connections=FakeConnections(self),
            fence=self.fence,
        )

    def meet(self, port: str) -> None:
        """Every call of a port passes here."""
        if port in self.broken:
            raise Unavailable(f"{port}: no buffer space available")


class FakeLinks:
    """`ports.Links` in memory."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def create(self, plan: LinkPlan) -> LinkState:
        self._kernel.meet("links")
        if plan.netns not in self._kernel.namespaces:
            raise NotFound(f"network namespace {plan.netns!r} does not exist")
        if plan.link in self._kernel.plans:
            raise AlreadyExists(f"link {plan.link} exists on this host already")
        inside = {(other.netns, other.interface) for other in self._kernel.plans.values()}
        if (plan.netns, plan.interface) in inside:
            raise AlreadyExists(f"network namespace {plan.netns!r} has an interface {plan.interface!r} already")
        for address in plan.addresses:
            if address in self._kernel.routing:
                raise AlreadyExists(f"route {address} exists on this host already")
        self._kernel.plans[plan.link] = plan
        self._kernel.routing |= {address: Route(prefix=address, link=plan.link) for address in plan.addresses}
        return self._state(plan)

    def check(self, plan: LinkPlan) -> list[str]:
        found = self._kernel.plans.get(plan.link)
        if found is None:
            return [f"the host has no link {plan.link}"]
        missing = [] if found == plan else [f"link {plan.link} is not as planned"]
        return missing + [
            f"the host has no route to {address} on that link"
            for address in plan.addresses
            if self._kernel.routing.get(address) != Route(prefix=address, link=plan.link)
        ]

    def delete(self, *links: str) -> None:
        self._kernel.meet("links")
        for link in links:
            self._kernel.plans.pop(link, None)
        gone = [prefix for prefix, route in self._kernel.routing.items() if route.link in links]
        for prefix in gone:
            del self._kernel.routing[prefix]

    def read(self) -> Mapping[str, LinkState]:
        return {plan.link: self._state(plan) for plan in self._kernel.plans.values()}

    def _state(self, plan: LinkPlan) -> LinkState:
        index = sorted(self._kernel.plans).index(plan.link) + 2
        peer = f"0a:00:00:00:00:{index:02x}"
        return LinkState(link=plan.link, index=index, up=True, mtu=plan.mtu, mac=HOST_MAC, peer_mac=peer)


class FakeRoutes:
    """`ports.Routes` in memory."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def read(self) -> Mapping[Prefix, Route]:
        return dict(self._kernel.routing)

    def learned(self, within: Collection[Prefix]) -> Mapping[Prefix, Route]:
        return {one: route for one, route in self._kernel.others.items() if any(cidr.contains(one) for cidr in within)}

    def connected(self) -> Mapping[Prefix, frozenset[str]]:
        return dict(self._kernel.networks)

    def apply(self, changes: Changes[Prefix, Route]) -> None:
        self._kernel.meet("routes")
        for route in (*changes.add.values(), *changes.replace.values()):
            if route.link and route.link not in self._kernel.plans:
                raise NotFound(f"no link {route.link!r} on this host for a route")
        for prefix in changes.remove:
            self._kernel.routing.pop(prefix, None)
        self._kernel.routing |= {**changes.add, **changes.replace}


class FakeTurnGuard:
    """`ports.TurnGuard` in memory."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def keep(self, turns: Turns) -> bool:
        self._kernel.meet("turns")
        wanted = turns if turns.inside and turns.back else None
        changed, self._kernel.turns = self._kernel.turns != wanted, wanted
        if changed:
            self._kernel.turned = 0
        return changed

    def dropped(self) -> int:
        return self._kernel.turned if self._kernel.turns is not None else 0

    def remove(self) -> bool:
        return self.keep(Turns())


class FakeConnections:
    """`ports.Connections` in memory."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def forget(self, prefixes: Iterable[Prefix], but: Collection[Address] = ()) -> int:
        self._kernel.meet("connections")
        wanted = tuple(prefixes)
        kept = [
            pair
            for pair in self._kernel.connections
            if not any(one not in but and prefix.contains(one) for one in pair for prefix in wanted)
        ]
        count = len(self._kernel.connections) - len(kept)
        self._kernel.connections = kept
        return count

    def read(self, addresses: Collection[Address]) -> list[Connection]:
        self._kernel.meet("connections")
        return [
            Connection(
                source=pair[0],
                destination=pair[1],
                protocol=6,
                port=self._kernel.traffic.get(pair, 80),
                condemned=pair in self._kernel.condemned,
                key=f"{pair[0]} {pair[1]}".encode(),
            )
            for pair in self._kernel.connections
            if not set(pair).isdisjoint(addresses)
        ]

    def condemn(self, connections: Iterable[Connection]) -> int:
        self._kernel.meet("connections")
        pairs = {(one.source, one.destination) for one in connections}
        self._kernel.condemned |= pairs
        return len(pairs)

    def pardon(self, connections: Iterable[Connection]) -> int:
        self._kernel.meet("connections")
        pairs = {(one.source, one.destination) for one in connections}
        self._kernel.condemned -= pairs
        self._kernel.connections = [pair for pair in self._kernel.connections if pair not in pairs]
        return len(pairs)


class FakeFence:
    """`ports.Fence` in memory. `open_for` has the seconds that it was last held for, 0 when it is closed, None when
    there is no gate.
    """

    def __init__(self, kernel: FakeKernel) -> None:
        self.open_for: int | None = None
        self.holds = 0
        self.while_holding: Callable[[], None] = lambda: None
        """Called when it is told to hold, before it does."""
        self._kernel = kernel

    def keep(self) -> None:
        self._kernel.meet("fence")
        self.open_for = self.open_for or 0

    def hold(self, seconds: int) -> None:
        self._kernel.meet("fence")
        self.while_holding()
        self.open_for = seconds
        self.holds += 1

    def cut(self) -> None:
        self._kernel.meet("fence")
        self.open_for = 0


class FakeClock:
    """`ports.Clock` that a test sets."""

    def __init__(self, boot_id: str = "boot-1") -> None:
        self.now = 1000
        self.boot = boot_id

    def boottime(self) -> int:
        return self.now

    def boot_id(self) -> str:
        return self.boot
