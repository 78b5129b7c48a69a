"""A program's own UNIX socket: one program at a path, and nobody but root connects."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from romana.model.errors import Unavailable


def bound(path: Path, program: str) -> socket.socket:
    """A socket bound to a path, of mode 0600, not listening yet; what a program that ended has left there is replaced.

    Unavailable when something answers there already, or when the path cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make {path.parent} for the socket: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise Unavailable(f"another {program} answers on {path}; stop that one first")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(mask)
    return listener
