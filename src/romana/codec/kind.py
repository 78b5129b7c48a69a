"""What is the same for every kind of record: its key, its stored form, and the version of its schema.

Owns how a record of an older schema becomes a present value. Refuses to know any kind. Invariant: a record of a newer
schema is refused rather than misread, and what cannot be read is said to be so, with the record's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from romana.codec.json import encode, from_text
from romana.model.errors import Unavailable

T = TypeVar("T")
Upgrade = Callable[[Any], Any]
"""The value of a record as plain JSON values, from one schema to the next."""


class Kind(Generic[T]):
    """One kind of record: keys are `<name>/<id>`.

    `upgrades` has, for each older schema that may still be met and whose values differ, what makes the next schema's
    value of one.
    """

    def __init__(
        self, name: str, value: Any, *, schema: int = 1, upgrades: Mapping[int, Upgrade] | None = None
    ) -> None:
        self.name = name
        self.schema = schema
        self._value = value
        self._upgrades = upgrades or {}
        self._decoder = msgspec.json.Decoder(_envelope(value), dec_hook=from_text)
        self._any = msgspec.json.Decoder(_envelope(Any))

    def key(self, *parts: object) -> str:
        """The key of one record of this kind."""
        return "/".join((self.name, *map(str, parts)))

    def encode(self, value: T) -> bytes:
        """The stored form."""
        return encode({"schema": self.schema, "value": value})

    def decode(self, text: bytes, key: str = "") -> T:  # noqa: ARG002 - some kinds need it
        """The value of the record under a key; Unavailable when it is of a newer schema, or is none."""
        try:
            stored = self._decoder.decode(text)
        except (msgspec.DecodeError, ValueError):
            return self._decode_other(text)
        return stored.value if stored.schema == self.schema else self._decode_other(text)

    def _decode_other(self, text: bytes) -> T:
        try:
            stored = self._any.decode(text)
            self.check_schema(stored.schema)
            value = stored.value
            for schema in range(stored.schema, self.schema):
                if schema in self._upgrades:
                    value = self._upgrades[schema](value)
            upgraded: T = msgspec.convert(value, self._value, dec_hook=from_text)
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"a {self.name} record cannot be read: {error}") from error
        return upgraded

    def check_schema(self, schema: int) -> None:
        """Unavailable for a schema that this program does not know."""
        if schema > self.schema:
            raise Unavailable(f"a {self.name} record has schema {schema}, this program knows {self.schema}: upgrade it")


def _envelope(value: Any) -> Any:
    return msgspec.defstruct("Envelope", [("schema", int), ("value", value)], frozen=True)
