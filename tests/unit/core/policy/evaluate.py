"""The verdict of a compiled program, found the way the kernel finds it: by the most specific entry of a row.

Knows no policies, so it can judge nothing but the program itself.
"""

from __future__ import annotations

from romana.model.address import Address, Prefix
from romana.model.errors import NotFound
from romana.model.policy import Direction
from romana.model.program import Profile, Program


def verdict(program: Program, direction: Direction, class_id: str, peer_address: Address) -> tuple[Prefix, Profile]:
    """The entry of the class's row that decides about a peer's address, and its profile; NotFound without a row."""
    row = program.row(class_id, direction)
    if row is None:
        raise NotFound(f"the program has no {direction} row for class {class_id}")
    for prefix in peer_address.supernets():
        if prefix in row.entries:
            return prefix, program.profile(row.entries[prefix])
    raise NotFound(f"row {row.id} has no entry that holds {peer_address}")
