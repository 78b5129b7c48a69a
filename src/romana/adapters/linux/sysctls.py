"""The sysctls that are ours: forwarding on a host, and what `links` sets on its own interfaces.

They are those of the network namespace in which the calling thread is. Invariant: a value that is already right is not
written, because some writes (forwarding) walk over every interface.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from romana.model.errors import NotFound, RomanaError

_ROOT = "/proc/sys"
_OURS = "rom"


def read_sysctl(name: str) -> str:
    """The value of a sysctl such as `net/ipv4/ip_forward`; NotFound when the kernel has none of that name."""
    try:
        with open(f"{_ROOT}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 - on the way of every new link
            return file.read().decode().strip()
    except FileNotFoundError as error:
        raise NotFound(f"the kernel has no sysctl {name}") from error
    except OSError as error:
        raise RomanaError(f"reading sysctl {name}: {error.strerror}") from error


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl; NotFound when the kernel has none of that name."""
    try:
        descriptor = os.open(f"{_ROOT}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise NotFound(f"the kernel has no sysctl {name}") from error
        raise RomanaError(f"setting sysctl {name} to {value}: {error.strerror}") from error


def prepare_host() -> dict[str, str]:
    """Let the host forward, and answer what was changed: sysctl -> the value before.

    An interface that accepts router advertisements (accept_ra=1) would stop doing so when the host forwards, and lose
    its default route; it gets 2, which goes on accepting. The kernel sends redirects where either an interface or
    `all` says so; with `all` at 0 the interface's own value counts, which is 0 on our links and unchanged elsewhere.
    """
    wanted = {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/send_redirects": "0",
    }
    configurations = Path(_ROOT, "net/ipv6/conf")
    if configurations.is_dir():
        for interface in sorted(path.name for path in configurations.iterdir()):
            name = f"net/ipv6/conf/{interface}/accept_ra"
            if (
                interface not in {"lo", "all", "default"}
                and not interface.startswith(_OURS)
                and read_sysctl(name) == "1"
            ):
                wanted[name] = "2"
        wanted["net/ipv6/conf/all/forwarding"] = "1"
    changed = {}
    for name, value in wanted.items():
        before = read_sysctl(name)
        if before != value:
            write_sysctl(name, value)
            changed[name] = before
    return changed
