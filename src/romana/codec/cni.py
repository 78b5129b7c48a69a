"""What a container runtime asks through CNI: environment and network configuration, checked and read.

Owns the names, formats and versions of the CNI specification 0.3.0 to 1.1.0 on the asking side (its sections 1 and 2).
Refuses to know how an endpoint is made. Invariant: `read_request` gives a request that is whole and allowed in its spec
version, or raises CniFailure with the code and the sentence for the runtime.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from romana.codec import document
from romana.codec.cni_errors import (
    BAD_CONFIG,
    BAD_ENVIRONMENT,
    INCOMPATIBLE_VERSION,
    UNDECODABLE,
    UNSUPPORTED_FIELD,
    CniFailure,
)
from romana.codec.text import parse_address
from romana.codec.traffic import parse_named_port
from romana.model.address import Address
from romana.model.errors import Invalid
from romana.model.tenancy import NamedPort

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The spec versions that are spoken, oldest first."""


class Verb(StrEnum):
    """CNI_COMMAND."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


SINCE = {Verb.CHECK: "0.4.0", Verb.GC: "1.1.0", Verb.STATUS: "1.1.0"}
"""The first spec version of the verbs that were not always there."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_INTERFACE = re.compile(r"[^\s/:\0]{1,15}")


class Attachment(msgspec.Struct, frozen=True, rename={"container": "containerID", "interface": "ifname"}):
    """A container's interface in a network, as GC lists it."""

    container: str
    interface: str


class Dns(msgspec.Struct, frozen=True, omit_defaults=True):
    """Name servers of a network, passed on to the runtime."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


_RENAMED = {
    "cni_version": "cniVersion",
    "prev_result": "prevResult",
    "valid_attachments": "cni.dev/valid-attachments",
    "cni_versions": "cniVersions",
    "runtime_config": "runtimeConfig",
    "ip_masq": "ipMasq",
    "disable_check": "disableCheck",
    "disable_gc": "disableGC",
    "load_only_inlined_plugins": "loadOnlyInlinedPlugins",
}


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, rename=_RENAMED):
    """A plugin's network configuration as the runtime gives it on stdin: the specification's keys, and `mtu`.

    `mtu` 0 means the agent's. `prev_result` is a result of the same spec version, of an earlier plugin of a chain or,
    for CHECK and DEL, of the ADD.
    """

    cni_version: str
    name: str
    type: str
    mtu: int = 0
    dns: Dns = Dns()
    prev_result: dict[str, Any] | None = None
    valid_attachments: tuple[Attachment, ...] | None = None
    cni_versions: tuple[str, ...] = ()
    capabilities: dict[str, bool] = {}
    runtime_config: dict[str, Any] = {}
    args: dict[str, Any] = {}
    ipam: dict[str, Any] = {}
    ip_masq: bool = False
    disable_check: bool | str = False
    disable_gc: bool | str = False
    load_only_inlined_plugins: bool = False


class CniRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `container`, `interface` and `netns` are empty where the verb has none; `args` are those of CNI_ARGS
    over those of the environment (names that begin with ROMANA_).
    """

    verb: Verb
    config: NetworkConfig
    container: str = ""
    interface: str = ""
    netns: str = ""
    args: dict[str, str] = {}


def read_request(environment: Mapping[str, str], stdin: bytes) -> CniRequest:
    """The request of a plugin's environment and standard input; CniFailure says what is wrong with it."""
    verb = _verb(environment)
    config = read_config(stdin, verb)
    request = CniRequest(
        verb=verb,
        config=config,
        container=environment.get("CNI_CONTAINERID", ""),
        interface=environment.get("CNI_IFNAME", ""),
        netns=environment.get("CNI_NETNS", ""),
        args=_args(environment),
    )
    if verb in (Verb.ADD, Verb.DEL, Verb.CHECK):
        _check_environment(request)
    if verb is Verb.CHECK and config.prev_result is None:
        raise CniFailure(BAD_CONFIG, "CHECK needs the result of the ADD as `prevResult`")
    if verb is Verb.GC and config.valid_attachments is None:
        raise CniFailure(BAD_CONFIG, "GC needs the attachments that are in use as `cni.dev/valid-attachments`")
    return request


@functools.lru_cache(maxsize=16)
def read_config(stdin: bytes, verb: Verb) -> NetworkConfig:
    """The network configuration on standard input, for one verb; VERSION needs nothing but a `cniVersion`."""
    try:
        value = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CniFailure(UNDECODABLE, f"the network configuration on stdin is no JSON: {error}") from error
    except RecursionError:
        raise CniFailure(UNDECODABLE, "the network configuration on stdin is nested too deeply") from None
    if not isinstance(value, dict):
        raise CniFailure(UNDECODABLE, "the network configuration on stdin is no JSON object")
    version = value.get("cniVersion", "")
    if verb is Verb.VERSION:
        return NetworkConfig(cni_version=version if isinstance(version, str) else "", name="", type="")
    _check_version(version, verb)
    try:
        config = document.convert(value, NetworkConfig)
    except Invalid as error:
        details = "\n".join(map(str, error.faults))
        raise CniFailure(BAD_CONFIG, f"the network configuration is wrong: {error}", details, version) from error
    if not _NAME.fullmatch(config.name):
        sentence = f"name: {config.name!r} is no network name; letters, digits, `_`, `.`, `-`, first a letter or digit"
        raise CniFailure(BAD_CONFIG, sentence, version=version)
    for key, present, hint in (
        ("ipam", config.ipam, "romana gives the addresses itself; leave `ipam` out"),
        ("ipMasq", config.ip_masq, "romana's addresses are routable; leave `ipMasq` out"),
    ):
        if present:
            shown = msgspec.json.encode(value[key]).decode()
            raise CniFailure(UNSUPPORTED_FIELD, f"unsupported field {key}: {shown}", hint, version)
    return config


def read_labels(text: str) -> dict[str, str]:
    """Labels written `key=value,key=value`; CniFailure naming ROMANA_LABELS when they are not."""
    labels = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise CniFailure(BAD_ENVIRONMENT, f"ROMANA_LABELS: {part!r} is not written key=value")
        labels[key] = value
    return labels


def read_ports(text: str) -> tuple[NamedPort, ...]:
    """Named ports written `http=tcp/80,dns=udp/53`; CniFailure naming ROMANA_PORTS when they are not."""
    try:
        pairs = [part.partition("=") for part in text.split(",") if part]
        return tuple(sorted({parse_named_port(name, port) for name, _, port in pairs}))
    except ValueError as error:
        raise CniFailure(BAD_ENVIRONMENT, f"ROMANA_PORTS: {error}") from error


def read_addresses(request: CniRequest) -> tuple[Address, ...]:
    """The addresses that the runtime asks for: `ips` of its capability or of `args.cni`, or IP of CNI_ARGS; a length
    after the address is not looked at. CniFailure naming what is no address, or two of a family.
    """
    conventional = request.config.args.get("cni", {})
    asked = [
        ("runtimeConfig.ips", BAD_CONFIG, request.config.runtime_config.get("ips")),
        ("args.cni.ips", BAD_CONFIG, conventional.get("ips") if isinstance(conventional, dict) else None),
        ("CNI_ARGS: IP", BAD_ENVIRONMENT, [part for part in request.args.get("IP", "").split(",") if part]),
    ]
    where, code, texts = next((one for one in asked if one[2]), ("", BAD_CONFIG, []))
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise CniFailure(code, f"{where} is not a list of addresses", version=request.config.cni_version)
    try:
        found = tuple(parse_address(text.partition("/")[0]) for text in texts)
    except ValueError as error:
        raise CniFailure(code, f"{where}: {error}", version=request.config.cni_version) from error
    if len({address.family for address in found}) != len(found):
        raise CniFailure(code, f"{where} has two addresses of a family", version=request.config.cni_version)
    return tuple(sorted(found))


def version_answer(requested: str) -> dict[str, object]:
    """The answer to VERSION, in the spec version that was asked in (the newest where that is unknown)."""
    return {"cniVersion": spoken(requested), "supportedVersions": list(VERSIONS)}


def spoken(version: str) -> str:
    """The version itself where it is one we speak, else the newest one."""
    return version if version in VERSIONS else VERSIONS[-1]


def _verb(environment: Mapping[str, str]) -> Verb:
    command = environment.get("CNI_COMMAND", "")
    try:
        return Verb(command)
    except ValueError:
        raise CniFailure(
            BAD_ENVIRONMENT, f"CNI_COMMAND: {command!r} is not one of {', '.join(Verb)}; a runtime sets it"
        ) from None


def _check_version(version: object, verb: Verb) -> None:
    details = f"supported versions: {', '.join(VERSIONS)}"
    if version not in VERSIONS or not isinstance(version, str):
        raise CniFailure(INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not supported", details)
    since = SINCE.get(verb, "")
    if version < since:
        sentence = f"{verb} is not part of cniVersion {version}; it came with {since}"
        raise CniFailure(INCOMPATIBLE_VERSION, sentence, details, version)


def _args(environment: Mapping[str, str]) -> dict[str, str]:
    args = {name: value for name, value in environment.items() if name.startswith("ROMANA_")}
    for part in filter(None, environment.get("CNI_ARGS", "").split(";")):
        name, equals, value = part.partition("=")
        if not equals:
            raise CniFailure(BAD_ENVIRONMENT, f"CNI_ARGS: {part!r} is not written KEY=VALUE")
        args[name.strip()] = value.strip()
    return args


def _check_environment(request: CniRequest) -> None:
    faults = []
    if not _NAME.fullmatch(request.container):
        faults.append(
            f"CNI_CONTAINERID: {request.container!r} is no container id; letters, digits, `_`, `.`, `-`, first a letter"
            " or digit"
        )
    if not _INTERFACE.fullmatch(request.interface) or request.interface in (".", ".."):
        faults.append(
            f"CNI_IFNAME: {request.interface!r} is no interface name; 1 to 15 characters, no blank, `/` or `:`"
        )
    if not request.netns and request.verb is not Verb.DEL:
        faults.append("CNI_NETNS: missing; the path of the container's network namespace")
    if faults:
        raise CniFailure(BAD_ENVIRONMENT, "; ".join(faults), version=request.config.cni_version)
