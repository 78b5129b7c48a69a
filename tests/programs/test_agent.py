"""The agent by its front doors: CNI requests, signals, a control plane that comes and goes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from romana.model.endpoint import endpoint_id
from romana.services.agent.attachments import link_name
from tests.probes.agenthost import PLAN, AgentHost, wait
from tests.probes.others import load, tables

HOST = "192.0.2.1"
AGENT = str(Path(sys.executable).parent / "romana-agent")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[AgentHost]:
    one = AgentHost(tmp_path)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    """One host for the requests that change nothing."""
    one = AgentHost(tmp_path_factory.mktemp("shared"), "s")
    try:
        yield one.open()
    finally:
        one.close()


@pytest.fixture
def ready(host: AgentHost) -> AgentHost:
    return host.open()


def pod_link(name: str) -> str:
    return link_name(endpoint_id(name, "eth0"))


def state_of(host: AgentHost) -> tuple[list[str], set[str], int]:
    """What an endpoint leaves in the kernel: links, routes, elements of the table that name a link."""
    return host.links(), host.routes(), len(re.findall("rom[0-9a-f]{12}", host.table()))


def test_pods_of_a_tenant_reach_each_other_and_no_other(ready: AgentHost) -> None:
    one, two, other = ready.add_pod("one"), ready.add_pod("two", "red/db"), ready.add_pod("other", "blue/web")
    for family in (0, 1):
        assert ready.reaches("one", two[family])
        assert ready.reaches("two", one[family])
        assert not ready.reaches("one", other[family])
        assert not ready.reaches("other", one[family])
    wait(lambda: ready.endpoints() == ["one", "other", "two"], "endpoints are published")


def test_every_verb_of_a_pods_life(ready: AgentHost) -> None:
    ready.add_space("pod")
    before = state_of(ready)
    added = ready.cni("ADD", "pod")
    assert added.body["cniVersion"] == "1.1.0"
    assert added.body["interfaces"][1]["mtu"] == 1450
    assert ready.cni("CHECK", "pod", config={"prevResult": added.body}).status == 0
    assert ready.cni("CHECK", "pod", config={"prevResult": {"cniVersion": "1.1.0"}}).code == 104
    assert ready.cni("STATUS").status == 0
    assert ready.cni("VERSION").body["supportedVersions"][-1] == "1.1.0"
    assert ready.cni("DEL", "pod").status == 0
    assert ready.cni("CHECK", "pod", config={"prevResult": added.body}).code == 3
    wait(lambda: ready.links() == before[0], "the link goes after the answer")
    assert ready.routes() == before[1]
    assert ready.cni("DEL", "pod").status == 0
    assert ready.cni("DEL", "never-there", netns="").status == 0
    wait(lambda: ready.endpoints() == [], "the release is published")


def test_second_add_gives_the_same_answer_or_says_what_differs(ready: AgentHost) -> None:
    ready.add_space("pod")
    first = ready.cni("ADD", "pod")
    assert ready.cni("ADD", "pod").body == first.body
    assert ready.cni("ADD", "pod", owner="blue/web").code == 102
    ready.ip("route", "delete", first.addresses[0])
    differs = ready.cni("ADD", "pod")
    assert differs.code == 102
    assert f"no route to {first.addresses[0]}" in differs.body["msg"]
    checked = ready.cni("CHECK", "pod", config={"prevResult": first.body})
    assert checked.code == 104
    assert first.addresses[0] in checked.body["details"]
    assert ready.cni("DEL", "pod").status == 0
    assert ready.cni("ADD", "pod").addresses != first.addresses


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        pytest.param({"config": {"cniVersion": "2.0.0"}}, 1, "'2.0.0' is not supported", id="unknown spec version"),
        pytest.param({"netns": "/run/netns/romt-g-none"}, 4, "CNI_NETNS", id="namespace that does not exist"),
        pytest.param({"netns": "/etc/passwd"}, 4, "not a network namespace", id="file that is no namespace"),
        pytest.param({"owner": "green/web"}, 101, "green", id="unknown tenant"),
        pytest.param({"owner": "red/cache"}, 101, "cache", id="unknown segment"),
        pytest.param({"owner": ""}, 4, "ROMANA_TENANT and ROMANA_SEGMENT", id="no identity"),
        pytest.param({"config": {"ipam": {"type": "x"}}}, 2, "ipam", id="unsupported field"),
        pytest.param({"config": {"colour": 1, "mtu": "x"}}, 7, "colour", id="faulty configuration"),
        pytest.param({"stdin": b"{"}, 6, "no JSON", id="no JSON"),
        pytest.param({"environment": {"ROMANA_PORTS": "http=80"}}, 4, "ROMANA_PORTS", id="port without a protocol"),
        pytest.param({"environment": {"CNI_IFNAME": "a/b"}}, 4, "CNI_IFNAME", id="bad interface name"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    shared: AgentHost, request_: dict[str, Any], code: int, words: str
) -> None:
    shared.add_space("pod")
    before = state_of(shared)
    answer = shared.cni("ADD", "pod", **request_)
    assert answer.code == code, answer.body
    assert words in answer.body["msg"]
    assert state_of(shared) == before
    assert shared.cni("ADD", "pod").status == 0
    assert shared.cni("DEL", "pod").status == 0
    wait(lambda: shared.links() == before[0], "the link goes")
    shared.remove_space("pod")


def test_taken_interface_name_leaves_nothing_behind(ready: AgentHost) -> None:
    ready.add_space("pod")
    inside = ["ip", "-n", f"{ready.prefix}pod", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]
    subprocess.run(inside, check=True)
    before = state_of(ready)
    assert ready.cni("ADD", "pod").code == 102
    wait(lambda: state_of(ready) == before, "all is as before")
    wait(lambda: ready.endpoints() == [], "nothing stays published")


def test_exhausted_network_says_the_numbers(host: AgentHost) -> None:
    small = json.loads(json.dumps(PLAN))
    small["networks"] = [{"name": "pods4", "cidr": "10.1.0.0/29", "block_length": 31, "span_length": 30}]
    small["topologies"][0]["networks"] = ["pods4"]
    host.open(small)
    for number in range(8):
        host.add_space(f"p{number}")
    added = [host.cni("ADD", f"p{number}") for number in range(8)]
    assert {address for one in added for address in one.addresses} == {f"10.1.0.{number}" for number in range(8)}
    host.add_space("more")
    before = state_of(host)
    refused = host.cni("ADD", "more")
    assert refused.code == 103
    assert "network pods4: group 10.1.0.0/29 has 2 span(s) of /30, none of them free" in refused.body["msg"]
    assert state_of(host) == before


def test_known_segment_starts_without_romanad_and_is_published_later(ready: AgentHost) -> None:
    first = ready.add_pod("first")
    wait(lambda: ready.endpoints() == ["first"], "published")
    ready.kill_romanad()
    names = [f"p{number}" for number in range(12)]
    addresses = [ready.add_pod(name)[0] for name in names]
    assert len({first[0], *addresses}) == 13
    assert ready.reaches("first", addresses[0])
    ready.add_space("stranger")
    unknown = ready.cni("ADD", "stranger", owner="blue/web")
    assert unknown.code == 11
    assert "romanad" in unknown.body["msg"]
    assert ready.cni("DEL", "p0").status == 0
    ready.start_romanad()
    wait(lambda: ready.endpoints() == sorted(["first", *names[1:]]), "everything is published when romanad is back")
    wait(lambda: ready.cni("ADD", "stranger", owner="blue/web").status == 0, "and strangers can start")


def test_agent_starts_from_its_own_memory_while_romanad_is_away(ready: AgentHost) -> None:
    for name in ("one", "shares", "owns"):  # the third has a block of its owner, which peers know as a whole
        ready.add_pod(name)
    wait(lambda: len(ready.endpoints()) == 3, "published")
    wait(lambda: "red" in (ready.directory / "agent" / "view.json").read_text(), "the view is kept")
    ready.kill_romanad()
    assert ready.stop_agent(signal.SIGTERM) == 0
    ready.start_agent()
    two = ready.add_pod("two")
    wait(lambda: ready.reaches("one", two[0]), "its block is one that peers know as a whole")
    ready.start_romanad()
    wait(lambda: ready.endpoints() == ["one", "owns", "shares", "two"], "published when romanad is back")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_restart_loses_no_packet_and_changes_nothing(ready: AgentHost, number: int) -> None:
    target = ready.add_pod("one")
    ready.add_pod("two")
    wait(lambda: ready.endpoints() == ["one", "two"], "published")
    wait(lambda: ready.reaches("two", target[0]), "in a mixed block peers have to be told first")
    before = (ready.links(), ready.routes(), sorted(ready.table().split()))
    command = ["ip", "netns", "exec", f"{ready.prefix}two", "ping", "-q", "-i", "0.01", "-c", "200", target[0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
        ready.stop_agent(number)
        ready.start_agent()
        output = ping.communicate(timeout=60)[0]
    assert "200 packets transmitted, 200 received" in output
    assert (ready.links(), ready.routes(), sorted(ready.table().split())) == before


def test_killed_during_adds_no_address_is_given_twice_and_every_pod_can_be_deleted(ready: AgentHost) -> None:
    names = [f"p{number}" for number in range(16)]
    for name in names:
        ready.add_space(name)
    config = json.dumps({"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni"}).encode()
    plugin = Path(__file__).parents[2] / "native" / "romana-cni.c"
    program = ready.directory / "romana-cni"
    subprocess.run(["gcc", "-O1", "-o", str(program), str(plugin)], check=True)
    for delay in (0.004, 0.013, 0.03):
        running = []
        for name in names:
            environment = {
                "CNI_COMMAND": "ADD",
                "CNI_CONTAINERID": name,
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": f"/run/netns/{ready.prefix}{name}",
                "CNI_ARGS": "ROMANA_TENANT=red;ROMANA_SEGMENT=web",
                "ROMANA_AGENT_SOCKET": str(ready.agent_socket),
            }
            process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            assert process.stdin is not None
            process.stdin.write(config)
            process.stdin.close()
            process.stdin = None
            running.append(process)
        time.sleep(delay)
        ready.stop_agent()
        answers = [process.communicate(timeout=30)[0] for process in running]
        codes = {json.loads(text).get("code", 0) for text in answers}
        assert codes <= {0, 11}
        ready.start_agent()
        done = {name: ready.cni("ADD", name) for name in names}
        assert {answer.status for answer in done.values()} == {0}, {answer.body.get("msg") for answer in done.values()}
        for name, text in zip(names, answers, strict=True):
            told = json.loads(text)
            if "ips" in told:
                assert told == done[name].body
        addresses = [address for answer in done.values() for address in answer.addresses]
        assert len(set(addresses)) == 2 * len(names)
        assert [ready.cni("DEL", name).status for name in names] == [0] * len(names)
        wait(lambda: ready.links() == [], "all links go")
    wait(lambda: ready.endpoints() == [], "all releases are published")


@pytest.mark.parametrize("up", [False, True], ids=["host side down", "workload side bare"])
def test_link_that_a_kill_left_half_made_stops_nothing_and_is_made_by_the_next_add(ready: AgentHost, up: bool) -> None:
    ready.add_pod("other")
    added = ready.add_pod("pod")
    inside = ["ip", "-n", f"{ready.prefix}pod"]
    (link,) = [one["ifname"] for one in ready.ip("link", "show") if one["ifname"] == pod_link("pod")]
    ready.stop_agent()
    ready.ip("link", "set", link, "group", "1919905025", "up" if up else "down")
    subprocess.run([*inside, "addr", "flush", "dev", "eth0"], check=True)
    ready.start_agent()
    assert not ready.reaches("pod", ready.cni("ADD", "other").addresses[0])
    assert ready.cni("ADD", "pod").addresses == added
    assert ready.reaches("pod", ready.cni("ADD", "other").addresses[0])
    assert ready.cni("DEL", "pod").status == 0
    wait(lambda: link not in ready.links(), "the link goes")


def test_link_that_somebody_set_down_stops_nothing(ready: AgentHost) -> None:
    ready.add_pod("pod")
    ready.ip("link", "set", pod_link("pod"), "down")
    ready.stop_agent()
    ready.start_agent()
    down = ready.cni("ADD", "pod")
    assert down.code == 102
    assert "is down" in down.body["msg"]
    assert ready.cni("DEL", "pod").status == 0


def test_removal_that_a_kill_interrupted_is_finished_at_the_next_start(ready: AgentHost) -> None:
    names = [f"p{number}" for number in range(6)]
    for name in names:
        ready.add_pod(name)
    for name in names:
        assert ready.cni("DEL", name).status == 0
    ready.stop_agent()
    ready.start_agent()
    wait(lambda: ready.links() == [], "links go")


def test_gc_collects_what_two_lists_lack(host: AgentHost) -> None:
    host.settings = "gc_seconds = 1\n"
    host.open()
    host.add_pod("kept")
    host.add_pod("lost")
    listed = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}
    assert host.cni("GC", config=listed).status == 0
    assert len(host.links()) == 2
    time.sleep(1.1)
    assert host.cni("GC", config=listed).status == 0
    wait(lambda: len(host.links()) == 1, "the unlisted pod's link goes")
    wait(lambda: host.endpoints() == ["kept"], "and its release is published")


def test_flushed_ruleset_is_put_back_at_once(ready: AgentHost) -> None:
    one, other = ready.add_pod("one"), ready.add_pod("other", "blue/web")
    wait(lambda: ready.endpoints() == ["one", "other"], "published")
    subprocess.run(["ip", "netns", "exec", ready.host, "nft", "flush", "ruleset"], check=True)
    wait(lambda: ready.cni("STATUS").status == 0 and "endpoints_in4" in ready.table(), "the table is back")
    assert not ready.reaches("other", one[0])
    assert ready.add_pod("two")
    wait(lambda: ready.reaches("two", one[0]), "it shares a block, so its peers are told first")
    assert not ready.reaches("two", other[0])


def test_a_host_accepts_from_its_own_endpoints_what_a_v2_policy_says(ready: AgentHost) -> None:
    subprocess.run(["ip", "-n", ready.host, "address", "add", HOST, "dev", "lo"], check=True)
    for tenant in ("red", "blue"):
        ready.put(f"/v1/tenants/{tenant}", {"own_host": True})

    def accept(peer: dict[str, str]) -> None:
        entry = {"peers": [peer], "rules": [{"protocol": "any"}]}
        document = {"id": "own", "direction": "ingress", "applied_to": [{"dest": "host"}], "ingress": [entry]}
        ready.call("POST", "/v1/policies", [document])

    ready.add_pod("one")
    wait(lambda: ready.reaches("one", HOST), "no policy is about the host")
    accept({"peer": "host"})
    wait(lambda: not ready.reaches("one", HOST), "the host accepts from hosts alone")
    accept({"peer": "local"})
    wait(lambda: ready.reaches("one", HOST), "the host accepts from its own endpoints")
    ready.add_pod("other", "blue/web")
    assert ready.reaches("other", HOST)
    (host,) = ready.call("GET", "/v1/hosts")["items"]
    assert [6, 22] in host["failsafe"]["ingress"]
    assert [17, 53] in host["failsafe"]["egress"]


def test_flushed_routes_are_put_back_at_once(ready: AgentHost) -> None:
    one = ready.add_pod("one")
    ready.add_pod("two")
    wait(lambda: ready.endpoints() == ["one", "two"], "published")
    assert ready.reaches("two", one[0])
    for family in ("-4", "-6"):
        flushed = ["ip", "netns", "exec", ready.host, "ip", family, "route", "flush", "proto", "146"]
        subprocess.run(flushed, check=True)
    wait(lambda: all(ready.reaches("two", address) for address in one), "the routes are back", 5)


def test_agent_without_a_plan_says_so_and_takes_no_pod(host: AgentHost) -> None:
    host.add_space("host")
    host.start_agent(ready=False)
    wait(host.agent_socket.exists, "the socket is there")
    host.add_space("pod")
    status = host.cni("STATUS")
    assert status.code == 50
    assert "romanad" in status.body["msg"]
    assert host.cni("ADD", "pod").code == 11


def test_host_that_no_group_takes_says_what_would_help_and_takes_no_pod(host: AgentHost) -> None:
    host.add_space("host")
    host.start_romanad()
    groups = [{"name": "r1", "hosts": [{"name": "other"}]}, {"name": "r2", "assignment": {"rack": "2"}}]
    host.put("/v1/topology", {**PLAN, "topologies": [{**PLAN["topologies"][0], "groups": groups}]})
    host.start_agent(ready=False)
    wait(lambda: "no group" in host.cni("STATUS").body.get("msg", ""), "the refusal is known")
    host.add_space("pod")
    for answer, code in ((host.cni("STATUS"), 50), (host.cni("ADD", "pod"), 11)):
        assert answer.code == code
        assert "groups there ask for rack=2; label the host, or list it in its group" in answer.body["msg"]
    assert host.links() == []


def test_second_agent_is_refused(ready: AgentHost) -> None:
    command = ["ip", "netns", "exec", ready.host, AGENT, "--config", str(ready.directory / "agent.toml")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "another agent" in second.stderr


def test_status_command_shows_the_agent(ready: AgentHost) -> None:
    ready.add_pod("one")
    command = [AGENT, "--config", str(ready.directory / "agent.toml"), "status"]
    words = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert [line.split() for line in words.splitlines()[:1]] == [["host", "h1"]]
    command.append("--json")
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    found = json.loads(shown.stdout)
    assert (found["host"], found["ready"], found["endpoints"], found["drift"]) == ("h1", True, 1, 0)
    ready.stop_agent()
    gone = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert gone.returncode == 1
    assert "is romana-agent running?" in gone.stderr


def test_cleanup_takes_everything_of_ours_away_and_says_what(ready: AgentHost) -> None:
    load(ready.run)
    theirs = tables(ready.run)
    assert len(theirs) > 10_000
    ready.add_pod("one")
    assert tables(ready.run) == theirs
    command = ["ip", "netns", "exec", ready.host, AGENT, "--config", str(ready.directory / "agent.toml"), "--cleanup"]
    environment = {
        **os.environ,
        "ROMANA_CNI_PLUGIN": str(ready.directory / "bin" / "romana-cni"),
        "ROMANA_CNI_CONFLIST": str(ready.directory / "net.d" / "10-romana.conflist"),
    }
    running = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
    assert running.returncode == 1
    assert "stop it" in running.stderr
    assert ready.links()
    ready.stop_agent(signal.SIGTERM)
    cleaned = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=environment)
    for words in ("removed link rom", "removed route 10.1.0.", "removed table inet romana", "removed file"):
        assert words in cleaned.stdout
    assert (ready.links(), ready.routes(), ready.table()) == ([], set(), "")
    assert tables(ready.run) == theirs
    again = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=environment)
    assert "nothing of romana's agent was here" in again.stdout


def test_install_writes_plugin_and_conflist(tmp_path: Path) -> None:
    (tmp_path / "built").write_bytes(b"\x7fELF plugin")
    environment = {
        **os.environ,
        "ROMANA_CNI_PLUGIN": str(tmp_path / "bin" / "romana-cni"),
        "ROMANA_CNI_CONFLIST": str(tmp_path / "net.d" / "10-romana.conflist"),
    }
    command = [AGENT, "install-cni", "--plugin", str(tmp_path / "built")]
    subprocess.run(command, check=True, capture_output=True, timeout=20, env=environment)
    assert (tmp_path / "bin" / "romana-cni").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin" / "romana-cni").read_bytes() == b"\x7fELF plugin"
    conflist = json.loads((tmp_path / "net.d" / "10-romana.conflist").read_text())
    assert conflist["plugins"] == [{"type": "romana-cni", "capabilities": {"ips": True}}]
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["romana-cni"]


def test_faulty_configuration_names_every_fault(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('[agent]\nmtu = "big"\n[cni]\ncolour = 1\n')
    command = [AGENT, "--config", str(tmp_path / "agent.toml")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 2
    assert "agent.mtu" in refused.stderr
    assert "cni.colour" in refused.stderr


def test_named_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    command = [AGENT, "--config", str(tmp_path / "none.toml")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 2
    assert f"{tmp_path}/none.toml: cannot be read: No such file or directory" in refused.stderr
