"""Network namespaces for the length of a test, and the calling thread inside one of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from romana.adapters.linux.netns import inside, opened


@contextmanager
def spaces(*names: str, tag: str = "e") -> Iterator[dict[str, str]]:
    """New namespaces: short name -> path. They are removed at the end, whatever happens."""
    with ExitStack() as undo:
        paths = {}
        for name in names:
            full = f"romt-{tag}{os.getpid()}-{name}"
            subprocess.run(["ip", "netns", "add", full], check=True)
            undo.callback(subprocess.run, ["ip", "netns", "delete", full], check=True)
            paths[name] = f"/run/netns/{full}"
        yield paths


@contextmanager
def within(path: str) -> Iterator[None]:
    """This thread, and the programs it starts, are in the namespace at `path`."""
    with opened(path) as descriptor, inside(descriptor):
        yield


def shell(command: str) -> str:
    """Standard output of a shell command that must succeed, in the namespace where the caller is."""
    return subprocess.run(["sh", "-ec", command], check=True, capture_output=True, text=True).stdout
