"""Tables that other programs keep on a host, as they write them: a service proxy of Kubernetes, by nftables and by
iptables, and a host's firewall.

The service is at SERVICE4 and SERVICE6. Its port 80 goes to port 8080 of the endpoint with number 65, 81 to 443 of the
same, 82 to 80 of number 129, 83 to 80 of number 1 (see `tests.fakes.rulesets.endpoint`). What is not from a network of
endpoints, or goes back to its sender, gets the host's address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

SERVICE4, SERVICE6 = "203.0.113.1", "2001:db8:f::1"
TARGETS = {80: (65, 8080), 81: (65, 443), 82: (129, 80), 83: (1, 80)}
"""Port of the service -> number of the endpoint and its port."""
_FAMILIES = (("ip", SERVICE4, "10.0.0.0/8"), ("ip6", SERVICE6, "fd00::/16"))
_MARK = "0x4000"

FIREWALL = """
table inet firewalld {
    set open { type inet_service; elements = { 8080, 443 }
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        goto allowed
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        goto allowed
    }
    chain allowed {
        tcp dport @open accept
        drop
    }
}
"""
"""Lets new connections to TCP 8080 and 443 pass, and drops all others."""


def _target(family: str, number: int) -> str:
    return f"10.0.0.{number}" if family == "ip" else f"fd00::{number:x}"


def _goal(family: str, number: int, port: int) -> str:
    address = _target(family, number)
    return f"{address}:{port}" if family == "ip" else f"[{address}]:{port}"


def _chain(name: str, *rules: str) -> str:
    return "\n".join((f"chain {name} {{", *rules, "}"))


def _proxy(family: str, service: str, cluster: str) -> Iterator[str]:
    address_type = "ipv4_addr" if family == "ip" else "ipv6_addr"
    services = ", ".join(f"{service} . tcp . {port} : goto service-{port}" for port in TARGETS)
    yield f"table {family} kube-proxy {{"
    yield _chain("mark-for-masquerade", f"meta mark set meta mark or {_MARK}")
    for port, (number, target) in TARGETS.items():
        own = f"{family} saddr {_target(family, number)} jump mark-for-masquerade"
        yield _chain(f"endpoint-{port}", own, f"meta l4proto tcp dnat to {_goal(family, number, target)}")
        foreign = f"{family} saddr != {cluster} jump mark-for-masquerade"
        yield _chain(f"service-{port}", foreign, f"numgen random mod 1 vmap {{ 0 : goto endpoint-{port} }}")
    yield f"map service-ips {{\ntype {address_type} . inet_proto . inet_service : verdict"
    yield f"elements = {{ {services} }}\n}}"
    yield f"set cluster-ips {{\ntype {address_type}\nelements = {{ {service} }}\n}}"
    yield _chain("services", f"{family} daddr . meta l4proto . th dport vmap @service-ips")
    unmark = f"meta mark set meta mark xor {_MARK}"
    yield _chain("masquerading", f"meta mark and {_MARK} == 0 return", unmark, "masquerade fully-random")
    yield _chain("nat-prerouting", "type nat hook prerouting priority dstnat;", "jump services")
    yield _chain("nat-output", "type nat hook output priority -100;", "jump services")
    yield _chain("nat-postrouting", "type nat hook postrouting priority srcnat;", "jump masquerading")
    yield _chain(
        "filter-forward",
        "type filter hook forward priority -110;",
        "ct state invalid counter drop",
        f"ct state new {family} daddr @cluster-ips reject",
    )
    yield "}"


PROXY = "\n".join(line for family in _FAMILIES for line in _proxy(*family))
"""By nftables, a table for each family."""


def _legacy(family: str, service: str, cluster: str) -> Iterator[str]:
    yield "*filter\n:KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD"
    yield "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
    yield f"-A KUBE-FORWARD -m mark --mark {_MARK}/{_MARK} -j ACCEPT"
    yield "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    yield "COMMIT\n*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]"
    for port in TARGETS:
        yield f":KUBE-SVC-{port} - [0:0]\n:KUBE-SEP-{port} - [0:0]"
    yield "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING"
    yield f"-A KUBE-MARK-MASQ -j MARK --set-xmark {_MARK}/{_MARK}"
    yield f"-A KUBE-POSTROUTING -m mark ! --mark {_MARK}/{_MARK} -j RETURN"
    yield f"-A KUBE-POSTROUTING -j MARK --set-xmark {_MARK}/0x0"
    yield "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
    for port, (number, target) in TARGETS.items():
        yield f"-A KUBE-SERVICES -d {service} -p tcp -m tcp --dport {port} -j KUBE-SVC-{port}"
        yield f"-A KUBE-SVC-{port} ! -s {cluster} -j KUBE-MARK-MASQ\n-A KUBE-SVC-{port} -j KUBE-SEP-{port}"
        yield f"-A KUBE-SEP-{port} -s {_target(family, number)} -j KUBE-MARK-MASQ"
        yield f"-A KUBE-SEP-{port} -p tcp -m tcp -j DNAT --to-destination {_goal(family, number, target)}"
    yield "COMMIT\n"


LEGACY_PROXY = {
    program: "\n".join(_legacy(*family)) for program, family in zip(("iptables", "ip6tables"), _FAMILIES, strict=True)
}
"""By iptables: for each program, what it restores."""


def load(run: Callable[..., str], *which: str) -> None:
    """Make tables of `nftables`, `iptables` and `firewall`, or all of them. `run` runs a program on the host."""
    if not which or "nftables" in which:
        run("nft", "-f", "-", text=PROXY)
    if not which or "iptables" in which:
        for program, text in LEGACY_PROXY.items():
            run(f"{program}-nft-restore", "--noflush", text=text)
    if not which or "firewall" in which:
        run("nft", "-f", "-", text=FIREWALL)


def tables(run: Callable[..., str]) -> str:
    """Every table of others, as nft and iptables print them."""
    saved = [run(f"{program}-nft-save") for program in LEGACY_PROXY]
    words = [line for one in saved for line in one.splitlines() if not line.startswith("#")]  # with the time
    names = [line.split()[1:] for line in run("nft", "list", "tables").splitlines()]
    return "\n".join(
        words
        + [run("nft", "-j", "list", "table", family, name) for family, name in names if not name.startswith("romana")]
    )
