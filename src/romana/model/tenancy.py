"""Tenants, segments, and who an endpoint is."""

from __future__ import annotations

import functools
import hashlib
from enum import StrEnum

import msgspec


class Isolation(StrEnum):
    """Who may open connections to an endpoint that no policy selects."""

    TENANT = "tenant"
    SEGMENT = "segment"
    NONE = "none"


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """An isolation domain: a Kubernetes namespace, an OpenStack project.

    With `own_host` its endpoints and the host they are on reach each other whatever policies leave out, as Kubernetes
    promises; rules of the admin and baseline tiers bind all the same. Without it they reach each other only where a
    policy says so.
    """

    name: str
    isolation: Isolation = Isolation.TENANT
    labels: dict[str, str] = {}
    own_host: bool = False


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a tenant, usually one microservice."""

    tenant: str
    name: str


class Owner(msgspec.Struct, frozen=True, order=True):
    """The (tenant, segment) pair that a block serves."""

    tenant: str
    segment: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.segment}"


class NamedPort(msgspec.Struct, frozen=True, order=True):
    """A port that an endpoint gives a name: its protocol is an IANA number."""

    name: str
    protocol: int
    port: int


class Identity(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything policy can know of an endpoint besides its addresses: owner, labels, named ports."""

    owner: Owner
    labels: dict[str, str] = {}
    ports: tuple[NamedPort, ...] = ()

    @functools.cached_property
    def id(self) -> str:
        """A stable name: 16 hexadecimal digits of SHA-256 over owner, sorted labels and sorted named ports."""
        parts = [self.owner.tenant, self.owner.segment, *(f"{k}={v}" for k, v in sorted(self.labels.items()))]
        parts += [f"{one.name}:{one.protocol}:{one.port}" for one in sorted(self.ports)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.id)
