"""Network namespaces by path: opening them, and doing something inside one.

Invariant: a thread that went into a namespace is back in its own when the `with` block ends, or the process ends.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from romana.model.errors import NotFound, RomanaError

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the network namespace at `path`; NotFound when there is none or it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESRCH):
            raise RomanaError(f"network namespace {path!r} cannot be opened: {error.strerror}") from error
        raise NotFound(f"network namespace {path!r} does not exist") from error
    try:
        try:
            kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != _CLONE_NEWNET:
            raise NotFound(f"{path!r} is not a network namespace, or not one any more")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread, and it alone, is in the namespace of `descriptor` for the length of the block.

    Nothing in the block may start a thread or wait for one.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
        try:
            yield
        finally:
            try:
                _enter(home)
            except RomanaError as error:
                # Whatever this thread did next would be done to a workload's namespace.
                sys.stderr.write(f"romana: cannot leave a workload's network namespace: {error}\n")
                os.abort()
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise RomanaError(f"entering a network namespace: {os.strerror(code)}")
