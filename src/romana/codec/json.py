"""JSON of model values: addresses and prefixes as text, everything else as msgspec has it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from romana.codec.text import parse_address, parse_prefix
from romana.model.address import Address, Prefix

T = TypeVar("T")


def encode(value: object) -> bytes:
    """JSON text of a model value; the same value always gives the same bytes."""
    return _encoder.encode(value)


def decode(text: bytes | str, kind: type[T]) -> T:
    """A model value from JSON text that romana itself wrote; msgspec.DecodeError when it is anything else.

    Documents that people write go through `codec.document`, which names every fault.
    """
    return msgspec.json.decode(text, type=kind, dec_hook=from_text)


def to_text(value: object) -> Any:
    """The JSON form of the two values that msgspec does not know (an `enc_hook`)."""
    if isinstance(value, Prefix):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def from_text(kind: type, value: object) -> Any:
    """The reverse (a `dec_hook`); ValueError with a sentence when the text is none."""
    if kind is Address or kind is Prefix:
        if not isinstance(value, str):
            raise ValueError(f"expected text, got {value!r}")
        return parse_address(value) if kind is Address else parse_prefix(value)
    raise NotImplementedError(f"{kind.__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=to_text)
