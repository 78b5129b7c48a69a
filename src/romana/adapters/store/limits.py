"""What every store takes: the same keys and transactions everywhere, so that records can move from one to another.

Invariant: what passes here is storable in every store, but for the size of a value, which each store limits itself.
"""

from __future__ import annotations

from romana.model.errors import Fault, Invalid
from romana.ports import Transaction

MOST_KEY = 1024
"""Bytes of a key at most."""


def check(transaction: Transaction, most_value: int) -> None:
    """Invalid, with a fault for each key, when the transaction is not storable; `most_value` in bytes."""
    twice = transaction.puts.keys() & set(transaction.deletes)
    faults = [Fault(key, "is written and deleted at once") for key in sorted(twice)]
    for key in (*transaction.compares, *transaction.puts, *transaction.deletes):
        if not (key.isascii() and 0 < len(key) <= MOST_KEY):
            faults += _key_faults(key)
    for key, value in transaction.puts.items():
        if len(value) > most_value:
            faults.append(too_large(key, len(value), most_value))
    if faults:
        raise Invalid(*faults)


def too_large(key: str, size: int, most: int) -> Fault:
    """What is wrong with a value of too many bytes."""
    return Fault(key, f"has {size} bytes, and this store takes {most} at most; divide what it describes")


def _key_faults(key: str) -> list[Fault]:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return [Fault(ascii(key), "is no key: it has half a character")]
    if 0 < size <= MOST_KEY:
        return []
    return [Fault(key[:80], f"is no key: it has {size} bytes, 1 to {MOST_KEY} are possible")]
