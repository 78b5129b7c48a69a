"""Hosts that are drained, that lose their power, and that are declared lost without it."""

from __future__ import annotations

import asyncio

from tests.faults.actions import drained_host, killed_agent, lost_by_mistake, lost_host, takes, together
from tests.faults.site import LONE, Site
from tests.faults.storm import Run


def test_a_host_that_is_drained_gives_everything_back(site: Site, seed: str) -> None:
    asyncio.run(
        Run(site, seed).play(takes("h4", LONE), together(drained_host("h4"), killed_agent()), takes("h3", LONE))
    )


def test_what_a_lost_host_had_is_free_and_it_comes_back_with_nothing(site: Site, seed: str) -> None:
    """Another machine has its name for a while, and the two are never both the host."""
    asyncio.run(Run(site, seed).play(takes("h5", LONE), lost_host("h5", replaced=True), takes("h4", LONE), at_once=4))


def test_a_host_that_is_wrongly_declared_lost_stops_what_it_had_when_it_hears_of_it(site: Site, seed: str) -> None:
    asyncio.run(Run(site, seed).play(takes("h6", LONE), lost_by_mistake("h6"), takes("h5", LONE), at_once=4))
