"""A host's view of the plan: made from the whole, compared with the one before, changed by messages.

Owns which part of the plan a host needs. Refuses to know streams. Invariant: `apply_change(old, diff_view(old, new))`
is
`new`, whatever both are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from romana.core.diff import diff
from romana.core.policy.profile import intersection
from romana.model.address import Address, Prefix
from romana.model.ipam import Block, Reservation, Retired, Span
from romana.model.program import Program, RowIds, Staged, profile_ids
from romana.model.speaker import DaemonPlan
from romana.model.tenancy import Identity
from romana.model.topology import Network
from romana.model.view import IdentityRows, RowHead, View, ViewChange

K = TypeVar("K")
V = TypeVar("V")
SECTIONS = ("networks", "spans", "blocks", "identities", "rows", "profiles", "retired", "uses", "via")
"""The fields of a view that are plain mappings; `entries` is the one of two levels."""
PLAIN = ("draining", "audit", "cut", "announced", "host_rows", "flows", "discards", "daemon")
"""The fields that are no mappings, besides incarnation and revision."""


class ViewSource(msgspec.Struct, frozen=True, kw_only=True):
    """What views of one revision are made from; spans and blocks are at least the host's own. `fixed` are the
    reservations that its endpoints use, `addresses` the host's.
    """

    incarnation: str
    revision: int
    networks: Mapping[str, Network]
    spans: Mapping[Prefix, Span]
    blocks: Mapping[Prefix, Block]
    identities: Mapping[str, Identity]
    program: Program
    addresses: tuple[Address, ...] = ()
    retired: Mapping[Prefix, Retired] = {}
    fixed: tuple[Reservation, ...] = ()
    draining: bool = False
    audit: int = 0
    cut: tuple[str, ...] = ()
    announced: tuple[Prefix, ...] = ()
    flows: int = 0
    via: Mapping[Prefix, tuple[Address, ...]] = {}
    discards: tuple[Prefix, ...] = ()
    daemon: DaemonPlan = DaemonPlan()


def host_view(source: ViewSource, host: str, networks: frozenset[str]) -> View:
    """The view of one host, which draws from these networks: its spans and blocks, the identities that its blocks
    declare, and their rows and profiles.
    """
    blocks = {cidr: block for cidr, block in source.blocks.items() if block.host == host}
    names = sorted(
        {name for block in blocks.values() for name in block.identities} | {one.identity.id for one in source.fixed}
    )
    program = source.program
    identities: dict[str, IdentityRows] = {}
    for name in names:
        class_id = program.classes.get(name)
        if class_id is not None and name in source.identities:
            identities[name] = IdentityRows(
                identity=source.identities[name],
                class_id=class_id,
                ingress=program.row_ids[class_id].ingress,
                egress=program.row_ids[class_id].egress,
            )
    host_rows = program.host_rows.get(host, RowIds("", ""))
    used = {row for rows in identities.values() for row in (rows.ingress, rows.egress)}
    used |= {row for row in (host_rows.ingress, host_rows.egress) if row}
    entries = {row: program.rows[row].entries for row in sorted(used)}
    profiles = {id_: program.profiles[id_] for row in entries.values() for id_ in profile_ids(set(row.values()))}
    heads: dict[str, RowHead] = {}
    for row in entries:
        own = _own_verdict(program, row, source.addresses)
        profiles |= {own.enforced.id: own.enforced, own.planned.id: own.planned}
        heads[row] = RowHead(
            direction=program.rows[row].direction,
            words=program.rows[row].words,
            own=own.id if own.planned != own.enforced else own.enforced.id,
        )
    return View(
        incarnation=source.incarnation,
        revision=source.revision,
        networks={name: network for name, network in source.networks.items() if name in networks},
        spans={cidr: span for cidr, span in source.spans.items() if span.host == host},
        blocks=blocks,
        identities=identities,
        rows=heads,
        entries=entries,
        profiles=dict(sorted(profiles.items())),
        retired=dict(source.retired),
        uses={one.endpoint: one.allocations for one in source.fixed if one.epoch},
        draining=source.draining,
        audit=source.audit,
        cut=source.cut,
        announced=source.announced,
        host_rows=host_rows,
        flows=source.flows,
        via=dict(source.via),
        discards=source.discards,
        daemon=source.daemon,
    )


def _own_verdict(program: Program, row: str, addresses: Iterable[Address]) -> Staged:
    """What a row accepts from the host at all of its addresses; where none is known, at all addresses there are."""
    own = program.rows[row].own
    found = [next(own[prefix] for prefix in address.supernets() if prefix in own) for address in addresses]
    parts = [verdict.split("~") for verdict in found or own.values()]
    enforced, planned = (intersection(*(program.profiles[part[place]] for part in parts)) for place in (0, -1))
    return Staged(enforced, planned)


def diff_view(old: View, new: View) -> ViewChange | None:
    """The message that turns one view into the other; None when only the revision differs."""
    put: dict[str, Any] = {}
    gone: dict[str, Any] = {}
    for section in SECTIONS:
        changes = diff(getattr(new, section), getattr(old, section))
        put[section] = {**changes.add, **changes.replace}
        gone[f"delete_{section}"] = tuple(changes.remove)
    put["entries"] = {}
    gone["delete_entries"] = {}
    for row in {**old.entries, **new.entries}:
        if row in old.entries and new.entries.get(row) is old.entries[row]:
            continue
        changes = diff(new.entries.get(row, {}), old.entries.get(row, {}))
        if changes.add or changes.replace or (row in new.entries and row not in old.entries):
            put["entries"][row] = {**changes.add, **changes.replace}
        if changes.remove:
            gone["delete_entries"][row] = tuple(changes.remove)
    plain = {name: getattr(new, name) for name in PLAIN}
    if not any(put.values()) and not any(gone.values()) and all(getattr(old, name) == plain[name] for name in PLAIN):
        return None
    head = View(incarnation=new.incarnation, revision=new.revision, **plain, **put)
    return ViewChange(put=head, **gone)


def snapshot(view: View) -> ViewChange:
    """The message that replaces everything."""
    return ViewChange(put=view, snapshot=True)


def apply_change(view: View, change: ViewChange) -> View:
    """The view after a message."""
    if change.snapshot:
        return change.put
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        gone, put = getattr(change, f"delete_{section}"), getattr(change.put, section)
        sections[section] = _changed(getattr(view, section), put, gone)
    entries = {row: found for row, found in view.entries.items() if row in sections["rows"]}
    for row in {*change.put.entries, *change.delete_entries} & set(sections["rows"]):
        put, gone = change.put.entries.get(row, {}), change.delete_entries.get(row, ())
        entries[row] = _changed(entries.get(row, {}), put, gone)
    return View(
        incarnation=change.put.incarnation,
        revision=change.put.revision,
        entries=entries,
        **{name: getattr(change.put, name) for name in PLAIN},
        **sections,
    )


def _changed(section: dict[K, V], put: dict[K, V], gone: Iterable[K]) -> dict[K, V]:
    """A section after a message; the same object when the message says nothing of it."""
    removed = [key for key in gone if key in section]
    if not put and not removed:
        return section
    found = section.copy()
    for key in removed:
        del found[key]
    return found | put
