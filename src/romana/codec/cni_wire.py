"""The bytes between the CNI shim and the agent on the agent's socket, one request and one answer a connection.

A frame is a little-endian u32 length and that many bytes. A request is a u32 length of the environment block, the
block (entries `NAME=value`, each ended by a NUL), then stdin. An answer is a u32 exit status, then stdout. The other
end is native/romana-cni.c.
"""

from __future__ import annotations

import struct

from romana.model.errors import Fault, Invalid

FRAME_MAX = 4 << 20
"""Bytes in a frame at most; a GC of 10,000 attachments is one megabyte."""

_U32 = struct.Struct("<I")
LENGTH_SIZE = _U32.size


def frame_length(head: bytes) -> int:
    """The length that a frame's first four bytes announce; Invalid when it is more than FRAME_MAX."""
    (length,) = _U32.unpack(head)
    if length > FRAME_MAX:
        raise Invalid(Fault("frame", f"{length} bytes; at most {FRAME_MAX} are taken"))
    return int(length)


def read_request(payload: bytes) -> tuple[dict[str, str], bytes]:
    """The environment and stdin of a request; Invalid when the payload is no request."""
    if len(payload) < LENGTH_SIZE:
        raise Invalid(Fault("request", f"{len(payload)} bytes are too short for one"))
    (length,) = _U32.unpack_from(payload)
    end = LENGTH_SIZE + length
    if end > len(payload):
        raise Invalid(Fault("request", f"announces {length} bytes of environment and has {len(payload) - LENGTH_SIZE}"))
    entries = payload[LENGTH_SIZE:end].decode(errors="surrogateescape").split("\0")
    environment = {}
    for entry in entries[:-1]:
        name, _, value = entry.partition("=")
        environment[name] = value
    return environment, payload[end:]


def write_request(environment: dict[str, str], stdin: bytes) -> bytes:
    """The whole frame of a request, as the shim writes it."""
    block = b"".join(f"{name}={value}\0".encode(errors="surrogateescape") for name, value in environment.items())
    payload = _U32.pack(len(block)) + block + stdin
    return _U32.pack(len(payload)) + payload


def write_answer(status: int, stdout: bytes) -> bytes:
    """The whole frame of an answer."""
    return _U32.pack(LENGTH_SIZE + len(stdout)) + _U32.pack(status) + stdout


def read_answer(payload: bytes) -> tuple[int, bytes]:
    """Exit status and stdout of an answer's payload."""
    return _U32.unpack_from(payload)[0], payload[LENGTH_SIZE:]
