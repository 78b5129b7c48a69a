"""Tenants, segments, and who an endpoint is."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec


class Isolation(StrEnum):
    """Who may open connections to an endpoint that no policy selects."""

    TENANT = "tenant"
    SEGMENT = "segment"
    NONE = "none"


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """An isolation domain: a Kubernetes namespace, an OpenStack project."""

    name: str
    isolation: Isolation = Isolation.TENANT
    labels: dict[str, str] = {}


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


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything policy can know of an endpoint besides its addresses: owner and labels."""

    owner: Owner
    labels: dict[str, str] = {}

    @property
    def id(self) -> str:
        """A stable name: 16 hexadecimal digits of SHA-256 over owner and sorted labels."""
        parts = [self.owner.tenant, self.owner.segment, *(f"{k}={v}" for k, v in sorted(self.labels.items()))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.id)
