"""Where a store in etcd is, and what may be wrong with saying so. Costs nothing to import."""

from __future__ import annotations

import re

import msgspec

from romana.model.errors import Fault

MOST_TIMEOUT = 60.0
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")
_PREFIX = re.compile(r"/|/[!-~]*/")


class EtcdAddress(msgspec.Struct, frozen=True, kw_only=True):
    """HOST:PORT of the members, what all keys begin with, and files for TLS (`ca` alone, or with a certificate).

    `timeout` is the seconds that one member may take for one answer.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/romana/"
    ca: str = ""
    certificate: str = ""
    key: str = ""
    timeout: float = 3.0

    def faults(self) -> list[Fault]:
        """What is wrong with it, by the names of the fields."""
        found = [
            Fault(f"endpoints[{number}]", f"{text!r} is not HOST:PORT; TLS is used when there is a ca")
            for number, text in enumerate(self.endpoints)
            if not _ENDPOINT.fullmatch(text)
        ]
        if not self.endpoints:
            found.append(Fault("endpoints", "is needed for etcd: HOST:PORT of each member"))
        if not _PREFIX.fullmatch(self.prefix):
            found.append(Fault("prefix", f"{self.prefix!r} does not begin and end with a slash, as /romana/ does"))
        if bool(self.certificate) != bool(self.key):
            found.append(Fault("certificate", "goes with its key: set both, or none"))
        if self.certificate and not self.ca:
            found.append(Fault("ca", "is needed for TLS, where a certificate is set"))
        if not 0 < self.timeout <= MOST_TIMEOUT:
            found.append(Fault("timeout_seconds", f"{self.timeout} is not between 0 and {MOST_TIMEOUT}"))
        return found
