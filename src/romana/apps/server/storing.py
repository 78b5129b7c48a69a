"""Which store romanad uses: checking what the configuration says of it, and opening it.

Invariant: a store that is away at the start is waited for and complained of once a minute; one that is wrong (held by
somebody else, of a newer schema) ends the program with its sentence.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import structlog

from romana.adapters.store.sqlite import SqliteStore
from romana.apps.server.config import EtcdSection, ServerConfig
from romana.codec.document import suggestion
from romana.model.errors import Fault, Invalid, Unavailable
from romana.ports import Store

KINDS = ("sqlite", "etcd")
AGAIN = 1.0
"""Seconds between two tries to reach etcd at the start."""
REMIND = 60.0
"""Seconds between two complaints that it is away."""
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")

log = structlog.get_logger()


def check_store(settings: ServerConfig) -> None:
    """Invalid, with every fault, when the sections `store` and `etcd` make no sense together."""
    store, etcd = settings.store, settings.etcd
    faults = []
    if store.kind not in KINDS:
        faults.append(Fault("store.kind", f"{store.kind!r} is no kind of store; {suggestion(store.kind, KINDS)}"))
    elif store.kind == "etcd" and not etcd.endpoints:
        faults.append(Fault("etcd.endpoints", "is needed where store.kind is etcd: HOST:PORT of each member"))
    elif store.kind == "sqlite" and etcd != EtcdSection():
        faults.append(Fault("etcd", "is set, but store.kind is sqlite; set it to etcd, or take the section away"))
    if store.kind == "sqlite" and not store.path:
        faults.append(Fault("store.path", "is empty; name the SQLite file"))
    raise_all([*faults, *etcd_faults(etcd)])


def etcd_faults(etcd: EtcdSection) -> list[Fault]:
    """What is wrong inside the section `etcd`."""
    faults = [
        Fault(f"etcd.endpoints[{number}]", f"{text!r} is not HOST:PORT; TLS is used when etcd.ca is set")
        for number, text in enumerate(etcd.endpoints)
        if not _ENDPOINT.fullmatch(text)
    ]
    if not re.fullmatch(r"/[!-~]*/|/", etcd.prefix):
        faults.append(Fault("etcd.prefix", f"{etcd.prefix!r} does not begin and end with a slash, as /romana/ does"))
    if bool(etcd.certificate) != bool(etcd.key):
        faults.append(Fault("etcd.certificate", "goes with etcd.key: set both, or none"))
    if etcd.certificate and not etcd.ca:
        faults.append(Fault("etcd.ca", "is needed for TLS, where a certificate is set"))
    if not 0 < etcd.timeout_seconds <= 60:
        faults.append(Fault("etcd.timeout_seconds", f"{etcd.timeout_seconds} is not between 0 and 60"))
    return faults


def raise_all(faults: list[Fault]) -> None:
    """Invalid with these faults, if there are any."""
    if faults:
        raise Invalid(*faults)


async def open_store(settings: ServerConfig) -> Store:
    """The configured store; waits for an etcd that is away, and raises Unavailable for what waiting does not mend."""
    if settings.store.kind == "sqlite":
        return SqliteStore(Path(settings.store.path))
    return await _open_etcd(settings.etcd)


async def _open_etcd(etcd: EtcdSection) -> Store:
    # grpcio costs memory and time; romanad with SQLite does without it.
    from romana.adapters.store.etcd.client import EtcdAddress, WrongStore  # noqa: PLC0415
    from romana.adapters.store.etcd.store import open_etcd  # noqa: PLC0415

    address = EtcdAddress(
        endpoints=etcd.endpoints,
        ca=etcd.ca,
        certificate=etcd.certificate,
        key=etcd.key,
        timeout=etcd.timeout_seconds,
    )
    loop = asyncio.get_running_loop()
    complained = -REMIND
    while True:
        try:
            return await open_etcd(address, etcd.prefix)
        except WrongStore:
            raise
        except Unavailable as error:
            if loop.time() - complained >= REMIND:
                log.warning("the store is away; waiting for it", reason=error.reason, error=str(error))
                complained = loop.time()
            await asyncio.sleep(AGAIN)
