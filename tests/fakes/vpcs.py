"""A cloud and a control plane in memory, for the program that writes VPC route tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from romana.model.address import Family, Prefix
from romana.model.errors import AlreadyExists, Conflict, Exhausted, Fault, Invalid, NotFound, RomanaError, Unavailable
from romana.model.vpc import Instance, OwnedRoutes, RouteTable, TableRoute, VpcPlan


class FakeVpcs:
    """`ports.Vpcs` in memory. `before` is called with the name and arguments of every write, and may raise; `after`
    when it is done. When it is `blind`, status checks are not told.
    """

    def __init__(self) -> None:
        self.known: dict[str, RouteTable] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.machines: dict[str, Instance] = {}
        self.checks: dict[str, str] = {}
        self.quota = 1000
        self.blind = False
        self.before: Callable[[str, tuple[object, ...]], None] = lambda _name, _arguments: None
        self.after: Callable[[], None] = lambda: None

    def put(self, table: RouteTable) -> None:
        """Have a route table."""
        counted = {family: sum(one.family is family for one in table.routes) for family in Family}
        self.known[table.id] = msgspec.structs.replace(table, counted=counted)

    def tables(self, ids: Collection[str], tags: Mapping[str, str]) -> tuple[RouteTable, ...]:
        tagged = {id_ for id_, own in self.tags.items() if tags and tags.items() <= own.items()}
        return tuple(self.known[id_] for id_ in sorted({*ids, *tagged}) if id_ in self.known)

    def instances(self, vpcs: Collection[str]) -> dict[str, Instance]:
        found = {id_: one for id_, one in self.machines.items() if one.vpc in vpcs}
        return {id_: msgspec.structs.replace(one, status="") for id_, one in found.items()}

    def statuses(self, instances: Collection[str]) -> dict[str, str]:
        if self.blind:
            raise Invalid(Fault("ec2:DescribeInstanceStatus", "these credentials may not do it"))
        running = [id_ for id_ in instances if id_ in self.machines and self.machines[id_].state == "running"]
        return {id_: self.checks.get(id_, "ok") for id_ in running}

    def add_route(self, table: str, prefix: Prefix, interface: str) -> None:
        self.before("add_route", (table, prefix, interface))
        found = self._table(table)
        self._interface(interface)
        if prefix in found.routes:
            raise AlreadyExists(f"CreateRoute: {prefix} exists")
        if found.counted[prefix.family] >= self.quota:
            raise Exhausted(f"CreateRoute: {table} is full")
        self.put(msgspec.structs.replace(found, routes={**found.routes, prefix: TableRoute(target=interface)}))
        self.after()

    def replace_route(self, table: str, prefix: Prefix, interface: str) -> None:
        self.before("replace_route", (table, prefix, interface))
        found = self._table(table)
        self._interface(interface)
        if prefix not in found.routes:
            raise NotFound(f"ReplaceRoute: no route to {prefix}")
        self.put(msgspec.structs.replace(found, routes={**found.routes, prefix: TableRoute(target=interface)}))
        self.after()

    def remove_route(self, table: str, prefix: Prefix) -> None:
        self.before("remove_route", (table, prefix))
        found = self.known.get(table)
        if found is not None:
            routes = {one: route for one, route in found.routes.items() if one != prefix}
            self.put(msgspec.structs.replace(found, routes=routes))
        self.after()

    def stop_checking(self, interface: str) -> None:
        self.before("stop_checking", (interface,))
        self._interface(interface)
        for id_, one in self.machines.items():
            interfaces = tuple(
                msgspec.structs.replace(card, checked=False) if card.id == interface else card
                for card in one.interfaces
            )
            self.machines[id_] = msgspec.structs.replace(one, interfaces=interfaces)
        self.after()

    def _table(self, table: str) -> RouteTable:
        if table not in self.known:
            raise NotFound(f"no route table {table}")
        return self.known[table]

    def _interface(self, interface: str) -> None:
        if not any(card.id == interface for one in self.machines.values() for card in one.interfaces):
            raise NotFound(f"no interface {interface}")


class FakeVpcControl:
    """`ports.VpcControl` in memory. `away` is an error that every call raises."""

    def __init__(self) -> None:
        self.plan = VpcPlan(revision=1)
        self.holders: dict[str, str] = {}
        self.leases: dict[str, str] = {}
        """By table, the lease under which it is written."""
        self.away: RomanaError | None = None
        self.before: Callable[[], None] = lambda: None

    async def vpc_plan(self, lease: str) -> VpcPlan:
        self._meet()
        mine = {table: routes for table, routes in self.plan.owned.items() if self.leases[table] == lease}
        return msgspec.structs.replace(self.plan, owned=mine)

    async def own_vpc_routes(self, table: str, owned: OwnedRoutes) -> None:
        self._meet()
        self.before()
        if self.holders.get(owned.lease) != owned.holder:
            raise Conflict(f"{owned.holder} does not have the lease {owned.lease} (any more)")
        if table in self.plan.owned and self.leases[table] != owned.lease:
            raise Conflict(f"route table {table} is written under the lease {self.leases[table]}")
        if not table.startswith("rtb-"):
            raise Invalid
        rest = {id_: routes for id_, routes in self.plan.owned.items() if id_ != table}
        mine = {table: tuple(sorted(owned.routes))} if owned.routes else {}
        self.leases[table] = owned.lease
        self.plan = msgspec.structs.replace(self.plan, owned={**rest, **mine})

    async def hold_lease(self, name: str, holder: str, seconds: int) -> None:
        self._meet()
        if self.holders.setdefault(name, holder) != holder:
            raise Conflict(f"{self.holders[name]} has the lease {name}")

    async def drop_lease(self, name: str, holder: str) -> None:
        self._meet()
        if self.holders.get(name) == holder:
            del self.holders[name]

    def _meet(self) -> None:
        if self.away is not None:
            raise self.away


AWAY = Unavailable("romanad at unix:///nobody does not answer")
