"""A filter without a kernel: the table is a value, and what nftables would refuse is refused."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from romana.core.ruleset import (
    ACCEPT,
    DROP,
    Element,
    Range,
    Ruleset,
    RulesetChanges,
    by_map,
    endpoint_elements,
    lookups,
)
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, NotFound


class FakeFilter:
    """`ports.Filter` in memory. `table` may be set by a test; `transactions` counts the changes that were made."""

    def __init__(self) -> None:
        self.table: Ruleset | None = None
        self.transactions = 0

    def read(self) -> Ruleset | None:
        return self.table

    def apply(self, changes: RulesetChanges) -> None:
        if not changes:
            return
        if changes.table is not None:
            self._commit(changes.table)
            return
        table = self.table
        if table is None:
            raise Conflict("no such table")
        for word, new, old in (
            ("row", changes.rows, table.rows.keys()),
            ("profile", changes.profiles, table.profiles.keys()),
        ):
            if new.add.keys() & old or new.remove.keys() - old:
                raise Conflict(f"a {word} is there, or is not, already")
        gone = {name for row in changes.rows.remove for name in lookups(table.shape, (row,), common=False)}
        elements = dict(table.elements)
        for key in (*changes.elements.remove, *changes.elements.replace):
            if elements.pop(key, None) is None:
                raise Conflict(f"no such element: {key}")
        elements = {key: value for key, value in elements.items() if key.map not in gone}
        for key, value in {**changes.elements.add, **changes.elements.replace}.items():
            if elements.setdefault(key, value) != value:
                raise Conflict(f"element exists: {key}")
        profiles = {**table.profiles, **changes.profiles.add}
        ranges = {
            **{name: parts for name, parts in table.ranges.items() if name not in gone},
            **changes.ranges,
        }
        self._commit(
            Ruleset(
                shape=table.shape,
                rows={
                    row: words
                    for row, words in {**table.rows, **changes.rows.add}.items()
                    if row not in changes.rows.remove
                },
                profiles={name: value for name, value in profiles.items() if name not in changes.profiles.remove},
                maps=by_map(elements),
                ranges=ranges,
                guards={row: "" for row in {**table.guards, **changes.guards.add} if row not in changes.guards.remove},
            )
        )

    def add_endpoint(self, endpoint: Endpoint, ingress: str, egress: str) -> None:
        if self.table is None or not {ingress, egress} <= self.table.rows.keys():
            raise NotFound(f"no table, or no rows {ingress} and {egress} in it")
        self._commit(self._with(endpoint, endpoint_elements(endpoint, ingress, egress)))

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        if self.table is not None:
            self._commit(self._with(endpoint, {}))

    def _with(self, endpoint: Endpoint, wanted: dict[Element, str]) -> Ruleset:
        assert self.table is not None
        old = endpoint_elements(endpoint, "-", "-")
        kept = {key: value for key, value in self.table.elements.items() if key not in old}
        return msgspec.structs.replace(self.table, maps=by_map({**kept, **wanted}))

    def _commit(self, table: Ruleset) -> None:
        """Refuse what nftables refuses, references to nowhere; then take it."""
        for key, value in table.elements.items():
            rows = key.map.startswith("endpoints_")
            if value and value not in (table.rows if rows else {ACCEPT, DROP, *table.profiles}):
                raise Conflict(f"{key} leads to {value}, which is not there")
        names = lookups(table.shape, table.rows)
        if unknown := {key.map for key in table.elements} - names.keys():
            raise Conflict(f"no such map: {sorted(unknown)}")
        whole = {name: lookup.is_replaced_whole for name, lookup in names.items()}
        empty: dict[str, tuple[Range, ...]] = {name: () for name, alone in whole.items() if alone}
        maps: dict[str, Mapping[Element, str]] = {name: {} for name, alone in whole.items() if not alone}
        self.table = msgspec.structs.replace(
            table, ranges={**empty, **table.ranges}, maps={**maps, **by_map(table.elements)}
        )
        self.transactions += 1
