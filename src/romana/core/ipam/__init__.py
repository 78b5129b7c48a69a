"""Addresses: which network serves a request, who gets which span and block, and which address is next."""

from romana.core.ipam.addresses import REST, AddressBook, Need, Settled
from romana.core.ipam.claims import ClaimChanges, ClaimState, claim, fill_stock
from romana.core.ipam.networks import candidate_networks
from romana.core.ipam.publication import (
    PublicationChanges,
    PublicationState,
    apply_publication,
    apply_released,
    apply_returned,
    apply_started,
    apply_taken,
)

__all__ = [
    "REST",
    "AddressBook",
    "ClaimChanges",
    "ClaimState",
    "Need",
    "PublicationChanges",
    "PublicationState",
    "Settled",
    "apply_publication",
    "apply_released",
    "apply_returned",
    "apply_started",
    "apply_taken",
    "candidate_networks",
    "claim",
    "fill_stock",
]
