"""BIRD 2 on this device: our file in its configuration, `configure`, and what it says of its neighbours.

Owns the file and a small client of the control socket. Refuses to know the rest of bird.conf, which is the machine's
own and includes our file. Invariants: after `announce` returns BIRD runs with the file; after it raises because BIRD
refused, the old file is back; a file with passwords can be read by its directory's group alone.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from romana.adapters.bird_forms import Form, Prefixes
from romana.adapters.files import replace_file
from romana.codec.bird import STATICS, ControlReply, cleared_text, read_routes
from romana.codec.bird_status import (
    ESTABLISHED,
    OLDEST,
    link_states,
    read_bfd,
    read_neighbors,
    read_protocols,
    session_states,
    version_of,
)
from romana.model.address import Prefix
from romana.model.daemon import DaemonState, SessionState
from romana.model.errors import Unavailable
from romana.model.speaker import DaemonPlan, Speaker

TIMEOUT = 10.0
"""Seconds that BIRD may take for one command."""
_MD5 = ("TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure")


class Bird:
    """ports.RouteDaemon for a BIRD whose configuration includes the file at `include`."""

    def __init__(
        self,
        include: Path,
        control: Path,
        *,
        form: Form | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """`form` decides what is in our file; by default the prefixes alone."""
        self._include = include
        self._control = control
        self._form = form or Prefixes()
        self._timeout = timeout
        self._taken: bytes | None = None  # what BIRD is known to run with
        self._md5_before = 0

    def read(self) -> frozenset[Prefix] | None:
        """The prefixes in our file; None when there is none, or it is not as we write it."""
        try:
            return self._form.read(self._include.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def originated(self) -> frozenset[Prefix] | None:
        """What BIRD has from our static protocols; None when it does not know them, so that its configuration does not
        include our file. Of a template, whose protocols are its own, what it was filled in with.

        Unavailable when BIRD does not answer.
        """
        if not self._form.has_statics:
            return self.read()
        found: set[Prefix] = set()
        for name in STATICS:
            reply = self._command(f"show route protocol {name}")
            if reply.is_error:
                return None
            found |= read_routes(reply.lines)
        return frozenset(found)

    def announce(self, prefixes: Collection[Prefix], plan: DaemonPlan | None = None, *, keep: bool = False) -> None:
        """Write the file and have BIRD take it in; nothing when BIRD runs with it already. To `keep` it, a file that
        has all of these prefixes already is taken in as it is.

        Unavailable when BIRD refuses it or is too old (then the old file is back), or when no BIRD answers (then the
        new file stays, for BIRD's next start), or when the file cannot be made.
        """
        before = self._include.read_bytes() if self._include.exists() else None
        if keep and before is not None and (self.read() or frozenset()) >= frozenset(prefixes):
            text = before
        else:
            text = self._form.write(prefixes, plan or DaemonPlan()).encode()
        if not before == text == self._taken:
            self._replace(before, text)

    def is_stale(self) -> bool:
        """Whether a file that ours was made of changed since it was made; true no more after `announce`."""
        return self._form.is_stale()

    def withdraw(self) -> bool:
        """Take everything of ours out of our file for good and have BIRD take that in; whether there was anything.

        The file stays, because bird.conf names it. Unavailable as `announce`.
        """
        if not self._include.exists():
            return False
        before = self._include.read_bytes()
        text = cleared_text(before.decode(errors="replace") if self._form.has_statics else "").encode()
        self._replace(before, text)
        return before != text

    def _replace(self, before: bytes | None, text: bytes) -> None:
        self._taken = None
        self._put(text)
        try:
            reply = self._command("configure")
        except _OldError:
            self._restore(before)
            raise
        if reply.is_error:
            self._restore(before)
            raise Unavailable(f"BIRD refuses {self._include}: {_shown(reply.words)}")
        self._taken = text

    def up(self) -> frozenset[str]:
        """The names of the BGP sessions that are up; Unavailable when BIRD does not answer."""
        protocols = read_protocols(self._command("show protocols").lines)
        return frozenset(one.name for one in protocols if one.kind == "BGP" and one.info.startswith(ESTABLISHED))

    def state(self, speaker: Speaker | None = None) -> DaemonState:
        """BIRD's version, and all that it speaks to; Unavailable when it does not answer."""
        status = self._command("show status")
        protocols = read_protocols(self._command("show protocols all").lines)
        failures, before = md5_failures(), self._md5_before
        self._md5_before = failures
        sessions: list[SessionState] = session_states(speaker, protocols, md5_failures=max(0, failures - before))
        links = speaker.ospf.links if speaker is not None and speaker.ospf is not None else ()
        for one in protocols:
            if one.kind == "OSPF" and (links or speaker is None):
                neighbors = read_neighbors(self._command(f"show ospf neighbors {one.name}").lines)
                sessions += link_states(links, one.name, neighbors)
            elif one.kind == "BFD":
                sessions += read_bfd(self._command("show bfd sessions").lines)
        version = next((line for line in status.lines if line.startswith("BIRD ")), "BIRD")
        return DaemonState(daemon=version, sessions=tuple(sessions))

    def _restore(self, content: bytes | None) -> None:
        if content is None:
            self._include.unlink(missing_ok=True)
        else:
            self._put(content)

    def _put(self, content: bytes) -> None:
        self._include.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._include, content, mode=0o640, group=self._include.parent.stat().st_gid)

    def _connected(self) -> _Connection:
        return _Connection(self._control, self._timeout)

    def _command(self, words: str) -> ControlReply:
        try:
            with self._connected() as (send, answers):
                greeting = _reply(answers).words
                version = version_of(greeting)
                if version is not None and version < OLDEST:
                    wanted = ".".join(map(str, OLDEST))
                    raise _OldError(
                        f"{greeting} on {self._control}, and romana needs BIRD {wanted} or later; install bird2"
                    )
                send(words.encode() + b"\n")
                return _reply(answers)
        except OSError as error:
            raise Unavailable(
                f"BIRD does not answer on {self._control}: {error}; is bird2 installed, and is it running?"
            ) from error


class _OldError(Unavailable):
    """A BIRD that does not understand what we write."""


class _Connection:
    """The control socket, as long as the context lasts."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)

    def __enter__(self) -> tuple[Callable[[bytes], None], Callable[[], bytes]]:
        try:
            self._socket.connect(str(self._path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")
        return self._socket.sendall, self._file.readline

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()


def _reply(readline: Callable[[], bytes]) -> ControlReply:
    reply = ControlReply()
    while True:
        line = readline()
        if not line:
            raise ConnectionError("the connection ended in the middle of an answer")
        if reply.feed(line.rstrip(b"\n")):
            return reply


def _shown(words: str) -> str:
    """BIRD's words without what a line of the file may quote of a password."""
    return re.sub(r'"[^"]*"', '"..."', words)


def md5_failures() -> int:
    """TCP segments with a wrong, missing or unexpected MD5 signature that this network namespace dropped so far."""
    try:
        lines = Path("/proc/self/net/netstat").read_text().splitlines()
    except OSError:
        return 0
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            counts = dict(zip(names.split(), values.split(), strict=False))
            return sum(int(counts.get(name, 0)) for name in _MD5)
    return 0
