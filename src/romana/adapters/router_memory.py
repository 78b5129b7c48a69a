"""A router's last view, in one file: services.agent.router.RouterMemory.

Invariant: what is read is a view that romanad sent, whole, or nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from romana.adapters.files import replace_file
from romana.codec.json import decode, encode
from romana.model.errors import Unavailable
from romana.model.view import RouterView

log = structlog.get_logger()
FILE = "router.json"


class FileRouterMemory:
    """The file in a directory of the agent's own."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def load(self) -> RouterView | None:
        """The view that was kept; None when there is none, or it cannot be read."""
        try:
            return decode(self._path.read_bytes(), RouterView)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, ValueError) as error:
            log.warning("the kept view cannot be read; waiting for a new one", error=str(error))
            return None

    def save(self, view: RouterView) -> None:
        """Keep it; Unavailable when the disk refuses."""
        try:
            replace_file(self._path, encode(view), mode=0o600)
        except OSError as error:
            raise Unavailable(f"the view cannot be kept in {self._path}: {error.strerror}") from error
