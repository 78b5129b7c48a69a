"""Results of ADD, each spec version with exactly what it has, and what CHECK compares of an earlier one.

Source: CNI specification, "Success" (0.3.0 to 1.1.0). 0.3.x and 0.4.0 give each address its IP version; 1.1.0 gives
interfaces and routes an MTU. A plugin that is not the first of a chain adds to the result before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from romana.codec.cni import CniRequest, Dns
from romana.model.address import Family
from romana.model.endpoint import Endpoint

GATEWAYS = {Family.V4: "169.254.1.1", Family.V6: "fe80::1"}
"""The link-local gateway of every endpoint (datapath: permanent neighbours on both sides)."""
_ANYWHERE = {Family.V4: "0.0.0.0/0", Family.V6: "::/0"}


def add_result(
    request: CniRequest, endpoint: Endpoint, host_mac: str, gateways: Mapping[Family, str] = GATEWAYS
) -> dict[str, Any]:
    """The result of an ADD in the request's spec version; the host's side is interface 0, the workload's 1."""
    version = request.config.cni_version
    before = request.config.prev_result or {}
    offset = len(_objects(before, "interfaces"))
    host = {"name": endpoint.link, "mac": host_mac}
    workload = {"name": endpoint.interface, "mac": endpoint.mac, "sandbox": endpoint.netns}
    if version >= "1.1.0" and endpoint.mtu:
        host["mtu"] = workload["mtu"] = endpoint.mtu  # type: ignore[assignment]
    ips: list[dict[str, Any]] = []
    routes = []
    for address in endpoint.addresses:
        gateway = gateways[address.family]
        one = {"address": f"{address}/{address.length}", "gateway": gateway, "interface": offset + 1}
        ips.append({"version": f"{int(address.family)}", **one} if version < "1.0.0" else one)
        routes.append({"dst": _ANYWHERE[address.family], "gw": gateway})
    result = {
        **before,
        "cniVersion": version,
        "interfaces": [*_objects(before, "interfaces"), host, workload],
        "ips": [*_objects(before, "ips"), *ips],
        "routes": [*_objects(before, "routes"), *routes],
    }
    if request.config.dns != Dns():
        result["dns"] = msgspec.to_builtins(request.config.dns)
    return result


def differences(request: CniRequest, endpoint: Endpoint) -> list[str]:
    """What of the endpoint the runtime's earlier result (`prevResult`) does not have, as sentences."""
    result = request.config.prev_result or {}
    ips = [one.get("address") for one in _objects(result, "ips")]
    found = [
        f"prevResult lacks the endpoint's address {address}"
        for address in endpoint.addresses
        if f"{address}/{address.length}" not in ips
    ]
    interfaces = [(one.get("name"), one.get("sandbox") or "") for one in _objects(result, "interfaces")]
    for name, sandbox in ((endpoint.link, ""), (endpoint.interface, endpoint.netns)):
        if (name, sandbox) not in interfaces:
            where = f" in {sandbox}" if sandbox else " on the host"
            found.append(f"prevResult lacks the interface {name}{where}")
    return found


def _objects(result: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = result.get(key)
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
