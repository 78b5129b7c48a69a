"""Requests of the Container Network Interface, and what is wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from romana.codec.cni import (
    VERSIONS,
    Attachment,
    Verb,
    read_addresses,
    read_labels,
    read_ports,
    read_request,
    version_answer,
)
from romana.codec.cni_errors import CODES, CniFailure, error_document, failure_from_error
from romana.codec.cni_result import add_result, differences
from romana.codec.text import parse_address, parse_prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Fault,
    Invalid,
    NotFound,
    RomanaError,
    Unavailable,
)
from romana.model.ipam import Allocation
from romana.model.tenancy import Identity, NamedPort, Owner

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c0ffee",
    "CNI_NETNS": "/run/netns/pod",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web-0;ROMANA_TENANT=red",
    "ROMANA_TENANT": "blue",
    "ROMANA_SEGMENT": "web",
}
POD = Endpoint(
    id="c0ffee/eth0",
    name="c0ffee",
    host="h1",
    identity=Identity(owner=Owner("red", "web")),
    allocations=tuple(
        Allocation(address=parse_address(address), block=parse_prefix(block), endpoint="c0ffee/eth0", sequence=1)
        for address, block in (("10.0.0.9", "10.0.0.8/29"), ("2001:db8::9", "2001:db8::/122"))
    ),
    link="rom0123456789ab",
    netns="/run/netns/pod",
    mac="02:00:00:00:00:02",
    mtu=1450,
)


def config(version: str = "1.1.0", **more: Any) -> bytes:
    return json.dumps({"cniVersion": version, "name": "romana", "type": "romana-cni", **more}).encode()


def refused(environment: dict[str, str], stdin: bytes) -> CniFailure:
    with pytest.raises(CniFailure) as caught:
        read_request(environment, stdin)
    return caught.value


def test_add_is_read_with_its_arguments() -> None:
    request = read_request(ENVIRONMENT, config(mtu=1400, dns={"nameservers": ["10.0.0.53"]}))
    assert (request.verb, request.container, request.interface) == (Verb.ADD, "c0ffee", "eth0")
    assert request.netns == "/run/netns/pod"
    assert request.config.mtu == 1400
    assert (request.args["ROMANA_TENANT"], request.args["ROMANA_SEGMENT"]) == ("red", "web")
    assert request.args["K8S_POD_NAME"] == "web-0"


@pytest.mark.parametrize("version", ["0.2.0", "1.2.0", "", None, 1, ["1.1.0"]])
def test_unknown_version_names_the_supported_ones(version: object) -> None:
    failure = refused(ENVIRONMENT, json.dumps({"cniVersion": version, "name": "n", "type": "t"}).encode())
    assert failure.code == 1
    assert failure.details == "supported versions: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"


@pytest.mark.parametrize(("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "0.4.0")])
def test_verb_that_a_version_does_not_have_is_refused(verb: str, version: str) -> None:
    assert refused({**ENVIRONMENT, "CNI_COMMAND": verb}, config(version)).code == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_COMMAND", "PATCH"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "a-name-too-long-"),
        ("CNI_IFNAME", "eth 0"),
        ("CNI_IFNAME", ".."),
        ("CNI_NETNS", ""),
        ("CNI_ARGS", "novalue"),
    ],
)
def test_wrong_environment_names_the_variable(name: str, value: str) -> None:
    failure = refused({**ENVIRONMENT, name: value}, config())
    assert failure.code == 4
    assert name in failure.sentence


def test_all_wrong_variables_are_named_at_once() -> None:
    failure = refused({"CNI_COMMAND": "ADD"}, config())
    assert all(name in failure.sentence for name in ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"))


def test_del_needs_no_namespace() -> None:
    assert read_request({**ENVIRONMENT, "CNI_COMMAND": "DEL", "CNI_NETNS": ""}, config()).netns == ""


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"\xff"])
def test_config_that_is_no_object_cannot_be_decoded(stdin: bytes) -> None:
    assert refused(ENVIRONMENT, stdin).code == 6


def test_all_faults_of_a_config_are_told_at_once() -> None:
    failure = refused(ENVIRONMENT, config(mtu="big", colour="red"))
    assert failure.code == 7
    assert "mtu" in failure.details
    assert "colour" in failure.details


def test_bad_network_name_is_refused() -> None:
    assert refused(ENVIRONMENT, config(name="no/slash")).code == 7


@pytest.mark.parametrize(("key", "value"), [("ipam", {"type": "host-local"}), ("ipMasq", True)])
def test_unsupported_field_is_shown_with_its_value(key: str, value: object) -> None:
    failure = refused(ENVIRONMENT, json.dumps({**json.loads(config()), key: value}).encode())
    assert failure.code == 2
    assert key in failure.sentence
    assert json.dumps(value, separators=(",", ":")) in failure.sentence


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        ({"runtimeConfig": {"ips": ["2001:db8::5/64", "10.1.2.3/24"]}}, ""),
        ({"args": {"cni": {"ips": ["10.1.2.3", "2001:db8::5"]}}}, ""),
        ({}, ";IP=10.1.2.3/16,2001:db8::5"),
        ({"runtimeConfig": {"ips": ["10.1.2.3", "2001:db8::5"]}}, ";IP=10.9.9.9"),
    ],
)
def test_addresses_that_a_runtime_asks_for_are_read(keys: dict[str, Any], args: str) -> None:
    environment = {**ENVIRONMENT, "CNI_ARGS": ENVIRONMENT["CNI_ARGS"] + args}
    found = read_addresses(read_request(environment, config(**keys)))
    assert list(map(str, found)) == ["10.1.2.3", "2001:db8::5"]
    assert read_addresses(read_request(ENVIRONMENT, config())) == ()


@pytest.mark.parametrize(
    ("keys", "args", "code", "words"),
    [
        ({"runtimeConfig": {"ips": "10.1.2.3"}}, "", 7, "runtimeConfig.ips is not a list of addresses"),
        ({"args": {"cni": {"ips": ["here"]}}}, "", 7, "args.cni.ips: "),
        ({}, ";IP=10.1.2.3,10.1.2.4", 4, "CNI_ARGS: IP has two addresses of a family"),
    ],
)
def test_what_is_no_address_is_refused_by_name(keys: dict[str, Any], args: str, code: int, words: str) -> None:
    environment = {**ENVIRONMENT, "CNI_ARGS": ENVIRONMENT["CNI_ARGS"] + args}
    with pytest.raises(CniFailure) as caught:
        read_addresses(read_request(environment, config(**keys)))
    assert caught.value.code == code
    assert words in str(caught.value)


def test_check_needs_the_earlier_result() -> None:
    assert refused({**ENVIRONMENT, "CNI_COMMAND": "CHECK"}, config()).code == 7


def test_gc_reads_attachments_and_needs_them() -> None:
    environment = {"CNI_COMMAND": "GC", "CNI_PATH": "/opt/cni/bin"}
    listed = [{"containerID": "c0ffee", "ifname": "eth0"}]
    request = read_request(
        environment, json.dumps({**json.loads(config()), "cni.dev/valid-attachments": listed}).encode()
    )
    assert request.config.valid_attachments == (Attachment("c0ffee", "eth0"),)
    assert refused(environment, config()).code == 7


def test_version_lists_what_is_supported() -> None:
    request = read_request({"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"0.4.0"}')
    assert version_answer(request.config.cni_version) == {"cniVersion": "0.4.0", "supportedVersions": list(VERSIONS)}
    assert version_answer("9.9.9")["cniVersion"] == "1.1.0"


def test_labels_are_pairs() -> None:
    assert read_labels("app=web,tier=front,empty=") == {"app": "web", "tier": "front", "empty": ""}
    with pytest.raises(CniFailure, match="ROMANA_LABELS"):
        read_labels("app")


def test_ports_are_named() -> None:
    assert read_ports("http=tcp/80,dns=udp/53,http=sctp/80") == (
        NamedPort("dns", 17, 53),
        NamedPort("http", 6, 80),
        NamedPort("http", 132, 80),
    )
    assert read_ports("") == ()


@pytest.mark.parametrize(
    "text", ["http", "http=80", "http=tcp", "http=tcp/80-90", "http=icmp/8", "http=any", "HTTP=tcp/80"]
)
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CniFailure, match="ROMANA_PORTS"):
        read_ports(text)


@pytest.mark.parametrize("version", VERSIONS)
def test_result_has_what_its_version_has(version: str) -> None:
    result = add_result(read_request(ENVIRONMENT, config(version)), POD, "02:00:00:00:00:01")
    assert result["cniVersion"] == version
    mtu = {"mtu": 1450} if version == "1.1.0" else {}
    assert result["interfaces"] == [
        {"name": "rom0123456789ab", "mac": "02:00:00:00:00:01", **mtu},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod", **mtu},
    ]
    families = [{"version": "4"}, {"version": "6"}] if version < "1.0.0" else [{}, {}]
    assert result["ips"] == [
        {**families[0], "address": "10.0.0.9/32", "gateway": "169.254.1.1", "interface": 1},
        {**families[1], "address": "2001:db8::9/128", "gateway": "fe80::1", "interface": 1},
    ]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}]
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes"}


def test_later_plugin_of_a_chain_adds_to_the_result() -> None:
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "dns": {"domain": "example.org"},
    }
    result = add_result(read_request(ENVIRONMENT, config(prevResult=before)), POD, "")
    assert [one["name"] for one in result["interfaces"]] == ["lo", "rom0123456789ab", "eth0"]
    assert [one["interface"] for one in result["ips"]] == [0, 2, 2]
    assert result["dns"] == {"domain": "example.org"}


def test_earlier_result_is_compared_with_the_endpoint() -> None:
    result = add_result(read_request(ENVIRONMENT, config()), POD, "")
    environment = {**ENVIRONMENT, "CNI_COMMAND": "CHECK"}
    assert differences(read_request(environment, config(prevResult=result)), POD) == []
    other = {"cniVersion": "1.1.0", "ips": [{"address": "10.9.9.9/32"}], "interfaces": "none"}
    assert len(differences(read_request(environment, config(prevResult=other)), POD)) == 4


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("away"), 11),
        (Conflict("raced"), 11),
        (Invalid(Fault("a", "b")), 7),
        (NotFound("none"), 101),
        (AlreadyExists("there"), 102),
        (Exhausted("full"), 103),
        (RomanaError("odd"), 100),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_its_code(error: RomanaError, code: int) -> None:
    assert type(error) in CODES
    document = error_document(failure_from_error(error), "1.0.0")
    assert document == {"cniVersion": "1.0.0", "code": code, "msg": str(error), "details": f"reason: {error.reason}"}


def test_the_documented_table_has_every_code_that_errors_become() -> None:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    table = text.partition("## CNI errors")[2].partition("\n## ")[0]
    rows = {
        int(code) for found in re.finditer(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in found[1].split(",")
    }
    assert rows >= set(CODES.values())
