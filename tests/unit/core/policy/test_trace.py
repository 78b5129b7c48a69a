"""What a person reads about a connection."""

from __future__ import annotations

import msgspec
import pytest

from romana.codec.json import decode, encode
from romana.codec.text import parse_address, parse_prefix
from romana.core.policy.compile import compile_program
from romana.core.policy.trace import Trace, trace
from romana.core.policy.world import PolicyWorld
from romana.model.address import Address
from romana.model.endpoint import Endpoint
from romana.model.errors import Invalid
from romana.model.policy import TCP, Failsafe, HostPeer, LocalPeer, Policy, Rule, Traffic
from romana.model.tenancy import Tenant
from romana.model.topology import Host
from tests.worlds.policy_states import A_DB, A_WEB, B_WEB, DB, THREE, WEB, endpoint, policy, world

HTTP = Traffic(TCP, 80, 80)
E_WEB = endpoint("web-1", A_WEB, "10.0.0.1", "10.0.0.0/29")
E_DB = endpoint("db-1", A_DB, "10.0.0.9", "10.0.0.8/29")
E_OTHER = endpoint("other-1", B_WEB, "10.0.1.1", "10.0.1.0/29")
ONLY_WEB = policy("only-web", DB, ingress=(Rule(peers=(WEB,), traffic=(HTTP,)),))
WORLD = world(*THREE, policies=(ONLY_WEB,), endpoints=(E_WEB, E_DB, E_OTHER))


def told(
    source: Endpoint | str, destination: Endpoint | str, traffic: Traffic = HTTP, of: PolicyWorld = WORLD
) -> Trace:
    ends: list[Endpoint | Address] = [
        parse_address(one) if isinstance(one, str) else one for one in (source, destination)
    ]
    return trace(of, compile_program(of), ends[0], ends[1], traffic)


def test_an_accepted_connection_names_the_rule() -> None:
    found = told(E_WEB, E_DB)
    assert found.verdict
    assert found.ingress.sentence == "rule 0 of policy only-web accepts it"
    assert found.ingress.tier == "policies"
    assert str(found.ingress.matched) == "10.0.0.0/29"
    assert found.ingress.accepts == "tcp/80"
    assert found.egress.sentence == "no policy governs it; its default for sending accepts this"
    assert found.lines()[0] == "tcp/80 from web-1 (10.0.0.1) to db-1 (10.0.0.9): ACCEPTED"


def test_a_denied_connection_names_what_selects_the_endpoint() -> None:
    found = told(E_OTHER, E_DB)
    assert not found.verdict
    assert found.ingress.sentence == "selected by only-web, and no rule of it accepts it"
    assert found.ingress.policies == ("only-web",)
    assert any("DROPPED" in line for line in found.lines())


def test_the_isolation_default_is_named() -> None:
    assert told(E_OTHER, E_WEB).ingress.sentence == (
        "no policy governs it; its isolation default `tenant` does not accept this"
    )
    assert told(E_DB, E_WEB).ingress.sentence == "no policy governs it; its isolation default `tenant` accepts this"


def test_a_range_is_accepted_only_as_a_whole() -> None:
    found = told(E_WEB, E_DB, Traffic(TCP, 79, 80))
    assert not found.verdict
    assert found.ingress.sentence == "only a part of it is accepted, by rule 0 of policy only-web"


def test_addresses_stand_for_endpoints() -> None:
    assert told("10.0.0.1", "10.0.0.9").ingress == told(E_WEB, E_DB).ingress


def test_an_endpoint_always_reaches_itself() -> None:
    found = told(E_DB, "10.0.0.9", Traffic())
    assert found.verdict
    assert found.ingress.sentence == "an endpoint always reaches itself"


def test_ends_that_are_no_endpoints() -> None:
    found = told("192.0.2.1", E_WEB)
    assert found.egress.verdict
    assert found.egress.sentence == "outside of all networks; not decided here"
    assert not found.verdict
    assert told(E_WEB, "10.0.200.1").ingress.sentence == "no endpoint has this address of network n"
    assert not told(E_WEB, "10.0.200.1").verdict


def test_ends_of_two_families_are_refused() -> None:
    with pytest.raises(Invalid, match="same IP version"):
        told(E_WEB, "2001:db8::1")


def test_an_identity_that_the_program_does_not_know_is_denied() -> None:
    found = trace(WORLD, compile_program(world()), E_WEB, E_DB, HTTP)
    assert not found.verdict
    assert "has no rows" in found.egress.sentence


def test_json_and_back() -> None:
    found = told(E_WEB, E_DB)
    assert decode(encode(found), Trace) == found


HOST = Host(name="h1", addresses=(parse_address("192.0.2.9"),), labels={"role": "edge"})


def with_host(*policies: Policy, own_host: bool = False) -> PolicyWorld:
    base = world(*THREE, policies=policies, endpoints=(E_WEB, E_DB))
    tenants = {name: Tenant(name=name, own_host=own_host) for name in "ab"}
    return msgspec.structs.replace(base, tenants=tenants, hosts={"h1": HOST})


def test_an_endpoints_own_host_is_told_from_others() -> None:
    closed = with_host(ONLY_WEB)
    found = told("192.0.2.9", E_DB, of=closed)
    assert not found.verdict
    assert found.ingress.matched is None
    assert found.ingress.sentence.startswith("selected by only-web") or "own_host" in found.ingress.sentence
    opened = told("192.0.2.9", E_DB, of=with_host(ONLY_WEB, own_host=True))
    assert opened.verdict
    assert "own_host" in opened.ingress.sentence
    assert "entry own host" in "\n".join(opened.lines())
    assert not told(E_WEB, "192.0.2.9", of=closed).verdict
    assert told(E_WEB, "192.0.2.9", of=with_host(own_host=True)).verdict


def test_a_host_that_policies_govern_decides_at_its_end() -> None:
    rule = Rule(peers=(DB,), traffic=(HTTP,))
    guarded = Policy(id="guard", kind="native", subjects=(), hosts=(HostPeer(),), ingress=(rule,))
    found = told(E_WEB, "192.0.2.9", of=with_host(guarded, own_host=True))
    assert (found.egress.verdict, found.ingress.verdict) == (True, False)
    assert found.ingress.sentence.startswith("selected by guard, and no rule of it accepts it; what its agent's ")
    assert found.ingress.sentence.endswith("`[host] failsafe_in` lists passes all the same")
    itself = told("192.0.2.9", "192.0.2.9", of=with_host(guarded))
    assert (itself.verdict, itself.ingress.sentence) == (True, "a host always reaches itself")
    assert "who: host h1" in "\n".join(found.lines())
    assert told(E_DB, "192.0.2.9", of=with_host(guarded, own_host=True)).verdict
    free = told(E_DB, "192.0.2.9", of=with_host(own_host=True))
    assert free.ingress.sentence == "no policy governs ingress of host h1"


def with_failsafe(base: PolicyWorld, *, ingress: int = 0, egress: int = 0) -> PolicyWorld:
    safe = Failsafe(*(((TCP, port),) if port else () for port in (ingress, egress)))
    return msgspec.structs.replace(base, hosts={"h1": msgspec.structs.replace(HOST, failsafe=safe)})


def test_what_no_policy_can_close_is_accepted_at_a_hosts_end() -> None:
    rule = Rule(peers=(DB,), traffic=(Traffic(TCP, 81, 82),))
    closed = Policy(id="guard", kind="native", subjects=(), hosts=(HostPeer(),), ingress=(rule,), egress=())
    base = with_host(closed, own_host=True)
    found = told("203.0.113.1", "192.0.2.9", of=with_failsafe(base, ingress=80))
    assert found.verdict
    assert found.ingress.tier == "fail-safe"
    assert found.ingress.sentence == "no policy closes tcp/80, which its agent's `[host] failsafe_in` lists"
    assert not told("203.0.113.1", "192.0.2.9", of=with_failsafe(base, egress=80)).verdict
    sent = told("192.0.2.9", "203.0.113.1", of=with_failsafe(base, egress=80))
    assert sent.verdict
    assert sent.egress.sentence.endswith("`[host] failsafe_out` lists")
    assert not told("192.0.2.9", "203.0.113.1", of=with_failsafe(base, ingress=80)).verdict
    part = told(E_DB, "192.0.2.9", Traffic(TCP, 80, 82), of=with_failsafe(base, ingress=80))
    assert part.ingress.verdict
    assert part.ingress.sentence.endswith("lists; only a part of it is accepted, by rule 0 of policy guard")
    assert not told(E_DB, "192.0.2.9", Traffic(TCP, 79, 82), of=with_failsafe(base, ingress=80)).verdict


def test_what_no_policy_can_close_is_closed_by_no_staged_one_either() -> None:
    closed = Policy(id="guard", kind="native", subjects=(), hosts=(HostPeer(),), ingress=(), staged=True)
    base = with_host(closed, own_host=True)
    assert told("203.0.113.1", "192.0.2.9", of=with_failsafe(base, ingress=81)).ingress.staged
    assert not told("203.0.113.1", "192.0.2.9", of=with_failsafe(base, ingress=80)).ingress.staged


def test_the_endpoints_of_a_host_itself_are_those_that_live_on_it() -> None:
    rule = Rule(peers=(LocalPeer(),), traffic=(HTTP,))
    guarded = Policy(id="guard", kind="native", subjects=(), hosts=(HostPeer(),), ingress=(rule,))
    base = with_host(guarded, own_host=True)
    other = Host(name="h2", addresses=(parse_address("192.0.2.10"),))
    spans = {"h1": (parse_prefix("10.0.0.0/29"),), "h2": (parse_prefix("10.0.0.8/29"),)}
    both = msgspec.structs.replace(base, hosts={**base.hosts, "h2": other}, local=spans)
    assert told(E_WEB, "192.0.2.9", of=both).ingress.sentence == "rule 0 of policy guard accepts it"
    assert told(E_DB, "192.0.2.10", of=both).ingress.verdict
    assert not told(E_DB, "192.0.2.9", of=both).ingress.verdict
    assert not told(E_WEB, "192.0.2.10", of=both).ingress.verdict


def test_what_staged_policies_would_change_is_told() -> None:
    found = told(E_WEB, E_DB, of=with_host(msgspec.structs.replace(ONLY_WEB, ingress=(), staged=True)))
    assert found.verdict
    assert found.ingress.staged == "would be denied if only-web were in force"
    assert "staged: would be denied" in "\n".join(found.lines())
    assert not found.egress.staged
