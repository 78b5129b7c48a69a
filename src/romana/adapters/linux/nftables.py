"""Our nftables table in the kernel: `ports.Filter`.

Owns which commands run and what their refusals mean; what is written is `codec.nft`'s. Invariant: what packets meet of
a change is one transaction, so each meets either the old table or the new one.
"""

from __future__ import annotations

import structlog

from romana.adapters.linux.libnftables import Libnftables, LibnftablesError
from romana.adapters.linux.nft_batch import ElementBatch, Refused
from romana.codec.nft import TABLE, render_changes, single_elements
from romana.codec.nft_listing import ForeignTable, parse_table
from romana.core.diff import diff
from romana.core.ruleset import Element, Ruleset, RulesetChanges, endpoint_elements
from romana.model.endpoint import Endpoint
from romana.model.errors import Conflict, NotFound, RomanaError, Unavailable

_MISSING = ("No such file or directory", "does not exist")
_THERE = ("File exists", "already exists")
_BUSY = ("Device or resource busy", "Interrupted system call")

_log = structlog.get_logger(__name__)


class NftTable:
    """The table `inet romana` of the network namespace of the thread that makes it; safe for use by several threads."""

    def __init__(self) -> None:
        self._nft = Libnftables()
        self._batch = ElementBatch()

    @property
    def ports(self) -> frozenset[int]:
        """The netlink ports that our own changes come from, once there was one (see `nft_events`)."""
        return self._nft.ports | {self._batch.port}

    def close(self) -> None:
        """Release libnftables and the socket; the table stays in the kernel."""
        self._nft.close()
        self._batch.close()

    def read(self) -> Ruleset | None:
        """What the kernel has; None when the table is missing or not as we write it (the log says where it differs)."""
        listing = self.listing()
        try:
            return parse_table(listing) if listing else None
        except ForeignTable as difference:
            _log.warning("foreign-table", table=TABLE, difference=str(difference))
            return None

    def listing(self) -> str:
        """The table as libnftables lists it; empty when there is none."""
        try:
            return self._nft.run(f"list table {TABLE}")
        except LibnftablesError as error:
            if _says(error, _MISSING):
                return ""
            raise _translated(error) from error

    def apply(self, changes: RulesetChanges) -> None:
        """Make the changes, those that packets meet in one transaction; Conflict when the table is not what they were
        made from.
        """
        if not changes:
            return
        try:
            for step in render_changes(changes):
                if step.commands:
                    self._nft.run(step.commands)
                self._batch.run(step.elements)
        except (LibnftablesError, Refused) as error:
            raise _translated(error) from error

    def add_endpoint(self, endpoint: Endpoint, ingress: str, egress: str) -> None:
        """Enforce these rows on an endpoint, whatever it had before; NotFound when a row is not in the table."""
        wanted = endpoint_elements(endpoint, ingress, egress)
        try:
            self._batch.run(single_elements("add", wanted))
        except Refused as error:
            if error.is_missing:
                raise NotFound(f"no table, or no rows {ingress} and {egress} in it: {error}") from error
            if not error.is_there:
                raise _translated(error) from error
            self._settle(endpoint, wanted)

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        """Take away what `add_endpoint` made; gone already is success."""
        elements = endpoint_elements(endpoint, "-", "-")
        try:
            self._batch.run(single_elements("delete", elements))
        except Refused as error:
            if not error.is_missing:
                raise _translated(error) from error
            self._settle(endpoint, {})

    def remove(self) -> None:
        """Take the whole table away; gone already is success. What it forbade is allowed from then on."""
        try:
            self._nft.run(f"add table {TABLE}\ndelete table {TABLE}")
        except LibnftablesError as error:
            raise _translated(error) from error

    def _settle(self, endpoint: Endpoint, wanted: dict[Element, str]) -> None:
        """The slow way, after a crash left some of an endpoint's elements: read, and change what differs."""
        ruleset = self.read()
        if ruleset is None:
            if wanted:
                raise Conflict("the table is not ours any more; apply the whole ruleset first")
            return
        keys = endpoint_elements(endpoint, "-", "-").keys()
        actual = {key: ruleset.elements[key] for key in keys if key in ruleset.elements}
        self.apply(RulesetChanges(shape=ruleset.shape, elements=diff(wanted, actual)))


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _translated(error: LibnftablesError | Refused) -> RomanaError:
    """The error that a caller can act on, with the first lines of its words."""
    text = str(error)
    words = text if len(text) <= 600 else text[:600] + " ..."
    if _says(error, (*_MISSING, *_THERE, *_BUSY)):
        return Conflict(f"nftables: {words}")
    return Unavailable(f"nftables: {words}")
