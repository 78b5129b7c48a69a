"""The routes that a host's agent sets beside those of endpoints.

Owns the rule that whatever is announced has a blackhole, so that packets to an endpoint that is not there never loop
between host and rack router. Refuses to know endpoint routes, which the hot path sets with the links. Invariant: the
answer depends on the view, and on the networks that the host is on, alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from romana.core.routing.segment import routes_via
from romana.model.address import Prefix
from romana.model.fabric import Protocol
from romana.model.route import Route, RouteKind
from romana.model.view import View


def host_routes(view: View, connected: Iterable[Prefix] = (), left: Collection[Prefix] = ()) -> dict[Prefix, Route]:
    """One blackhole for each prefix that the host announces, or discards on a layer 2 network, and for what `left` it a
    moment ago; and the routes to what is beside it there. An endpoint's own route takes the place of each.
    """
    ended = sorted(announcements(view).union(view.discards, (one for one in left if one not in view.via)))
    blackholes = {prefix: Route(prefix=prefix, kind=RouteKind.BLACKHOLE) for prefix in ended}
    return {**routes_via(view.via, connected), **blackholes}


def departed(before: View, after: View) -> frozenset[Prefix]:
    """What a host announced because it lived there, and does not any more, where other devices may send it here for a
    while: they calculate their routes once a second with OSPF, and nobody knows when without a plan of their daemons.
    """
    speaker = after.daemon.speaker
    if speaker is not None and speaker.protocol is not Protocol.OSPF:
        return frozenset()
    return frozenset(before.announced).difference(announcements(after))


def announcements(view: View) -> frozenset[Prefix]:
    """What a host announces: its spans, and what lives on it although its aggregates lead elsewhere."""
    return frozenset((*view.spans, *view.announced))
