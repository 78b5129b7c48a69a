"""BIRD in a network namespace, configured by the agent's own adapter from what a plan says of the device."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from romana.adapters.bird import Bird
from romana.adapters.bird_forms import Everything
from romana.adapters.linux.discovery import find_router
from romana.core.routing import RoutePlan
from romana.core.routing.speakers import speaker
from romana.model.address import Address
from romana.model.daemon import SessionState
from romana.model.speaker import DaemonPlan
from tests.probes.spaces import shell, within

LINK = """
    sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.forwarding=1
    ip link set lo up; ip link set DEV up
"""
"""A link that comes up at once; DEV is its interface."""


def link(one: str, name: str, other: str, far_name: str) -> None:
    """A link between two namespaces, up at once; the names are those of the interfaces."""
    with within(one):
        shell(f"ip link add {name} type veth peer name {far_name} netns {Path(other).name}")
    for space, interface in ((one, name), (other, far_name)):
        with within(space):
            shell(LINK.replace("DEV", interface))


def address(space: str, **interfaces: str) -> None:
    """Addresses of a namespace's interfaces, blanks between several; `_` in a name stands for a hyphen."""
    with within(space):
        for name, listed in interfaces.items():
            for one in listed.split():
                shell(f"ip address add {one} dev {name.replace('_', '-')} {'nodad' if ':' in one else ''}")


class Side:
    """One device: its namespace, its BIRD, and the adapter that writes for it."""

    def __init__(self, directory: Path, space: str, name: str) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.space = space
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.bird = Bird(self.directory / "romana.conf", self.directory / "bird.ctl", form=Everything(self.find))
        (self.directory / "bird.conf").write_text(f'include "{self.directory}/romana.conf";\n')

    def start(self, *more: str) -> None:
        """Start BIRD, and wait until it answers."""
        with within(self.space):
            options = ["-f", "-c", f"{self.directory}/bird.conf", "-s", f"{self.directory}/bird.ctl", *more]
            self.process = subprocess.Popen(["bird", *options], stderr=subprocess.DEVNULL)
        until((self.directory / "bird.ctl").exists)

    def find(self, interface: str) -> Address:
        """Who answers on an interface."""
        with within(self.space):
            return find_router(interface)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End BIRD, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None
            (self.directory / "bird.ctl").unlink(missing_ok=True)

    def announce(self, routes: RoutePlan) -> None:
        """What the agent does in a round."""
        prefixes = routes.device_plan(self.name).originates if routes.seat(self.name) is not None else ()
        self.bird.announce(prefixes, DaemonPlan(speaker=speaker(routes, self.name)))

    def sessions(self, routes: RoutePlan) -> tuple[SessionState, ...]:
        """How the device's sessions are."""
        with within(self.space):
            return self.bird.state(speaker(routes, self.name)).sessions

    def down(self, routes: RoutePlan) -> list[str]:
        """Why those are down that are."""
        return [one.sentence for one in self.sessions(routes) if not one.up]

    def routes(self) -> str:
        """The kernel's."""
        with within(self.space):
            return shell("ip route; ip -6 route")

    def ask(self, *words: str) -> str:
        """What `birdc` prints."""
        command = ["birdc", "-s", str(self.directory / "bird.ctl"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until(what: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for something; it fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
