"""Cutting one CIDR into the parts of a group's children.

Owns the arithmetic of weights, spare parts and padding. Refuses to know groups and networks. Invariant: the parts are
aligned, never overlap and together are the whole CIDR; with all weights 1 they are Romana v2's equal parts, in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from romana.model.address import Prefix


class Parts(msgspec.Struct, frozen=True):
    """The children's parts in their order, and what is left for nobody."""

    children: tuple[Prefix, ...]
    spare: tuple[Prefix, ...]


def cut(cidr: Prefix, weights: Sequence[int], spare: int = 0) -> Parts | None:
    """A part for each weight, and `spare` parts of weight 1 beside them; None when the CIDR has too few addresses.

    A weight is rounded up to a power of two, their sum too: that is the number of units. The largest parts come first,
    so that all are aligned; those of one weight keep their order. What is left over is cut into units where all weights
    are 1, otherwise into as few parts as there can be.
    """
    units = [units_of(weight) for weight in weights]
    depth = (sum(units) + spare - 1).bit_length()
    smallest = 1 if spare else min(units)
    if cidr.length + depth - (smallest.bit_length() - 1) > cidr.family.bits:
        return None
    children: dict[int, Prefix] = {}
    at = 0
    for index in sorted(range(len(units)), key=lambda index: -units[index]):
        children[index] = _part(cidr, depth, at, units[index])
        at += units[index]
    rest = []
    for size in _rest(at, spare, 1 << depth, equal=max(units) == 1):
        rest.append(_part(cidr, depth, at, size))
        at += size
    return Parts(tuple(children[index] for index in range(len(units))), tuple(rest))


def units_of(weight: int) -> int:
    """The units that a weight stands for: the next power of two."""
    return 1 << (weight - 1).bit_length()


def _rest(at: int, spare: int, end: int, *, equal: bool) -> list[int]:
    """The sizes of the parts from a unit to the end: the spare ones, then aligned ones, as large as can be."""
    sizes = [1] * spare
    at += spare
    while at < end:
        sizes.append(1 if equal else at & -at)
        at += sizes[-1]
    return sizes


def _part(cidr: Prefix, depth: int, at: int, units: int) -> Prefix:
    """The part of so many units (a power of two) that begins at a unit, of 2 ** depth units in all."""
    width = units.bit_length() - 1
    return cidr.subnet(cidr.length + depth - width, at >> width)
