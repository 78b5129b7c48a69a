from __future__ import annotations

import pytest

from romana.apps.lab.file import FabricKind
from romana.codec.bird_status import link_states, read_bfd, read_neighbors, read_protocols, session_states, version_of
from romana.core.routing.speakers import speaker
from romana.model.address import Address
from romana.model.fabric import Protocol, SessionOptions
from romana.model.speaker import Relation, Session, Speaker
from tests.unit.core.routing.fabrics import fabric

SHOWN = """\
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     14:29:23.475
aggregates4 Static     master4    up     14:29:23.475
  Channel ipv4
    State:          UP
up_s1_4    BGP        ---        {state}  14:29:28.489  {info}
  BGP state:          {bgp}
    Neighbor address: 192.0.2.1
    Neighbor AS:      65001
    Local AS:         65000
{error}  Channel ipv4
    State:          DOWN
ospf4      OSPF       master4    up     14:29:23.475  Running
"""
NEIGHBORS = """\
ospf4:
Router ID   \tPri\t     State     \tDTime\tInterface  Router IP
192.0.2.1   \t  1\tFull/PtP  \t 2.004\tva         192.0.2.1
192.0.2.9   \t  1\tExStart/PtP\t 2.004\tvb         192.0.2.9
"""
BFD = """\
bfd1:
IP address                Interface  State      Since         Interval  Timeout
192.0.2.1                 va         Down       14:29:27.728    1.000    0.000
192.0.2.3                 vb         Up         14:29:27.728    0.100    0.300
"""


def device(*sessions: Session) -> Speaker:
    found = speaker(fabric(FabricKind.EBGP, 1, [(1, 1)]), "r1a")
    assert found is not None
    return Speaker(
        name="r1a", is_host=False, protocol=Protocol.EBGP, asn=65000, router_id=found.router_id, sessions=sessions
    )


def session(**options: object) -> Session:
    found = speaker(fabric(FabricKind.EBGP, 1, [(1, 1)]), "r1a")
    assert found is not None
    up = next(one for one in found.sessions if one.relation is Relation.ABOVE)
    return Session(
        name="up_s1_4",
        neighbor="s1",
        relation=up.relation,
        asn=65001,
        families=up.families,
        local=up.local,
        remote=up.remote,
        options=SessionOptions(**options),  # type: ignore[arg-type]
    )


def words(error: str = "", *, bgp: str = "Connect", md5: int = 0, **options: object) -> str:
    text = SHOWN.format(
        state="start", info=f"{bgp}       {error}", bgp=bgp, error=f"    Last error:       {error}\n" if error else ""
    )
    (found,) = session_states(device(session(**options)), read_protocols(text.splitlines()), md5_failures=md5)
    assert (found.up, found.state, found.neighbor, found.address) == (False, bgp, "s1", "192.0.2.1")
    return found.sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("BGP Error: Bad peer AS", "the AS numbers differ: here 192.0.2.1 is said to be AS 65001; compare both ends"),
        ("Received: Bad peer AS", "the AS numbers differ"),
        ("Socket: Connection refused", "refuses the connection: is its daemon running"),
        ("Socket: No route to host", "the link to 192.0.2.1 is down"),
        ("Error: Neighbor lost", "the link to 192.0.2.1 is down"),
        ("Error: Hold timer expired", "was silent for longer than the hold time"),
        ("Received: Administrative shutdown", "ended the session"),
        ("", "192.0.2.1 does not answer"),
    ],
)
def test_why_a_session_is_down(error: str, sentence: str) -> None:
    assert sentence in words(error)


def test_what_looks_like_a_wrong_password_is_called_one() -> None:
    assert "which is how a wrong password looks" in words(password_file="/x")
    assert "; 6 segments with a wrong or missing key came in" in words(password_file="/x", md5=6)
    assert "it may want a password" in words(md5=6)


def test_a_session_that_is_up_needs_no_words() -> None:
    text = SHOWN.format(state="up  ", info="Established", bgp="Established", error="")
    (found,) = session_states(device(session()), read_protocols(text.splitlines()))
    assert (found.up, found.state, found.sentence) == (True, "Established", "")


def test_what_bird_does_not_have_is_missing() -> None:
    plain = session()
    lone = Session(name="up_x", neighbor="x", relation=plain.relation, asn=1, families=plain.families, interface="eth1")
    found = session_states(device(plain, lone), [])
    assert [(one.state, one.up) for one in found] == [("absent", False)] * 2
    assert "the agent writes it" in found[0].sentence
    assert "no router answers on eth1" in found[1].sentence


def test_without_a_plan_all_of_birds_sessions_are_told() -> None:
    text = SHOWN.format(state="up  ", info="Established", bgp="Established", error="")
    assert [one.name for one in session_states(None, read_protocols(text.splitlines()))] == ["up_s1_4"]


def test_ospf_neighbours_by_link() -> None:
    found = speaker(fabric(FabricKind.OSPF, 1, [(1, 2)]), "r1a")
    assert found is not None
    assert found.ospf is not None
    neighbors = read_neighbors(NEIGHBORS.replace("va ", "to-s1 ").replace("vb ", "to-h11 ").splitlines())
    states = {one.neighbor: one for one in link_states(found.ospf.links, "ospf4", neighbors)}
    assert (states["s1"].up, states["s1"].address) == (True, "192.0.2.1")
    assert "is at ExStart/PtP and not Full yet; a smaller MTU" in states["h11"].sentence
    assert states["h12"].sentence == (
        "nothing is heard of h12 on to-h12: is the link up, is its daemon running, and are the area (1) and the times "
        "the same at both ends?"
    )
    (link, *_) = found.ospf.links
    (early,) = link_states([link], "ospf4", {link.interface: ("Init/PtP", "192.0.2.1")})
    assert early.sentence == "s1 on to-s1 is at Init/PtP and not Full yet: it starts, or does not hear this device"


def test_bfd_sessions() -> None:
    found = list(read_bfd(BFD.splitlines()))
    assert [(one.address, one.up) for one in found] == [("192.0.2.1", False), ("192.0.2.3", True)]
    assert "BFD gets no answer" in found[0].sentence


@pytest.mark.parametrize(
    ("greeting", "version"),
    [
        ("BIRD 2.0.12 ready.", (2, 0, 12)),
        ("BIRD 1.6.8 ready.", (1, 6, 8)),
        ("BIRD v2.15 ready", (2, 15, 0)),
        ("x", None),
    ],
)
def test_versions(greeting: str, version: object) -> None:
    assert version_of(greeting) == version


def test_addresses_are_texts() -> None:
    assert isinstance(session().remote, Address)
