"""What BIRD 2 says of its neighbours, read and put in words.

Owns the forms of `show protocols all`, `show ospf neighbors` and `show bfd sessions` (BIRD 2.0.12), and the sentence
for each thing that keeps a session down. Refuses to ask. Invariant: a session that the device should have and that
BIRD does not know is in the answer, as one that is down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from romana.model.daemon import SessionState
from romana.model.speaker import OspfLink, Session, Speaker

OLDEST = (2, 0, 8)
"""The first BIRD 2 that takes what we write."""
ESTABLISHED = "Established"
"""What BGP says of a session that is up."""
_VERSION = re.compile(r"BIRD (?:v)?(\d+)\.(\d+)(?:\.(\d+))?")
_DETAIL = re.compile(r"(BGP state|Neighbor address|Neighbor AS|Last error|BGP Next hop): +(.*)")


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol of BIRD: its name, kind (BGP, OSPF ...), and what it says of itself."""

    name: str
    kind: str
    state: str
    info: str
    details: dict[str, str] = {}


def version_of(greeting: str) -> tuple[int, int, int] | None:
    """The version in BIRD's greeting, or None."""
    found = _VERSION.search(greeting)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def read_protocols(lines: Iterable[str]) -> list[Protocol]:
    """What `show protocols all` lists."""
    found: list[Protocol] = []
    for line in lines:
        detail = _DETAIL.match(line.strip())
        if detail is not None and found:
            found[-1].details[detail[1]] = detail[2].strip()
            continue
        words = line.split(None, 5)
        if len(words) >= 5 and words[3] in ("up", "start", "down", "stop", "flush"):
            info = words[5] if len(words) > 5 else ""
            found.append(Protocol(name=words[0], kind=words[1], state=words[3], info=info.strip(), details={}))
    return found


def read_neighbors(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What `show ospf neighbors` lists: interface -> state and address."""
    found = {}
    for line in lines:
        words = line.split()
        if len(words) == 6 and words[1].isdigit():
            found[words[4]] = (words[2], words[5])
    return found


def read_bfd(lines: Iterable[str]) -> Iterator[SessionState]:
    """What `show bfd sessions` lists."""
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[2] in ("Up", "Down", "Init", "AdminDown"):
            up = words[2] == "Up"
            why = "" if up else f"BFD gets no answer from {words[0]} on {words[1]}"
            name = f"bfd {words[0]}"
            yield SessionState(name=name, protocol="bfd", up=up, state=words[2], address=words[0], sentence=why)


def session_states(
    speaker: Speaker | None, protocols: Sequence[Protocol], *, md5_failures: int = 0
) -> list[SessionState]:
    """The BGP sessions of a device; all that BIRD has where nobody says which there should be.

    `md5_failures` is how many TCP segments with a wrong or missing MD5 signature came in lately.
    """
    known = {one.name: one for one in protocols if one.kind == "BGP"}
    if speaker is None:
        return [_of_protocol(one, None, md5_failures) for one in known.values()]
    found = []
    for session in speaker.sessions:
        if session.listen is not None:
            found += [
                _of_protocol(one, session, md5_failures)
                for name, one in known.items()
                if name.startswith(f"{session.name}_")
            ]
        elif session.name in known:
            found.append(_of_protocol(known[session.name], session, md5_failures))
        else:
            found.append(_missing(session))
    return found


def link_states(
    links: Iterable[OspfLink], protocol: str, neighbors: Mapping[str, tuple[str, str]]
) -> list[SessionState]:
    """The OSPF neighbours of a device, one for each link."""
    found = []
    for link in links:
        state, address = neighbors.get(link.interface, ("none", ""))
        up = state.startswith("Full")
        why = "" if up else _ospf_words(link, state)
        found.append(
            SessionState(
                name=f"{protocol} {link.interface}",
                protocol="ospf",
                up=up,
                state=state,
                neighbor=link.neighbor,
                address=address,
                sentence=why,
            )
        )
    return found


def _ospf_words(link: OspfLink, state: str) -> str:
    if state == "none":
        key = link.options.password_file
        same = f"the area ({link.area}), the times and the password" if key else f"the area ({link.area}) and the times"
        where = f"nothing is heard of {link.neighbor} on {link.interface}"
        return f"{where}: is the link up, is its daemon running, and are {same} the same at both ends?"
    found = f"{link.neighbor} on {link.interface} is at {state} and not Full yet"
    if state.startswith(("Init", "2-Way")):
        return f"{found}: it starts, or does not hear this device"
    return f"{found}; a smaller MTU at one end keeps it there"


def _missing(session: Session) -> SessionState:
    if session.remote is None:
        why = f"no router answers on {session.interface} by a link-local address; is the link up, and its router there?"
    else:
        why = "BIRD does not have this session; the agent writes it in its next round"
    return SessionState(
        name=session.name, protocol="bgp", up=False, state="absent", neighbor=session.neighbor, sentence=why
    )


def _of_protocol(protocol: Protocol, session: Session | None, md5_failures: int) -> SessionState:
    up = protocol.info.startswith(ESTABLISHED)
    state = protocol.details.get("BGP state") or protocol.info.partition(" ")[0] or protocol.state
    error = "" if up else protocol.details.get("Last error") or protocol.info.partition(" ")[2].strip()
    return SessionState(
        name=protocol.name,
        protocol="bgp",
        up=up,
        state=state,
        neighbor=session.neighbor if session is not None else "",
        address=protocol.details.get("Neighbor address", ""),
        sentence="" if up else _words(protocol, session, error, md5_failures),
    )


def _words(protocol: Protocol, session: Session | None, error: str, md5_failures: int) -> str:
    """Why a session is not established, and what to do."""
    address = protocol.details.get("Neighbor address", "the neighbour")
    asn = protocol.details.get("Neighbor AS", "another")
    secret = session is not None and bool(session.options.password_file)
    said = error.lower()
    if "bad peer as" in said:
        return f"the AS numbers differ: here {address} is said to be AS {asn}; compare both ends ({error})"
    if "connection refused" in said:
        return f"{address} refuses the connection: is its daemon running, and does it have this device as neighbour?"
    if secret and (not said or "timed out" in said):
        seen = f"; {md5_failures} segments with a wrong or missing key came in" if md5_failures else ""
        return f"{address} does not answer, which is how a wrong password looks{seen}; compare the keys of both ends"
    if md5_failures and not said:
        return f"{address} does not answer, and segments signed with a key came in: it may want a password"
    if "neighbor lost" in said or "no route" in said or "unreachable" in said or "link down" in said:
        return f"the link to {address} is down, or its address is not there ({error})"
    if "hold timer" in said:
        return f"{address} was silent for longer than the hold time ({error})"
    if "cease" in said or "administrative" in said:
        return f"{address} ended the session ({error})"
    return f"{address} does not answer{f' ({error})' if error else ''}"
