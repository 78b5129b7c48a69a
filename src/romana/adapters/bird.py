"""BIRD 2 on this host: our include file, and `configure` over its control socket.

Owns the include file and a small client of the control socket. Refuses to know bird.conf, which is the host's own and
includes our file. Invariant: after `announce` returns BIRD runs with the file; after it raises because BIRD refused,
the old file is back.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from pathlib import Path

from romana.adapters.files import replace_file
from romana.codec.bird import ControlReply, include_text, read_include
from romana.model.address import Prefix
from romana.model.errors import Unavailable

TIMEOUT = 10.0
"""Seconds that BIRD may take for one command."""


class Bird:
    """ports.RouteDaemon for a BIRD whose configuration includes the file at `include`."""

    def __init__(self, include: Path, control: Path, *, timeout: float = TIMEOUT) -> None:
        self._include = include
        self._control = control
        self._timeout = timeout

    def read(self) -> frozenset[Prefix] | None:
        """The prefixes in our file; None when there is none, or it is not as we write it."""
        try:
            return read_include(self._include.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def announce(self, prefixes: Collection[Prefix]) -> None:
        """Write the file and have BIRD take it in.

        Unavailable when BIRD refuses it (then the old file is back), or when no BIRD answers (then the new file stays,
        for BIRD's next start).
        """
        before = self._include.read_bytes() if self._include.exists() else None
        replace_file(self._include, include_text(prefixes).encode())
        try:
            reply = self._command("configure")
        except OSError as error:
            raise Unavailable(f"BIRD does not answer on {self._control}: {error}; is it running?") from error
        if reply.is_error:
            self._restore(before)
            raise Unavailable(f"BIRD refuses {self._include}: {reply.words}")

    def withdraw(self) -> bool:
        """Empty our file for good and have BIRD take that in; whether there was one.

        The file stays, empty, because bird.conf names it.
        """
        if not self._include.exists():
            return False
        self.announce(())
        return True

    def _restore(self, content: bytes | None) -> None:
        if content is None:
            self._include.unlink(missing_ok=True)
        else:
            replace_file(self._include, content)

    def _command(self, words: str) -> ControlReply:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(self._timeout)
            control.connect(str(self._control))
            with control.makefile("rb") as answers:
                _reply(answers.readline)  # the greeting
                control.sendall(words.encode() + b"\n")
                return _reply(answers.readline)


def _reply(readline: Callable[[], bytes]) -> ControlReply:
    reply = ControlReply()
    while True:
        line = readline()
        if not line:
            raise ConnectionError("the connection ended in the middle of an answer")
        if reply.feed(line.rstrip(b"\n")):
            return reply
