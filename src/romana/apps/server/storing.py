"""Which store romanad uses: checking what the configuration says of it, and opening it.

Invariant: a store that is away at the start is waited for and complained of once a minute; one that is wrong (held by
somebody else, of a newer schema) ends the program with its sentence.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from romana.adapters.logs import log_faults
from romana.adapters.store.etcd.address import EtcdAddress
from romana.adapters.store.sqlite import SqliteStore
from romana.apps.server.config import EtcdSection, ServerConfig
from romana.codec.config import range_faults
from romana.codec.document import suggestion
from romana.model.errors import Fault, Invalid, Unavailable
from romana.ports import Store

KINDS = ("sqlite", "etcd")
AGAIN = 1.0
"""Seconds between two tries to reach etcd at the start."""
_YEAR = 365 * 24 * 3600
REMIND = 60.0
"""Seconds between two complaints that it is away."""

log = structlog.get_logger()


DEPENDS = ((r"(etcd|store)\b.*", r"store(\.kind)?"),)
"""Which fault hangs on what else than its place (`codec.salvage`)."""


def check_config(settings: ServerConfig) -> None:
    """Invalid, with every fault that types do not say."""
    store, etcd = settings.store, settings.etcd
    faults = log_faults(settings.log.level, settings.log.format)
    faults += range_faults(_numbers(settings))
    if store.kind not in KINDS:
        faults.append(Fault("store.kind", f"{store.kind!r} is no kind of store; {suggestion(store.kind, KINDS)}"))
    if store.kind == "sqlite" and not store.path:
        faults.append(Fault("store.path", "is empty; name the SQLite file"))
    if store.kind == "sqlite" and etcd != EtcdSection():
        faults.append(Fault("etcd", "is set, but store.kind is sqlite; set that to etcd, or take the section away"))
    elif store.kind == "etcd":
        faults += [Fault(f"etcd.{fault.path}", fault.sentence) for fault in _address(etcd).faults()]
    if faults:
        raise Invalid(*faults)


def _numbers(settings: ServerConfig) -> dict[str, tuple[float, float, float]]:
    """The numbers of a configuration, each with the least and the most that it may be; times are in seconds."""
    hosts = settings.hosts
    return {
        "listen.port": (settings.listen.port, 0, (1 << 16) - 1),
        "hosts.lease_seconds": (hosts.lease_seconds, 1, _YEAR),
        "hosts.rest_seconds": (hosts.rest_seconds, 0, _YEAR),
        "hosts.round_seconds": (hosts.round_seconds, 0.01, _YEAR),
        "hosts.check_seconds": (hosts.check_seconds, 0, _YEAR),
        "hosts.empty_seconds": (hosts.empty_seconds, 0, _YEAR),
        "hosts.heard_seconds": (hosts.heard_seconds, 1, _YEAR),
    }


def _address(etcd: EtcdSection) -> EtcdAddress:
    return EtcdAddress(
        endpoints=etcd.endpoints,
        prefix=etcd.prefix,
        ca=etcd.ca,
        certificate=etcd.certificate,
        key=etcd.key,
        timeout=etcd.timeout_seconds,
    )


async def open_store(settings: ServerConfig) -> Store:
    """The configured store; waits for an etcd that is away, and raises Unavailable for what waiting does not mend."""
    if settings.store.kind == "sqlite":
        return SqliteStore(Path(settings.store.path))
    return await _open_etcd(settings.etcd)


async def _open_etcd(etcd: EtcdSection) -> Store:
    # grpcio costs memory and time; romanad with SQLite does without it.
    from romana.adapters.store.etcd.client import WrongStore  # noqa: PLC0415
    from romana.adapters.store.etcd.store import open_etcd  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    complained = -REMIND
    while True:
        try:
            return await open_etcd(_address(etcd))
        except WrongStore:
            raise
        except Unavailable as error:
            if loop.time() - complained >= REMIND:
                log.warning("the store is away; waiting for it", reason=error.reason, error=str(error))
                complained = loop.time()
            await asyncio.sleep(AGAIN)
