from __future__ import annotations

import asyncio
import socket

import pytest

from romana.adapters.tcp_probe import answers
from romana.codec.text import parse_address
from tests.probes.spaces import shell, spaces, within

SILENT = "table inet silent {\n chain input {\n type filter hook input priority 0;\n tcp dport 9 drop\n }\n}\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_machine_that_takes_or_refuses_a_connection_answers_and_a_silent_one_does_not(address: str) -> None:
    with spaces("probe") as paths, within(paths["probe"]):
        shell(f"ip link set lo up; printf '{SILENT}' | nft -f -")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as listener:
            taken = listener.getsockname()[1]
            told = [asyncio.run(answers(parse_address(address), port, 0.3)) for port in (taken, 1, 9)]
        assert told == [True, True, False]
        unreachable = "2001:db8::1" if ":" in address else "192.0.2.1"
        assert not asyncio.run(answers(parse_address(unreachable), 1, 0.3))
