"""Stores that were restored from a backup: whether hosts and people have said what the backup does not know.

Owns the question alone. Invariant: while some host has not, nobody gets addresses that it may hold; and no fixed
address is chosen until somebody has confirmed that all that were given are known.
"""

from __future__ import annotations

from romana.model.errors import Unavailable
from romana.services.control.state import State

SHOWN = 5


def check_settled(state: State) -> None:
    """Unavailable, with the hosts' names and what to do, while a host of a restored store is unsettled."""
    if not state.unsettled:
        return
    names = sorted(state.unsettled)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise Unavailable(
        f"this store was restored from a backup, and {', '.join(names[:SHOWN])}{more} did not say yet what they hold; "
        "start their agents, or say `romana host lost NAME` of a machine that is off"
    )


def check_not_held(state: State) -> None:
    """Unavailable, with what to do, while fixed addresses that were given after the backup may be unknown."""
    if state.held:
        raise Unavailable(
            "this store was restored from a backup, and fixed addresses may have been given after it; look through "
            "`romana address list`, add what is missing (`romana address add NAME --address ADDRESS`), and say `romana "
            "address confirm`"
        )


def check_host_settled(state: State, host: str) -> None:
    """Unavailable while this host's agent has to say first what the host holds."""
    if host in state.unsettled:
        raise Unavailable(
            f"this store was restored from a backup, and host {host} did not say yet what it holds; its agent does so "
            "when it reports in"
        )
