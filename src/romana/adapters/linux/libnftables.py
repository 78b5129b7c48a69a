"""libnftables in this process: text in, text out.

Owns the foreign function calls and the lock around them (a context is used by one thread at a time; the call itself
lets other Python threads run); knows nothing of what the text means.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from pathlib import Path

from romana.model.errors import Unavailable

LIBRARY = "libnftables.so.1"

NUMERIC_ALL = 0b1111 << 7
"""NFT_CTX_OUTPUT_NUMERIC_{PROTO,PRIO,SYMBOL,TIME} of nftables/libnftables.h: no name that a file of the host gives."""

_NETLINK_NETFILTER = 12


class LibnftablesError(Exception):
    """libnftables or the kernel refused; the text is libnftables' own."""


class Libnftables:
    """One context, for the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise Unavailable(f"{LIBRARY} cannot be loaded ({error}); install nftables") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            function = getattr(library, name)
            function.restype = ctypes.c_char_p
            function.argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        self._library = library
        self._lock = threading.Lock()
        before = set(_netlink_sockets())
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise Unavailable("libnftables has no context: out of memory, or no netlink socket")
        self._sockets = [
            socket.socket(fileno=os.dup(descriptor))
            for name, descriptor in _netlink_sockets().items()
            if name not in before
        ]
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, NUMERIC_ALL)

    def run(self, text: str) -> str:
        """Run commands as one transaction and answer what they print; LibnftablesError when nothing was done."""
        with self._lock:
            if not self._context:
                raise LibnftablesError("the context is closed")
            status = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
            output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
            error: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if status:
            raise LibnftablesError(error.decode(errors="replace").strip() or "no reason given")
        return output.decode()

    @property
    def ports(self) -> frozenset[int]:
        """The netlink ports its messages come from once it has run: our own changes are told from others by them."""
        return frozenset(int(copy.getsockname()[0]) for copy in self._sockets)

    def close(self) -> None:
        """Free the context; what follows fails."""
        with self._lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
            self._context = None
            for copy in self._sockets:
                copy.close()
            self._sockets = []


def _netlink_sockets() -> dict[str, int]:
    """The descriptors of this process' own sockets of the netfilter subsystem, by the kernel's name for the socket."""
    descriptors = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            name = str(entry.readlink())
            if not name.startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with copy:
            if copy.family == socket.AF_NETLINK and copy.proto == _NETLINK_NETFILTER:
                descriptors[name] = int(entry.name)
    return descriptors
