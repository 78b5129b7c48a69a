"""The routes that a host's agent puts under its spans.

Owns the rule that every span has a blackhole, so that packets to an endpoint that is not there never loop between host
and rack router. Refuses to know endpoint routes, which the hot path sets with the links. Invariant: the answer depends
on the view alone.
"""

from __future__ import annotations

from romana.model.address import Prefix
from romana.model.route import Route, RouteKind
from romana.model.view import View


def host_routes(view: View) -> dict[Prefix, Route]:
    """One blackhole for each span of the host, in order; what the host announces are the same prefixes."""
    return {span: Route(prefix=span, kind=RouteKind.BLACKHOLE) for span in sorted(view.spans)}
