"""A device's configuration as text, for whichever daemon a person runs there.

Owns the choice of the daemon. Invariant: no password is ever in such a text, only where it belongs.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from romana.codec.bird_router import render as bird
from romana.codec.frr import render as frr
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.model.errors import Fault, Invalid, NotFound


class Daemon(StrEnum):
    """Daemons that configurations are written for."""

    BIRD = "bird"
    FRR = "frr"


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one device."""

    device: str
    format: Daemon
    text: str


def configured(routes: RoutePlan, device: str, form: str) -> Configuration:
    """What a device's daemon is to do; NotFound for an unknown device and for one without neighbours, Invalid for a
    format that there is not.
    """
    if form not in list(Daemon):
        raise Invalid(Fault("format", f"is one of {', '.join(Daemon)}, not {form!r}"))
    found = speaker(routes, device)
    if found is None:
        raise NotFound(
            f"device {device!r} has nobody to speak to; a plan says who by `routing.protocol`, and named routers with "
            "links, addresses or peers"
        )
    prefixes = routes.device_plan(device).originates if found.is_host else ()
    text = bird(found, prefixes) if form == Daemon.BIRD else frr(found, prefixes)
    return Configuration(device=device, format=Daemon(form), text=text)
