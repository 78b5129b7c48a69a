"""Every reader of what others write, with valid examples of it and the errors that it may answer with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from romana.apps.agent.config import AgentConfig
from romana.apps.server.config import ServerConfig
from romana.apps.server.endpoints import TraceRequest
from romana.apps.server.http import Call
from romana.codec import cni, cni_wire, config, records
from romana.codec import json as model_json
from romana.codec.backup import BackupWriter
from romana.codec.cni_errors import CniFailure
from romana.codec.cni_result import differences
from romana.codec.document import convert, load
from romana.codec.kind import Kind
from romana.codec.policy import read_policies
from romana.codec.statements import read_statements
from romana.codec.topology import read_plan
from romana.codec.traffic import parse_traffic
from romana.core.topology import carve
from romana.model.address import Address, Family, Prefix
from romana.model.endpoint import Endpoint
from romana.model.errors import Invalid
from romana.model.ipam import Allocation, Block, Span
from romana.model.report import Finding, FindingKind, Report
from romana.model.tenancy import Identity, Owner, Tenant
from romana.model.topology import Host
from romana.model.view import BlockReturned, BlockTaken, Claim, Heartbeat, Hello, Inventory, Publication, Released
from romana.services.control.backup import check_backup
from romana.services.control.blackouts import BlackoutDocument
from romana.services.control.hosts import HostDocument
from romana.services.control.repair import RepairRequest
from romana.services.control.reservations import AddressDocument
from romana.services.control.tenancy import TenantDocument

EXAMPLES = Path(__file__).parents[2] / "examples"


class Parser(msgspec.Struct, frozen=True, kw_only=True):
    """One reader. `allowed` are the errors that it documents."""

    name: str
    read: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (Invalid,)


def _topologies() -> tuple[bytes, ...]:
    rich = {
        "version": 1,
        "networks": [
            {"name": "a", "cidr": "10.0.0.0/8", "block_length": 28, "span_length": 22, "tenants": ["red"]},
            {"name": "b", "cidr": "fd00::/48", "reserved": ["fd00::/120"]},
        ],
        "topologies": [
            {
                "name": "t",
                "networks": ["a", "b"],
                "groups": [
                    {
                        "name": "r1",
                        "cidrs": {"a": "10.0.0.0/10"},
                        "hosts": ["h1", {"name": "h2", "addresses": ["1.2.3.4"]}],
                    },
                    {
                        "name": "r2",
                        "cidrs": {"a": "10.64.0.0/10"},
                        "spare": 1,
                        "groups": [{"name": "x", "assignment": {"rack": "2"}, "routing": "bgp"}, {"name": "y"}],
                    },
                ],
            }
        ],
    }
    found = [path.read_bytes() for path in sorted(EXAMPLES.rglob("*topolog*")) if path.is_file()]
    found += [path.read_bytes() for path in sorted((EXAMPLES / "topologies").glob("*")) if path.suffix != ".md"]
    return (*found, json.dumps(rich).encode(), yaml.safe_dump(rich).encode())


def _policies() -> tuple[bytes, ...]:
    found = [path.read_bytes() for path in sorted(EXAMPLES.rglob("*polic*")) if path.is_file()]
    found += [json.dumps(_V2_POLICY).encode(), json.dumps(_CLUSTER_POLICY).encode()]
    return (*found, *(_listed(text) for text in found))


def _listed(text: bytes) -> bytes:
    documents = [one for one in yaml.safe_load_all(text) if one]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}).encode()


_V2_POLICY = {
    "id": "web",
    "direction": "ingress",
    "description": "d",
    "applied_to": [{"tenant_id": "red", "segment_id": "web"}],
    "ingress": [
        {
            "peers": [{"peer": "any"}, {"cidr": "10.0.0.0/8"}, {"tenant_id": "blue"}],
            "rules": [
                {"protocol": "tcp", "ports": [80, 443], "port_ranges": [[1000, 2000]], "is_stateful": True},
                {"protocol": "icmp", "icmp_type": 3, "icmp_code": 4},
            ],
        }
    ],
}
_CLUSTER_POLICY = {
    "apiVersion": "policy.networking.k8s.io/v1alpha2",
    "kind": "ClusterNetworkPolicy",
    "metadata": {"name": "c"},
    "spec": {
        "tier": "Admin",
        "priority": 10,
        "subject": {"namespaces": {"matchLabels": {"a": "b"}}},
        "ingress": [
            {
                "name": "n",
                "action": "Deny",
                "from": [{"namespaces": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}}],
                "protocols": [{"tcp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}],
            }
        ],
        "egress": [{"action": "Accept", "to": [{"networks": ["10.0.0.0/8"]}]}],
    },
}


def _read_backup(text: bytes) -> object:
    """A backup as it is, and the same with an end that says it is whole, so that every record is read."""
    with contextlib.suppress(Invalid):
        check_backup(text.splitlines(keepends=True))
    lines = text.splitlines(keepends=True)[:-1]
    end = {"records": len(lines) - 1, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    return check_backup([*lines, json.dumps(end, separators=(",", ":")).encode() + b"\n"])


def _backup() -> bytes:
    writer = BackupWriter()
    allocation = ENDPOINT.allocations[0]
    span = Span(cidr=allocation.block, network="a", host="h1")
    lines = [writer.header(incarnation="i", revision=4, made_by="test")]
    kept: tuple[tuple[Kind[Any], str, object], ...] = (
        (
            records.BLOCK,
            str(allocation.block),
            Block(cidr=span.cidr, span=span.cidr, network="a", host="h1", allocator="h1"),
        ),
        (records.ENDPOINT, ENDPOINT.id, ENDPOINT),
        (records.HOST, "h1", Host(name="h1", addresses=(allocation.address,))),
        (records.SPAN, str(span.cidr), span),
        (records.TENANT, "red", Tenant(name="red")),
    )
    lines += [writer.record(kind.key(name), kind.encode(value)) for kind, name, value in kept]
    return b"".join(line if line.endswith(b"\n") else line + b"\n" for line in (*lines, writer.end()))


def _report() -> bytes:
    finding = Finding(
        kind=FindingKind.LEAKED, cidr=_ADDRESS.supernet(32), sentence="s", host="h1", endpoint="a/eth0", sequence=3
    )
    report = Report(incarnation="i", revision=3, audit=1, patience=10, findings=(finding,), unreachable=("h2",))
    return model_json.encode({"report": report, "dry_run": True})


_STATEMENTS = b"""tenant red never reaches segment shop/db on tcp/5432, udp
segment shop/db accepts only tcp/5432 from segment shop/api, cidr 192.0.2.0/24  # why
nothing outside reaches labels a=b
anyone always reaches cidr 10.0.0.0/8
"""


def _read_topology(text: bytes) -> object:
    return carve(read_plan(load(text)))


def _configuration(kind: Any) -> Callable[[bytes], object]:
    return lambda text: config.load(kind, text.decode(errors="replace"), {"ROMANA_LOG_LEVEL": "debug"})


def _environment(text: bytes) -> object:
    return config.load(AgentConfig, "", {"ROMANA_AGENT_LABELS": text.decode(errors="surrogateescape")})


def _read_cni(text: bytes) -> object:
    """Standard input and environment of the plugin, as the agent gets them from it."""
    environment, stdin = cni_wire.read_request(text)
    request = cni.read_request(environment, stdin)
    labels = cni.read_labels(request.args.get("ROMANA_LABELS", ""))
    return labels, cni.read_ports(request.args.get("ROMANA_PORTS", "")), differences(request, ENDPOINT)


def _cni_examples() -> tuple[bytes, ...]:
    found = []
    result = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "rom0", "mac": "00:00:5e:00:53:01"}, {"name": "eth0", "sandbox": "/run/netns/p"}],
        "ips": [{"address": "10.0.0.1/32", "gateway": "169.254.1.1", "interface": 1}],
        "dns": {"nameservers": ["10.0.0.2"], "search": ["a"]},
    }
    for verb, more in (
        ("ADD", {"mtu": 1450, "dns": result["dns"]}),
        ("CHECK", {"prevResult": result}),
        ("DEL", {}),
        ("GC", {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}),
    ):
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "/run/netns/p",
            "CNI_ARGS": "ROMANA_TENANT=red;ROMANA_SEGMENT=web;ROMANA_LABELS=a=b,c=d;ROMANA_PORTS=p=tcp/80",
        }
        written = {"cniVersion": "1.1.0", "name": "romana", "type": "romana-cni", **more}
        found.append(cni_wire.write_request(environment, json.dumps(written).encode())[4:])
    return tuple(found)


def _document(kind: Any) -> Callable[[bytes], object]:
    return lambda text: convert(load(text), kind)


def _read_trace(text: bytes) -> object:
    request = convert(load(text), TraceRequest)
    try:
        return parse_traffic(request.traffic)
    except ValueError as error:
        raise Invalid() from error


def _message(kind: Any) -> Callable[[bytes], object]:
    return lambda text: Call(path={}, query={}, body=text).message(kind)


def _messages() -> list[Parser]:
    allocation = ENDPOINT.allocations[0]
    identity = ENDPOINT.identity
    block, owner = allocation.block, identity.owner
    publication = Publication(
        host="h1",
        epoch=1,
        number=3,
        taken=(BlockTaken(cidr=block, owner=owner, identity=identity.id, sequence=1),),
        started=(ENDPOINT,),
        released=(Released(endpoint="a/eth0", sequences={allocation.address: 4}),),
        returned=(BlockReturned(cidr=block, sequence=2),),
    )
    return [
        Parser(name=type(one).__name__, read=_message(type(one)), examples=(model_json.encode(one),))
        for one in (
            Hello(host="h1", instance="i", addresses=(allocation.address,), labels={"rack": "1"}, version="1"),
            Claim(host="h1", epoch=1, identity=identity, networks=("a",), full=(block,)),
            publication,
            Heartbeat(host="h1", epoch=1, incarnation="i", applied=4),
            Inventory(
                host="h1",
                epoch=1,
                spans=(Span(cidr=block, network="a", host="h1"),),
                blocks=(Block(cidr=block, span=block, network="a", host="h1", allocator="h1"),),
                identities=(identity,),
                ids=("c1/eth0",),
                endpoints=(ENDPOINT,),
            ),
        )
    ]


_ADDRESS = Address(Family.V4, 0x0A000001)
ENDPOINT = Endpoint(
    id="c1/eth0",
    name="c1",
    host="h1",
    identity=Identity(owner=Owner("red", "web"), labels={"a": "b"}),
    allocations=(
        Allocation(address=_ADDRESS, block=Prefix(Family.V4, 0x0A000000, 29), endpoint="c1/eth0", sequence=1),
    ),
    link="rom0",
    netns="/run/netns/p",
)
_AGENT = b"""[agent]
host = "h1"
labels = { rack = "1" }
rest_seconds = 5
round_seconds = 1.5
[cni]
identity_from_args = true
[log]
level = "info"
"""
_ROMANAD = b"""[store]
path = "/x"
[listen]
port = 9600
"""
PARSERS: tuple[Parser, ...] = (
    Parser(name="topology", read=_read_topology, examples=_topologies()),
    Parser(name="policy", read=lambda text: read_policies(load(text)), examples=_policies()),
    Parser(name="agent.toml", read=_configuration(AgentConfig), examples=(_AGENT,)),
    Parser(name="romanad.toml", read=_configuration(ServerConfig), examples=(_ROMANAD,)),
    Parser(name="environment", read=_environment, examples=(b'{ rack = \'1\', "a" = "b" }',)),
    Parser(name="cni", read=_read_cni, examples=_cni_examples(), allowed=(Invalid, CniFailure)),
    Parser(
        name="tenant",
        read=_document(TenantDocument),
        examples=(b'{"isolation": "tenant", "labels": {"a": "b"}}', b"isolation: none\nlabels: {a: b}\n"),
    ),
    Parser(
        name="host",
        read=_document(HostDocument),
        examples=(b'{"addresses": ["10.0.0.1"], "labels": {"rack": "1"}}',),
    ),
    Parser(
        name="trace",
        read=_read_trace,
        examples=(b'{"source": "a", "destination": "10.0.0.1", "traffic": "udp/53-60"}',),
    ),
    Parser(name="backup", read=_read_backup, examples=(_backup(),)),
    Parser(
        name="statements", read=lambda text: read_statements(text.decode(errors="replace")), examples=(_STATEMENTS,)
    ),
    Parser(name="blackout", read=_document(BlackoutDocument), examples=(b'{"cidr": "10.0.0.0/8", "network": "a"}',)),
    Parser(
        name="addresses",
        read=_document(AddressDocument),
        examples=(
            b'{"name": "vip", "tenant": "red", "segment": "web", "addresses": ["10.0.0.1"], "labels": {"a": "b"}}',
        ),
    ),
    Parser(name="repair", read=_document(RepairRequest), examples=(_report(),)),
    *_messages(),
)


def bombs() -> dict[str, bytes]:
    """Small texts that a careless reader makes large, or never ends with."""
    laughs = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (at, at, b",".join([b"*%c" % (at - 1)] * 9)) for at in range(ord("b"), ord("k"))
    )
    keys = b",".join(b'"k%d":1' % number for number in range(20_000))
    return {
        "aliases": laughs,
        "an alias of itself": b"a: &a [*a]\n",
        "merge keys": b"a: &a {b: 1}\nc: {<<: [" + b",".join([b"*a"] * 10_000) + b"]}\n",
        "deep JSON": b"[" * 200_000,
        "deep JSON objects": b'{"a":' * 100_000,
        "deep YAML": b"- " * 5_000,
        "deep YAML flow": b"a: " + b"[" * 5_000,
        "many keys": b"{" + keys + b"}",
        "many equal keys": b"{" + b",".join([b'"k":1'] * 20_000) + b"}",
        "a long number": b'{"version": ' + b"9" * 100_000 + b"}",
        "a long YAML number": b"version: " + b"9" * 100_000,
        "a long fraction": b'{"version": 0.' + b"1" * 100_000 + b"}",
        "a long text": b'{"version": "' + b"a" * 1_000_000 + b'"}',
        "many documents": b"---\n{}\n" * 2_000,
        "a comment": b"#" * 200_000,
        "blanks": b" " * 200_000,
        "quotes": b'"' * 10_001,
        "many tags": b"!a " * 10_000,
        "a wide prefix of networks": json.dumps(
            {
                "version": 1,
                "networks": [{"name": f"n{number}", "cidr": f"10.{number % 256}.0.0/16"} for number in range(400)],
            }
        ).encode(),
        "spare parts without end": json.dumps(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "::/0"}],
                "topologies": [{"name": "t", "networks": ["n"], "spare": 1 << 100, "groups": [{"name": "g"}]}],
            }
        ).encode(),
        "spare parts without end in IPv4": json.dumps(
            {
                "version": 1,
                "networks": [{"name": "n", "cidr": "0.0.0.0/0", "block_length": 32, "span_length": 32}],
                "topologies": [{"name": "t", "networks": ["n"], "spare": 10_000_000, "groups": [{"name": "g"}]}],
            }
        ).encode(),
    }


def frame(seed: int) -> bytes:
    """Bytes that claim to be a request of the plugin."""
    choice = random.Random(seed)
    size = choice.choice((0, 1, 4, 1 << 20, 0xFFFFFFFF, choice.randrange(200)))
    return struct.pack("<I", size) + choice.randbytes(choice.randrange(100))
