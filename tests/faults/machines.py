"""Machines of a site: a network namespace each, on one underlay, with mounts and programs of their own.

Owns making, cutting off and removing them. Everything ends with this process: programs are killed by the kernel when
the thread that started them dies, mounts go with the process that holds them, and namespaces that a killed run left are
removed by the next (`tests/conftest.py`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

SUBNET = "198.18.7"
"""Of the underlay; addresses of RFC 2544, for tests of networks."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FORGET = """
nft flush ruleset
ip -o link show | sed -n 's/^[0-9]*: \\(rom[0-9a-f]*\\)@.*/link delete \\1/p' | ip -force -batch - || true
for family in -4 -6; do ip $family route flush proto 146; done
conntrack -F
"""
MINE = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it dies with the thread that starts it."""


def run(*command: str, text: str | None = None) -> str:
    """Standard output of a command that must succeed within 20 s."""
    ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
    assert ran.returncode == 0, f"`{' '.join(command)}`: {ran.stderr.strip()}"
    return ran.stdout


class Machine:
    """One machine; `address` is its own on the underlay. Make it with `Underlay.machine`."""

    def __init__(self, name: str, space: str, number: int) -> None:
        self.name = name
        self.space = space
        self.address = f"{SUBNET}.{number}"
        self.holder = subprocess.Popen(
            [*MINE, "unshare", "--mount", "--propagation", "private", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )

    def identify(self) -> None:
        """Have a machine id (`man 5 machine-id`) and a boot id of its own."""
        self._put({"/etc/machine-id": uuid.uuid4().hex, BOOT_ID: str(uuid.uuid4())})

    def reboot(self) -> None:
        """Lose everything that a kernel loses with its power, apart from the cable, and begin another boot."""
        self.run("sh", "-ec", FORGET)
        self._put({BOOT_ID: str(uuid.uuid4())})

    def _put(self, ids: Mapping[str, str]) -> None:
        mounts = " && ".join(
            f"echo {value} >/mnt/{number} && mount --bind /mnt/{number} {path}"
            for number, (path, value) in enumerate(ids.items())
        )
        self.run("sh", "-ec", f"mount -t tmpfs -o mode=755 tmpfs /mnt && {mounts} && umount --lazy /mnt")

    @property
    def netns(self) -> str:
        """The path of its network namespace."""
        return f"/run/netns/{self.space}"

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the machine."""
        return ["nsenter", f"--net={self.netns}", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command in the machine; its output."""
        return run(*self.inside(*command))

    def path(self, path: Path) -> Path:
        """A file of the machine, as this process reaches it."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def drop(self, *addresses: str) -> None:
        """Lose every packet to and from these machines, silently; those are cut off from nobody else."""
        listed = ", ".join(addresses)
        rules = f"ip daddr {{ {listed} }} drop; ip saddr {{ {listed} }} drop;"
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority -300; {rules} }}\n" for hook in ("input", "output")
        )
        run(*self.inside("nft", "-f", "-"), text=f"table inet cut {{\n{chains}}}\n")

    def undrop(self) -> None:
        """Undo `drop`."""
        self.run("nft", "delete", "table", "inet", "cut")

    def mount_small(self, directory: Path, megabytes: int = 8) -> None:
        """A file system of its own for a directory, so that it can become full."""
        directory.mkdir(parents=True, exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory))

    def fill(self, directory: Path) -> None:
        """Leave no byte free in a small file system."""
        with contextlib.suppress(OSError), (self.path(directory) / "filler").open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass

    def empty(self, directory: Path) -> None:
        """Give the space back that `fill` took."""
        (self.path(directory) / "filler").unlink(missing_ok=True)

    def write_protect(self, directory: Path) -> None:
        """Mount a directory over itself, not to be written. Whoever has a file open in it goes on writing."""
        self.run("mount", "--bind", str(directory), str(directory))
        self.run("mount", "-o", "remount,bind,ro", str(directory))

    def write_allow(self, directory: Path) -> None:
        """Undo `write_protect`."""
        self.run("umount", "--lazy", str(directory))


class Underlay:
    """The machines, joined by one bridge in a namespace of its own. `close` takes everything away."""

    def __init__(self, tag: str) -> None:
        """`tag` is letters, and tells sites of one process apart."""
        self._prefix = f"romt-{tag}{os.getpid()}"
        self._undo = ExitStack()
        self.machines: dict[str, Machine] = {}
        self.cut: set[str] = set()
        self._net = self._space("net")
        run("ip", "-n", self._net, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self._net, "link", "set", "br0", "up")

    def machine(self, name: str, number: int) -> Machine:
        """One more machine, with the address that ends in `number`."""
        machine = Machine(name, self._space(name), number)
        self._undo.callback(end, machine.holder)
        self.machines[name] = machine
        port = f"p-{name}"
        batch = f"link add {port} type veth peer name up0 netns {machine.space}\nlink set {port} master br0 up\n"
        run("ip", "-n", self._net, "-batch", "-", text=batch)
        batch = (
            f"link set lo up\nlink set up0 up\naddress add {machine.address}/24 dev up0\n"
            f"route add default via {SUBNET}.254\n"
        )
        run("ip", "-n", machine.space, "-batch", "-", text=batch)
        until = time.monotonic() + 5  # the mounts are private once the holder has become what it runs
        while Path(f"/proc/{machine.holder.pid}/comm").read_text().strip() != "sleep":
            assert time.monotonic() < until
            time.sleep(0.002)
        machine.identify()
        return machine

    def cut_off(self, *names: str) -> None:
        """Take the machines' cables out."""
        for name in names:
            run("ip", "-n", self._net, "link", "set", f"p-{name}", "down")
            self.cut.add(name)

    def join(self, *names: str) -> None:
        """Put the cables in again; all of them, when none is named."""
        for name in names or tuple(self.cut):
            run("ip", "-n", self._net, "link", "set", f"p-{name}", "up")
            self.cut.discard(name)

    def close(self) -> None:
        """Remove everything."""
        self._undo.close()

    def _space(self, name: str) -> str:
        full = f"{self._prefix}-{name}"
        run("ip", "netns", "add", full)
        self._undo.callback(run, "ip", "netns", "delete", full)
        return full


class Program:
    """A program in a machine, which can be started again after it ended."""

    def __init__(self, machine: Machine, command: Sequence[str], log: Path) -> None:
        self.machine = machine
        self.command = list(command)
        self.log_path = log
        self.environment: dict[str, str] = {}
        self.more: dict[str, str] = {}
        """Added to the environment of the next start, as long as it is set."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it."""
        assert not self.running
        command = [*MINE, *self.machine.inside(*self.command)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, **self.more},
            )

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """While it does nothing, as a machine whose disk is copied in one moment."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self, number: int = signal.SIGKILL) -> int:
        """End it with a signal, and wait; its status."""
        assert self.process is not None
        return end(self.process, number)

    def wait(self) -> int:
        """Wait until it ends by itself, at most 20 s; its status."""
        assert self.process is not None
        return self.process.wait(20)

    def log(self) -> str:
        """The last of what it said."""
        return self.log_path.read_text(errors="replace")[-4000:] if self.log_path.exists() else ""


def end(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
    """End a process of ours and wait for it, at most 20 s."""
    if process.poll() is None:
        process.send_signal(number)
    return process.wait(20)


def copy_tree(source: Path, target: Path) -> None:
    """A copy of a directory's plain files, as they are now."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, target / file.name)
