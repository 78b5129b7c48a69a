"""Whether a machine answers at all: a TCP connection that is made, or refused, says that its kernel is there."""

from __future__ import annotations

import asyncio
import socket

from romana.model.address import Address, Family


async def answers(address: Address, port: int, seconds: float) -> bool:
    """Try once; whether there was an answer in that time. The connection is closed at once, nothing is sent."""
    family = socket.AF_INET if address.family is Family.V4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
    return True
