"""Our programs as processes: the command line, and a romanad of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from romana.adapters.romanad import RomanadClient
from romana.apps.cli.failure import ExitStatus
from romana.model.errors import Unavailable

BIN = Path(sys.executable).parent


class Romana:
    """The command line, run as a process against one romanad."""

    def __init__(self, server: str, cache: Path | None = None) -> None:
        self.environment = {**os.environ, "ROMANA_SERVER": server, "COLUMNS": "120"}
        if cache is not None:  # the program starts many times: its modules are compiled once
            self.environment |= {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}

    def __call__(self, *arguments: str, stdin: str = "", expect: int = 0) -> str:
        """Standard output; the exit status must be the expected one."""
        return self.run(*arguments, stdin=stdin, expect=expect).stdout

    def fails(self, *arguments: str, status: ExitStatus, stdin: str = "") -> str:
        """Standard error of a call that must fail, and say nothing on standard output."""
        done = self.run(*arguments, stdin=stdin, expect=status)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    def run(self, *arguments: str, stdin: str, expect: int) -> subprocess.CompletedProcess[str]:
        """The finished process."""
        done = subprocess.run(
            [BIN / "romana", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """What a program would read."""
        return json.loads(self(*arguments, "--json", stdin=stdin))


@contextmanager
def romanad(directory: Path, **settings: str) -> Iterator[str]:
    """A romanad that keeps its things in a directory, and its address; settings are as in its environment."""
    server = f"unix://{directory}/romanad.sock"
    environment = {
        **os.environ,
        "ROMANA_LISTEN_SOCKET": f"{directory}/romanad.sock",
        "ROMANA_LISTEN_PORT": "0",
        "ROMANA_STORE_PATH": f"{directory}/romanad.db",
        **settings,
    }
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen([BIN / "romanad"], env=environment, stderr=log) as daemon,
    ):
        try:
            asyncio.run(_ready(server))
            yield server
        finally:
            daemon.terminate()


async def _ready(server: str) -> None:
    until = time.monotonic() + 15
    async with RomanadClient(server) as client:
        while True:
            try:
                await client.get("/healthz")
            except Unavailable:
                assert time.monotonic() < until, "romanad did not become ready"
                await asyncio.sleep(0.02)
            else:
                return
