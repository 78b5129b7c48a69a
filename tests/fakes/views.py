"""The view that a control plane with nothing but a policy world would send."""

from __future__ import annotations

from collections.abc import Mapping

from romana.core.policy.world import PolicyWorld
from romana.core.view import ViewSource, host_view
from romana.model.address import Prefix
from romana.model.ipam import Span
from romana.model.program import Program
from romana.model.view import View


def view_of_world(
    world: PolicyWorld, program: Program, host: str, *, revision: int = 1, spans: Mapping[Prefix, Span] | None = None
) -> View:
    """A host's view, with routes to the spans alone."""
    source = ViewSource(
        incarnation="world",
        revision=revision,
        networks=world.networks,
        spans=spans or {},
        blocks=world.blocks,
        identities=world.all_identities(),
        program=program,
    )
    return host_view(source, host, frozenset(world.networks))
