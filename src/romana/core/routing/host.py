"""The routes that a host's agent puts under what the host announces.

Owns the rule that whatever is announced has a blackhole, so that packets to an endpoint that is not there never loop
between host and rack router. Refuses to know endpoint routes, which the hot path sets with the links. Invariant: the
answer depends on the view alone.
"""

from __future__ import annotations

from romana.model.address import Prefix
from romana.model.route import Route, RouteKind
from romana.model.view import View


def host_routes(view: View) -> dict[Prefix, Route]:
    """One blackhole for each prefix that the host announces, in order; an endpoint's own route takes its place."""
    return {prefix: Route(prefix=prefix, kind=RouteKind.BLACKHOLE) for prefix in sorted(announcements(view))}


def announcements(view: View) -> frozenset[Prefix]:
    """What a host announces: its spans, and what lives on it although its aggregates lead elsewhere."""
    return frozenset((*view.spans, *view.announced))
