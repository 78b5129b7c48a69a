"""What is in our file of BIRD's configuration: prefixes, all that the plan says, or what a template makes of them.

Owns reading what only this device has: password files, templates, neighbours' link-local addresses. Refuses to talk to
BIRD. Invariant: what is written is read back as the same prefixes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

import structlog

from romana.codec.bird import include_text, read_include
from romana.codec.bird_router import Local, check_password, render
from romana.codec.bird_v1 import as_bird2
from romana.codec.go_template import render as fill_in
from romana.codec.text import parse_prefix
from romana.model.address import Address, Prefix
from romana.model.errors import Invalid, RomanaError, Unavailable
from romana.model.speaker import DaemonPlan, Speaker

log = structlog.get_logger()
KNOWN_SECONDS, UNKNOWN_SECONDS = 20.0, 2.0
"""How long a neighbour that was found on an interface, or not, is not asked for again."""
_INCLUDE = re.compile(r'^[ \t]*include\s+"conf\.d/\*\.conf"\s*;[ \t]*$', re.MULTILINE)
_ANNOUNCED = "# romana announces "
_Stamp = tuple[int, ...] | None


class Form(Protocol):
    """Makes the text of our file, and reads it. One that `has_statics` has the prefixes in our static protocols."""

    has_statics: bool

    def write(self, prefixes: Collection[Prefix], plan: DaemonPlan) -> str:
        """The text; Unavailable or Invalid, with a sentence, when there is none."""

    def read(self, text: str) -> frozenset[Prefix]:
        """The prefixes of a text; ValueError when it is not of this form."""

    def is_stale(self) -> bool:
        """Whether a password file that the last text needed changed since, also where it could not be made of them."""


class Prefixes:
    """The prefixes alone; the rest of the configuration is people's."""

    has_statics = True

    def write(self, prefixes: Collection[Prefix], plan: DaemonPlan) -> str:  # noqa: ARG002 - it is people's
        """The text."""
        return include_text(prefixes)

    def read(self, text: str) -> frozenset[Prefix]:
        """The prefixes."""
        return read_include(text)

    def is_stale(self) -> bool:
        """Never: it needs no files."""
        return False


class Everything:
    """Everything that the plan says of the device (`codec.bird_router`), with what only the device knows."""

    has_statics = True

    def __init__(self, discover: Callable[[str], Address]) -> None:
        """`discover` answers the link-local address of the router on an interface; Unavailable with a sentence."""
        self._discover = discover
        self._found: dict[str, Address] = {}
        self._asked: dict[str, float] = {}
        self._stamps: dict[str, _Stamp] = {}

    def write(self, prefixes: Collection[Prefix], plan: DaemonPlan) -> str:
        """The text; Unavailable for a password file that cannot be used. A neighbour that does not answer is left out
        until it does.
        """
        speaker = plan.speaker
        if speaker is None:
            self._stamps = {}
            return include_text(prefixes)
        self._stamps = {
            path: _stamp(path) for path in speaker.password_files
        }  # before they are read: no change is missed
        neighbors = {one: found for one in speaker.learned_interfaces if (found := self._neighbor(one)) is not None}
        return render(speaker, prefixes, Local(neighbors=neighbors, passwords=passwords(speaker)))

    def _neighbor(self, interface: str) -> Address | None:
        """Who was found there lately; who did not answer is asked again sooner."""
        now = time.monotonic()
        patience = KNOWN_SECONDS if interface in self._found else UNKNOWN_SECONDS
        if now - self._asked.get(interface, -KNOWN_SECONDS) >= patience:
            self._asked[interface] = now
            try:
                self._found[interface] = self._discover(interface)
            except RomanaError as error:
                log.warning("no neighbour on an interface", interface=interface, error=str(error))
        return self._found.get(interface)

    def read(self, text: str) -> frozenset[Prefix]:
        """The prefixes."""
        return read_include(text)

    def is_stale(self) -> bool:
        """Whether a password file is another one, or was written or removed."""
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())


class Template:
    """What a directory of Romana v2's templates makes of the prefixes, in BIRD 2's words.

    For each name the file `<name>.<address of the host>` goes before `<name>.<address of its network>`, and that before
    `<name>`. `bird.conf.t` is all of it; otherwise `publisher.conf` is the template, which takes the place of the line
    that includes `conf.d/*.conf` in `bird.conf`.
    """

    has_statics = False

    def __init__(self, directory: Path, asn: int, addresses: Callable[[], Iterable[tuple[Address, Prefix]]]) -> None:
        """`addresses` answers the host's own addresses with their networks."""
        self._directory = directory
        self._asn = asn
        self._addresses = addresses

    def write(self, prefixes: Collection[Prefix], plan: DaemonPlan) -> str:
        """The text; Unavailable with the template's name for one that cannot be read or filled in."""
        ordered = sorted(prefixes)
        data: dict[str, Any] = {
            "Networks": [_cidr(one) for one in ordered if one.family == 4],
            "Networks6": [_cidr(one) for one in ordered if one.family == 6],
            "LocalAS": self._asn,
            "NeighborIP": "",
            "NeighborAS": "",
            "Args": {"HostGroups": {name: {"CIDR": _cidr(cidr)} for name, cidr in plan.groups.items()}},
        }
        whole = self._best("bird.conf.t")
        if whole is not None:
            text = _filled(whole, data)
        else:
            part = self._best("publisher.conf")
            if part is None:
                raise Unavailable(f"{self._directory} has neither bird.conf.t nor publisher.conf")
            text, static = _filled(part, data), self._best("bird.conf")
            if static is not None:
                text = _INCLUDE.sub(lambda _: text, _read(static))
        head = "".join(f"{_ANNOUNCED}{_cidr(one)}\n" for one in ordered)
        return head + as_bird2(text)

    def read(self, text: str) -> frozenset[Prefix]:
        """The prefixes that the template was filled in with."""
        return frozenset(
            parse_prefix(line.removeprefix(_ANNOUNCED)) for line in text.splitlines() if line.startswith(_ANNOUNCED)
        )

    def is_stale(self) -> bool:
        """Never: a template is read when there is something to fill in."""
        return False

    def _best(self, name: str) -> Path | None:
        found = list(self._addresses())
        endings = [f".{own.text}" for own, _ in found] + [f".{network.text}" for _, network in found] + [""]
        return next((path for end in endings if (path := self._directory / f"{name}{end}").is_file()), None)


def _stamp(path: str) -> _Stamp:
    """What is another one after a file was written or replaced, also with an old time; None for no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _filled(path: Path, data: dict[str, Any]) -> str:
    try:
        return fill_in(_read(path), data)
    except Invalid as error:
        raise Unavailable(f"template {path}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"template {path} cannot be read: {error}") from error


def _cidr(prefix: Prefix) -> str:
    return f"{prefix.text}/{prefix.length}"


def passwords(speaker: Speaker) -> dict[str, str]:
    """The content of a device's password files, by path; Unavailable with the path for one that cannot be used."""
    found = {}
    for path in speaker.password_files:
        try:
            found[path] = check_password(Path(path).read_text().strip("\n"), path)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Unavailable(f"the password file {path} cannot be read: {why}") from None
        except Invalid as error:
            raise Unavailable(f"the password file cannot be used: {error}") from None
    return found
