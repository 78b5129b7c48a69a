"""Addresses and prefixes as small values over integers; one code for both families.

Reading text is the work of `codec.text`; `str()` gives the canonical text of either value.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator
from enum import IntEnum
from functools import total_ordering


class Family(IntEnum):
    """The IP version of an address."""

    V4 = 4
    V6 = 6

    bits: int
    """Length of an address in bits."""

    def __init__(self, version: int) -> None:
        self.bits = 32 if version == 4 else 128


@total_ordering
class Prefix:
    """An aligned range of addresses: `value` is the first address, `length` the number of fixed bits.

    An address is the prefix of full length. Ordered by family, first address, then shortest first.
    """

    __slots__ = ("_key",)

    def __init__(self, family: Family, value: int, length: int) -> None:
        if not 0 <= length <= family.bits or value >> family.bits or value & ((1 << (family.bits - length)) - 1):
            raise ValueError(f"no IPv{int(family)} prefix: value {value:#x}, length {length}")
        self._key = (family, value, length)

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return self._key[0]

    @property
    def value(self) -> int:
        """Its first address as an integer."""
        return self._key[1]

    @property
    def length(self) -> int:
        """Number of fixed bits."""
        return self._key[2]

    @property
    def last(self) -> int:
        """Its last address as an integer."""
        return self._key[1] | ((1 << (self._key[0].bits - self._key[2])) - 1)

    @property
    def size(self) -> int:
        """Number of addresses in it."""
        return 1 << (self._key[0].bits - self._key[2])

    @property
    def is_address(self) -> bool:
        """Whether it is one single address."""
        return self._key[2] == self._key[0].bits

    @property
    def text(self) -> str:
        """The first address without the length: `10.0.0.1`."""
        if self._key[0] is Family.V4:
            value = self._key[1]
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return _v6_text(self._key[1])

    def contains(self, other: Prefix) -> bool:
        """Whether every address of `other` is in this prefix."""
        family, value, length = self._key
        return (
            family is other._key[0]
            and length <= other._key[2]
            and (value ^ other._key[1]) >> (family.bits - length) == 0
        )

    def overlaps(self, other: Prefix) -> bool:
        """Whether some address is in both."""
        return self.contains(other) or other.contains(self)

    def supernet(self, length: int) -> Prefix:
        """The prefix of that (shorter or equal) length that contains this one."""
        shift = self.family.bits - length
        return Prefix(self.family, self.value >> shift << shift, length)

    def supernets(self) -> Iterator[Prefix]:
        """This prefix and all that contain it, the longest first."""
        return (self.supernet(length) for length in range(self.length, -1, -1))

    def address(self, offset: int) -> Address:
        """The address at an offset from the first one; IndexError when it is outside."""
        if not 0 <= offset < self.size:
            raise IndexError(f"{self} has no address at offset {offset}")
        return Address(self.family, self.value + offset)

    def subnet(self, length: int, index: int) -> Prefix:
        """The `index`-th part when it is cut into parts of `length`; IndexError when there is no such part."""
        if length < self.length or not 0 <= index < 1 << (length - self.length):
            raise IndexError(f"{self} has no /{length} number {index}")
        return Prefix(self.family, self.value + (index << (self.family.bits - length)), length)

    def subnets(self, length: int) -> Iterator[Prefix]:
        """All parts of `length` bits, in order."""
        return (self.subnet(length, index) for index in range(1 << (length - self.length)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefix) and self._key == other._key

    def __lt__(self, other: Prefix) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return f"{self.text}/{self.length}"

    def __repr__(self) -> str:
        return f"Prefix({self})"


class Address(Prefix):
    """One address: a prefix of full length, written without it."""

    __slots__ = ()

    def __init__(self, family: Family, value: int, length: int | None = None) -> None:
        super().__init__(family, value, family.bits if length is None else length)
        if not self.is_address:
            raise ValueError(f"{self.text}/{length} is not one address")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Address({self})"


@functools.lru_cache(maxsize=4096)
def _v6_text(value: int) -> str:
    return str(ipaddress.IPv6Address(value))
