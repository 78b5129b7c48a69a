"""romanad of a lab, asked from outside through its node's socket.

Owns turning one request into one call. Invariant: errors are romana's own, with all faults.
"""

from __future__ import annotations

import asyncio
from typing import Any

from romana.adapters.romanad import RomanadClient
from romana.apps.lab.record import LabRecord

SOCKET = "run/romana/romanad.sock"


def url(record: LabRecord) -> str:
    """Where romanad's UNIX socket can be reached from outside its node."""
    (control,) = [name for name, role in record.roles.items() if role == "control"]
    return f"unix:///proc/{record.process(control).pid}/root/{SOCKET}"


def get(record: LabRecord, path: str) -> Any:
    """GET a resource under the root."""
    return asyncio.run(_call(record, "get", path))


def items(record: LabRecord, path: str) -> list[Any]:
    """All items of a list."""
    found: list[Any] = asyncio.run(_call(record, "items", path))
    return found


def put(record: LabRecord, path: str, body: object) -> Any:
    """PUT a document."""
    return asyncio.run(_call(record, "put", path, body))


def post(record: LabRecord, path: str, body: object) -> Any:
    """POST a document."""
    return asyncio.run(_call(record, "post", path, body))


def delete(record: LabRecord, path: str) -> Any:
    """DELETE a resource."""
    return asyncio.run(_call(record, "delete", path))


async def _call(record: LabRecord, verb: str, path: str, *body: object) -> Any:
    client = RomanadClient(url(record))
    try:
        return await getattr(client, verb)(path, *body)
    finally:
        await client.close()
