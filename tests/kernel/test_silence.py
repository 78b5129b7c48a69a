"""A TCP connection of which the other machine vanished is given up, by the reader and by the writer."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator

import pytest

from romana.adapters.tcp import new_socket, notice_silence
from tests.probes.spaces import shell, spaces, within

SECONDS = 3


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """A client's and a server's socket on two machines, and the server's namespace."""
    with spaces("one", "two", tag="t") as paths:
        one, two = paths["one"].rpartition("/")[2], paths["two"].rpartition("/")[2]
        shell(f"ip -n {one} link add up0 type veth peer name up0 netns {two}")
        for name, number in ((one, 1), (two, 2)):
            shell(f"ip -n {name} addr add 198.18.9.{number}/24 dev up0 && ip -n {name} link set up0 up")
        with within(paths["two"]):
            listening = socket.socket()
            notice_silence(listening, SECONDS)
            listening.bind(("198.18.9.2", 9600))
            listening.listen()
        with within(paths["one"]):
            client = new_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ()))
            notice_silence(client, SECONDS)
            client.settimeout(10)
            client.connect(("198.18.9.2", 9600))
        with listening, client, listening.accept()[0] as server:
            server.settimeout(10)
            yield client, server, two


def test_both_ends_give_up_a_connection_whose_cable_was_pulled(
    pair: tuple[socket.socket, socket.socket, str],
) -> None:
    client, server, space = pair
    server.sendall(b"hello")
    assert client.recv(9) == b"hello"
    shell(f"ip -n {space} link set up0 down")
    began = time.monotonic()
    server.sendall(b"lost")  # one has something to say, the other only listens
    for end in (client, server):
        with pytest.raises(OSError) as told:  # noqa: PT011 - by its number
            end.recv(9)
        assert told.value.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
    assert time.monotonic() - began < 3 * SECONDS
