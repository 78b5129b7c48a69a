"""The routes that a host's agent sets beside those of endpoints.

Owns the rule that whatever is announced has a blackhole, so that packets to an endpoint that is not there never loop
between host and rack router. Refuses to know endpoint routes, which the hot path sets with the links. Invariant: the
answer depends on the view, and on the networks that the host is on, alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from romana.core.routing.segment import routes_via
from romana.model.address import Prefix
from romana.model.route import Route, RouteKind
from romana.model.view import View


def host_routes(view: View, connected: Iterable[Prefix] = ()) -> dict[Prefix, Route]:
    """One blackhole for each prefix that the host announces, or discards on a layer 2 network; and the routes to what
    is beside it there. An endpoint's own route takes the place of each.
    """
    ended = sorted(announcements(view).union(view.discards))
    blackholes = {prefix: Route(prefix=prefix, kind=RouteKind.BLACKHOLE) for prefix in ended}
    return {**routes_via(view.via, connected), **blackholes}


def announcements(view: View) -> frozenset[Prefix]:
    """What a host announces: its spans, and what lives on it although its aggregates lead elsewhere."""
    return frozenset((*view.spans, *view.announced))
