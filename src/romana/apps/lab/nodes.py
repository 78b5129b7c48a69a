"""Nodes: namespaces that look like machines of their own.

Owns making, entering and ending them. Refuses to know what runs in them. Invariant: everything of a node lives in its
PID namespace, so the end of its first process is the end of all of it: processes, mounts, pods, links.

A node has network, mount, PID and UTS namespaces of its own. /run and /var/lib/romana are empty, /etc, /var/lib and
/opt are private copies (overlayfs in the node's own /run), so that paths are those of a real host and nothing of the
machine changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from romana.apps.lab.record import LabRecord, Process
from romana.apps.lab.wiring import BRIDGE, Fabric, Interface, Link, Node
from romana.model.errors import NotFound, Unavailable

FIRST_INDEX = 1000
"""Of the upper ends of links; the lower ones are numbered by their nodes, from 2 on."""
FIRST = """\
set -e
[ "$NODE" = "$CONTROL" ] || mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
for dir in etc var/lib opt; do
    [ -d /$dir ] || continue
    mkdir -p /run/.private/$dir /run/.work/$dir
    mount -t overlay -o lowerdir=/$dir,upperdir=/run/.private/$dir,workdir=/run/.work/$dir overlay /$dir
done
mkdir -p /etc/romana /etc/bird /etc/cni/net.d /var/lib/romana /run/romana /run/bird /run/netns
mount -t tmpfs -o mode=755 tmpfs /var/lib/romana
echo "$NODE" > /proc/sys/kernel/hostname
cd /proc/sys/net
echo 1 > ipv4/ip_forward
echo 1 > ipv6/conf/all/forwarding
for which in all default; do
    echo 0 > ipv4/conf/$which/rp_filter
    echo 0 > ipv4/conf/$which/send_redirects
    echo 0 > ipv6/conf/$which/accept_dad
    echo 0 > ipv6/conf/$which/accept_ra
    echo 1 > ipv6/conf/$which/keep_addr_on_down
done
echo 1 > ipv4/fib_multipath_hash_policy
echo 1 > ipv6/fib_multipath_hash_policy
ip link set lo up
cd /
echo ready
read go
exec env --unset=FIRST sleep infinity < /dev/null > /dev/null 2>&1
"""
"""What a node's first process does. It goes on only when it was recorded: its creator's death ends it before that."""


def start_nodes(names: Sequence[str], control: str, log: Path) -> dict[str, tuple[subprocess.Popen[str], Process]]:
    """Make the namespaces of all these nodes at once; they wait for `release`. Unavailable when one does not come up.

    When it fails, all of them end by themselves. The control node keeps the machine's /proc: by process 1, romanad
    makes sure that it is not in the machine's own network.
    """
    started = {name: _spawn_first(name, control, log) for name in names}
    answers: dict[str, tuple[subprocess.Popen[str], Process]] = {}
    for name, popen in started.items():
        assert popen.stdout is not None  # noqa: S101 - it was asked for
        if popen.stdout.readline().strip() != "ready":
            for other in started.values():
                _close(other)
            said = (log / f"{name}-first.log").read_text().strip() or "it says nothing"
            raise Unavailable(f"node {name} does not come up: {said}")
        answers[name] = (popen, Process.of(_only_child(popen.pid)))
    return answers


def release(started: Iterable[subprocess.Popen[str]]) -> None:
    """Let nodes live on, after they were recorded."""
    for popen in started:
        assert popen.stdin is not None  # noqa: S101 - it was asked for
        popen.stdin.write("go\n")
        popen.stdin.flush()
        _close(popen)


def _close(popen: subprocess.Popen[str]) -> None:
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            stream.close()
    _let_go(popen)


def _let_go(popen: subprocess.Popen[str]) -> None:
    """It outlives us and is known by its record from here on: keep Popen from watching over it."""
    popen.returncode = 0


def _spawn_first(name: str, control: str, log: Path) -> subprocess.Popen[str]:
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--", "sh", "-c", 'eval "$FIRST"', name]
    with (log / f"{name}-first.log").open("w") as errors:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment() | {"NODE": name, "CONTROL": control, "FIRST": FIRST},
            start_new_session=True,
        )


def _only_child(pid: int, seconds: float = 2) -> int:
    """The pid of the one child of a process that forks at once."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            break
        if children:
            return int(children[0])
        time.sleep(0.002)
    raise Unavailable(f"process {pid} started nothing")


def environment() -> dict[str, str]:
    """The environment of programs in nodes: this installation's programs and the system's, and no one's secrets."""
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    kept = {key: os.environ[key] for key in ("TERM", "LANG", "NO_COLOR", "COLUMNS") if key in os.environ}
    return {"PATH": path, "HOME": "/root", **kept}


def entering(process: Process, command: Sequence[str]) -> list[str]:
    """The command line that runs a command inside a node."""
    return ["nsenter", f"--target={process.pid}", "--net", "--mount", "--pid", "--uts", "--", *command]


def run(process: Process, command: Sequence[str], text: str = "", *, seconds: float = 20) -> str:
    """Run a command inside a node and answer its output; Unavailable with its own words when it fails."""
    try:
        ran = subprocess.run(
            entering(process, command),
            input=text,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(command)}` did not end within {seconds} s") from None
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()
        raise Unavailable(f"`{' '.join(command)}` failed with status {ran.returncode}: {said}")
    return ran.stdout


def start(process: Process, command: Sequence[str], log: Path, more: Mapping[str, str] | None = None) -> Process:
    """Start a program inside a node, its output into a log; it outlives us. Answers its process."""
    with log.open("a") as output:
        popen = subprocess.Popen(
            entering(process, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment() | dict(more or {}),
            start_new_session=True,
            text=True,
        )
    try:
        return Process.of(_only_child(popen.pid))
    except (Unavailable, NotFound) as error:
        raise Unavailable(f"`{command[0]}` ended at once: {log.read_text()[-2000:].strip()}") from error
    finally:
        _let_go(popen)


def end(processes: Iterable[Process], number: int = signal.SIGKILL, *, seconds: float = 10) -> None:
    """Send a signal to recorded processes, and wait until they are gone; Unavailable when one stays."""
    waiting = list(processes)
    for process in waiting:
        if process.alive:
            os.kill(process.pid, number)
    deadline = time.monotonic() + seconds
    while any(process.alive for process in waiting):
        if time.monotonic() > deadline:
            stays = ", ".join(str(process.pid) for process in waiting if process.alive)
            raise Unavailable(f"processes {stays} did not end within {seconds} s")
        time.sleep(0.005)


def link_nodes(record: LabRecord, fabric: Fabric) -> None:
    """Make all links, directly between the namespaces of two nodes, with their addresses, up.

    Each end has an index of its own: where both have the same, the kernel takes the link for one that stands alone, and
    tells of a lost carrier up to a second late (`linkwatch_urgent_event`).
    """
    for name in fabric.nodes:
        lines = [
            _link_line(record, link, index)
            for index, link in enumerate(fabric.links, FIRST_INDEX)
            if link.above.node == name
        ]
        if lines:
            _ip(record.nodes[name], lines)
    for name in fabric.nodes:
        _ip(record.nodes[name], _address_lines(fabric, name))


def _link_line(record: LabRecord, link: Link, index: int) -> str:
    """The lower end has the same MAC address whenever it is made: it stands for a card."""
    below = link.below
    card = hashlib.sha256(f"{below.node}/{below.name}".encode()).digest()[:5].hex(":")
    peer = f"peer name {below.name} address 02:{card} netns {record.nodes[below.node].pid}"
    return f"link add {link.above.name} index {index} type veth {peer}"


def relink(record: LabRecord, old: Fabric, new: Fabric) -> None:
    """Make the links of nodes that are up as the new fabric says: what is the same in the old one is not touched.

    Nodes that only the new one has are up, and have nothing yet.
    """
    for link in old.links:
        if link not in new.links:
            _ip(record.nodes[link.below.node], [f"link delete {link.below.name}"])
    fresh = [link for link in new.links if link not in old.links]
    for link in fresh:
        above = record.nodes[link.above.node]
        known = json.loads(run(above, ["ip", "-json", "link"]))
        index = max(FIRST_INDEX, *(one["ifindex"] + 1 for one in known))
        _ip(above, [_link_line(record, link, index)])
    for name, node in new.nodes.items():
        before = old.nodes.get(name)
        ends = [one for link in fresh for one in link.ends if one.node == name]
        if before is None:
            lines = _address_lines(new, name)
        else:
            lines = [line for one in ends for line in _end_lines(node, one)]
            if before != node:
                gone = _own_lines(before, "delete")
                lines = [*gone, *_own_lines(node), *lines, *_gateway_lines(node)]
        if lines:
            _ip(record.nodes[name], lines)


def _address_lines(fabric: Fabric, name: str) -> list[str]:
    node = fabric.nodes[name]
    lines = _own_lines(node)
    if node.role == "switch":
        lines += [f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"]
    lines += [line for one in fabric.interfaces(name) for line in _end_lines(node, one)]
    lines += _gateway_lines(node)
    if node.role == "spine":
        lines += way_to_control(fabric, name)
    return lines


def _own_lines(node: Node, verb: str = "add") -> list[str]:
    own = () if node.is_switched else node.loopbacks
    return [f"address {verb} {address.text}/{address.length} dev lo" for address in own]


def _end_lines(node: Node, end_: Interface) -> list[str]:
    lines = []
    for address, shared in zip(end_.addresses, end_.shared, strict=False):
        quick = " nodad" if address.family == 6 else ""
        lines.append(f"address add {address.text}/{address.length - shared} dev {end_.name}{quick}")
    master = f" master {BRIDGE}" if node.role == "switch" else ""
    return [*lines, f"link set {end_.name}{master} up"]


def _gateway_lines(node: Node) -> list[str]:
    lines = []
    for family, everywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
        hops = [f"nexthop via {address.text}" for address in node.gateways if address.family == family]
        if hops:
            lines.append(f"route add {everywhere} {' '.join(hops)}")
    return lines


def way_to_control(fabric: Fabric, spine: str) -> list[str]:
    """The routes by which a spine reaches the control node's own addresses, since that runs no daemon."""
    (control,) = fabric.roles("control")
    (link,) = [one for one in fabric.links if one.above.node == spine and one.below.node == control.name]
    return [
        f"route add {address.text}/{address.length} via {hop.text}"
        for address, hop in zip(control.loopbacks, link.below.addresses, strict=True)
    ]


def _ip(process: Process, lines: Iterable[str]) -> None:
    """One `ip -batch` in a node's network namespace alone: peers are named by pids of this PID namespace."""
    text = "".join(f"{line}\n" for line in lines)
    ran = subprocess.run(
        ["nsenter", f"--target={process.pid}", "--net", "--", "ip", "-batch", "-"],  # noqa: S607
        input=text,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    if ran.returncode:
        raise Unavailable(f"the kernel refuses the lab's links: {ran.stderr.strip()}\n{text}")
