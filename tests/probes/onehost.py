"""One host in a network namespace: endpoints on veth pairs as an agent makes them, and an uplink to the world."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from romana.adapters.linux.netns import inside, opened
from romana.adapters.linux.nftables import NftTable
from romana.model.endpoint import Endpoint
from tests.probes.traffic import Probe, accepted

HOST4, HOST6 = "198.18.0.1", "2001:db8:ffff::1"
WORLD4, WORLD6 = "198.18.0.2", "2001:db8:ffff::2"


class OneHost:
    """The namespaces of a host, its endpoints and its uplink's other side, by short name; descriptors in `spaces`.

    `host` has addresses HOST4 and HOST6, `world` WORLD4 and WORLD6 and whatever a test adds.
    """

    def __init__(self, tag: str) -> None:
        self._prefix = f"romt-d{os.getpid()}{tag}"
        self._stack = ExitStack()
        self.spaces: dict[str, int] = {}
        self.table: NftTable

    def build(self) -> None:
        """Make host and world, with forwarding and a table of ours that does not exist yet."""
        host, world = self.add("host"), self.add("world")
        for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"):
            subprocess.run(["ip", "netns", "exec", host, "sh", "-c", f"echo 1 > {path}"], check=True)
        self.ip("host", f"link add up0 type veth peer name up0 netns {world}")
        for name, address4, address6 in (("host", HOST4, HOST6), ("world", WORLD4, WORLD6)):
            self.ip(
                name,
                "link set up0 up",
                f"address add {address4}/24 dev up0",
                f"address add {address6}/64 dev up0 nodad",
            )
        self.ip("world", f"route add 10.0.0.0/8 via {HOST4}", f"route add fd00::/16 via {HOST6}")
        self.ip("host", f"route add default via {WORLD4}", f"route add default via {WORLD6}")
        with inside(self.spaces["host"]):
            self.table = NftTable()
        self._stack.callback(self.table.close)

    def add(self, name: str) -> str:
        """One more namespace; its full name."""
        full = f"{self._prefix}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", full], check=True)
        self.spaces[name] = self._stack.enter_context(opened(f"/run/netns/{full}"))
        self.ip(name, "link set lo up")
        return full

    def plug(self, name: str, endpoint: Endpoint) -> None:
        """A namespace for an endpoint, linked to the host, with the endpoint's addresses."""
        full = self.add(name)
        link = endpoint.link
        self.ip("host", f"link add {link} type veth peer name eth0 netns {full}")
        self.ip(name, "link set eth0 up")
        self.ip(
            "host",
            f"link set {link} up",
            f"address add 169.254.1.1/32 dev {link}",
            f"address add fe80::1/64 dev {link} nodad",
            *(
                f"route add {address} dev {link} src {HOST6 if address.length > 32 else HOST4}"
                for address in endpoint.addresses
            ),
        )
        self.ip(
            name,
            *(
                f"address add {address}/{address.length} dev eth0 {'nodad' if address.length > 32 else ''}"
                for address in endpoint.addresses
            ),
            "route add 169.254.1.1 dev eth0",
            "route add default via 169.254.1.1 dev eth0",
            "route add default via fe80::1 dev eth0",
        )

    def settle(self) -> None:
        """Wait until everybody knows the host as a neighbour, so that nothing that is sent later waits or is lost."""
        pings = [
            Probe(space, "icmp", address)
            for name, space in self.spaces.items()
            if name != "host"
            for address in (HOST4, HOST6)
        ]
        assert any(all(accepted(pings, [])) for _ in range(10)), "a new link carries nothing"

    def ip(self, name: str, *commands: str) -> None:
        """`ip` commands inside a namespace."""
        text = "".join(f"{command}\n" for command in commands)
        subprocess.run(["ip", "-netns", f"{self._prefix}-{name}", "-batch", "-"], input=text, text=True, check=True)

    def nft(self, text: str) -> str:
        """The nft program, inside the host."""
        return self.run("nft", "-f", "-", text=text)

    def run(self, *command: str, text: str = "") -> str:
        """A program, inside the host, which must succeed; what it prints."""
        words = ["ip", "netns", "exec", f"{self._prefix}-host", *command]
        return subprocess.run(words, input=text, text=True, check=True, capture_output=True).stdout

    def close(self) -> None:
        """Take everything away."""
        self._stack.close()


@contextmanager
def one_host(tag: str = "") -> Iterator[OneHost]:
    """A host for the length of a test or a module."""
    host = OneHost(tag)
    try:
        host.build()
        yield host
    finally:
        host.close()
