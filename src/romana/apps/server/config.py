"""romanad's configuration, /etc/romana/romanad.toml."""

from __future__ import annotations

import msgspec


class StoreSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the records are.

    kind: `sqlite` (a file, for one romanad), or `etcd` (for several).
    path: the SQLite file, on a local disk (never NFS).
    """

    kind: str = "sqlite"
    path: str = "/var/lib/romana/romanad.db"


class EtcdSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The etcd cluster (3.4 or later), where `store.kind` is `etcd`.

    endpoints: HOST:PORT of each member.
    prefix: what all keys of this store begin with.
    ca: file with the certificates of the authorities that sign the members' certificates; TLS is used when it is set.
    certificate: file with this program's certificate, where etcd asks for one.
    key: file with the key of that certificate.
    timeout_seconds: how long one member may take for one answer.
    """

    endpoints: tuple[str, ...] = ()
    prefix: str = "/romana/"
    ca: str = ""
    certificate: str = ""
    key: str = ""
    timeout_seconds: float = 3.0


class ListenSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where requests are taken.

    socket: the UNIX socket, for this machine's root.
    port: the TCP port on loopback (127.0.0.1 and ::1); 0 for none.
    """

    socket: str = "/run/romana/romanad.sock"
    port: int = 9600


class HostsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What romanad does about hosts that fall silent.

    lease_seconds: an agent that cannot renew its lease for so long cuts its host's endpoints off.
    rest_seconds: at least the largest `rest_seconds` of the agents.
    round_seconds: how often romanad looks after hosts, and frees what was given back.
    check_seconds: how far apart two observations of a host lie before a repair acts on what both show.
    empty_seconds: for how long a span has no block before it is taken back.
    heard_seconds: for how long after renewing its lease a host counts as heard from; several `beat_seconds` of agents.
    """

    lease_seconds: int = 86400
    rest_seconds: int = 180
    round_seconds: float = 15.0
    check_seconds: int = 120
    empty_seconds: int = 300
    heard_seconds: int = 60


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged on stderr.

    level: debug, info, warning or error.
    format: `json`, `text`, or `auto` (text on a terminal).
    """

    level: str = "info"
    format: str = "auto"


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """romanad's configuration."""

    store: StoreSection = StoreSection()
    etcd: EtcdSection = EtcdSection()
    listen: ListenSection = ListenSection()
    hosts: HostsSection = HostsSection()
    log: LogSection = LogSection()
