"""Real etcd members for tests: started on free ports, stopped, killed and started again, ended by their process ids.

Every member dies with the thread that started it, so a killed test run leaves none.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.probes.spaces import within

READY = 20.0
"""Seconds that a cluster may take to elect a leader."""


class EtcdCluster:
    """`members` members, numbered from 0, with everything they write under `directory`.

    They listen on loopback unless `addresses` and `spaces` (a network namespace's path each) say otherwise; use those
    only with namespaces of the test's own. With `tls`, clients need `ca`, `certificate` and `key`.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 1,
        *,
        tls: bool = False,
        addresses: Sequence[str] = (),
        spaces: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.ca, self.certificate, self.key = (directory / name for name in ("ca.pem", "client.pem", "client.key"))
        self._tls = tls
        self._addresses = list(addresses) or ["127.0.0.1"] * members
        self._spaces = list(spaces)
        self._ports = [_free_ports(3) for _ in range(members)] if not spaces else [[2379, 2380, 2381]] * members
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        directory.mkdir(parents=True, exist_ok=True)
        if tls:
            make_certificates(directory, self._addresses)

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach the members, in their order: ADDRESS:PORT."""
        return [self.endpoint(member) for member in range(len(self._addresses))]

    def endpoint(self, member: int) -> str:
        """Where clients reach one member."""
        return f"{self._addresses[member]}:{self._ports[member][0]}"

    @property
    def running(self) -> list[int]:
        """The members that were started and not ended."""
        return sorted(self._processes)

    def start(self, *members: int) -> None:
        """Start these members (all, when none is named) and wait until each of them serves."""
        chosen = members or tuple(range(len(self._addresses)))
        for member in chosen:
            self._start(member)
        for member in chosen:
            self.wait(member)

    def wait(self, member: int) -> None:
        """Wait until a member serves and knows a leader."""
        until = time.monotonic() + READY
        while not self.healthy(member):
            process = self._processes[member]
            assert process.poll() is None, self.log(member)[-2000:]
            assert time.monotonic() < until, f"member {member} does not serve: {self.log(member)[-2000:]}"
            time.sleep(0.02)

    def healthy(self, member: int) -> bool:
        """Whether a member answers and a majority agrees."""
        try:
            return bool(json.loads(self._metrics(member, "/health"))["health"] == "true")
        except (OSError, ValueError):
            return False

    def leader(self) -> int | None:
        """The member that leads, None while there is none."""
        for member in self.running:
            with contextlib.suppress(OSError):
                if b"\netcd_server_is_leader 1\n" in self._metrics(member, "/metrics"):
                    return member
        return None

    def stop(self, member: int) -> None:
        """End a member in order (SIGTERM)."""
        self._end(member, signal.SIGTERM)

    def kill(self, member: int) -> None:
        """End a member at once (SIGKILL); what it wrote stays."""
        self._end(member, signal.SIGKILL)

    def pause(self, member: int) -> None:
        """Stop a member from running, with its connections open, until `resume`."""
        self._processes[member].send_signal(signal.SIGSTOP)

    def resume(self, member: int) -> None:
        """Let a paused member run on."""
        self._processes[member].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End all members."""
        for member in self.running:
            self.kill(member)

    def compact(self, revision: int) -> None:
        """Forget the history before a revision."""
        self.ask("/v3/kv/compaction", {"revision": revision, "physical": True})

    def ask(self, path: str, body: dict[str, object], member: int = 0) -> Any:
        """A member's answer to a request of the JSON gateway."""
        scheme, context = "http", None
        if self._tls:
            scheme, context = "https", ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(self.certificate, self.key)
        request = urllib.request.Request(f"{scheme}://{self.endpoint(member)}{path}", json.dumps(body).encode())
        with self._inside(member), urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return json.load(answer)

    def log(self, member: int) -> str:
        """What a member has logged."""
        path = self._log(member)
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, member: int) -> None:
        assert member not in self._processes, f"member {member} runs already"
        scheme = "https" if self._tls else "http"
        client, peer, metrics = self._ports[member]
        address = self._addresses[member]
        options = {
            "name": f"m{member}",
            "data-dir": self.directory / f"m{member}",
            "listen-client-urls": f"{scheme}://{address}:{client}",
            "advertise-client-urls": f"{scheme}://{address}:{client}",
            "listen-peer-urls": f"http://{address}:{peer}",
            "initial-advertise-peer-urls": f"http://{address}:{peer}",
            "listen-metrics-urls": f"http://{address}:{metrics}",
            "initial-cluster": ",".join(
                f"m{number}=http://{self._addresses[number]}:{ports[1]}" for number, ports in enumerate(self._ports)
            ),
            "election-timeout": 500,
            "logger": "zap",
        }
        if self._tls:
            options |= {"cert-file": self.directory / "server.pem", "key-file": self.directory / "server.key"}
            options |= {"client-cert-auth": "true", "trusted-ca-file": self.ca}
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", *(f"--{name}={value}" for name, value in options.items())]
        if self._spaces:
            command = ["nsenter", f"--net={self._spaces[member]}", *command]
        with self._log(member).open("ab") as log:
            self._processes[member] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _end(self, member: int, number: signal.Signals) -> None:
        process = self._processes.pop(member)
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        process.wait(10)

    def _log(self, member: int) -> Path:
        return self.directory / f"m{member}.log"

    def _metrics(self, member: int, path: str) -> bytes:
        url = f"http://{self._addresses[member]}:{self._ports[member][2]}{path}"
        with self._inside(member), urllib.request.urlopen(url, timeout=3) as answer:
            text: bytes = answer.read()
        return text

    def _inside(self, member: int) -> contextlib.AbstractContextManager[None]:
        return within(self._spaces[member]) if self._spaces else contextlib.nullcontext()


def make_certificates(directory: Path, addresses: Sequence[str]) -> None:
    """`ca.pem`, and `server` and `client` (`.pem`, `.key`) that it signed; the server's is for these addresses."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2")
    names = ",".join(f"IP:{address}" for address in sorted(set(addresses)))
    for name, extension in (("server", f"subjectAltName={names}"), ("client", "extendedKeyUsage=clientAuth")):
        (directory / f"{name}.ext").write_text(extension + "\n")
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
