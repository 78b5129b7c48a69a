"""FRR's daemons in a network namespace, without systemd: their files are in a directory of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("zebra", "staticd", "bgpd", "ospfd", "ospf6d", "bfdd")
PROGRAMS = Path("/usr/lib/frr")


class Frr:
    """The daemons that run in the namespace of the thread that started them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, text: str) -> str:
        """Load a configuration as a person does; what the daemons say about it."""
        file = self.directory / "frr.conf"
        file.write_text(text)
        ran = self._vtysh("-f", str(file))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def ask(self, command: str) -> str:
        """What `vtysh -c` prints."""
        return self._vtysh("-c", command).stdout

    def _vtysh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["vtysh", "--vty_socket", str(self.directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@contextmanager
def frr(directory: Path) -> Iterator[Frr]:
    """All daemons, in the caller's network namespace; their directory becomes FRR's user's."""
    assert (PROGRAMS / "zebra").exists(), "FRR is not installed; `make setup` installs it"
    directory.mkdir(parents=True, exist_ok=True)
    for path in (directory, *directory.parents[:3]):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o711)
    shutil.chown(directory, "frr", "frr")
    started: list[Path] = []
    try:
        for name in DAEMONS:
            pid = directory / f"{name}.pid"
            common = ["-d", "-i", str(pid), "--vty_socket", str(directory), "--log", f"file:{directory}/{name}.log"]
            socket = ["-z", str(directory / "zserv.api")]
            extra = {"zebra": ["-A", "127.0.0.1"], "bfdd": ["--bfdctl", str(directory / "bfdd.sock")]}.get(name, [])
            subprocess.run([PROGRAMS / name, *common, *socket, *extra], check=True, capture_output=True)
            started.append(pid)
        deadline = time.monotonic() + 10
        while not all((directory / f"{name}.vty").exists() for name in DAEMONS):
            assert time.monotonic() < deadline, "FRR does not start"
            time.sleep(0.02)
        yield Frr(directory)
    finally:
        pids = [int(path.read_text()) for path in started if path.exists()]
        for one in pids:
            os.kill(one, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{one}").exists() for one in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        for one in pids:
            if Path(f"/proc/{one}").exists():
                os.kill(one, signal.SIGKILL)
